//! How long a server asks to be left alone.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::{HeaderMap, RETRY_AFTER};

/// What is asked for beyond this is not waited for: the caller is told the number of seconds.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Larger numbers of `X-RateLimit-Reset` are a time, smaller ones seconds from now.
const A_TIME: i64 = 1_000_000_000;

/// The wait that an answer's headers ask for: `Retry-After` in seconds or as a date; else the end of
/// the window that is used up, in `RateLimit` (`"name";r=0;t=40`) or in `RateLimit-Reset`.
pub fn asked_wait(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let until = |time: DateTime<Utc>| (time - now).num_seconds();
    let retry_after = text(RETRY_AFTER.as_str()).and_then(|value| {
        let date = || DateTime::parse_from_rfc2822(value).ok().map(|date| until(date.into()));
        value.parse().ok().or_else(date)
    });
    let reset = || {
        let reset: i64 = text("ratelimit-reset").or_else(|| text("x-ratelimit-reset"))?.parse().ok()?;
        Some(if reset > A_TIME { until(DateTime::from_timestamp(reset, 0)?) } else { reset })
    };
    let seconds = retry_after.or_else(|| text("ratelimit").and_then(window)).or_else(reset)?;
    Some(Duration::from_secs(seconds.max(0).unsigned_abs()))
}

/// The seconds until the last of the windows ends that have nothing left.
fn window(header: &str) -> Option<i64> {
    let used_up = header.split(',').filter_map(|item| {
        let parameter = |name: &str| {
            item.split(';').find_map(|part| part.trim().strip_prefix(name)?.trim().parse::<i64>().ok())
        };
        if parameter("r=").is_some_and(|left| left > 0) { None } else { parameter("t=") }
    });
    used_up.max()
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

    use super::asked_wait;

    #[test]
    fn every_header_that_servers_use_is_read() {
        let now = "2026-03-01T12:00:00Z".parse().unwrap();
        for (headers, seconds) in [
            (&[("retry-after", "40")][..], Some(40)),
            (&[("retry-after", "Sun, 01 Mar 2026 12:00:30 GMT")], Some(30)),
            (&[("retry-after", "Sun, 01 Mar 2026 11:00:00 GMT")], Some(0)),
            (&[("retry-after", "5"), ("ratelimit", "\"api\";r=0;t=40")], Some(5)),
            (&[("ratelimit", "\"api\";r=12;t=300, \"resolvers\";r=0;t=40")], Some(40)),
            (&[("ratelimit", "\"api\";r=12;t=300")], None),
            (&[("ratelimit-reset", "17")], Some(17)),
            (&[("x-ratelimit-reset", "1772366460")], Some(60)),
            (&[("retry-after", "soon")], None),
            (&[], None),
        ] {
            let header = |&(name, value): &(&'static str, &'static str)| {
                (HeaderName::from_static(name), HeaderValue::from_static(value))
            };
            let headers: HeaderMap = headers.iter().map(header).collect();
            let wait = asked_wait(&headers, now).map(|wait| wait.as_secs());
            assert_eq!(wait, seconds, "{headers:?}");
        }
    }
}
