//! What happens between two matrix products of an encoder, in one pass over the values.
//!
//! candle runs every elementwise step as its own pass with its own result, which costs an encoder
//! on the CPU as much as its matrix products. These operations work in place on a fresh product.
//! All are f32, on the CPU, on contiguous tensors, and **without a backward pass**: a caller that
//! trains uses candle's own operations (`models::layers` chooses).
//!
//! Functions that end in `_in_place` overwrite their first argument, so that must be a tensor
//! nobody else holds.
//!
//! Must not know: which model it is part of.

use candle_core::{
    CpuStorage, CustomOp2, CustomOp3, InplaceOp1, InplaceOp2, InplaceOp3, Layout, Result, Shape,
    Tensor, bail,
};
use rayon::prelude::*;

use super::{floats, vectorised};

/// An activation that has a fused form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// x itself.
    Identity,
    /// x * Phi(x), with the error function (not its tanh approximation).
    Gelu,
    /// x * sigmoid(x).
    Silu,
}

/// `y = act(y + bias)`; `y` is `[.., n]`, `bias` `[n]`.
pub fn bias_act_in_place(y: &Tensor, bias: &Tensor, act: Act) -> Result<()> {
    y.inplace_op2(bias, &BiasAct(act))
}

/// `y = residual + scale * y + shift`; `y` and `residual` are `[.., n]`, `scale_shift` is `[2, n]`.
pub fn residual_in_place(y: &Tensor, scale_shift: &Tensor, residual: &Tensor) -> Result<()> {
    y.inplace_op3(scale_shift, residual, &Residual)
}

/// `y = softmax(scale * y)` over the last dimension.
pub fn softmax_in_place(y: &Tensor, scale: f32) -> Result<()> {
    y.inplace_op1(&Softmax(scale))
}

/// Layer norm over the last dimension: `x` `[.., n]`, `weight` and `bias` `[n]`.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f32) -> Result<Tensor> {
    x.apply_op3_no_bwd(weight, bias, &Norm(eps))
}

/// `act(y[.., ..n] + bias[..n]) * (y[.., n..] + bias[n..])`: `y` is `[.., 2n]`, the result `[.., n]`.
pub fn gated(y: &Tensor, bias: &Tensor, act: Act) -> Result<Tensor> {
    y.apply_op2_no_bwd(bias, &Gated(act))
}

/// Splits `qkv` `[batch, tokens, 3 * heads * d]` to `[3, batch * heads, tokens, d]`, adds `bias`
/// `[3 * heads * d]`, and rotates the last `patches` tokens of q and k by `rope`
/// `[2, patches, d]` (cosines, sines; first and second half of `d` are a pair).
pub fn split_heads(qkv: &Tensor, bias: &Tensor, rope: &Tensor, heads: usize) -> Result<Tensor> {
    qkv.apply_op3_no_bwd(bias, rope, &SplitHeads { heads })
}

/// Values per task: enough to be worth waking another thread.
const VALUES_PER_TASK: usize = 1 << 14;

/// Runs `each` (inlined, to be compiled for this machine) over blocks of whole rows of `n` values, in parallel if there is enough to do.
/// `each` gets the index of the block's first row.
fn rows(values: &mut [f32], n: usize, each: impl Fn(usize, &mut [f32]) + Sync) {
    if values.is_empty() || n == 0 {
        return;
    }
    let block = (VALUES_PER_TASK / n).max(1);
    let work = |(i, values): (usize, &mut [f32])| {
        vectorised(
            #[inline(always)]
            || each(i * block, values),
        );
    };
    if values.len() <= VALUES_PER_TASK {
        values.chunks_mut(block * n).enumerate().for_each(work);
    } else {
        values.par_chunks_mut(block * n).enumerate().for_each(work);
    }
}

fn floats_mut<'a>(
    name: &str,
    storage: &'a mut CpuStorage,
    layout: &Layout,
) -> Result<&'a mut [f32]> {
    floats(name, storage, layout)?;
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(values), Some((start, end))) => Ok(&mut values[start..end]),
        _ => bail!("{name}: expected contiguous f32 values"),
    }
}

fn last(layout: &Layout) -> usize {
    layout.dims().last().copied().unwrap_or(1)
}

fn expect(name: &str, what: &str, found: usize, expected: usize) -> Result<()> {
    if found != expected {
        bail!("{name}: {what} has {found} values, expected {expected}");
    }
    Ok(())
}

struct BiasAct(Act);

impl InplaceOp2 for BiasAct {
    fn name(&self) -> &'static str {
        "bias-act"
    }

    fn cpu_fwd(
        &self,
        s1: &mut CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<()> {
        let (n, name, act) = (last(l1), InplaceOp2::name(self), self.0);
        let bias = floats(name, s2, l2)?;
        expect(name, "bias", bias.len(), n)?;
        rows(
            floats_mut(name, s1, l1)?,
            n,
            #[inline(always)]
            |_, values| {
                for row in values.chunks_exact_mut(n) {
                    bias_act(row, bias, act);
                }
            },
        );
        Ok(())
    }
}

