//! Published datasets by HTTP.

use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{Daemon, IDLE, dpg, folder, good, problem, succeed};

#[tokio::test]
async fn a_dataset_is_found_and_downloaded() {
    let folder = folder();
    succeed(&mut dpg(folder.path(), &["run", "spec.toml"]));
    let daemon = Daemon::start_in(folder, IDLE).await;
    let list = daemon.get("/v1/datasets").await;
    assert_eq!(list["datasets"][0]["name"], "tiny");
    assert_eq!(list["datasets"][0]["latest"]["rows"], 8);
    let tag = daemon.request(Method::PUT, "/v1/datasets/tiny/tags/good").json(&json!({"version": 1}));
    assert_eq!(good(tag).await["tags"], json!({"good": 1}));
    assert_eq!(daemon.get("/v1/datasets/tiny").await["versions"][0]["number"], 1);

    let version = daemon.get("/v1/datasets/tiny/versions/latest").await;
    for reference in ["v1", "1", "good"] {
        assert_eq!(daemon.get(&format!("/v1/datasets/tiny/versions/{reference}")).await, version);
    }
    let files = version["files"].as_array().unwrap();
    assert!(files.iter().any(|file| file["path"].as_str().unwrap().starts_with("data/train-")), "{version}");
    for file in files {
        whole_and_in_parts(&daemon, file).await;
    }

    for (path, status) in [
        ("tiny/versions/v9", 404),
        ("tiny/versions/..%2f..", 400),
        ("nothing", 404),
        ("..%2f..%2fetc", 400),
        ("%00", 400),
        ("tiny/versions/v1/files/manifest.json", 404),
        ("tiny/versions/v1/files/..%2f..%2f..%2flog%2f000000000000.json", 404),
        ("tiny/versions/v1/files//etc/passwd", 404),
        ("tiny/versions/v1/files/data%2f..%2fREADME.md", 404),
    ] {
        let response = daemon.request(Method::GET, &format!("/v1/datasets/{path}")).send().await.unwrap();
        problem(response, status, if status == 404 { "not-found" } else { "invalid-name" }).await;
    }
    for (tag, version, status, kind) in
        [("v7", 1, 422, "invalid-value"), ("fine", 9, 404, "not-found"), ("latest", 1, 422, "invalid-value")]
    {
        let path = format!("/v1/datasets/tiny/tags/{tag}");
        let response = daemon.request(Method::PUT, &path).json(&json!({"version": version})).send();
        problem(response.await.unwrap(), status, kind).await;
    }

    let yank = daemon.request(Method::POST, "/v1/datasets/tiny/versions/good/yank");
    assert_eq!(good(yank.json(&json!({"reason": "bad"}))).await["versions"][0]["yanked"], "bad");
    let latest = daemon.request(Method::GET, "/v1/datasets/tiny/versions/latest").send().await.unwrap();
    problem(latest, 404, "not-found").await;
}

async fn whole_and_in_parts(daemon: &Daemon, file: &Value) {
    let path = format!("/v1/datasets/tiny/versions/v1/files/{}", file["path"].as_str().unwrap());
    let get = |headers: &[(&str, &str)]| {
        let request = daemon.request(Method::GET, &path);
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).send()
    };
    let response = get(&[]).await.unwrap();
    let tag = response.headers()["etag"].to_str().unwrap().to_owned();
    let whole = response.bytes().await.unwrap();
    assert_eq!(hex::encode(Sha256::digest(&whole)), file["sha256"]);
    let size = whole.len();
    assert_eq!(size as u64, file["size"]);

    let part = get(&[("range", "bytes=1-4")]).await.unwrap();
    assert_eq!(
        (part.status().as_u16(), part.headers()["content-range"].to_str().unwrap()),
        (206, &*format!("bytes 1-4/{size}"))
    );
    assert_eq!(part.bytes().await.unwrap(), whole[1..5]);
    let end = get(&[("range", "bytes=-3"), ("if-range", &tag)]).await.unwrap();
    assert_eq!(end.bytes().await.unwrap(), whole[size - 3..]);
    let changed = get(&[("range", "bytes=-3"), ("if-range", "\"other\"")]).await.unwrap();
    assert_eq!((changed.status().as_u16(), changed.bytes().await.unwrap().len()), (200, size));
    assert_eq!(get(&[("if-none-match", &tag)]).await.unwrap().status(), 304);
    let outside = get(&[("range", &format!("bytes={size}-"))]).await.unwrap();
    assert_eq!(outside.headers()["content-range"].to_str().unwrap(), format!("bytes */{size}"));
    problem(outside, 416, "range-not-satisfiable").await;
    let head = daemon.request(Method::HEAD, &path).send().await.unwrap();
    assert_eq!(head.headers()["content-length"].to_str().unwrap(), size.to_string());
}
