use candle_core::{D, Device};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use super::*;

/// The same numbers in every run: in a row of three, chance may put all close together, and then the
/// rounding of the mean is as large as what is left after it is taken away.
fn random(shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    let mut rng = StdRng::seed_from_u64(count as u64);
    let values: Vec<f32> = (0..count).map(|_| rng.random_range(-1.7..1.7)).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn close(found: &Tensor, expected: &Tensor, tolerance: f32) {
    assert_eq!(found.dims(), expected.dims());
    let difference = (found - expected).unwrap().abs().unwrap().flatten_all().unwrap();
    let worst: f32 = difference.max(0).unwrap().to_scalar().unwrap();
    assert!(worst < tolerance, "off by {worst}");
}

/// The error function by its power series, in f64; good for |x| < 4.
fn erf_series(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for n in 1..120 {
        let n = f64::from(n);
        term *= -x * x / n;
        sum += term / (2.0 * n + 1.0);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

#[test]
fn the_functions_are_accurate() {
    for i in -400..=400 {
        let x = i as f32 / 110.0;
        assert!((f64::from(erf(x)) - erf_series(x.into())).abs() < 4e-7, "erf({x}) = {}", erf(x));
    }
    assert!((erf(30.0) - 1.0).abs() < 4e-7 && (erf(-30.0) + 1.0).abs() < 4e-7);
    for i in -860..=870 {
        let x = i as f32 / 10.0;
        let expected = f64::from(x).exp();
        let error = (f64::from(exp(x)) - expected).abs() / expected;
        assert!(error < 5e-7, "exp({x}) is off by {error}");
    }
    assert_eq!(exp(0.0), 1.0);
    assert!(exp(-1000.0) < 1e-37);
    assert!(exp(f32::NAN).is_nan() && gelu(f32::NAN).is_nan() && silu(f32::NAN).is_nan());
    assert!((silu(-100.0)).abs() < 1e-30);
}

#[test]
fn bias_and_activation() {
    // Enough rows for more than one task.
    for (shape, n) in [(vec![3, 5, 7], 7), (vec![700, 96], 96)] {
        let (x, bias) = (random(&shape), random(&[n]));
        let sum = x.broadcast_add(&bias).unwrap();
        for (act, expected) in [
            (Act::Identity, sum.clone()),
            (Act::Gelu, sum.gelu_erf().unwrap()),
            (Act::Silu, sum.silu().unwrap()),
        ] {
            let y = x.copy().unwrap();
            bias_act_in_place(&y, &bias, act).unwrap();
            close(&y, &expected, 2e-6);
        }
    }
}

#[test]
fn residual() {
    let (x, other, affine) = (random(&[900, 33]), random(&[900, 33]), random(&[2, 33]));
    let y = x.copy().unwrap();
    residual_in_place(&y, &affine, &other).unwrap();
    let scaled = x.broadcast_mul(&affine.get(0).unwrap()).unwrap();
    let expected = (scaled.broadcast_add(&affine.get(1).unwrap()).unwrap() + other).unwrap();
    close(&y, &expected, 1e-6);
}

#[test]
fn softmax() {
    let x = (random(&[40, 3, 197]) * 5.0).unwrap();
    let y = x.copy().unwrap();
    softmax_in_place(&y, 0.3).unwrap();
    let expected = candle_nn::ops::softmax((x * 0.3).unwrap().as_ref(), D::Minus1).unwrap();
    close(&y, &expected, 1e-6);
}

#[test]
fn layer_norm_and_gated() {
    for (rows, n) in [(5, 3), (300, 130)] {
        let x = ((random(&[rows, n]) * 3.0).unwrap() + 20.0).unwrap();
        let (weight, bias) = (random(&[n]), random(&[n]));
        let expected = candle_nn::ops::layer_norm_slow(&x, &weight, &bias, 1e-5).unwrap();
        close(&layer_norm(&x, &weight, &bias, 1e-5).unwrap(), &expected, 2e-5);

        let (x, bias) = (random(&[rows, 2 * n]), random(&[2 * n]));
        let sum = x.broadcast_add(&bias).unwrap();
        let gate = sum.narrow(1, 0, n).unwrap().silu().unwrap();
        let expected = (gate * sum.narrow(1, n, n).unwrap()).unwrap();
        close(&gated(&x, &bias, Act::Silu).unwrap(), &expected, 5e-6);
    }
}

#[test]
fn wrong_lengths_are_errors() {
    let y = random(&[4, 6]);
    for result in [
        bias_act_in_place(&y, &random(&[5]), Act::Gelu),
        residual_in_place(&y, &random(&[2, 5]), &y.copy().unwrap()),
        residual_in_place(&y, &random(&[2, 6]), &random(&[3, 6])),
        layer_norm(&y, &random(&[6]), &random(&[1]), 1e-5).map(drop),
        gated(&y, &random(&[5]), Act::Silu).map(drop),
        split_heads(&random(&[1, 4, 24]), &random(&[24]), &random(&[2, 5, 4]), 2).map(drop),
        bias_act_in_place(&y.t().unwrap(), &random(&[4]), Act::Gelu),
    ] {
        assert!(result.is_err());
    }
}
