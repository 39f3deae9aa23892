//! What a request has to say who sends it: a token in `Authorization`, or in the cookie that the page's sign-in
//! sets (`session.rs`).
//!
//! Browsers send a cookie with whatever a page asks for, also a page of somebody else. So a cookie counts if the
//! request comes from this origin, as far as the browser says, and if what changes something has a header that
//! another origin's page can only send after asking, which is refused. The cookie's name has the port: browsers
//! send cookies to all ports of a host, and two daemons on one machine must not sign each other's users out.

use axum::extract::Request;
use axum::http::{HeaderMap, Method, header};

/// The header that the page sends with what changes something.
pub(crate) const PAGE: &str = "x-dpg-page";

/// The token of a request.
pub(crate) fn secret(headers: &HeaderMap) -> Option<&str> {
    match headers.get(header::AUTHORIZATION) {
        Some(authorization) => {
            let (scheme, secret) = authorization.to_str().ok()?.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim())
        }
        None => in_cookie(headers),
    }
}

/// What whoever tries tokens varies.
pub(crate) fn knock(headers: &HeaderMap) -> Option<&[u8]> {
    let authorization = headers.get(header::AUTHORIZATION).map(header::HeaderValue::as_bytes);
    authorization.or_else(|| in_cookie(headers).map(str::as_bytes))
}

/// The name of the cookie at the address that a request is for.
pub(crate) fn cookie(headers: &HeaderMap) -> String {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    // an IPv6 address has colons in brackets
    match host.rsplit_once(':') {
        Some((_, port)) if port.parse::<u16>().is_ok() => format!("dpg-{port}"),
        _ => "dpg".into(),
    }
}

fn in_cookie(headers: &HeaderMap) -> Option<&str> {
    let name = cookie(headers);
    let cookies = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(other, _)| *other == name).map(|(_, secret)| secret).filter(|secret| !secret.is_empty())
}

/// Takes the cookies off a request that the page did not send.
pub(crate) fn forget_foreign(request: &mut Request) {
    let (method, headers) = (request.method(), request.headers());
    let from = headers.get("sec-fetch-site").map(header::HeaderValue::as_bytes);
    let is_near = from.is_none_or(|site| site == b"same-origin" || site == b"none");
    let only_looks = [Method::GET, Method::HEAD].contains(method);
    if !is_near || !(only_looks || headers.contains_key(PAGE)) {
        request.headers_mut().remove(header::COOKIE);
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn request(method: &str, headers: &[(&str, &str)]) -> Request {
        let mut request = Request::builder().method(method).uri("/v1/jobs").header("host", "here:7117");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Body::empty()).unwrap()
    }

    #[test]
    fn a_cookie_counts_if_the_page_sent_it() {
        let cookie = ("cookie", "other=1; dpg=2; dpg-7117=secret");
        for (method, headers, expected) in [
            ("GET", vec![cookie], Some("secret")),
            ("GET", vec![cookie, ("sec-fetch-site", "same-origin")], Some("secret")),
            ("GET", vec![cookie, ("sec-fetch-site", "none")], Some("secret")),
            ("GET", vec![cookie, ("sec-fetch-site", "same-site")], None),
            ("GET", vec![cookie, ("sec-fetch-site", "cross-site")], None),
            ("POST", vec![cookie], None),
            ("POST", vec![cookie, ("sec-fetch-site", "same-origin")], None),
            ("POST", vec![cookie, (PAGE, "1")], Some("secret")),
            ("DELETE", vec![cookie, (PAGE, "1"), ("sec-fetch-site", "same-site")], None),
            ("POST", vec![("authorization", "bearer token"), cookie], Some("token")),
            // a header that cannot be read is not passed over
            ("GET", vec![("authorization", "Basic x"), cookie], None),
            ("GET", vec![("cookie", "dpg-7118=secret")], None),
        ] {
            let mut request = request(method, &headers);
            forget_foreign(&mut request);
            assert_eq!(secret(request.headers()), expected, "{method} {headers:?}");
        }
    }

    #[test]
    fn the_cookies_name_has_the_port() {
        for (host, expected) in
            [("a:1", "dpg-1"), ("a", "dpg"), ("[::1]:7117", "dpg-7117"), ("[::1]", "dpg"), ("", "dpg")]
        {
            let headers = [(header::HOST, host.parse().unwrap())].into_iter().collect();
            assert_eq!(cookie(&headers), expected, "{host}");
        }
    }
}
