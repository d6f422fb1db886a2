//! Depthwise convolution on the CPU: every channel with its own small filter.
//!
//! candle's own grouped convolution runs one group at a time and is far too slow for a ConvNeXt.
//! This one works channels-last, so that the innermost loop runs over channels with unit stride.
//! It has a backward pass: training uses the same operation.
//!
//! Must not know: which network it is part of.

use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor, bail};
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::{floats, vectorised};

/// Convolves `x` `[batch, height, width, channels]` with `filter` `[k, k, channels]`, `k` odd,
/// stride 1, zeros around the border: the result has the shape of `x`.
///
/// f32 only, and only on the CPU. Differentiable in both arguments. No bias. Source: the same
/// numbers as `torch.nn.Conv2d(c, c, k, padding=k // 2, groups=c)`, with the weight `[c, 1, k, k]`
/// permuted to `[k, k, c]`.
pub fn depthwise_conv(x: &Tensor, filter: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op2(&filter.contiguous()?, Depthwise)
}

struct Depthwise;

/// The sizes that both passes share.
#[derive(Clone, Copy)]
struct Sizes {
    batch: usize,
    height: usize,
    width: usize,
    channels: usize,
    k: usize,
}

impl Sizes {
    fn new(x: &[usize], filter: &[usize]) -> Result<Self> {
        match (x, filter) {
            (&[batch, height, width, channels], &[k, k2, c])
                if k == k2 && k % 2 == 1 && c == channels =>
            {
                Ok(Self { batch, height, width, channels, k })
            }
            _ => bail!(
                "depthwise: expected [b, h, w, c] and [k, k, c] with an odd k, found {x:?} and \
                 {filter:?}"
            ),
        }
    }

    fn row(&self) -> usize {
        self.width * self.channels
    }

    /// For filter offset `d` along an axis of `length`: the output positions whose source
    /// `position + d - k / 2` exists.
    fn valid(&self, d: usize, length: usize) -> std::ops::Range<usize> {
        let half = self.k / 2;
        let start = half.saturating_sub(d).min(length);
        let end = (length + half).saturating_sub(d).min(length);
        start..end.max(start)
    }
}

impl CustomOp2 for Depthwise {
    fn name(&self) -> &'static str {
        "depthwise"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let sizes = Sizes::new(l1.dims(), l2.dims())?;
        let (x, filter) = (floats("depthwise", s1, l1)?, floats("depthwise", s2, l2)?);
        let mut out = vec![0.0; x.len()];
        if !out.is_empty() {
            let packed = Packed::new(x, filter, sizes);
            out.par_chunks_exact_mut(sizes.row()).enumerate().for_each(|(i, out)| {
                pulp::Arch::new().dispatch(Row { packed: &packed, i, out });
            });
        }
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        filter: &Tensor,
        _result: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let gradient = gradient.contiguous()?;
        // What reached the output at offset d came from the input at offset -d: the gradient of
        // the input is the same convolution with the filter turned by half a turn.
        let turned = filter.detach().flip(&[0, 1])?.contiguous()?;
        let to_x = gradient.apply_op2_no_bwd(&turned, &Depthwise)?;
        let k = filter.dim(0)?;
        let to_filter = x.contiguous()?.apply_op2_no_bwd(&gradient, &FilterGradient { k })?;
        Ok((Some(to_x), Some(to_filter)))
    }
}

/// Channels in a block: at least the widest register there is.
const LANES: usize = 16;
/// Neighbouring output pixels that share each load of a filter value.
const PIXELS: usize = 8;

type Lane = [f32; LANES];

/// The arguments in blocks of [`LANES`] channels, with zeros around what is missing, so that the
/// inner loop has no edges: `x` `[batch, height, blocks, padded width]`, the filter
/// `[blocks, k, k]`.
struct Packed {
    x: Vec<Lane>,
    filter: Vec<Lane>,
    sizes: Sizes,
    blocks: usize,
    /// Whole groups of output pixels, and what the filter sees beyond them.
    padded: usize,
}

impl Packed {
    fn new(x: &[f32], filter: &[f32], sizes: Sizes) -> Self {
        let Sizes { batch, height, width, channels, k } = sizes;
        let blocks = channels.div_ceil(LANES);
        let padded = width.next_multiple_of(PIXELS) + k - 1;
        let mut lanes = vec![[0.0; LANES]; batch * height * blocks * padded];
        let rows = lanes.par_chunks_exact_mut(blocks * padded).zip(x.par_chunks_exact(sizes.row()));
        rows.for_each(|(lanes, row)| {
            for (px, pixel) in row.chunks_exact(channels).enumerate() {
                for (block, values) in pixel.chunks(LANES).enumerate() {
                    let lane = &mut lanes[block * padded + px + k / 2];
                    lane[..values.len()].copy_from_slice(values);
                }
            }
        });
        let mut packed_filter = vec![[0.0; LANES]; blocks * k * k];
        for (at, values) in filter.chunks_exact(channels).enumerate() {
            for (block, values) in values.chunks(LANES).enumerate() {
                packed_filter[block * k * k + at][..values.len()].copy_from_slice(values);
            }
        }
        Self { x: lanes, filter: packed_filter, sizes, blocks, padded }
    }
}

