//! Ranges of files: whatever is asked for, nothing but the file's bytes comes, and no more of them.

use reqwest::Method;

use crate::published::publish;
use crate::{IDLE, Target};

#[tokio::test]
async fn no_range_reaches_past_a_file() {
    let target = Target::start(IDLE).await;
    publish(&target.data(), "six", "a").await;
    let snapshot = target.data().join("registry/six/snapshots/a-1");
    let file = std::fs::read(snapshot.join("README.md")).unwrap();
    let size = file.len();
    let numbers = [0, 1, size - 1, size, size + 1, usize::MAX - 1, usize::MAX];
    let mut ranges: Vec<String> =
        ["", "-", "a-b", "--1", "1--2", "0x1-2", "18446744073709551616-", "+1-2", "0-0,1-1", "٣-٤"]
            .map(|range| format!("bytes={range}"))
            .into();
    ranges.extend(["bytes", "lines=0-1", "bytes = 0-1", "BYTES=0-1"].map(str::to_owned));
    for from in numbers {
        ranges.push(format!("bytes={from}-"));
        ranges.push(format!("bytes=-{from}"));
        ranges.extend(numbers.map(|to| format!("bytes={from}-{to}")));
    }
    ranges.push(format!("bytes={}", "0-1,".repeat(1000)));
    for path in ["/v1/datasets/six/versions/v1/files/README.md", "/datasets/dpg/six/resolve/v1/README.md"] {
        for range in &ranges {
            let range = reqwest::header::HeaderValue::from_bytes(range.as_bytes()).unwrap();
            let answer = target.request(Method::GET, path).header("range", &range).send().await.unwrap();
            let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
            let body = answer.bytes().await.unwrap();
            match status {
                200 => assert_eq!(body, file, "{path} {range:?}"),
                206 => {
                    let told = headers["content-range"].to_str().unwrap();
                    let (from, rest) = told.trim_start_matches("bytes ").split_once('-').unwrap();
                    let to = rest.split('/').next().unwrap();
                    let (from, to): (usize, usize) = (from.parse().unwrap(), to.parse().unwrap());
                    assert_eq!(body, file[from..=to], "{path} {range:?}: {told}");
                }
                416 => assert!(body.len() < 2000, "{path} {range:?}"),
                other => panic!("{path} {range:?}: {other}"),
            }
        }
    }
    // paths that lead out of the version
    for path in [
        "../../../log/000000000000.json",
        "..%2f..%2f..%2flog%2f000000000000.json",
        "%2e%2e/manifest.json",
        "/etc/passwd",
        "README.md%00",
        "README.md/..",
        "./README.md",
        "data//x",
    ] {
        for route in ["/v1/datasets/six/versions/v1/files", "/datasets/dpg/six/resolve/v1"] {
            let answer = target.request(Method::GET, &format!("{route}/{path}")).send().await.unwrap();
            let (status, url) = (answer.status().as_u16(), answer.url().clone());
            // the client itself resolves plain dots
            assert!([400, 404].contains(&status) || url.path().ends_with("/README.md"), "{url}: {status}");
        }
    }
}
