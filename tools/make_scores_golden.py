#!/usr/bin/env python3
"""Golden figures for src/lab/scores and src/lab/validator, from scikit-learn, scipy, statsmodels and numpy.

  pip install numpy scipy scikit-learn statsmodels
  python tools/make_scores_golden.py tests/fixtures/lab/scores.json

The validator is written down again here as the subnet's own reads: scikit-learn is asked, and what it throws empties
the metrics.
"""
import json, math, sys, warnings
warnings.filterwarnings("ignore")
import numpy as np, scipy, sklearn, statsmodels
from scipy import stats
from sklearn import metrics
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests


def ece(truth, p, bins=15):
    index = np.minimum(np.floor(p * bins).astype(int), bins - 1)
    found = [(index == b).sum() / len(p) * abs(p[index == b].mean() - truth[index == b].mean())
             for b in range(bins) if (index == b).any()]
    return float(sum(found))


def scored(seed, n, spread, share):
    rng = np.random.default_rng(seed)
    truth = (rng.random(n) < share).astype(int)
    # What a model computes is of single precision.
    p = (1 / (1 + np.exp(-rng.normal(spread * (2 * truth - 1), 1.5)))).astype(np.float32).astype(np.float64)
    p[:3] = [0.0, 1.0, 0.5]
    accuracy, mcc = metrics.accuracy_score(truth, p > 0.5), metrics.matthews_corrcoef(truth, p > 0.5)
    return {"truth": truth.tolist(), "probability": p.tolist(), "accuracy": accuracy, "mcc": mcc,
            "reward": (0.5 * max(0.0, mcc) + 0.5 * accuracy) ** 3,
            "log_loss": metrics.log_loss(truth, p, labels=[0, 1]), "brier": metrics.brier_score_loss(truth, p), "ece": ece(truth, p)}


def pairs():
    rows = []
    for first, second in [(0, 0), (1, 0), (3, 9), (12, 12), (5, 19), (12, 13), (10, 40), (100, 140), (700, 900)]:
        table = [[0, first], [second, 0]]
        corrected = mcnemar(table, exact=False, correction=True).pvalue if first + second else 1.0
        rows.append({"first": first, "second": second, "exact": mcnemar(table, exact=True).pvalue, "corrected": corrected})
    return rows


def needed(share, difference):
    z = stats.norm.ppf
    spread = z(0.975) * math.sqrt(share) + z(0.8) * math.sqrt(share - difference ** 2)
    return {"share": share, "difference": difference, "images": math.ceil((spread / difference) ** 2)}


def window_metrics(history, window):
    kept = [(p, label) for p, label in history[-window:] if p != -1]
    if not kept:
        return 0.0, 0.0
    p, labels = np.array([k[0] for k in kept]), np.array([k[1] for k in kept])
    said = np.round(p)
    try:
        accuracy = metrics.accuracy_score(labels, said)
        metrics.precision_score(labels, said, zero_division=0)
        metrics.recall_score(labels, said, zero_division=0)
        metrics.f1_score(labels, said, zero_division=0)
        both = len(np.unique(labels)) > 1 and len(np.unique(said)) > 1
        mcc = max(0, metrics.matthews_corrcoef(labels, said)) if both else 0.0
        if len(np.unique(labels)) > 1:
            metrics.roc_auc_score(labels, p)
    except Exception:
        return 0.0, 0.0
    return accuracy, mcc


def validator(seed, steps, odd):
    rng = np.random.default_rng(seed)
    history, score, rows = [], 0.0, []
    for step in range(steps):
        label = int(rng.integers(0, 2))
        p = float(np.round(rng.beta(6, 2) if label else rng.beta(2, 6), 6))
        p = odd.get(step, p)
        history.append((p, label))
        accuracy, _ = window_metrics(history, 10)
        _, mcc = window_metrics(history, 100)
        bad = p < 0 or p > 1
        reward = 0.0 if p == -1 else ((0.5 * mcc + 0.5 * accuracy) * (0.0 if bad else 1.0)) ** 3
        reward = 0.0 if math.isnan(reward) else reward
        score = 0.05 * reward + 0.95 * score
        text = "nan" if math.isnan(p) else "inf" if p == math.inf else p
        rows.append([text, label, float(reward), float(score)])
    return rows


def main():
    nan, inf = math.nan, math.inf
    odd = {0: nan, 5: -1, 6: -1, 120: nan, 250: 1.7, 300: 0.5, 301: -0.3, 302: 1.3, 303: 1.5, 30: -1}
    odd.update({step: -1 for step in range(40, 53)})
    early = {0: 1.7, 1: 1.7, 20: -0.7, 130: inf, 131: 2.6}
    p = [0.04, 0.01, 0.03, 0.5]
    golden = {
        "versions": {m.__name__: m.__version__ for m in (np, scipy, sklearn, statsmodels)},
        "scored": [scored(1, 60, 1.5, 0.5), scored(2, 150, 3.0, 0.2), scored(3, 40, -0.5, 0.7)],
        "mcnemar": pairs(),
        "needed": [needed(0.1, 0.01), needed(0.05, 0.02), needed(0.03, 0.03)],
        "holm": {"p": p, "corrected": multipletests(p, method="holm")[1].tolist()},
        "validator": [validator(4, 400, odd), validator(5, 250, early)],
    }
    with open(sys.argv[1], "w") as file:
        json.dump(golden, file, separators=(",", ":"))
        file.write("\n")


main()
