use proptest::prelude::*;

use super::super::dendrite::{Dendrite, NOW, Sent};
use super::*;
use crate::bittensor::EMPTY_BODY_HASH;

const NEEDED: [(&str, &str); 5] = [
    (HOTKEY, "hotkey"),
    (UUID, "uuid"),
    (NONCE, "nonce"),
    (SIGNATURE, "signature"),
    (BODY_HASH, "body_hash"),
];

fn sent() -> Sent {
    Dendrite::new(1, Hotkey::new([2; 32])).sign(NOW)
}

fn label(sent: &Sent) -> &'static str {
    sent.head().map_or_else(|error| error.as_str(), |_| "read")
}

#[test]
fn a_dendrites_headers_are_read() {
    let sent = sent();
    let head = sent.head().unwrap();
    let alice = Dendrite::new(1, Hotkey::new([2; 32])).keys.hotkey();
    assert_eq!((head.caller, head.caller_text), (alice, alice.to_string().as_str()));
    assert_eq!(head.axon_text, Some(Hotkey::new([2; 32]).to_string().as_str()));
    assert_eq!(head.uuid, "ffebb1ee-e685-11f1-9fd3-02fc00000001");
    assert_eq!((head.nonce, head.body_hash), (NOW, EMPTY_BODY_HASH));
    assert_eq!(head.timeout, Some(Duration::from_secs(9)));
    assert_eq!(caller(&sent.get()), Ok(alice));
}

#[test]
fn what_is_needed_is_named_when_it_is_missing() {
    for (header, name) in NEEDED {
        assert_eq!(label(&sent().without(header)), format!("missing_{name}"));
    }
    assert_eq!(caller(&Sent::default().get()), Err(Unverified::Missing(Field::Hotkey)));
    for header in [AXON_HOTKEY, TIMEOUT, "bt_header_dendrite_version", "name"] {
        assert_eq!(label(&sent().without(header)), "read", "{header}");
    }
}

#[test]
fn what_is_needed_must_be_visible_and_short() {
    for (header, name) in NEEDED {
        let long = vec![b'1'; VALUE_MAX + 1];
        for value in [&b""[..], b" ", b"1 1", b"1\n1", b"1\x001", b"\xff", "é".as_bytes(), &long] {
            assert_eq!(label(&sent().with(header, value)), format!("malformed_{name}"));
        }
    }
}

#[test]
fn each_has_one_shape() {
    let signature = String::from_utf8(sent().0[SIGNATURE].clone()).unwrap();
    let hash = EMPTY_BODY_HASH;
    let cases = [
        (
            NONCE,
            vec!["abc", "0", "01", "+1", "-1", "1.0", "1e9", "0x1", "18446744073709551616", "١"],
        ),
        (SIGNATURE, vec!["0xzz", "0x", &signature[2..], &signature[..129], "0x+1"]),
        (BODY_HASH, vec!["None", &hash[1..], "a.b"]),
        (HOTKEY, vec!["alice", "0x00", "15oF4uVJwmo4TdGW7VfQxNLavjCXviqxT9S1MgbjMNHr6Sp5"]),
    ];
    for (header, values) in cases {
        let name = NEEDED.iter().find(|(needed, _)| *needed == header).unwrap().1;
        for value in values {
            assert_eq!(label(&sent().with(header, value)), format!("malformed_{name}"), "{value}");
        }
    }
    let loud = EMPTY_BODY_HASH.to_uppercase();
    assert_eq!(label(&sent().with(BODY_HASH, loud)), "malformed_body_hash");
    assert_eq!(label(&sent().with(UUID, "u".repeat(UUID_MAX))), "read");
    assert_eq!(label(&sent().with(UUID, "u".repeat(UUID_MAX + 1))), "malformed_uuid");
    assert_eq!(label(&sent().with(NONCE, "18446744073709551615")), "read");
    let capitals = format!("0x{}", signature[2..].to_uppercase());
    assert_eq!(label(&sent().with(SIGNATURE, capitals)), "read");
}

#[test]
fn a_timeout_is_a_number_of_seconds_or_nothing() {
    let read = |text: &str| {
        let sent = sent().with(TIMEOUT, text);
        sent.head().unwrap().timeout.map(|timeout| timeout.as_secs_f64())
    };
    for (text, seconds) in [("9.0", 9.0), ("12", 12.0), ("0", 0.0), ("1e-3", 0.001), ("-0", 0.0)] {
        assert_eq!(read(text), Some(seconds), "{text}");
    }
    for text in ["3600", "1e300", "inf", "9".repeat(200).as_str()] {
        assert_eq!(read(text), Some(3600.0), "{text}");
    }
    for text in ["", "nine", "nan", "-1", "-inf", "9 s", "0x9", "٩"] {
        assert_eq!(read(text), None, "{text}");
    }
}

#[test]
fn the_body_must_be_what_the_hash_says() {
    let sent = sent();
    assert_eq!(sent.head().unwrap().check_body(&[]), Ok(()));
    assert_eq!(sent.head().unwrap().check_body(&["abc"]), Err(Unverified::BodyHash));
    let sent = sent.with(BODY_HASH, crate::bittensor::body_hash(&["abc", "1.0"]));
    assert_eq!(sent.head().unwrap().check_body(&["abc", "1.0"]), Ok(()));
    assert_eq!(sent.head().unwrap().check_body(&["1.0", "abc"]), Err(Unverified::BodyHash));
    assert_eq!(sent.head().unwrap().check_body(&[]), Err(Unverified::BodyHash));
}

proptest! {
    #[test]
    fn no_bytes_break_the_reader(values in prop::collection::vec(any::<Vec<u8>>(), 7)) {
        let names = [HOTKEY, UUID, NONCE, SIGNATURE, AXON_HOTKEY, BODY_HASH, TIMEOUT];
        let (whole, mut noise) = (sent(), Sent::default());
        for (name, value) in names.iter().zip(&values) {
            let _ = label(&whole.with(name, value));
            noise.set(name, value);
        }
        prop_assert!(noise.head().is_err());
    }

    #[test]
    fn whatever_is_read_goes_into_the_message_as_one_line(text in "[ -~]{0,140}", bytes: Vec<u8>) {
        for value in [text.as_bytes(), &bytes] {
            for (header, _) in NEEDED {
                if let Ok(head) = sent().with(header, value).head() {
                    for part in [head.caller_text, head.uuid, head.body_hash] {
                        prop_assert!(part.bytes().all(|byte| byte.is_ascii_graphic()));
                    }
                    prop_assert!(!head.caller_text.contains('.') && !head.body_hash.contains('.'));
                }
            }
        }
    }
}
