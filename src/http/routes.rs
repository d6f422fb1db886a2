//! Which path is answered by whom, and under which name it is measured.

use actix_web::guard::{self, Guard};
use actix_web::{HttpRequest, HttpResponse, Resource, Route, web};

use super::log::Exchange;
use super::reply::Failure;
use super::{openapi, ops, predict, reload};

/// The label of requests to paths that do not exist.
pub(crate) const UNMATCHED: &str = "unmatched";

/// Every path of this port; also the labels of the metrics.
const PATHS: [&str; 9] = [
    "/",
    "/v1/predict",
    "/v1/stages",
    "/v1/reload",
    "/healthz",
    "/readyz",
    "/metrics",
    "/openapi.json",
    "/docs",
];

/// The label of a route, from its pattern.
pub(crate) fn label(pattern: Option<&str>) -> &'static str {
    PATHS.into_iter().find(|path| Some(*path) == pattern).unwrap_or(UNMATCHED)
}

/// Adds every route.
pub(crate) fn configure(config: &mut web::ServiceConfig) {
    let post = || Route::new().guard(guard::Post());
    config
        .service(only("/v1/predict", "POST", post().to(predict::predict)))
        .service(only("/v1/reload", "POST", post().to(reload::reload)))
        .service(only("/v1/stages", "GET, HEAD", get().to(ops::stages)))
        .service(only("/healthz", "GET, HEAD", get().to(ops::healthz)))
        .service(only("/readyz", "GET, HEAD", get().to(ops::readyz)))
        .service(only("/metrics", "GET, HEAD", get().to(ops::metrics)))
        .service(only("/openapi.json", "GET, HEAD", get().to(openapi::document)))
        .service(only("/docs", "GET, HEAD", get().to(openapi::page)))
        .service(only("/", "GET, HEAD", get().to(ops::index)))
        .default_service(web::to(not_found));
}

fn get() -> Route {
    let reading = guard::Any(guard::Get()).or(guard::Head());
    Route::new().guard(guard::fn_guard(move |ctx| reading.check(ctx)))
}

/// A path that answers some methods and says so to the others.
fn only(path: &str, allowed: &'static str, route: Route) -> Resource {
    let wrong_method = move |request: HttpRequest| async move {
        let path = request.path().to_owned();
        Failure::WrongMethod { path, allowed }.reply(Exchange::of(&request).id())
    };
    web::resource(path).route(route).default_service(web::to(wrong_method))
}

async fn not_found(request: HttpRequest) -> HttpResponse {
    Failure::NotFound(request.path().to_owned()).reply(Exchange::of(&request).id())
}
