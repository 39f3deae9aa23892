//! An answer that is not what was asked for, and what its reader can do about it.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, DATE, HeaderMap, LOCATION};

use crate::listing::{Unusable, element, unescaped};
use crate::wait::{PATIENCE, asked_wait};

/// Codes of answers that may be another a moment later, whatever their status.
const PASSING: [&str; 7] = [
    "ConditionalRequestConflict",
    "OperationAborted",
    "RequestTimeout",
    "InternalError",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
];

/// What a server, or something in front of it, answers instead of doing what it was asked.
#[derive(Debug)]
pub struct Refusal {
    status: StatusCode,
    /// S3's code; empty if the answer has none.
    code: String,
    /// What the server says beside it.
    message: String,
    remedy: Option<String>,
    is_transient: bool,
    /// How long it asks to be left alone.
    wait: Option<Duration>,
}

impl Refusal {
    /// Reads an answer that is not a success.
    pub(crate) fn read(status: StatusCode, headers: &HeaderMap, body: &str, now: DateTime<Utc>) -> Self {
        if is_page(headers, body) {
            return Self { is_transient: is_passing(status), ..Self::page(status) };
        }
        let text = |name| element(body, name).map(|text| unescaped(text.trim())).unwrap_or_default();
        let code = text("Code");
        let wait = asked_wait(headers, now);
        Self {
            status,
            message: text("Message"),
            remedy: remedy(status, &code, headers, body, now),
            is_transient: is_passing(status) || PASSING.contains(&code.as_str()),
            wait,
            code,
        }
    }

    fn of(status: StatusCode, message: &str, remedy: &str) -> Self {
        let (message, remedy) = (message.into(), Some(remedy.into()));
        Self { status, code: String::new(), message, remedy, is_transient: false, wait: None }
    }

    /// A page for people, which no S3 server sends.
    pub(crate) fn page(status: StatusCode) -> Self {
        let remedy =
            "a proxy, a login or a console answers in place of the S3 server: check AWS_ENDPOINT_URL";
        Self::of(status, "a web page", remedy)
    }

    pub(crate) fn listing(status: StatusCode, unusable: &Unusable) -> Self {
        match unusable {
            Unusable::Foreign => {
                Self::of(status, "something that is not a listing", "check AWS_ENDPOINT_URL and the bucket")
            }
            Unusable::CutOff => {
                let remedy = "it does not speak ListObjectsV2: use another server, or a newer one";
                Self::of(status, "a listing that breaks off", remedy)
            }
        }
    }

    /// S3's code, as `NoSuchBucket`; empty if the answer has none.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// Whether the same request may succeed later.
    pub fn is_transient(&self) -> bool {
        self.is_transient
    }

    /// How long to wait before the request is repeated, if that is worth it: as long as is asked for, or
    /// `usual`.
    pub(crate) fn wait(&self, usual: Duration) -> Option<Duration> {
        let wait = self.wait.map_or(usual, |asked| asked.max(usual));
        (self.is_transient && wait <= PATIENCE).then_some(wait)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { status, code, message, remedy, wait, .. } = self;
        write!(f, "the store answers {}", status.as_u16())?;
        let named = if code.is_empty() { status.canonical_reason().unwrap_or_default() } else { code };
        write!(f, " {named}")?;
        if !message.is_empty() && message != code {
            write!(f, ": {}", message.trim_end_matches('.'))?;
        }
        if let Some(wait) = wait.filter(|_| self.is_transient) {
            write!(f, ", and asks to wait {} s", wait.as_secs())?;
        }
        remedy.as_ref().map_or(Ok(()), |remedy| write!(f, "; {remedy}"))
    }
}

impl std::error::Error for Refusal {}

