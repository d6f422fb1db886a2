//! Against scikit-learn, scipy and statsmodels; see tools/make_scores_golden.py.

use serde_json::Value;

use super::paired::{corrected_p, exact_p};
use super::*;

fn golden() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/lab/scores.json");
    serde_json::from_str(&fs_err::read_to_string(path).unwrap()).unwrap()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().unwrap_or_else(|| panic!("no list {key}"))
}

fn number(value: &Value, key: &str) -> f64 {
    value[key].as_f64().unwrap_or_else(|| panic!("no number {key}"))
}

fn scored(set: &Value) -> Vec<Scored> {
    let truths = list(set, "truth").iter().map(|v| v.as_u64() == Some(1));
    let probabilities = list(set, "probability").iter().filter_map(Value::as_f64);
    truths.zip(probabilities).map(|(truth, probability)| Scored { truth, probability }).collect()
}

#[test]
fn figures_are_those_of_scikit_learn() {
    let golden = golden();
    assert_eq!(list(&golden, "scored").len(), 3);
    for set in list(&golden, "scored") {
        let scored = scored(set);
        assert!(scored.len() >= 40);
        let found = figures(&scored);
        for (figure, key) in
            Figure::ALL.into_iter().zip(["accuracy", "mcc", "reward", "log_loss", "brier", "ece"])
        {
            let (found, expected) = (found.get(figure), number(set, key));
            assert!((found - expected).abs() < 1e-12, "{key}: {found} and not {expected}");
        }
    }
}

#[test]
fn tests_of_pairs_are_those_of_statsmodels() {
    let golden = golden();
    assert_eq!(list(&golden, "mcnemar").len(), 9);
    for row in list(&golden, "mcnemar") {
        let [first, second] = ["first", "second"].map(|key| row[key].as_u64().unwrap());
        let (exact, corrected) = (number(row, "exact"), number(row, "corrected"));
        let close = |found: f64, expected: f64| (found - expected).abs() <= 1e-10 * expected;
        assert!(close(exact_p(first, second), exact), "{row} {}", exact_p(first, second));
        assert!(
            close(corrected_p(first, second), corrected),
            "{row} {}",
            corrected_p(first, second)
        );
        let chosen = if first + second < 25 { exact } else { corrected };
        assert!(close(McNemar::from_counts(first, second).p, chosen), "{row}");
    }
    for row in list(&golden, "needed") {
        let needed = images_needed(number(row, "share"), number(row, "difference"));
        assert_eq!(needed, row["images"].as_u64(), "{row}");
    }
    let numbers =
        |key| list(&golden["holm"], key).iter().filter_map(Value::as_f64).collect::<Vec<_>>();
    let found = holm(&numbers("p"));
    assert!(
        found.iter().zip(numbers("corrected")).all(|(a, b)| (a - b).abs() < 1e-12),
        "{found:?}"
    );
}
