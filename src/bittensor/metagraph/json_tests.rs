use proptest::prelude::*;
use serde_json::json;

use super::*;

const NOW: Duration = Duration::from_secs(1_795_359_862);

fn read_text(text: &str) -> Result<Snapshot, SnapshotError> {
    read(text.as_bytes(), UNIX_EPOCH + NOW)
}

fn address(n: u8) -> String {
    Hotkey::new([n; 32]).to_string()
}

fn row(uid: u32, n: u8) -> Value {
    json!({ "uid": uid, "hotkey": address(n), "validator_permit": true, "stake": 1.5 })
}

fn file(neurons: &[Value]) -> Value {
    json!({ "netuid": 72, "neurons": neurons })
}

#[test]
fn the_documented_example_is_read() {
    let alice = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY";
    let text = r#"{"netuid":72,"block":123,"taken_at":"2026-11-23T00:00:00Z","neurons":[
        {"uid":0,"hotkey":"ALICE","validator_permit":true,"stake":1234.5}]}"#;
    let snapshot = read_text(&text.replace("ALICE", alice)).unwrap();
    let expected = Neuron { uid: 0, validator_permit: true, stake: 1234.5 };
    assert_eq!((snapshot.netuid, snapshot.block), (72, Some(123)));
    assert_eq!(snapshot.taken_at, UNIX_EPOCH + Duration::from_secs(1_795_392_000));
    assert_eq!(snapshot.neurons[&alice.parse().unwrap()], expected);
    assert_eq!(snapshot.neurons.len(), 1);
}

#[test]
fn what_is_left_out_and_what_is_unknown() {
    let mut value = file(&[row(3, 1)]);
    value["neurons"][0]["trust"] = json!({ "x": [1, null] });
    value["network"] = "finney".into();
    let snapshot = read_text(&value.to_string()).unwrap();
    assert_eq!((snapshot.block, snapshot.taken_at), (None, UNIX_EPOCH + NOW));
    value["taken_at"] = Value::Null;
    value["block"] = Value::Null;
    assert_eq!(read_text(&value.to_string()).unwrap(), snapshot);
    assert!(read_text(&file(&[]).to_string()).unwrap().neurons.is_empty());
}

#[test]
fn times_are_text_or_seconds() {
    let taken = |said: Value| {
        let mut value = file(&[]);
        value["taken_at"] = said;
        read_text(&value.to_string()).map(|snapshot| snapshot.taken_at)
    };
    let midnight = UNIX_EPOCH + Duration::from_secs(1_795_392_000);
    for said in [
        json!("2026-11-23T00:00:00Z"),
        json!("2026-11-23T00:00:00+00:00"),
        json!("2026-11-23T02:00:00.000+02:00"),
        json!(" 2026-11-22T19:00:00-05:00 "),
        json!(1_795_392_000),
        json!(1_795_392_000.0),
    ] {
        assert_eq!(taken(said.clone()).unwrap(), midnight, "{said}");
    }
    assert_eq!(taken(json!(1.5)).unwrap(), UNIX_EPOCH + Duration::from_millis(1500));
    for said in [
        json!(""),
        json!("yesterday"),
        json!("2026-11-23"),
        json!("2026-13-01T00:00:00Z"),
        json!("1969-12-31T23:59:59Z"),
        json!(-1),
        json!(1e300),
        json!(true),
        json!([1]),
    ] {
        let error = taken(said.clone()).unwrap_err();
        assert!(matches!(error, SnapshotError::Time), "{said}: {error}");
    }
}

#[test]
fn what_contradicts_itself_is_refused_with_the_place() {
    let said = |neurons: &[Value]| read_text(&file(neurons).to_string()).unwrap_err().to_string();
    assert!(said(&[row(1, 1), row(2, 1)]).starts_with("neurons[1]: the hotkey 5"));
    assert!(said(&[row(1, 1), row(2, 2), row(1, 3)]).starts_with("neurons[2]: the uid 1 comes"));
    let with = |field: &str, value: Value| {
        let mut wrong = row(1, 1);
        wrong[field] = value;
        said(&[row(0, 0), wrong])
    };
    assert!(with("hotkey", "5abc".into()).starts_with("neurons[1].hotkey: not an SS58 address"));
    assert!(with("stake", json!(-0.1)).ends_with("is -0.1: write it in TAO, 0 or more"));
    assert!(with("uid", json!(65_536)).contains("65536"));
    assert!(with("validator_permit", json!(1)).contains("line 1 column"));
    assert!(with("stake", json!("1")).contains("line 1 column"));
    let mut without = row(1, 1);
    without.as_object_mut().unwrap().remove("stake");
    assert!(said(&[without]).contains("missing field `stake`"));
}

