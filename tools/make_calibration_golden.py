"""Figures of scikit-learn and scipy that the tests of `roadcrew calibrate` are held to.

    pip install scikit-learn scipy
    python tools/make_calibration_golden.py > tests/fixtures/lab/calibration.json
"""

import json
import sys

import numpy
import scipy
import sklearn
from scipy.optimize import minimize
from scipy.stats import binom, binomtest
from sklearn.calibration import _sigmoid_calibration
from sklearn.isotonic import IsotonicRegression


def targets(labels: numpy.ndarray) -> tuple[float, float]:
    """Platt's targets: no roadwork, roadwork."""
    positives = labels.sum()
    negatives = len(labels) - positives
    return 1 / (negatives + 2), (positives + 1) / (positives + 2)


def loss(scale: float, shift: float, logits: numpy.ndarray, labels: numpy.ndarray) -> float:
    low, high = targets(labels)
    goal = numpy.where(labels == 1, high, low)
    z = scale * logits + shift
    return float(numpy.sum(numpy.logaddexp(0, z) - goal * z))


def fits(seed: int, count: int, sharpness: float, offset: float) -> dict:
    """Scores of a model that is too sure of itself, and what is fitted to them."""
    rng = numpy.random.default_rng(seed)
    truth = rng.normal(size=count) * 1.5
    labels = (rng.random(count) < 1 / (1 + numpy.exp(-truth))).astype(int)
    said = truth * sharpness + offset + rng.normal(size=count) * 0.3
    scores = numpy.round(1 / (1 + numpy.exp(-said)), 6).clip(1e-6, 1 - 1e-6)
    logits = numpy.log(scores / (1 - scores))
    tight = {"xatol": 1e-10, "fatol": 1e-14, "maxiter": 20000, "maxfev": 20000}
    both = minimize(lambda x: loss(x[0], x[1], logits, labels), [1, 0], method="Nelder-Mead", options=tight)
    alone = minimize(lambda x: loss(x[0], 0, logits, labels), [1], method="Nelder-Mead", options=tight)
    minus_scale, minus_shift = _sigmoid_calibration(logits, labels)
    low, high = targets(labels)
    isotonic = IsotonicRegression(y_min=low, y_max=high, out_of_bounds="clip").fit(scores, labels)
    probes = numpy.linspace(0, 1, 41)
    return {
        "scores": scores.tolist(),
        "labels": labels.tolist(),
        "platt": both.x.tolist(),
        "platt_sklearn": [-float(minus_scale), -float(minus_shift)],
        "temperature": float(alone.x[0]),
        "isotonic": [[float(x), float(y)] for x, y in zip(isotonic.X_thresholds_, isotonic.y_thresholds_)],
        "probes": probes.tolist(),
        "isotonic_at_probes": isotonic.predict(probes).tolist(),
    }


def tails() -> list[dict]:
    cases = [(0, 400, 0.02), (2, 400, 0.02), (7, 400, 0.02), (8, 400, 0.02), (1, 30, 0.1), (29, 30, 0.9),
             (50, 100, 0.5), (5, 20000, 0.001), (120, 5000, 0.02), (0, 1, 0.3), (999, 1000, 0.995)]
    out = []
    for k, n, p in cases:
        exact = binomtest(k, n).proportion_ci(0.95, method="exact")
        one_sided = binomtest(k, n, alternative="less").proportion_ci(0.9, method="exact")
        out.append({
            "k": k, "n": n, "p": p,
            "at_most": float(binom.cdf(k, n, p)),
            "at_least": float(binom.sf(k - 1, n, p)),
            "interval_95": [float(exact.low), float(exact.high)],
            "upper_90": float(one_sided.high),
        })
    return out


def main() -> None:
    versions = {"numpy": numpy.__version__, "scipy": scipy.__version__, "sklearn": sklearn.__version__}
    golden = {
        "versions": versions,
        "fits": [fits(1, 60, 2.0, 0.5), fits(2, 200, 0.5, -1.0), fits(3, 37, 3.0, 0.0)],
        "binomial": tails(),
    }
    json.dump(golden, sys.stdout)
    print()


if __name__ == "__main__":
    main()