#[inline(always)]
fn bias_act(row: &mut [f32], bias: &[f32], act: Act) {
    let pairs = row.iter_mut().zip(bias);
    match act {
        Act::Identity => pairs.for_each(|(y, b)| *y += b),
        Act::Gelu => pairs.for_each(|(y, b)| *y = gelu(*y + b)),
        Act::Silu => pairs.for_each(|(y, b)| *y = silu(*y + b)),
    }
}

struct Residual;

impl InplaceOp3 for Residual {
    fn name(&self) -> &'static str {
        "residual"
    }

    fn cpu_fwd(
        &self,
        s1: &mut CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<()> {
        let (n, name) = (last(l1), InplaceOp3::name(self));
        let (affine, residual) = (floats(name, s2, l2)?, floats(name, s3, l3)?);
        let values = floats_mut(name, s1, l1)?;
        expect(name, "scale_shift", affine.len(), 2 * n)?;
        expect(name, "residual", residual.len(), values.len())?;
        let (scale, shift) = affine.split_at(n);
        rows(
            values,
            n,
            #[inline(always)]
            |first, values| {
                let residual = &residual[first * n..];
                for (row, residual) in values.chunks_exact_mut(n).zip(residual.chunks_exact(n)) {
                    let others = residual.iter().zip(scale).zip(shift);
                    for (y, ((r, a), b)) in row.iter_mut().zip(others) {
                        *y = r + (a * *y + b);
                    }
                }
            },
        );
        Ok(())
    }
}

struct Softmax(f32);

impl InplaceOp1 for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let (n, scale) = (last(layout), self.0);
        rows(
            floats_mut(InplaceOp1::name(self), storage, layout)?,
            n,
            #[inline(always)]
            |_, values| {
                for row in values.chunks_exact_mut(n) {
                    let high = reduce(row, f32::NEG_INFINITY, |a, b| if a > b { a } else { b });
                    for y in row.iter_mut() {
                        *y = exp((*y - high) * scale);
                    }
                    let whole = 1.0 / reduce(row, 0.0, |a, b| a + b);
                    for y in row.iter_mut() {
                        *y *= whole;
                    }
                }
            },
        );
        Ok(())
    }
}

struct Norm(f32);

impl CustomOp3 for Norm {
    fn name(&self) -> &'static str {
        "layer-norm"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (n, name, eps) = (last(l1), self.name(), self.0);
        let (x, weight, bias) =
            (floats(name, s1, l1)?, floats(name, s2, l2)?, floats(name, s3, l3)?);
        expect(name, "weight", weight.len(), n)?;
        expect(name, "bias", bias.len(), n)?;
        let mut out = vec![0.0; x.len()];
        rows(
            &mut out,
            n,
            #[inline(always)]
            |first, out| {
                let x = &x[first * n..];
                for (out, x) in out.chunks_exact_mut(n).zip(x.chunks_exact(n)) {
                    norm_row(x, out, eps);
                    for (y, (w, b)) in out.iter_mut().zip(weight.iter().zip(bias)) {
                        *y = *y * w + b;
                    }
                }
            },
        );
        Ok((CpuStorage::F32(out), l1.shape().clone()))
    }
}

/// Two passes, so that a large mean does not eat the variance.
#[inline(always)]
fn norm_row(x: &[f32], out: &mut [f32], eps: f32) {
    let n = x.len() as f32;
    let mean = reduce(x, 0.0, |a, b| a + b) / n;
    for (y, x) in out.iter_mut().zip(x) {
        *y = x - mean;
    }
    let variance = reduce_map(out, 0.0, |y| y * y, |a, b| a + b) / n;
    let scale = 1.0 / (variance + eps).sqrt();
    for y in out.iter_mut() {
        *y *= scale;
    }
}

struct Gated(Act);

impl CustomOp2 for Gated {
    fn name(&self) -> &'static str {
        "gated"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (name, act, n) = (self.name(), self.0, last(l1) / 2);
        let (y, bias) = (floats(name, s1, l1)?, floats(name, s2, l2)?);
        expect(name, "bias", bias.len(), 2 * n)?;
        let mut out = vec![0.0; y.len() / 2];
        rows(
            &mut out,
            n,
            #[inline(always)]
            |first, out| {
                let y = &y[first * 2 * n..];
                for (out, y) in out.chunks_exact_mut(n).zip(y.chunks_exact(2 * n)) {
                    out.copy_from_slice(&y[..n]);
                    bias_act(out, &bias[..n], act);
                    let up = y[n..].iter().zip(&bias[n..]);
                    out.iter_mut().zip(up).for_each(|(out, (up, b))| *out *= up + b);
                }
            },
        );
        let mut dims = l1.dims().to_vec();
        if let Some(last) = dims.last_mut() {
            *last = n;
        }
        Ok((CpuStorage::F32(out), Shape::from(dims)))
    }
}

struct SplitHeads {
    heads: usize,
}