/// The work on output row `i`, counted over the batch.
struct Row<'a> {
    packed: &'a Packed,
    i: usize,
    out: &'a mut [f32],
}

impl WithSimd for Row<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Sizes { channels, .. } = self.packed.sizes;
        for (group, out) in self.out.chunks_mut(PIXELS * channels).enumerate() {
            for first in (0..channels).step_by(S::F32_LANES) {
                let sums = self.packed.sums(simd, self.i, group * PIXELS, first);
                for (sum, pixel) in sums.into_iter().zip(out.chunks_exact_mut(channels)) {
                    let pixel = &mut pixel[first..channels.min(first + S::F32_LANES)];
                    simd.partial_store_f32s(pixel, sum);
                }
            }
        }
    }
}

impl Packed {
    /// [`PIXELS`] output pixels from `px` on, of as many channels from `first` on as a register
    /// holds.
    #[inline(always)]
    fn sums<S: Simd>(&self, simd: S, i: usize, px: usize, first: usize) -> [S::f32s; PIXELS] {
        let Sizes { height, k, .. } = self.sizes;
        let (half, y) = (k / 2, i % height);
        let (block, part) = (first / LANES, first % LANES / S::F32_LANES);
        let parts = LANES / S::F32_LANES;
        let (x, _) = S::as_simd_f32s(self.x.as_flattened());
        let (filter, _) = S::as_simd_f32s(self.filter.as_flattened());
        let mut sums = [simd.splat_f32s(0.0); PIXELS];
        for ky in half.saturating_sub(y)..k.min(height + half - y) {
            let row = ((i + ky - half) * self.blocks + block) * self.padded + px;
            let source = &x[row * parts..][..(PIXELS + k - 1) * parts];
            let filter = &filter[(block * k + ky) * k * parts..][..k * parts];
            for kx in 0..k {
                let weight = filter[kx * parts + part];
                let source = &source[kx * parts + part..];
                for (sum, source) in sums.iter_mut().zip(source.iter().step_by(parts)) {
                    *sum = simd.mul_add_e_f32s(*source, weight, *sum);
                }
            }
        }
        sums
    }
}

/// `x` and the result's gradient, both `[b, h, w, c]`, to the filter's gradient `[k, k, c]`.
struct FilterGradient {
    k: usize,
}

impl CustomOp2 for FilterGradient {
    fn name(&self) -> &'static str {
        "depthwise-filter-gradient"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let shape = [self.k, self.k, l1.dims().last().copied().unwrap_or(0)];
        let sizes = Sizes::new(l1.dims(), &shape)?;
        let (x, gradient) = (floats(self.name(), s1, l1)?, floats(self.name(), s2, l2)?);
        if x.len() != gradient.len() {
            bail!("{}: {:?} against {:?}", self.name(), l1.dims(), l2.dims());
        }
        // One sum per image, added up in order: the same bits whatever the number of threads.
        let per_image: Vec<Vec<f32>> = (0..sizes.batch)
            .into_par_iter()
            .map(|image| {
                let mut sum = vec![0.0f32; self.k * self.k * sizes.channels];
                for row in image * sizes.height..(image + 1) * sizes.height {
                    vectorised(
                        #[inline(always)]
                        || filter_gradient_row(x, gradient, &mut sum, sizes, row),
                    );
                }
                sum
            })
            .collect();
        let mut sum = vec![0.0f32; self.k * self.k * sizes.channels];
        for part in &per_image {
            sum.iter_mut().zip(part).for_each(|(a, b)| *a += b);
        }
        Ok((CpuStorage::F32(sum), Shape::from(shape.to_vec())))
    }
}

