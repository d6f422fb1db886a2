//! What an operator and their machines ask: alive, ready, metrics, stages.

use actix_web::http::header::{self, ContentType};
use actix_web::{HttpResponse, web};

use super::predict::State;
use super::wire::{Health, Index, Link, Readiness, StagesReply};
use crate::actors::board::Doom;
use crate::clock;

/// Whether the process is alive.
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "operations",
    responses(
        (status = 200, description = "It is.", body = Health),
        (status = 503, description = "Something is wrong that only a new process mends: the server \
            ends by itself, once what is in flight is answered.", body = Health),
    )
)]
pub(crate) async fn healthz(state: web::Data<State>) -> HttpResponse {
    let board = state.engine.board();
    let ill = match board.get_doom() {
        _ if !board.is_alive() => Some("supervisor_died"),
        doom => doom.map(Doom::as_str),
    };
    match ill {
        None => HttpResponse::Ok().json(Health { status: "ok" }),
        Some(status) => HttpResponse::ServiceUnavailable().json(Health { status }),
    }
}

/// Whether requests can be answered now.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "operations",
    responses(
        (status = 200, description = "Some stage can answer.", body = Readiness),
        (status = 503, description = "No stage can, or the server is shutting down.",
            body = Readiness),
    )
)]
pub(crate) async fn readyz(state: web::Data<State>) -> HttpResponse {
    let readiness = Readiness::new(state.engine.board(), clock::now());
    if readiness.is_ready() {
        HttpResponse::Ok().json(readiness)
    } else {
        HttpResponse::ServiceUnavailable().json(readiness)
    }
}

/// Everything that is measured, for Prometheus.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "operations",
    responses(
        (status = 200, description = "Prometheus text format.", body = String,
            content_type = "text/plain"),
    )
)]
pub(crate) async fn metrics() -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, "text/plain; version=0.0.4"))
        .body(crate::metrics::render())
}

/// How each stage is, in full.
#[utoipa::path(
    get,
    path = "/v1/stages",
    tag = "operations",
    responses((status = 200, description = "Every stage.", body = StagesReply))
)]
pub(crate) async fn stages(state: web::Data<State>) -> HttpResponse {
    HttpResponse::Ok().json(StagesReply::new(state.engine.board(), clock::now()))
}

/// What there is on this port.
#[utoipa::path(
    get,
    path = "/",
    tag = "operations",
    responses((status = 200, description = "Links.", body = Index))
)]
pub(crate) async fn index() -> HttpResponse {
    let link = |method, path, what| Link { method, path, what };
    let links = vec![
        link("POST", "/v1/predict", "an image or a clip in, a verdict out"),
        link("GET", "/v1/stages", "how each stage is"),
        link("GET", "/healthz", "whether the process is alive"),
        link("GET", "/readyz", "whether requests can be answered"),
        link("GET", "/metrics", "measurements, for Prometheus"),
        link("GET", "/openapi.json", "this interface, for programs"),
        link("GET", "/docs", "this interface, for people; try an image there"),
    ];
    let index = Index { service: "roadcrew", version: env!("CARGO_PKG_VERSION"), links };
    HttpResponse::Ok().insert_header(ContentType::json()).json(index)
}
