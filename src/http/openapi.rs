//! The interface described: a document for programs, a page for people.
//!
//! The page is one file without external resources, so it works on a machine that reaches nothing.

use std::sync::LazyLock;

use actix_web::HttpResponse;
use actix_web::http::header::{self, ContentType};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use utoipa::OpenApi;

use super::{ops, predict, reload};

const PAGE: &str = include_str!("docs.html");

/// The document.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "roadcrew",
        description = "Does this dashcam image show roadwork? The private port."
    ),
    paths(
        predict::predict,
        ops::stages,
        reload::reload,
        ops::healthz,
        ops::readyz,
        ops::metrics,
        ops::index,
    ),
    tags(
        (name = "predict", description = "Verdicts on images and clips."),
        (name = "operations", description = "Health, measurements, stages, settings."),
    )
)]
struct Document;

static DOCUMENT: LazyLock<serde_json::Value> =
    LazyLock::new(|| serde_json::to_value(Document::openapi()).unwrap_or_default());

/// Lets the page run its own style and script, known by their hashes, talk to its own server, show
/// the image it was given, and nothing else.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |tag| {
        let digest = Sha256::digest(inside(PAGE, tag).unwrap_or_default());
        format!("'sha256-{}'", STANDARD.encode(digest))
    };
    format!(
        "default-src 'none'; style-src {}; script-src {}; connect-src 'self'; img-src blob: data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash("style"),
        hash("script")
    )
});

/// `/openapi.json`.
pub(crate) async fn document() -> HttpResponse {
    HttpResponse::Ok().json(&*DOCUMENT)
}

/// `/docs`.
pub(crate) async fn page() -> HttpResponse {
    HttpResponse::Ok()
        .content_type(ContentType::html())
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY.as_str()))
        .insert_header((header::REFERRER_POLICY, "no-referrer"))
        .body(PAGE)
}

/// What stands between the first opening tag of that name and the closing one after it.
fn inside<'a>(html: &'a str, tag: &str) -> Option<&'a str> {
    let (_, rest) = html.split_once(&format!("<{tag}>"))?;
    rest.split_once(&format!("</{tag}>")).map(|(inside, _)| inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_whole_and_uses_nothing_from_elsewhere() {
        assert!(inside(PAGE, "style").is_some_and(|style| !style.is_empty()));
        assert!(inside(PAGE, "script").is_some_and(|script| !script.is_empty()));
        for outside in ["http://", "https://", "src=", "@import", "style=", "onclick"] {
            assert!(!PAGE.contains(outside), "{outside}");
        }
    }

    #[test]
    fn the_document_is_3_1_and_every_reference_in_it_resolves() {
        assert_eq!(DOCUMENT["openapi"], "3.1.0");
        let text = DOCUMENT.to_string();
        for part in text.split("\"#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap_or_default();
            assert!(DOCUMENT["components"]["schemas"].get(name).is_some(), "{name}");
        }
    }
}
