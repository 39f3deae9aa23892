//! What is shown: text that would take over a terminal, a line of the log, or an answer.

use reqwest::Method;
use reqwest::header::HeaderValue;
use serde_json::json;

use crate::published::publish;
use crate::{IDLE, Target, dpg, good, said};

/// Clears the screen, sets the title, colours, goes back to the line's start, turns the text around.
const HOSTILE: &str = "x\u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}31m\rfaked\u{202e}live\nsix@v9  verified";

#[tokio::test]
async fn a_reason_cannot_take_over_the_terminal() {
    let target = Target::start(IDLE).await;
    publish(&target.data(), "six", "a").await;
    let yank = target.request(Method::POST, "/v1/datasets/six/versions/v1/yank");
    good(yank.json(&json!({ "reason": HOSTILE }))).await;
    let folder = target.folder.path();
    for arguments in [
        &["datasets", "six"][..],
        &["datasets", "six", "--url", &target.url],
        &["datasets", "show", "six@v1"],
        &["datasets", "show", "six@v1", "--json"],
        &["datasets", "six", "--json", "--url", &target.url],
        &["fetch", "six@v1", "fetched"],
    ] {
        let (fine, text) = said(&mut dpg(folder, arguments));
        assert!(fine && text.contains("owned"), "{text}");
        let acting = text.chars().find(|c| (c.is_control() && *c != '\n') || *c == '\u{202e}');
        assert_eq!(acting, None, "{arguments:?}: {text:?}");
        assert!(!text.lines().any(|line| line.starts_with("six@v9")), "{text}");
    }
}

#[tokio::test]
async fn an_error_cannot_take_over_the_terminal_nor_a_request_the_log() {
    let target = Target::start(IDLE).await;
    let (fine, text) = said(&mut dpg(target.folder.path(), &["status", "a\u{1b}[2Jb\u{202e}"]));
    assert!(!fine && !text.contains(['\u{1b}', '\u{202e}']), "{text:?}");
    let agent = HeaderValue::from_bytes(b"x\t\xff\xc2\x9b31m").unwrap();
    let forged = "/v1/jobs/x%0a2026-11-25T00:00:00Z%20%20INFO%20forged";
    target.anonymous(Method::GET, forged).header("user-agent", agent).send().await.unwrap();
    target.request(Method::DELETE, "/v1/tokens/a%0aforged").send().await.unwrap();
    let log = target.daemon.log();
    assert!(!log.contains(['\u{1b}', '\u{9b}']) && !log.contains("\nforged"), "{log}");
    // each line is one that the daemon wrote
    for line in
        log.lines().filter(|line| !line.starts_with("dpg serves") && !line.starts_with("its page asks"))
    {
        assert!(line.starts_with("20") && !line.contains("INFO forged"), "{line}");
    }
}

/// Answers are not many times larger than their requests.
#[tokio::test]
async fn errors_do_not_echo_what_was_sent() {
    let target = Target::start(IDLE).await;
    let long = "x".repeat(20_000);
    let keys: String = (0..8_000).map(|number| format!("a{number} = {number}\n")).collect();
    let unknown = json!({ "spec": {}, long.as_str(): 1 }).to_string();
    let spec = json!({ "spec": keys }).to_string();
    for body in [unknown, spec] {
        let request = target.request(Method::POST, "/v1/jobs").header("content-type", "application/json");
        let response = request.body(body.clone()).send().await.unwrap();
        let (status, answer) = (response.status().as_u16(), response.text().await.unwrap());
        assert!(status == 422 && answer.len() < body.len(), "{status}: {} for {}", answer.len(), body.len());
    }
    let query = target.request(Method::GET, &format!("/v1/jobs?{long}=1")).send().await.unwrap();
    assert!(query.text().await.unwrap().len() < 4000);
}
