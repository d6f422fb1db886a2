//! What counts as a label. Pure.

/// The labels that are understood, as messages name them.
pub(super) const EXPECTED: &str = "1, 0, true, false, \"roadwork\" or \"not_roadwork\"";

/// What a word means; `None` if it is no label.
pub(super) fn from_word(word: &str) -> Option<bool> {
    match word.trim().to_ascii_lowercase().replace([' ', '-'], "_").as_str() {
        "roadwork" | "1" | "true" => Some(true),
        "not_roadwork" | "no_roadwork" | "0" | "false" => Some(false),
        _ => None,
    }
}

/// What a number means; `None` if it is no label.
pub(super) fn from_number(number: i64) -> Option<bool> {
    match number {
        1 => Some(true),
        0 => Some(false),
        _ => None,
    }
}

/// What a JSON value means; `None` if it is no label.
pub(super) fn from_json(value: &serde_json::Value) -> Option<bool> {
    use serde_json::Value;
    match value {
        Value::Bool(truth) => Some(*truth),
        Value::String(word) => from_word(word),
        Value::Number(number) if number.as_f64() == Some(1.0) => Some(true),
        Value::Number(number) if number.as_f64() == Some(0.0) => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn words_numbers_and_truths() {
        for yes in [json!(1), json!(1.0), json!(true), json!("roadwork"), json!("Roadwork")] {
            assert_eq!(from_json(&yes), Some(true), "{yes}");
        }
        for no in [json!(0), json!(false), json!("not_roadwork"), json!("Not roadwork")] {
            assert_eq!(from_json(&no), Some(false), "{no}");
        }
        for neither in [json!(2), json!(-1), json!(0.5), json!("yes"), json!(null), json!([1])] {
            assert_eq!(from_json(&neither), None, "{neither}");
        }
        assert_eq!([2, 1, 0].map(from_number), [None, Some(true), Some(false)]);
    }
}
