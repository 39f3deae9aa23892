//! Signing in, and who can make use of it.

use reqwest::Method;
use serde_json::json;

use crate::Site;

/// Signs in and gives the cookie as a browser sends it back.
async fn cookie(site: &Site) -> String {
    let answer = site.request(Method::POST, "/v1/session").send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let set = answer.headers()["set-cookie"].to_str().unwrap().to_owned();
    for attribute in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age="] {
        assert!(set.contains(attribute), "{set}");
    }
    assert!(!set.contains("Secure"), "there is no TLS: {set}");
    set.split(';').next().unwrap().to_owned()
}

#[tokio::test]
async fn a_cookie_signs_in_and_out() {
    let site = Site::idle().await;
    let anonymous = site.anonymous(Method::GET, "/v1/session").send().await.unwrap();
    assert_eq!(anonymous.status(), 401);
    let wrong = site.anonymous(Method::POST, "/v1/session").bearer_auth("dpg_wrong").send().await.unwrap();
    assert_eq!((wrong.status().as_u16(), wrong.headers().get("set-cookie")), (401, None));

    let cookie = cookie(&site).await;
    let port = site.url.rsplit(':').next().unwrap();
    assert!(cookie.starts_with(&format!("dpg-{port}=")), "two daemons of a host have their own: {cookie}");
    let shown = site.anonymous(Method::GET, "/v1/session").header("cookie", &cookie).send().await.unwrap();
    let shown: serde_json::Value = shown.json().await.unwrap();
    assert_eq!(shown["scopes"], json!(["admin"]));
    assert!(!shown.to_string().contains(&site.token), "{shown}");
    let out = site.anonymous(Method::DELETE, "/v1/session").header("cookie", &cookie);
    let out = out.header("x-dpg-page", "1").send().await.unwrap();
    assert!(out.headers()["set-cookie"].to_str().unwrap().contains("=; Path=/; Max-Age=0"));
    assert!(!site.daemon.log().contains(&site.token), "the token is in the log");
}

#[tokio::test]
async fn a_cookie_changes_nothing_unless_the_page_sends_it() {
    let site = Site::idle().await;
    let cookie = cookie(&site).await;
    let spec = crate::serving::spec("forged", 1);
    let submit =
        || site.anonymous(Method::POST, "/v1/jobs").header("cookie", &cookie).json(&json!({ "spec": spec }));
    // what a form, or a script of another page on this host, can make a browser send
    assert_eq!(submit().send().await.unwrap().status(), 401);
    let near = submit().header("x-dpg-page", "1").header("sec-fetch-site", "same-site");
    assert_eq!(near.send().await.unwrap().status(), 401);
    let picture = site.anonymous(Method::GET, "/v1/jobs").header("cookie", &cookie);
    assert_eq!(picture.header("sec-fetch-site", "cross-site").send().await.unwrap().status(), 401);
    assert_eq!(site.get("/v1/jobs").await["jobs"], json!([]));
    // and what lets no script of another page send the header
    let asked = site
        .anonymous(Method::OPTIONS, "/v1/jobs")
        .header("origin", "http://localhost:3000")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "x-dpg-page");
    let answer = asked.send().await.unwrap();
    assert!(answer.headers().keys().all(|name| !name.as_str().starts_with("access-control")));
    // the page itself
    let own = submit().header("x-dpg-page", "1").header("sec-fetch-site", "same-origin");
    assert_eq!(own.send().await.unwrap().status(), 201);
}

/// Cookies are guessed at as slowly as tokens.
#[tokio::test]
async fn guessed_cookies_count_as_wrong_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let place = crate::Place::idle(folder.path(), "limits = { failures_per_minute = 3 }\n");
    let site = Site::start(place, folder).await;
    let name = crate::session::cookie(&site).await.split('=').next().unwrap().to_owned();
    for (guess, status) in [(1, 401), (2, 401), (3, 401), (4, 429)] {
        let request = site.anonymous(Method::GET, "/v1/jobs").header("cookie", format!("{name}=dpg_{guess}"));
        assert_eq!(request.send().await.unwrap().status(), status, "{guess}");
    }
}
