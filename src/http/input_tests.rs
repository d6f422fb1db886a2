use super::*;
use crate::actors::Priority;
use crate::image::ImageLimits;
use crate::video::ClipLimits;
use actix_web::http::header::HeaderValue;

fn limits() -> Limits {
    Limits { image: ImageLimits::default(), clip: ClipLimits { max_frames: 2 }, as_files: false }
}

fn kind(text: &'static str) -> Result<Kind, Failure> {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(text));
    Kind::of(&headers)
}

fn fails(text: &str) -> String {
    let decoder = Decoder { limits: &limits(), room: &|_| Ok(()) };
    Kind::Document.decode(text.into(), decoder).unwrap_err().to_string()
}

#[test]
fn pixels_are_asked_for_before_they_are_allocated() {
    let bytes = include_bytes!("../../samples/roadwork.jpg");
    let asked = std::cell::Cell::new(0);
    let room = |bytes| {
        asked.set(bytes);
        Err(Failure::BudgetSpent { key: "room" })
    };
    let refused = Kind::Raw.decode(bytes.to_vec(), Decoder { limits: &limits(), room: &room });
    assert!(matches!(refused, Err(Failure::BudgetSpent { .. })));
    assert_eq!(asked.get(), 320 * 180 * 3);
}

#[test]
fn the_content_type_says_how_to_read() {
    assert_eq!(Kind::of(&HeaderMap::new()).unwrap(), Kind::Raw);
    for raw in ["image/jpeg", "IMAGE/anything", "application/octet-stream", ""] {
        assert_eq!(kind(raw).unwrap(), Kind::Raw, "{raw}");
    }
    assert_eq!(kind("Application/JSON; charset=utf-8").unwrap(), Kind::Document);
    let form = "Multipart/Form-Data; boundary=AbC";
    assert_eq!(kind(form).unwrap(), Kind::Form(form.into()), "a boundary keeps its case");
    assert!(matches!(kind("text/plain"), Err(Failure::UnsupportedMediaType(_))));
}

#[test]
fn base64_with_and_without_padding_and_prefix() {
    for text in ["/+8=", "/+8", "data:image/png;base64,/+8="] {
        assert_eq!(from_base64(&Text(text.into())).unwrap(), [0xff, 0xef], "{text}");
    }
    for wrong in ["a!b=", "\u{e9}", "data:image/png;base64"] {
        assert!(from_base64(&Text(wrong.into())).is_err(), "{wrong}");
    }
}

/// The pixels that a document asks for, or why it is refused.
fn asked_by(document: &[u8]) -> Result<(Input, Wishes), String> {
    let decoder = Decoder { limits: &limits(), room: &|_| Ok(()) };
    Kind::Document.decode(document.to_vec(), decoder).map_err(|failure| failure.to_string())
}

#[test]
fn a_document_means_the_same_whatever_its_form() {
    let image =
        base64_simd::STANDARD.encode_to_string(include_bytes!("../../samples/roadwork.jpg"));
    let escaped = image.replace('/', "\\/");
    for document in [
        format!(r#"{{"image":"{image}","priority":"bulk"}}"#),
        format!(" {{ \n\"image\" :\t\"{image}\" , \"priority\" : \"bulk\" }}\n"),
        format!(r#"{{"priority":"bulk","image":"{image}"}}"#),
        format!(r#"{{"image":"{escaped}","priority":"bulk"}}"#),
        format!(r#"{{"\u0069mage":"data:image/jpeg;base64,{image}","priority":"bulk"}}"#),
    ] {
        let (input, wishes) = asked_by(document.as_bytes()).unwrap();
        assert_eq!((input.frames()[0].width(), wishes.priority), (320, Some(Priority::Bulk)));
    }
    for (document, part) in [
        (format!(r#"{{"image":"{image}""#), "EOF"),
        (format!(r#"{{"image":"{image}","image":"{image}"}}"#), "duplicate field"),
        (format!(r#"{{"image":"{image}","frames":["{image}"]}}"#), "either `image`"),
        (format!(r#"{{"image":"{image}","colour":1}}"#), "colour"),
        (r#"{"image":"not base64"}"#.into(), "base64"),
        (r#"{"image":"AAAA"#.into(), "EOF"),
    ] {
        let error = asked_by(document.as_bytes()).unwrap_err();
        assert!(error.contains(part), "{part}: {error}");
    }
}

proptest::proptest! {
    /// What is lifted out and what is left are the document.
    #[test]
    fn lifting_keeps_the_document(space in "[ \n\t]{0,3}", image in "[A-Za-z0-9+/=]{0,40}", fps in 0..9u8) {
        let document = format!("{{{space}\"image\"{space}:{space}\"{image}\",\"fps\":{fps}}}");
        let (place, rest) = lift(document.as_bytes()).unwrap();
        let mut left: serde_json::Value = serde_json::from_slice(&rest).unwrap();
        left["image"] = document[place].into();
        let whole: serde_json::Value = serde_json::from_str(&document).unwrap();
        proptest::prop_assert_eq!(left, whole);
    }
}

#[test]
fn too_many_frames_are_refused_before_one_is_decoded() {
    let text = r#"{"frames": ["AAAA", "AAAA", "AAAA"]}"#;
    assert!(fails(text).contains("3 frames"), "{}", fails(text));
}

#[test]
fn a_document_is_either_an_image_or_a_clip() {
    for text in ["{}", r#"{"image": "", "frames": []}"#, r#"{"image": "", "fps": 1}"#] {
        assert!(fails(text).contains("either `image`, or `frames`"), "{}", fails(text));
    }
    assert!(fails(r#"{"image": "", "priority": "urgent"}"#).contains("urgent"));
    assert!(fails("[]").contains("JSON"));
}