fn is_passing(status: StatusCode) -> bool {
    use StatusCode as S;
    let lasting = [S::NOT_IMPLEMENTED, S::HTTP_VERSION_NOT_SUPPORTED, S::INSUFFICIENT_STORAGE];
    (status.is_server_error() && !lasting.contains(&status))
        || [S::TOO_MANY_REQUESTS, S::REQUEST_TIMEOUT, S::TOO_EARLY].contains(&status)
}

/// Whether an answer is HTML.
pub(crate) fn is_page(headers: &HeaderMap, body: &str) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let start = body.trim_start().get(..9).unwrap_or_default().to_ascii_lowercase();
    kind.is_some_and(|kind| kind.starts_with("text/html"))
        || ["<!doctype", "<html"].iter().any(|tag| start.starts_with(tag))
}

fn remedy(
    status: StatusCode,
    code: &str,
    headers: &HeaderMap,
    body: &str,
    now: DateTime<Utc>,
) -> Option<String> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let region = element(body, "Region").map(unescaped).or_else(|| header("x-amz-bucket-region"));
    let is_astray = status.is_redirection()
        || ["AuthorizationHeaderMalformed", "IllegalLocationConstraintException"].contains(&code);
    let text = match code {
        "RequestTimeTooSkewed" | "RequestExpired" => match ahead(&header, body, now) {
            Some(text) => format!("this machine's clock is {text} the store's: set it (NTP)"),
            None => "this machine's clock is not the store's: set it (NTP)".into(),
        },
        _ if is_astray && region.is_some() => {
            format!("the bucket is in region `{}`: set AWS_DEFAULT_REGION to it", region.unwrap_or_default())
        }
        _ if status.is_redirection() => {
            let place = element(body, "Endpoint").map(unescaped).or_else(|| header(LOCATION.as_str()));
            match place {
                Some(place) => {
                    format!("the bucket is at `{place}`: set AWS_ENDPOINT_URL to the address there")
                }
                None => {
                    "the bucket is in another region: correct AWS_DEFAULT_REGION or AWS_ENDPOINT_URL".into()
                }
            }
        }
        "InvalidAccessKeyId" => "the store does not know this key: correct AWS_ACCESS_KEY_ID".into(),
        "SignatureDoesNotMatch" => {
            "correct AWS_SECRET_ACCESS_KEY; if it is right, a proxy on the way changes \
                                    the request's host or path"
                .into()
        }
        "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired" => "renew AWS_SESSION_TOKEN".into(),
        "NoSuchBucket" => "make the bucket, or correct its name".into(),
        "AccessDenied" | "AllAccessDisabled" | "InsufficientPermissions" => {
            "let this key list the bucket, and read, write and delete in it".into()
        }
        "AuthorizationHeaderMalformed" => "correct AWS_DEFAULT_REGION".into(),
        _ if status == StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            "give the proxy's user and password in HTTPS_PROXY".into()
        }
        _ if status == StatusCode::INSUFFICIENT_STORAGE => "free space in the store".into(),
        _ if code.is_empty() && [401, 403].contains(&status.as_u16()) => {
            "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and what they may do in the bucket".into()
        }
        _ => return None,
    };
    Some(text)
}

