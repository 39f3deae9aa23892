//! The page at the daemon's address: the files of `daemon/page`, which the program carries. What it shows it asks of
//! the API, with the cookie of `session.rs`. It loads nothing from elsewhere and runs nothing that is not in a file.

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use rust_embed::RustEmbed;

use super::{api::Api, problem::Refusal};

/// What the page may load and where it may be shown.
const POLICY: &str = "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

#[derive(RustEmbed)]
#[folder = "page/"]
struct Files;

pub(crate) fn routes() -> Router<Api> {
    Router::new().route("/", get(async |headers: HeaderMap| file("index.html", &headers))).route(
        "/page/{*path}",
        get(async |Path(path): Path<String>, headers: HeaderMap| file(&path, &headers)),
    )
}

fn file(path: &str, headers: &HeaderMap) -> Response {
    let Some(file) = Files::get(path) else {
        return Refusal::of_status(StatusCode::NOT_FOUND).into_response();
    };
    let tag = format!("\"{}\"", hex::encode(file.metadata.sha256_hash()));
    let kind = match path.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "text/plain; charset=utf-8",
    };
    let is_known = headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let head = [
        (header::CONTENT_TYPE, kind),
        (header::ETAG, &tag),
        // the next version of the program has others
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ];
    if is_known {
        return (StatusCode::NOT_MODIFIED, head).into_response();
    }
    (head, file.data.into_owned()).into_response()
}
