//! How the page is served, and what it is made of.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use reqwest::Method;
use sha2::{Digest, Sha256};

use crate::Site;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("page")
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

/// What others wrote is what they published: its hashes are pinned, and its licences lie beside it.
#[test]
fn vendored_files_are_those_that_were_looked_at() {
    let folder = folder().join("vendor");
    let pinned = fs::read_to_string(folder.join("SHA256SUMS")).unwrap();
    let mut there: BTreeSet<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    for name in ["README.md", "SHA256SUMS"] {
        assert!(there.remove(name), "{name}");
    }
    for line in pinned.lines() {
        let (hash, name) = line.split_once("  ").unwrap();
        assert!(there.remove(name), "{name} is pinned and not there");
        assert_eq!(hex::encode(Sha256::digest(fs::read(folder.join(name)).unwrap())), hash, "{name}");
    }
    assert!(there.is_empty(), "these are not pinned: {there:?}");
}

/// No file of the page names another host, but for what a reader may look up.
#[test]
fn the_page_asks_no_other_host() {
    let mut found = vec![];
    files(&folder(), &mut found);
    assert!(found.len() > 15);
    for path in found {
        let text = fs::read_to_string(&path).unwrap();
        let hosts = text.match_indices("http").map(|(at, _)| text[at..].chars().take(40).collect::<String>());
        let hosts = hosts.filter(|text| text.starts_with("http://") || text.starts_with("https://"));
        for host in hosts.filter(|_| !path.to_string_lossy().contains("/vendor/")) {
            assert!(host.starts_with("http://www.w3.org/"), "{}: {host}", path.display());
        }
        let inline = [" onclick=\"", "<script>", "javascript:", "eval(", "innerHTML"];
        for word in inline.iter().filter(|_| !path.to_string_lossy().contains("/vendor/")) {
            assert!(!text.contains(word), "{}: {word}", path.display());
        }
    }
}

#[tokio::test]
async fn the_page_may_load_its_own_files_alone_and_is_remembered() {
    let site = Site::idle().await;
    let answer = site.anonymous(Method::GET, "/").send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/html; charset=utf-8");
    let policy = answer.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.contains("default-src 'self'") && policy.contains("frame-ancestors 'none'"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    let text = answer.text().await.unwrap();
    for part in text.split(['"', '\'']).filter(|part| part.starts_with("page/")) {
        let answer = site.anonymous(Method::GET, &format!("/{part}")).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{part}");
        let tag = answer.headers()["etag"].clone();
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
        let again = site.anonymous(Method::GET, &format!("/{part}")).header("if-none-match", tag);
        assert_eq!(again.send().await.unwrap().status(), 304, "{part}");
    }
    for absent in ["/page/", "/page/none.js", "/page/../src/main.rs", "/page/%2e%2e/Cargo.toml"] {
        assert_eq!(site.anonymous(Method::GET, absent).send().await.unwrap().status(), 404, "{absent}");
    }
}
