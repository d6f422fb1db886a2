use super::*;
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
        Err(Failure::BudgetSpent)
    };
    let refused = Kind::Raw.decode(bytes.to_vec(), Decoder { limits: &limits(), room: &room });
    assert!(matches!(refused, Err(Failure::BudgetSpent)));
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
fn base64_with_and_without_padding_prefix_and_escapes() {
    for text in ["/+8=", "/+8", "data:image/png;base64,/+8="] {
        let quoted = serde_json::to_string(text).unwrap().replace('/', "\\/");
        let parsed: Text<'_> = serde_json::from_str(&quoted).unwrap();
        assert_eq!(from_base64(&parsed).unwrap(), [0xff, 0xef], "{text}");
    }
    assert!(from_base64(&Text("a b".into())).is_err());
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