/// How far this machine's clock is from the server's, in words.
fn ahead(header: &impl Fn(&str) -> Option<String>, body: &str, now: DateTime<Utc>) -> Option<String> {
    let stated = element(body, "ServerTime").and_then(|time| time.trim().parse::<DateTime<Utc>>().ok());
    let sent = || Some(DateTime::parse_from_rfc2822(&header(DATE.as_str())?).ok()?.with_timezone(&Utc));
    let apart = now - stated.or_else(sent)?;
    let (minutes, side) =
        (apart.num_minutes().abs(), if apart < TimeDelta::zero() { "behind" } else { "ahead of" });
    let length = match minutes {
        0..1 => return None,
        1..120 => format!("{minutes} min"),
        120..2880 => format!("{} h {} min", minutes / 60, minutes % 60),
        _ => format!("{} days", minutes / 1440),
    };
    Some(format!("{length} {side}"))
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};
    use reqwest::StatusCode;
    use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

    use super::Refusal;

    fn now() -> DateTime<Utc> {
        "2026-03-01T12:00:00Z".parse().unwrap()
    }

    fn said(status: u16, headers: &[(&'static str, &'static str)], code: &str, more: &str) -> String {
        let header = |&(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        let headers: HeaderMap = headers.iter().map(header).collect();
        let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code>{more}</Error>");
        Refusal::read(StatusCode::from_u16(status).unwrap(), &headers, &body, now()).to_string()
    }

    #[test]
    fn the_cause_and_the_way_out_are_named() {
        let cases = [
            (
                said(403, &[("date", "Sun, 01 Mar 2026 15:02:00 GMT")], "RequestTimeTooSkewed", ""),
                "403 RequestTimeTooSkewed; this machine's clock is 3 h 2 min behind the store's",
            ),
            (
                said(403, &[], "RequestTimeTooSkewed", "<ServerTime>2026-03-01T11:30:00Z</ServerTime>"),
                "clock is 30 min ahead of the store's: set it",
            ),
            (said(403, &[], "RequestTimeTooSkewed", ""), "clock is not the store's"),
            (
                said(
                    400,
                    &[],
                    "AuthorizationHeaderMalformed",
                    "<Message>no.</Message><Region>eu-west-1</Region>",
                ),
                "400 AuthorizationHeaderMalformed: no; the bucket is in region `eu-west-1`",
            ),
            (
                said(301, &[("x-amz-bucket-region", "eu-west-3")], "PermanentRedirect", ""),
                "region `eu-west-3`",
            ),
            (
                said(307, &[("location", "https://b.other/")], "TemporaryRedirect", ""),
                "at `https://b.other/`",
            ),
            (
                said(301, &[], "PermanentRedirect", "<Endpoint>b.host</Endpoint>"),
                "at `b.host`: set AWS_ENDPOINT",
            ),
            (said(403, &[], "InvalidAccessKeyId", ""), "correct AWS_ACCESS_KEY_ID"),
            (said(403, &[], "SignatureDoesNotMatch", ""), "correct AWS_SECRET_ACCESS_KEY"),
            (said(400, &[], "ExpiredToken", ""), "renew AWS_SESSION_TOKEN"),
            (said(404, &[], "NoSuchBucket", ""), "make the bucket"),
            (said(403, &[], "AccessDenied", "<Message>a &amp; b</Message>"), "a & b; let this key list"),
            (said(403, &[], "", ""), "403 Forbidden; check AWS_ACCESS_KEY_ID"),
            (said(503, &[("retry-after", "90")], "SlowDown", ""), "503 SlowDown, and asks to wait 90 s"),
            (said(429, &[], "", ""), "429 Too Many Requests"),
            (
                said(302, &[("content-type", "text/html; charset=utf-8")], "", ""),
                "302 Found: a web page; a proxy",
            ),
        ];
        for (said, expected) in cases {
            assert!(said.contains(expected), "{said}\n{expected}");
        }
    }

    #[test]
    fn what_passes_is_known_by_status_or_code() {
        let is_transient = |status, code: &str| {
            let body = format!("<Error><Code>{code}</Code></Error>");
            let status = StatusCode::from_u16(status).unwrap();
            Refusal::read(status, &HeaderMap::new(), &body, now()).is_transient()
        };
        for (status, code) in [
            (500, ""),
            (502, ""),
            (503, "SlowDown"),
            (429, ""),
            (408, ""),
            (400, "RequestTimeout"),
            (409, "ConditionalRequestConflict"),
        ] {
            assert!(is_transient(status, code), "{status} {code}");
        }
        for (status, code) in [
            (501, "NotImplemented"),
            (507, ""),
            (400, "InvalidArgument"),
            (403, "AccessDenied"),
            (301, "PermanentRedirect"),
        ] {
            assert!(!is_transient(status, code), "{status} {code}");
        }
    }
}
