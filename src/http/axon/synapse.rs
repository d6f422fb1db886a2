//! The body of a call: JSON with an image in base64, which is decoded where it stands.
//!
//! The image is copied once, from the socket into the body. Its base64 text is found by borrowing
//! from that body and decoded in place; only a text with escapes in it, which no dendrite writes,
//! costs a second copy.
//!
//! Must not know: who sent it, or what the image shows.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::bittensor::body_hash;
use crate::http::input::data_url;

/// What a call's body asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The class of the caller has a field `explanation`.
    pub explanation: bool,
    /// The class of the caller has a field `model_url`.
    pub model_url: bool,
    /// What the caller said of itself; echoed.
    pub testnet_label: i64,
}

impl Default for Asked {
    /// What a plain synapse asks for.
    fn default() -> Self {
        Self { explanation: false, model_url: false, testnet_label: -1 }
    }
}

/// A body whose base64 was decoded.
#[derive(Debug, PartialEq, Eq)]
pub struct Synapse {
    bytes: Vec<u8>,
    image: Range<usize>,
    /// What else is in it.
    pub asked: Asked,
}

/// Why a body is not a synapse.
#[derive(Debug, thiserror::Error)]
pub enum SynapseError {
    /// It is not JSON, or its fields are of other types.
    #[error("the body is not a synapse: {0}; send a JSON object whose `image` is a string")]
    Shape(#[from] serde_json::Error),
    /// It is not the body whose hash was signed.
    #[error("the body is not the one that was signed")]
    Hash,
    /// The image is not base64. The rest of the body was understood.
    #[error("the image is not base64; send the bytes of a JPEG, PNG or WebP in base64")]
    Base64(Asked),
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow, default)]
    image: Text<'a>,
    #[serde(default, deserialize_with = "is_there")]
    explanation: bool,
    #[serde(default, deserialize_with = "is_there")]
    model_url: bool,
    #[serde(default, deserialize_with = "number")]
    testnet_label: Option<i64>,
}

/// Borrowed unless it has escapes.
#[derive(Default, Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// A field counts as there whatever its value, `null` included.
fn is_there<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

/// A whole number; anything else is passed over without being kept.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    struct Whole;

    impl<'de> Visitor<'de> for Whole {
        type Value = Option<i64>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("anything")
        }

        fn visit_i64<E>(self, value: i64) -> Result<Option<i64>, E> {
            Ok(Some(value))
        }

        fn visit_u64<E>(self, value: u64) -> Result<Option<i64>, E> {
            Ok(i64::try_from(value).ok())
        }

        fn visit_f64<E>(self, _: f64) -> Result<Option<i64>, E> {
            Ok(None)
        }

        fn visit_bool<E>(self, _: bool) -> Result<Option<i64>, E> {
            Ok(None)
        }

        fn visit_str<E>(self, _: &str) -> Result<Option<i64>, E> {
            Ok(None)
        }

        fn visit_unit<E>(self) -> Result<Option<i64>, E> {
            Ok(None)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Option<i64>, A::Error> {
            while items.next_element::<IgnoredAny>()?.is_some() {}
            Ok(None)
        }

        fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Option<i64>, A::Error> {
            while items.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            Ok(None)
        }
    }

    deserializer.deserialize_any(Whole)
}

impl Synapse {
    /// Reads a body and decodes the image in it. A body without an image has an empty one. Where a
    /// hash other than that of no fields was signed, it must be that of the image.
    ///
    /// # Errors
    /// If it is no synapse, not the signed one, or its image not base64.
    pub fn read(mut bytes: Vec<u8>, signed: Option<&str>) -> Result<Self, SynapseError> {
        let (place, asked) = {
            let fields = fields(&bytes)?;
            if signed.is_some_and(|hash| hash != body_hash(&[&fields.image.0])) {
                return Err(SynapseError::Hash);
            }
            let mut asked = Asked {
                explanation: fields.explanation,
                model_url: fields.model_url,
                ..Asked::default()
            };
            if let Some(label) = fields.testnet_label {
                asked.testnet_label = label;
            }
            (Place::of(fields.image.0, &bytes), asked)
        };
        let range = match place {
            Place::Within(range) => range,
            Place::Apart(text) => {
                bytes = text.into_bytes();
                0..bytes.len()
            }
        };
        let start = range.start + data_url(&bytes[range.clone()]);
        let text = &mut bytes[start..range.end];
        let length = base64_simd::forgiving_decode_inplace(text)
            .map_err(|_| SynapseError::Base64(asked))?
            .len();
        Ok(Self { bytes, image: start..start + length, asked })
    }

    /// The bytes of the image.
    pub fn image(&self) -> &[u8] {
        &self.bytes[self.image.clone()]
    }

    /// How many bytes all this keeps in memory.
    pub fn held_bytes(&self) -> usize {
        self.bytes.len()
    }
}

/// Serde would take a list of values for the fields in their order; a synapse is an object.
fn fields(bytes: &[u8]) -> Result<Fields<'_>, serde_json::Error> {
    if bytes.trim_ascii_start().first().is_some_and(|first| *first != b'{') {
        return Err(serde_json::Error::custom("not an object"));
    }
    serde_json::from_slice(bytes)
}

