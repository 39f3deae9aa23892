//! Files of the store over HTTP: whole or one range, streamed; or a signed address on S3.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use dpg_api::Code;
use dpg_registry::ManifestFile;
use object_store::path::Path;
use object_store::signer::Signer;
use object_store::{GetOptions, GetRange, ObjectStore};

use super::problem::Refusal;

/// How long a signed address is good.
const SIGNED_FOR: Duration = Duration::from_hours(1);

/// A redirect to the object itself.
pub(crate) async fn redirect(
    signer: &dyn Signer,
    method: &Method,
    object: &Path,
) -> Result<Response, Refusal> {
    let url = signer
        .signed_url(method.clone(), object, SIGNED_FOR)
        .await
        .map_err(|error| Refusal::unavailable("store", &error))?;
    let headers = [(header::LOCATION, url.to_string()), (header::CACHE_CONTROL, "no-store".into())];
    Ok((StatusCode::TEMPORARY_REDIRECT, headers).into_response())
}

/// The file's bytes, or those of the range that is asked for.
pub(crate) async fn send(
    store: &Arc<dyn ObjectStore>,
    object: &Path,
    file: &ManifestFile,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response, Refusal> {
    let tag = format!("\"{}\"", file.sha256);
    let text = |name| headers.get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
    // a range of another file than the caller thinks is of no use
    let range = text(header::RANGE).filter(|_| text(header::IF_RANGE).is_none_or(|known| known == tag));
    let range = match range.map(|range| Range::read(range, file.size)) {
        None | Some(Range::Ignored) => None,
        Some(Range::Bytes(from, to)) => Some((from, to)),
        Some(Range::Outside) => {
            let detail = format!("the file has {} bytes", file.size);
            return Err(Refusal::new(Code::RangeNotSatisfiable, detail)
                .with(header::CONTENT_RANGE, &format!("bytes */{}", file.size)));
        }
    };
    let mut answer = Response::builder()
        .header(header::ETAG, &tag)
        .header(header::ACCEPT_RANGES, "bytes")
        .header(header::CACHE_CONTROL, "private, max-age=31536000, immutable")
        .header(header::CONTENT_TYPE, kind(&file.path));
    if text(header::IF_NONE_MATCH) == Some(&tag) {
        answer = answer.status(StatusCode::NOT_MODIFIED);
        return answer.body(Body::empty()).map_err(|error| Refusal::internal(&error));
    }
    let length = range.map_or(file.size, |(from, to)| to - from);
    answer = answer.header(header::CONTENT_LENGTH, length);
    if let Some((from, to)) = range {
        let range = format!("bytes {from}-{}/{}", to - 1, file.size);
        answer = answer.status(StatusCode::PARTIAL_CONTENT).header(header::CONTENT_RANGE, range);
    }
    let body = if method == Method::HEAD {
        Body::empty()
    } else {
        let range = range.map(|(from, to)| GetRange::Bounded(from..to));
        let options = GetOptions { range, ..GetOptions::default() };
        let got = store.get_opts(object, options).await;
        Body::from_stream(got.map_err(|error| Refusal::unavailable("store", &error))?.into_stream())
    };
    answer.body(body).map_err(|error| Refusal::internal(&error))
}

/// What a file is sent as. A picture may be shown; what else a browser could make something of, it saves.
fn kind(path: &str) -> &'static str {
    let extension = std::path::Path::new(path).extension();
    if extension.is_some_and(|extension| extension == "png") {
        "image/png"
    } else {
        "application/octet-stream"
    }
}

/// What a `Range` header means for a file.
#[derive(Debug, PartialEq, Eq)]
enum Range {
    /// From the first byte to before the second.
    Bytes(u64, u64),
    /// No byte of the file is in it.
    Outside,
    /// It is not one range of bytes: the whole file is sent.
    Ignored,
}

impl Range {
    fn read(header: &str, size: u64) -> Self {
        let Some((from, to)) = header.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
            return Self::Ignored;
        };
        let range = match (from.parse::<u64>(), to.parse::<u64>()) {
            (Ok(from), Ok(to)) if from <= to => (from, size.min(to.saturating_add(1))),
            (Ok(from), Err(_)) if to.is_empty() => (from, size),
            (Err(_), Ok(last)) if from.is_empty() => (size.saturating_sub(last), size),
            _ => return Self::Ignored,
        };
        if range.0 < range.1 { Self::Bytes(range.0, range.1) } else { Self::Outside }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Method;
    use object_store::aws::AmazonS3Builder;

    use super::{Range, redirect};

    #[tokio::test]
    async fn s3_is_redirected_to_by_a_signed_address() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let store = AmazonS3Builder::new()
            .with_bucket_name("bucket")
            .with_region("eu-central-1")
            .with_endpoint("http://127.0.0.1:9000")
            .with_allow_http(true)
            .with_access_key_id("id")
            .with_secret_access_key("hidden")
            .build()
            .unwrap();
        let response = redirect(&store, &Method::GET, &"prefix/a b.parquet".into()).await.unwrap();
        assert_eq!(response.status(), 307);
        assert_eq!(response.headers()["cache-control"], "no-store");
        let location = response.headers()["location"].to_str().unwrap();
        assert!(location.starts_with("http://127.0.0.1:9000/bucket/prefix/a%20b.parquet?"), "{location}");
        assert!(location.contains("X-Amz-Signature=") && !location.contains("hidden"), "{location}");
    }

    #[test]
    fn ranges_are_read_as_http_has_them() {
        for (header, expected) in [
            ("bytes=0-9", Range::Bytes(0, 10)),
            ("bytes=90-200", Range::Bytes(90, 100)),
            ("bytes=90-", Range::Bytes(90, 100)),
            ("bytes=-10", Range::Bytes(90, 100)),
            ("bytes=-200", Range::Bytes(0, 100)),
            ("bytes=0-18446744073709551615", Range::Bytes(0, 100)),
            ("bytes=100-", Range::Outside),
            ("bytes=-0", Range::Outside),
            ("bytes=9-0", Range::Ignored),
            ("bytes=0-1,3-4", Range::Ignored),
            ("rows=0-1", Range::Ignored),
            ("bytes=a-b", Range::Ignored),
        ] {
            assert_eq!(Range::read(header, 100), expected, "{header}");
        }
    }
}
