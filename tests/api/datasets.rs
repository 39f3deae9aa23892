//! Published datasets by HTTP.

use std::fs;

use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::tree::files_of;
use crate::{Daemon, IDLE, dpg, fail, folder, good, json_of, problem, succeed};

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
    let manifest = files.iter().find(|file| file["path"] == "manifest.json").unwrap();
    assert_eq!(manifest["sha256"], version["manifest_sha256"]);
    for file in files {
        whole_and_in_parts(&daemon, file).await;
    }

    for (path, status) in [
        ("tiny/versions/v9", 404),
        ("tiny/versions/..%2f..", 400),
        ("nothing", 404),
        ("..%2f..%2fetc", 400),
        ("%00", 400),
        ("tiny/versions/v1/files/.manifest.json", 404),
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
    assert_eq!(
        good(yank.json(&json!({"reason": "bad"}))).await["versions"][0]["withdrawn"],
        json!({"kind": "yanked", "reason": "bad"})
    );
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

#[tokio::test]
async fn datasets_of_a_daemon_are_used_from_elsewhere() {
    let folder = folder();
    succeed(&mut dpg(folder.path(), &["run", "spec.toml"]));
    succeed(&mut dpg(folder.path(), &["fetch", "tiny", "from-the-store"]));
    let stored = files_of(&folder.path().join("from-the-store"));
    let local = json_of(&mut dpg(folder.path(), &["datasets"]));
    let daemon = Daemon::start_in(folder, IDLE).await;
    let reader = daemon.token("reader", &["read"]).await;
    let elsewhere = tempfile::tempdir().unwrap();
    let place = elsewhere.path();
    let with = |token: &str, arguments: &[&str]| {
        let mut command = dpg(place, arguments);
        command.env("DPG_URL", &daemon.url).env("DPG_TOKEN", token);
        command
    };
    let remote = |arguments: &[&str]| with(&reader, arguments);

    assert!(succeed(&mut remote(&["datasets"])).contains("1 version(s), latest v1, 8 rows"));
    let listed = json_of(&mut remote(&["datasets"]));
    for key in ["/0/name", "/0/tags", "/0/versions/0/number", "/0/versions/0/manifest_sha256"] {
        assert_eq!(listed.pointer(key).unwrap(), local.pointer(key).unwrap(), "{key}");
    }

    let fetched = json_of(&mut remote(&["fetch", "tiny", "fetched"]));
    assert_eq!((&fetched["dataset"], &fetched["kept"]), (&"tiny@v1".into(), &0.into()));
    assert_eq!(fetched["downloaded"], stored.len() - 1, "all but the manifest");
    assert!(files_of(&place.join("fetched")) == stored, "not what the store has");
    // what is right is kept, what is not is mended
    let train = stored.keys().find(|path| path.starts_with("data")).unwrap();
    let again = json_of(&mut remote(&["fetch", "tiny@v1", "fetched"]));
    assert_eq!((&again["downloaded"], &again["kept"]), (&0.into(), &fetched["downloaded"]));
    fs::write(place.join("fetched").join(train), "torn").unwrap();
    let refused = fail(&mut remote(&["fetch", "tiny", "fetched"]));
    assert!(refused.contains("--overwrite"), "{refused}");
    assert_eq!(json_of(&mut remote(&["fetch", "tiny", "fetched", "--overwrite"]))["downloaded"], 1);
    assert!(files_of(&place.join("fetched")) == stored, "not mended");

    let refused = fail(&mut remote(&["datasets", "tag", "tiny", "good"]));
    assert!(refused.contains("scope `admin`"), "{refused}");
    let admin = |arguments: &[&str]| with(&daemon.token, arguments);
    assert!(succeed(&mut admin(&["datasets", "tag", "tiny", "good"])).contains("`tiny@good` is now tiny@v1"));
    assert!(succeed(&mut remote(&["datasets", "tiny"])).contains("latest, good"));
    assert!(
        fail(&mut admin(&["datasets", "yank", "tiny", "--reason", "x"])).contains("does not name a version")
    );
    succeed(&mut admin(&["datasets", "yank", "tiny@good", "--reason", "wrong prompts"]));
    assert!(succeed(&mut remote(&["datasets", "tiny"])).contains("good  withdrawn: wrong prompts"));
    let output = remote(&["fetch", "tiny@good", "good"]).output().unwrap();
    assert!(output.status.success() && crate::text(&output.stderr).contains("withdrawn: wrong prompts"));

    for (arguments, token, expected) in [
        (&["fetch", "tiny", "new"][..], &*reader, "has no version `latest`"),
        (&["fetch", "nothing", "new"], &reader, "there is no dataset `nothing`"),
        (&["fetch", "tiny@v1", "new"], "", "no token"),
        (&["fetch", "tiny@v1", "new"], "dpg_wrong", "token"),
        (&["datasets", "verify", "tiny@v1"], &reader, "--store"),
        // a store that is named is what is used
        (&["fetch", "tiny@v1", "new", "--store", "no-store"], &reader, "there is no dataset `tiny`"),
    ] {
        let refused = fail(&mut with(token, arguments));
        assert!(refused.contains(expected) && !refused.contains("cannot reach"), "{arguments:?}: {refused}");
        assert!(!place.join("new").exists(), "{arguments:?} left a folder");
    }
}

#[tokio::test]
async fn damaged_files_of_a_daemon_are_refused() {
    let folder = folder();
    succeed(&mut dpg(folder.path(), &["run", "spec.toml"]));
    let daemon = Daemon::start_in(folder, IDLE).await;
    let fetch = ["fetch", "tiny", "fetched", "--url", &daemon.url];
    succeed(&mut dpg(daemon.path(), &fetch));
    let fetched = daemon.path().join("fetched");
    let train = files_of(&fetched).into_keys().find(|path| path.starts_with("data")).unwrap();
    fs::remove_file(fetched.join(&train)).unwrap();
    let before = files_of(&fetched);

    let registry = daemon.path().join("data/registry");
    let stored = files_of(&registry).into_keys().find(|path| path.ends_with(&train)).unwrap();
    let mut bytes = fs::read(registry.join(&stored)).unwrap();
    bytes[9] ^= 1;
    fs::write(registry.join(&stored), bytes).unwrap();
    let refused = fail(&mut dpg(daemon.path(), &fetch));
    let expected = format!("tiny@v1 is damaged: `{}` has SHA-256", train.display());
    assert!(refused.contains(&expected), "{refused}");
    assert!(files_of(&fetched) == before, "the folder was touched");
    let fresh = fail(&mut dpg(daemon.path(), &["fetch", "tiny", "fresh", "--url", &daemon.url]));
    assert!(fresh.contains(&expected), "{fresh}");
    assert!(!daemon.path().join("fresh").exists(), "an incomplete folder");
}