impl CustomOp3 for SplitHeads {
    fn name(&self) -> &'static str {
        "split-heads"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (name, heads) = (self.name(), self.heads);
        let (qkv, bias, rope) =
            (floats(name, s1, l1)?, floats(name, s2, l2)?, floats(name, s3, l3)?);
        let (batch, tokens, wide) = l1.shape().dims3()?;
        let (two, patches, d) = l3.shape().dims3()?;
        if two != 2 || patches > tokens || wide != 3 * heads * d || !d.is_multiple_of(2) {
            bail!("{name}: qkv {:?}, rope {:?}, {heads} heads", l1.dims(), l3.dims());
        }
        expect(name, "bias", bias.len(), wide)?;
        let (cos, sin) = rope.split_at(patches * d);
        let prefix = tokens - patches;
        let mut out = vec![0.0; qkv.len()];
        // Row r of the result is token r % tokens of one head of q, k or v of one image.
        rows(
            &mut out,
            d,
            #[inline(always)]
            |first, out| {
                for (r, out) in (first..).zip(out.chunks_exact_mut(d)) {
                    let (token, head) = (r % tokens, r / tokens % heads);
                    let (image, part) = (r / tokens / heads % batch, r / tokens / heads / batch);
                    let column = (part * heads + head) * d;
                    let source = &qkv[(image * tokens + token) * wide + column..][..d];
                    let sums = source.iter().zip(&bias[column..]);
                    out.iter_mut().zip(sums).for_each(|(out, (x, b))| *out = x + b);
                    if part < 2 && token >= prefix {
                        let at = (token - prefix) * d;
                        rotate(out, &cos[at..at + d], &sin[at..at + d]);
                    }
                }
            },
        );
        Ok((CpuStorage::F32(out), Shape::from((3, batch * heads, tokens, d))))
    }
}

#[inline(always)]
fn rotate(x: &mut [f32], cos: &[f32], sin: &[f32]) {
    let half = x.len() / 2;
    let (low, high) = x.split_at_mut(half);
    let (cos_low, cos_high) = cos.split_at(half);
    let (sin_low, sin_high) = sin.split_at(half);
    for i in 0..half {
        let (a, b) = (low[i], high[i]);
        low[i] = a * cos_low[i] - b * sin_low[i];
        high[i] = b * cos_high[i] + a * sin_high[i];
    }
}

/// Folds a slice in lanes, which the compiler can vectorise (it may not reorder a plain sum).
#[inline(always)]
fn reduce(values: &[f32], start: f32, join: impl Fn(f32, f32) -> f32) -> f32 {
    reduce_map(values, start, |x| x, join)
}

#[inline(always)]
fn reduce_map(
    values: &[f32],
    start: f32,
    map: impl Fn(f32) -> f32,
    join: impl Fn(f32, f32) -> f32,
) -> f32 {
    const LANES: usize = 16;
    let mut lanes = [start; LANES];
    let blocks = values.chunks_exact(LANES);
    let rest = blocks.remainder();
    for block in blocks {
        for i in 0..LANES {
            lanes[i] = join(lanes[i], map(block[i]));
        }
    }
    for (lane, &value) in lanes.iter_mut().zip(rest) {
        *lane = join(*lane, map(value));
    }
    lanes.into_iter().fold(start, join)
}

/// `x * Phi(x)`, with the error function to about 3e-7 absolute.
#[inline(always)]
fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

#[inline(always)]
fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// The error function as a quotient of polynomials in x^2 (the coefficients that XLA uses);
/// beyond the clamp it is 1 in f32. No table and no branch, so it vectorises.
#[inline(always)]
fn erf(x: f32) -> f32 {
    const EDGE: f32 = 3.832_507;
    let x = x.clamp(-EDGE, EDGE);
    let x2 = x * x;
    let above = polynomial(
        x2,
        &[
            2.290_506_5e-4,
            3.408_291e-3,
            5.095_569_5e-2,
            1.852_083_2e-1,
            std::f32::consts::FRAC_2_SQRT_PI,
        ],
    );
    let below = polynomial(
        x2,
        &[
            -1.179_160_3e-7,
            2.354_796_6e-5,
            1.017_962_5e-3,
            1.407_047e-2,
            1.109_850_5e-1,
            4.974_692_5e-1,
            1.0,
        ],
    );
    x * above / below
}

/// e^x to about 2e-7 relative, for x in -87..88; clamped outside. NaN stays NaN.
#[inline(always)]
fn exp(x: f32) -> f32 {
    // Adding and taking away 1.5 * 2^23 rounds to an integer without a function call.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let n = (x * std::f32::consts::LOG2_E + ROUND) - ROUND;
    // ln 2 in two parts: the first is exact in few bits, so n times it is exact.
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let fraction =
        polynomial(r, &[1.388_889e-3, 8.333_334e-3, 4.166_666_8e-2, 1.666_666_7e-1, 0.5, 1.0, 1.0]);
    let power = f32::from_bits(((n as i32).wrapping_add(127) as u32) << 23);
    fraction * power
}

/// Coefficients from the highest power down.
#[inline(always)]
fn polynomial(x: f32, coefficients: &[f32]) -> f32 {
    coefficients.iter().fold(0.0, |sum, c| sum * x + c)
}

#[cfg(test)]
mod tests;
