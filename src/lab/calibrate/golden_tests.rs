//! Against scikit-learn and scipy: `tools/make_calibration_golden.py` wrote the figures.

use serde::Deserialize;

use super::{exact, fit};
use crate::calibration::{CalibrationSpec, Method, Remap};

#[derive(Deserialize)]
struct Golden {
    fits: Vec<Fit>,
    binomial: Vec<Tail>,
}

#[derive(Deserialize)]
struct Fit {
    scores: Vec<f64>,
    labels: Vec<u8>,
    platt: [f64; 2],
    platt_sklearn: [f64; 2],
    temperature: f64,
    isotonic: Vec<[f64; 2]>,
    probes: Vec<f64>,
    isotonic_at_probes: Vec<f64>,
}

#[derive(Deserialize)]
struct Tail {
    k: u64,
    n: u64,
    p: f64,
    at_most: f64,
    at_least: f64,
    interval_95: [f64; 2],
    upper_90: f64,
}

fn golden() -> Golden {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/lab/calibration.json");
    serde_json::from_slice(&fs_err::read(path).unwrap()).unwrap()
}

fn close(found: f64, expected: f64, within: f64, what: &str) {
    assert!((found - expected).abs() <= within, "{what}: {found}, not {expected}");
}

#[test]
fn fits_are_those_of_scipy_and_scikit_learn() {
    for case in golden().fits {
        let labels = case.labels.iter().map(|label| *label == 1).collect();
        let data = fit::Labelled { scores: case.scores, labels };
        let found = fit::platt(&data);
        for (found, (exact, theirs)) in found.iter().zip(case.platt.iter().zip(case.platt_sklearn))
        {
            close(*found, *exact, 1e-6, "Platt");
            // Theirs stops earlier.
            close(*found, theirs, 1e-3, "Platt of scikit-learn");
        }
        close(fit::temperature(&data), case.temperature, 1e-6, "temperature");
        let corners = fit::isotonic(&data).unwrap();
        assert_eq!(corners.len(), case.isotonic.len());
        for (found, expected) in corners.iter().zip(&case.isotonic) {
            assert_eq!(found[0], expected[0]);
            close(found[1], expected[1], 1e-12, "isotonic corner");
        }
        let method = Method::Isotonic;
        let spec = CalibrationSpec { method, points: corners, ..CalibrationSpec::default() };
        let remap = Remap::new(&spec).unwrap();
        for (x, expected) in case.probes.iter().zip(&case.isotonic_at_probes) {
            close(remap.calibrated(*x), *expected, 1e-9, "isotonic between corners");
        }
    }
}

#[test]
fn binomial_figures_are_those_of_scipy() {
    for case in golden().binomial {
        let Tail { k, n, p, .. } = case;
        let what = format!("{k} of {n} at {p}");
        close(exact::at_most(k, n, p) / case.at_most, 1.0, 1e-9, &what);
        close(exact::at_least(k, n, p) / case.at_least, 1.0, 1e-9, &what);
        let found = exact::interval(k, n, 0.05);
        close(found[0], case.interval_95[0], 1e-9, &what);
        close(found[1], case.interval_95[1], 1e-9, &what);
        close(exact::upper(k, n, 0.1), case.upper_90, 1e-9, &what);
    }
}
