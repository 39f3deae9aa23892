//! A file's answer: whole, in part, or not at all because the client has it.

use std::ops::Range;

use axum::http::response::Builder;
use axum::http::{HeaderMap, Response, StatusCode, header};
use dpg_registry::ManifestFile;

/// The head of an answer with a file, and the bytes that follow it, if any.
pub(super) fn head(file: &ManifestFile, headers: &HeaderMap) -> (Builder, Option<Range<u64>>) {
    let etag = format!("\"{}\"", file.sha256);
    let given = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let base = Response::builder()
        .header(header::ETAG, &etag)
        .header(header::ACCEPT_RANGES, "bytes")
        .header("x-linked-etag", &etag)
        .header("x-linked-size", file.size);
    if given(header::IF_NONE_MATCH).is_some_and(|known| known.contains(&etag)) {
        return (base.status(StatusCode::NOT_MODIFIED), None);
    }
    let base = base.header(header::CONTENT_TYPE, content_type(&file.path));
    let changed = given(header::IF_RANGE).is_some_and(|known| known != etag);
    match Asked::of(given(header::RANGE).filter(|_| !changed), file.size) {
        Asked::Whole => (base.header(header::CONTENT_LENGTH, file.size), Some(0..file.size)),
        Asked::Part(range) => {
            let part = format!("bytes {}-{}/{}", range.start, range.end - 1, file.size);
            let base = base.status(StatusCode::PARTIAL_CONTENT).header(header::CONTENT_RANGE, part);
            (base.header(header::CONTENT_LENGTH, range.end - range.start), Some(range))
        }
        Asked::Nothing => {
            let none = format!("bytes */{}", file.size);
            (base.status(StatusCode::RANGE_NOT_SATISFIABLE).header(header::CONTENT_RANGE, none), None)
        }
    }
}

/// What a `Range` header asks for.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    /// The whole file: the header is missing or is not understood.
    Whole,
    /// These bytes.
    Part(Range<u64>),
    /// Bytes that the file does not have.
    Nothing,
}

impl Asked {
    fn of(header: Option<&str>, size: u64) -> Self {
        match header.and_then(|header| part(header, size)) {
            None => Self::Whole,
            Some(range) if range.is_empty() => Self::Nothing,
            Some(range) => Self::Part(range),
        }
    }
}

/// A single range of bytes, cut to the file.
fn part(header: &str, size: u64) -> Option<Range<u64>> {
    let (first, last) = header.strip_prefix("bytes=")?.split_once('-')?;
    Some(match (first.trim(), last.trim()) {
        ("", count) => size.saturating_sub(count.parse().ok()?)..size,
        (first, "") => first.parse().ok()?..size,
        (first, last) => {
            let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
            if last < first {
                return None;
            }
            first..last.saturating_add(1).min(size)
        }
    })
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "md" => "text/markdown; charset=utf-8",
        "toml" => "text/plain; charset=utf-8",
        "json" => "application/json",
        "png" => "image/png",
        "parquet" => "application/vnd.apache.parquet",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::Asked;

    #[test]
    fn ranges_are_cut_to_the_file_or_ignored() {
        for (header, range) in [
            ("bytes=2-5", 2..6),
            ("bytes=2-", 2..10),
            ("bytes=-3", 7..10),
            ("bytes=-30", 0..10),
            ("bytes=2-18446744073709551615", 2..10),
        ] {
            assert_eq!(Asked::of(Some(header), 10), Asked::Part(range), "{header}");
        }
        for header in ["bytes=10-", "bytes=10-12", "bytes=-0"] {
            assert_eq!(Asked::of(Some(header), 10), Asked::Nothing, "{header}");
        }
        let ignored = [
            "bytes=5-2",
            "bytes=1-2,4-5",
            "items=1-2",
            "bytes=a-",
            "bytes=-",
            "bytes=2-99999999999999999999",
        ];
        for header in ignored {
            assert_eq!(Asked::of(Some(header), 10), Asked::Whole, "{header}");
        }
    }
}
