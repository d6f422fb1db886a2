//! What a batch costs, by its size: curves that were measured on GPUs, and lines through them.

/// The time a batch takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Curve {
    pub(crate) name: &'static str,
    shape: Shape,
}

#[derive(Clone, Copy, Debug)]
enum Shape {
    /// `a + b·n` milliseconds.
    Line(f64, f64),
    /// Milliseconds at some sizes, straight in between.
    Points(&'static [(usize, f64)]),
    /// Milliseconds at some sizes; a batch is padded to the next of them.
    Stairs(&'static [(usize, f64)]),
}

/// ViT-B/16 at 224 on an A100, PyTorch eager: launching kernels is what takes the time, up to 8.
const VIT_B_EAGER: &[(usize, f64)] =
    &[(1, 4.95), (2, 5.26), (4, 5.51), (8, 5.56), (16, 8.59), (32, 15.95)];
/// ViT-L/16 at 384 on an A100, `AITemplate`: the device is busy from two images on.
const VIT_L_AIT: &[(usize, f64)] =
    &[(1, 3.84), (2, 5.87), (4, 11.49), (8, 19.09), (16, 36.19), (32, 70.03)];
/// ResNet-50 on a V100, TensorRT 4, fp16: saturates slowly.
const RESNET_TRT: &[(usize, f64)] =
    &[(1, 2.08), (2, 2.65), (4, 2.84), (8, 3.29), (16, 4.35), (32, 6.59)];

/// Every curve. Sources: the README of `examples/04_vit` of facebookincubator/AITemplate (A100-40GB, CUDA 11.6:
/// ViT-B/16 at 224 and ViT-L/16 at 384, PyTorch eager and AITemplate), and a public table of TensorRT 4
/// on a V100 (gist 1duo/efd3be1dc8eb2c45863b75f20a76f8b2). Lines go through the figures for 1 and 8.
pub(crate) const CURVES: [Curve; 7] = [
    // ViT-B eager: 4.95 and 5.56 ms.
    Curve { name: "latency-bound", shape: Shape::Line(4.86, 0.087) },
    // ViT-B, AITemplate: 1.02 and 2.20 ms.
    Curve { name: "balanced", shape: Shape::Line(0.85, 0.169) },
    // ViT-L at 384, AITemplate: 3.84 and 19.09 ms.
    Curve { name: "compute-bound", shape: Shape::Line(1.66, 2.179) },
    // A small ViT on two cores of a CPU: nothing to gain from batches.
    Curve { name: "cpu", shape: Shape::Line(0.0, 9.5) },
    Curve { name: "resnet50 v100", shape: Shape::Points(RESNET_TRT) },
    Curve { name: "vit-b eager", shape: Shape::Points(VIT_B_EAGER) },
    Curve { name: "vit-l padded", shape: Shape::Stairs(VIT_L_AIT) },
];

impl Curve {
    /// Nanoseconds that a batch of `n` takes.
    pub(crate) fn ns(&self, n: usize) -> u64 {
        (self.ms(n) * 1e6) as u64
    }

    fn ms(&self, n: usize) -> f64 {
        match self.shape {
            Shape::Line(a, b) => a + b * n as f64,
            Shape::Points(points) => between(points, n),
            Shape::Stairs(points) => {
                let step = points.iter().find(|(size, _)| *size >= n);
                step.or(points.last()).map_or(0.0, |(_, ms)| *ms)
            }
        }
    }

    /// Jobs per second in batches of `limit` without a pause.
    pub(crate) fn capacity(&self, limit: usize) -> f64 {
        limit as f64 / (self.ms(limit) / 1e3)
    }
}

fn between(points: &[(usize, f64)], n: usize) -> f64 {
    let above = points.iter().position(|(size, _)| *size >= n).unwrap_or(points.len() - 1);
    let (m, t) = points[above];
    let (k, s) = points[above.saturating_sub(1)];
    if m <= n || above == 0 {
        return t;
    }
    s + (t - s) * (n - k) as f64 / (m - k) as f64
}
