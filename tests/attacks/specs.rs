//! The text of a spec: large, deep, of many values, or ambiguous. It is refused soon, the refusal is small,
//! and the daemon answers others meanwhile.

use std::fs;
use std::time::Duration;

use reqwest::{Method, RequestBuilder};
use serde_json::json;

use crate::serving::spec;
use crate::{IDLE, Target, dpg, good, said, sent};

/// Far more than a refusal takes, and far less than one took whose time was the square of the text's.
const SOON: Duration = Duration::from_secs(30);
/// A refusal is about as large as the schema's words for twenty problems.
const ANSWER_BYTES: usize = 40_000;

/// Texts of about a megabyte, and of as much as is read, that no spec is.
fn texts() -> Vec<(&'static str, String)> {
    let small = (250 << 10) - 100;
    let keys = |bytes: usize| {
        let key = |number: usize| format!("key-{number:07} = 1\n");
        (0..bytes / key(0).len()).map(key).collect::<String>()
    };
    let items = |bytes: usize| format!("a = [{}]\n", "1,\n".repeat(bytes / 3));
    let tables = |bytes: usize| "[[a.b]]\n".repeat(bytes / 8);
    let long = "k".repeat(200);
    let path = vec![long.as_str(); 30].join(".");
    vec![
        ("a megabyte of keys", keys(1_000_000)),
        ("as many keys as are read", keys(small)),
        ("a megabyte of items", items(1_000_000)),
        ("as many items as are read", items(small)),
        ("tables", tables(small)),
        (
            "long paths",
            format!("[{path}]\n{}", "1 = [1, 1, 1]\n")
                + &(0..2000).map(|n| format!("k{n} = [1, 1, 1, 1]\n")).collect::<String>(),
        ),
        ("near misses", (0..4000).map(|n| format!("descriptio{n} = 1\n")).collect()),
        ("one long key", format!("{} = 1\n", "k".repeat(small - 10))),
        ("one long text", format!("name = \"{}\"\n", "n".repeat(small - 20))),
        ("lists in lists", format!("a = {}", "[".repeat(small - 10))),
        ("tables in tables", format!("{}a = 1", "a.".repeat(small / 2 - 10))),
        ("JSON keys", {
            let keys: Vec<_> = (0..12_000).map(|n| format!("\"key-{n}\":1")).collect();
            format!("{{{}}}", keys.join(","))
        }),
        ("JSON lists in lists", format!("{{\"a\":{}", "[".repeat(small - 10))),
        ("comments", "#\n".repeat(small / 2)),
    ]
}

fn submit(daemon: &Target, text: &str) -> RequestBuilder {
    daemon.request(Method::POST, "/v1/jobs").header("content-type", "application/toml").body(text.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_text_that_is_no_spec_is_refused_soon_and_holds_up_nobody() {
    let daemon = Target::start(IDLE).await;
    let mut attacks = tokio::task::JoinSet::new();
    for (name, text) in texts() {
        let schedule = json!({ "cron": "@daily", "spec": text });
        let put = daemon.request(Method::PUT, "/v1/schedules/attack").json(&schedule);
        for request in [submit(&daemon, &text), submit(&daemon, &text), put] {
            let sent = sent(request.timeout(SOON));
            attacks.spawn(async move { (name, sent.await) });
        }
    }
    while !attacks.is_empty() {
        // with all of them under way, and after each
        let (status, _) = sent(daemon.anonymous(Method::GET, "/healthz").timeout(SOON)).await;
        assert_eq!(status, 200);
        let Some(attacked) = attacks.join_next().await else { break };
        let (name, (status, body)) = attacked.unwrap();
        assert!(matches!(status, 413 | 422), "{name}: {status} {body}");
        assert!(body.len() < ANSWER_BYTES, "{name}: {} bytes", body.len());
    }
    good(submit(&daemon, &spec("still-here", 2))).await;
}

#[tokio::test]
async fn a_refusal_names_the_limit() {
    let daemon = Target::start(IDLE).await;
    for (text, expected) in [
        ("#".repeat(300_000), "300000 bytes, more than the limit of 262144"),
        (format!("a = [{}]", "1,".repeat(5000)), "5000 items in a list, more than the limit of 4096"),
        (format!("a = {}{}", "[".repeat(40), "]".repeat(40)), "levels, more than the limit of 32"),
        ((0..3000).map(|n| format!("k{n} = 1\n")).collect(), "and 2983 more"),
    ] {
        let (status, body) = sent(submit(&daemon, &text)).await;
        assert!(status == 422 && body.contains(expected), "`{expected}` is not in: {body}");
    }
}

/// One reader would see one seed, and another the other.
#[tokio::test]
async fn a_key_that_stands_twice_is_refused() {
    let daemon = Target::start(IDLE).await;
    let twice = "{\"name\":\"a\",\"seed\":1,\"seed\":2}";
    let bodies = [
        format!("{{\"spec\": {twice}}}"),
        json!({ "spec": twice }).to_string(),
        json!({ "spec": format!("seed = 1\n{}", spec("twice", 2)) }).to_string(),
    ];
    for body in bodies {
        let request = daemon.request(Method::POST, "/v1/jobs").header("content-type", "application/json");
        let (status, body) = sent(request.body(body)).await;
        assert!((400..500).contains(&status), "{status} {body}");
        assert!(body.contains("twice") || body.contains("duplicate"), "{body}");
    }
}

#[test]
fn the_commands_refuse_it_too() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in texts() {
        let file = if text.starts_with('{') { "spec.json" } else { "spec.toml" };
        fs::write(folder.path().join(file), &text).unwrap();
        let (good, message) = said(&mut dpg(folder.path(), &["plan", file]));
        assert!(!good && message.len() < ANSWER_BYTES, "{name}: {} bytes", message.len());
    }
    for (what, expected) in [("/dev/zero", "a regular file is expected"), (".", "a regular file is expected")]
    {
        let link = folder.path().join("link.toml");
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(what, &link).unwrap();
        let (good, message) = said(&mut dpg(folder.path(), &["plan", "link.toml"]));
        assert!(!good && message.contains(expected), "{message}");
    }
}