#[test]
fn numbers_that_are_none_are_refused() {
    let text = file(&[row(1, 1)]).to_string();
    for wrong in ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "null", "-1"] {
        assert!(read_text(&text.replace("1.5", wrong)).is_err(), "{wrong}");
    }
    assert!(read_text(&text.replace("1.5", "-0.0")).is_ok());
    for stake in [f64::NAN, f64::INFINITY, -1.0] {
        let mut snapshot = read_text(&text).unwrap();
        snapshot.neurons.values_mut().for_each(|neuron| neuron.stake = stake);
        assert!(matches!(write(&snapshot), Err(SnapshotError::Stake { .. })), "{stake}");
    }
}

#[test]
fn what_is_too_large_is_refused() {
    let blank = vec![b' '; BYTES_MAX + 1];
    assert!(matches!(read(&blank, UNIX_EPOCH), Err(SnapshotError::TooLarge)));
    let fits = read(&blank[..BYTES_MAX], UNIX_EPOCH);
    assert!(matches!(fits, Err(SnapshotError::Malformed(_))));
    let row = row(0, 1).to_string();
    let many = vec![row.as_str(); NEURONS_MAX + 1].join(",");
    let error = read_text(&format!("{{\"netuid\":1,\"neurons\":[{many}]}}")).unwrap_err();
    assert!(matches!(error, SnapshotError::TooMany { found: 65_537 }), "{error}");
}

#[test]
fn a_time_that_cannot_be_written_is_an_error() {
    let mut snapshot = read_text(&file(&[]).to_string()).unwrap();
    for wrong in
        [UNIX_EPOCH - Duration::from_secs(1), UNIX_EPOCH + Duration::from_secs(400_000_000_000)]
    {
        snapshot.taken_at = wrong;
        assert!(matches!(write(&snapshot), Err(SnapshotError::Time)));
    }
}

fn snapshots() -> impl Strategy<Value = Snapshot> {
    let neuron = (any::<bool>(), 0_u64..21_000_000_000_000_000);
    let neurons = prop::collection::btree_map(any::<[u8; 32]>(), neuron, 0..40);
    let taken = (0_u64..10_000_000_000, 0_u32..1_000_000_000);
    (any::<u16>(), any::<Option<u64>>(), taken, neurons).prop_map(|(netuid, block, taken, rows)| {
        let neuron = |(uid, (key, (validator_permit, rao))): (u16, _)| {
            let stake = rao as f64 / 1e9;
            (Hotkey::new(key), Neuron { uid, validator_permit, stake })
        };
        let taken_at = UNIX_EPOCH + Duration::new(taken.0, taken.1);
        let neurons = (0..).zip(rows).map(neuron).collect();
        Snapshot { netuid, block, taken_at, neurons }
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(snapshot in snapshots()) {
        let bytes = write(&snapshot).unwrap();
        let mut again = read(&bytes, UNIX_EPOCH).unwrap();
        for (hotkey, neuron) in &mut again.neurons {
            // The reader may be wrong in a number's last bit.
            let meant = snapshot.neurons[hotkey].stake;
            prop_assert!((neuron.stake - meant).abs() <= meant * 1e-15);
            neuron.stake = meant;
        }
        prop_assert_eq!(again, snapshot);
    }

    #[test]
    fn no_bytes_break_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes, UNIX_EPOCH);
    }

    /// A file that is still being written, or was hit by something, is read whole or not at all.
    #[test]
    fn a_damaged_file_is_refused_or_is_another_snapshot(
        snapshot in snapshots(),
        at in any::<prop::sample::Index>(),
        with: u8,
    ) {
        let bytes = write(&snapshot).unwrap();
        let end = at.index(bytes.len() - 1);
        prop_assert!(read(&bytes[..end], UNIX_EPOCH).is_err());
        let mut damaged = bytes;
        damaged[end] = with;
        if let Ok(other) = read(&damaged, UNIX_EPOCH) {
            prop_assert!(other.neurons.values().all(|neuron| is_stake(neuron.stake)));
        }
    }
}