/// Adds what output row `i` (counted over the batch) says of the filter.
#[inline(always)]
fn filter_gradient_row(x: &[f32], gradient: &[f32], sum: &mut [f32], sizes: Sizes, i: usize) {
    let Sizes { height, width, channels: c, k, .. } = sizes;
    let (half, y) = (k / 2, i % height);
    for ky in 0..k {
        if !sizes.valid(ky, height).contains(&y) {
            continue;
        }
        let source_row = (i + ky - half) * width;
        for kx in 0..k {
            let sum = &mut sum[(ky * k + kx) * c..][..c];
            for px in sizes.valid(kx, width) {
                let source = &x[(source_row + px + kx - half) * c..][..c];
                let gradient = &gradient[(i * width + px) * c..][..c];
                for ((sum, a), b) in sum.iter_mut().zip(source).zip(gradient) {
                    *sum += a * b;
                }
            }
        }
    }
}

/// The filter of a file, `[channels, 1, k, k]`, as [`depthwise_conv`] wants it. Differentiable.
pub fn filter_from_conv2d(weight: &Tensor) -> Result<Tensor> {
    let (c, one, k, k2) = weight.dims4()?;
    if one != 1 || k != k2 || weight.dtype() != DType::F32 {
        bail!("depthwise: expected an f32 weight [c, 1, k, k], found {weight:?}");
    }
    weight.reshape((c, k * k))?.t()?.contiguous()?.reshape((k, k, c))
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    fn random(shape: &[usize]) -> Tensor {
        Tensor::randn(0.0f32, 1.0, shape, &Device::Cpu).unwrap()
    }

    fn distance(a: &Tensor, b: &Tensor) -> f32 {
        let difference = (a - b).unwrap().abs().unwrap().flatten_all().unwrap();
        difference.max(0).unwrap().to_scalar().unwrap()
    }

    /// candle's own grouped convolution of the same tensors.
    fn reference(x: &Tensor, weight: &Tensor) -> Tensor {
        let (c, _, k, _) = weight.dims4().unwrap();
        let x = x.permute((0, 3, 1, 2)).unwrap().contiguous().unwrap();
        let out = x.conv2d(weight, k / 2, 1, 1, c).unwrap();
        out.permute((0, 2, 3, 1)).unwrap().contiguous().unwrap()
    }

    #[test]
    fn agrees_with_candles_grouped_convolution() {
        for (b, h, w, c, k) in [
            (2, 9, 11, 5, 7),
            (1, 3, 2, 16, 7),
            (1, 1, 1, 33, 3),
            (2, 20, 13, 40, 5),
            (1, 12, 30, 8, 1),
        ] {
            let (x, weight) = (random(&[b, h, w, c]), random(&[c, 1, k, k]));
            let found = depthwise_conv(&x, &filter_from_conv2d(&weight).unwrap()).unwrap();
            let distance = distance(&found, &reference(&x, &weight));
            assert!(distance < 1e-4, "{b} {h} {w} {c} {k}: {distance}");
        }
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        let (b, h, w, c, k) = (2, 4, 6, 3, 5);
        let x = Var::from_tensor(&random(&[b, h, w, c])).unwrap();
        let weight = Var::from_tensor(&random(&[c, 1, k, k])).unwrap();
        let target = random(&[b, h, w, c]);
        // A loss that is linear in the output keeps finite differences exact in both arguments.
        let loss = |x: &Tensor, weight: &Tensor| {
            let out = depthwise_conv(x, &filter_from_conv2d(weight).unwrap()).unwrap();
            (out * &target).unwrap().sum_all().unwrap()
        };
        let gradients = loss(&x, &weight).backward().unwrap();
        for var in [&x, &weight] {
            let gradient: Vec<f32> =
                gradients.get(var).unwrap().flatten_all().unwrap().to_vec1().unwrap();
            let values: Vec<f32> = var.flatten_all().unwrap().to_vec1().unwrap();
            for i in (0..values.len()).step_by(values.len() / 20) {
                let at = |shift: f32| -> f32 {
                    let mut values = values.clone();
                    values[i] += shift;
                    let moved = Tensor::from_vec(values, var.shape(), &Device::Cpu).unwrap();
                    let is_x = var.dims() == x.dims();
                    let (x, weight) =
                        if is_x { (&moved, weight.as_tensor()) } else { (x.as_tensor(), &moved) };
                    loss(x, weight).to_scalar().unwrap()
                };
                let expected = (at(0.5) - at(-0.5)) / 1.0;
                assert!((gradient[i] - expected).abs() < 2e-3, "{i}: {} {expected}", gradient[i]);
            }
        }
    }

    #[test]
    fn wrong_shapes_are_errors() {
        let x = random(&[1, 4, 4, 3]);
        for filter in [random(&[2, 2, 3]), random(&[3, 3, 4]), random(&[3, 5, 3])] {
            let error = depthwise_conv(&x, &filter).unwrap_err();
            assert!(error.to_string().contains("[k, k, c] with an odd k"), "{error}");
        }
    }
}