/// Where the base64 text is.
enum Place {
    Within(Range<usize>),
    Apart(String),
}

impl Place {
    fn of(text: Cow<'_, str>, body: &[u8]) -> Self {
        match text {
            Cow::Borrowed("") => Self::Within(0..0),
            Cow::Borrowed(text) => {
                let start = (text.as_ptr() as usize).saturating_sub(body.as_ptr() as usize);
                Self::Within(start..start + text.len())
            }
            Cow::Owned(text) => Self::Apart(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    fn read(body: &str) -> Result<Synapse, SynapseError> {
        Synapse::read(body.as_bytes().to_vec(), None)
    }

    #[test]
    fn what_a_dendrite_sends_is_read() {
        let body = r#"{"name": "ImageSynapse", "timeout": 9.0, "total_size": 7530,
            "dendrite": {"status_code": null, "nonce": 1795359862387512062}, "axon": {"port": 1},
            "computed_body_hash": "", "testnet_label": -1, "image": "aGVsbG8=", "prediction": -1.0}"#;
        let synapse = read(body).unwrap();
        assert_eq!(synapse.image(), b"hello");
        assert_eq!(synapse.asked, Asked::default());
    }

    #[test]
    fn optional_fields_are_there_even_if_null() {
        let synapse =
            read(r#"{"explanation": null, "model_url": "", "testnet_label": 1}"#).unwrap();
        assert_eq!(synapse.image(), b"");
        let asked = Asked { explanation: true, model_url: true, testnet_label: 1 };
        assert_eq!(synapse.asked, asked);
    }

    #[test]
    fn an_odd_label_is_passed_over() {
        for label in ["1.5", "true", "null", "\"x\"", "[0, [1], {}]", "{\"a\": [1]}", "1e99"] {
            let body = format!("{{\"testnet_label\": {label}, \"image\": \"aGVsbG8=\"}}");
            let synapse = read(&body).unwrap();
            assert_eq!(
                (synapse.asked.testnet_label, synapse.image()),
                (-1, &b"hello"[..]),
                "{label}"
            );
        }
    }

    #[test]
    fn base64_is_read_liberally_and_escapes_are_understood() {
        for text in [
            "aGVsbG8=",
            "aGVsbG8",
            "aGVs\\nbG8=",
            "data:image/jpeg;base64,aGVsbG8=",
            "aGVsbG\\u0038",
        ] {
            let synapse = read(&format!(r#"{{"image": "{text}"}}"#)).unwrap();
            assert_eq!(synapse.image(), b"hello", "{text}");
        }
        let synapse = read(r#"{"image": "\/9j\/4AA="}"#).unwrap();
        assert_eq!(synapse.image(), [0xff, 0xd8, 0xff, 0xe0, 0]);
    }

    #[test]
    fn a_signed_hash_must_be_that_of_the_image() {
        let body = br#"{"image": "aGVsbG8="}"#.to_vec();
        let hash = body_hash(&["aGVsbG8="]);
        assert!(Synapse::read(body.clone(), Some(&hash)).is_ok());
        let other = Synapse::read(body, Some(&body_hash(&["aGVsbG9="])));
        assert!(matches!(other, Err(SynapseError::Hash)));
    }

    #[test]
    fn what_is_no_synapse_is_told_from_what_is_no_image() {
        for body in [
            "",
            "{not json",
            "[]",
            "[\"aGVsbG8=\"]",
            "5",
            r#"{"image": 5}"#,
            r#"{"image": null}"#,
            "{} {}",
        ] {
            assert!(matches!(read(body), Err(SynapseError::Shape(_))), "{body}");
        }
        let twice = r#"{"image": "aGVsbG8=", "image": "aGVsbG8="}"#;
        assert!(matches!(read(twice), Err(SynapseError::Shape(_))));
        for image in ["@@@ this is not base64 @@@", "a", "====", "data:image/jpeg"] {
            let body = format!(r#"{{"image": "{image}", "explanation": ""}}"#);
            match read(&body) {
                Err(SynapseError::Base64(asked)) => assert!(asked.explanation),
                other => panic!("{image}: {other:?}"),
            }
        }
    }

    proptest! {
        #[test]
        fn every_image_comes_out_as_it_went_in(
            image: Vec<u8>,
            before in "[a-z]{0,9}",
            after: i32,
        ) {
            let text = STANDARD.encode(&image);
            let body = format!(r#"{{"x{before}": "{before}", "image": "{text}", "y": {after}}}"#);
            let synapse = read(&body).unwrap();
            prop_assert_eq!(synapse.image(), &image[..]);
        }

        #[test]
        fn no_bytes_break_the_reader(bytes: Vec<u8>) {
            let _ = Synapse::read(bytes, None);
        }

        #[test]
        fn no_base64_breaks_the_reader(text in "[A-Za-z0-9+/=\\\\ \n]{0,64}") {
            let _ = read(&format!(r#"{{"image": "{text}"}}"#));
        }
    }
}
