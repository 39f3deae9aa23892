//! A registry in a bucket that misbehaves.

use std::sync::Arc;
use std::time::Duration;

use axum::http::Method;
use dpg_registry::{Error, Registry, probe_conditional_put};
use object_store::ObjectStore;
use object_store::aws::AmazonS3Builder;
use object_store::path::Path;
use tempfile::TempDir;

use super::server::{Answer, Condition, Server};
use super::snapshot::snapshot;

const NO_LISTING: &str = "something that is not a listing; check AWS_ENDPOINT_URL";

struct Place {
    server: Server,
    folder: TempDir,
}

impl Place {
    async fn new() -> Self {
        Self { server: Server::start().await, folder: tempfile::tempdir().unwrap() }
    }

    fn registry(&self) -> Registry {
        self.registry_by(self.server.settings())
    }

    fn registry_by(&self, settings: AmazonS3Builder) -> Registry {
        let store = dpg_store::s3(settings, "bucket").unwrap();
        Registry::new(Arc::new(store), Path::from("team/a"), self.folder.path().join("key.pem"))
    }

    async fn publish(&self, registry: &Registry, version: u64) -> Result<String, Error> {
        let version = registry.publish(&snapshot(self.folder.path(), version)).await?;
        Ok(version.to_string())
    }

    async fn probe(&self) -> Result<(), Error> {
        let store: Arc<dyn ObjectStore> = Arc::new(dpg_store::s3(self.server.settings(), "bucket").unwrap());
        probe_conditional_put(&store, &Path::from("team/a")).await
    }
}

/// An error with its causes, as the program shows it.
fn shown(error: impl Into<anyhow::Error>) -> String {
    format!("{:#}", error.into())
}

#[tokio::test]
async fn a_conflict_is_no_other_entry() {
    let place = Place::new().await;
    let registry = place.registry();
    place.server.refuse(Method::PUT, "/log/", 3, 409, "ConditionalRequestConflict");
    assert_eq!(place.publish(&registry, 1).await.unwrap(), "six@v1");
    // by a server that does not say what kind of conflict it is
    place.server.plan(Some(Method::PUT), "/log/", 3, Answer::Status(409, vec![], String::new()));
    assert_eq!(place.publish(&registry, 2).await.unwrap(), "six@v2");
    assert_eq!(registry.dataset("six").await.unwrap().versions.len(), 2);
}

#[tokio::test]
async fn a_server_is_left_alone_as_long_as_it_asks() {
    let place = Place::new().await;
    let registry = place.registry();
    for (status, header) in [(503, ("retry-after", "1")), (429, ("ratelimit", "\"api\";r=0;t=1"))] {
        let answer = Answer::Status(status, vec![header], String::new());
        place.server.plan(Some(Method::PUT), "/log/", 1, answer);
        place.publish(&registry, u64::from(status)).await.unwrap();
        let creates: Vec<_> = place
            .server
            .log()
            .into_iter()
            .filter(|(_, line)| line.contains("PUT") && line.contains("/log/"))
            .collect();
        assert_eq!(creates.len(), 2, "{creates:?}");
        assert!(creates[1].0 - creates[0].0 >= Duration::from_secs(1), "it was asked again too early");
    }
    let answer = Answer::Status(503, vec![("retry-after", "3600")], super::server::error("SlowDown"));
    place.server.plan(Some(Method::PUT), "/log/", 1, answer);
    let error = place.publish(&registry, 3).await.unwrap_err();
    assert!(error.is_transient());
    let text = shown(error);
    assert!(
        text.ends_with("the store answers 503 SlowDown: Said of SlowDown, and asks to wait 3600 s"),
        "{text}"
    );
}

#[tokio::test]
async fn keys_of_others_do_not_disturb() {
    let place = Place::new().await;
    let registry = place.registry();
    place.publish(&registry, 1).await.unwrap();
    for key in [
        "",
        "six/",
        "six/log/",
        "six/log/notes.txt",
        "six/log/latest.json",
        "readme",
        "Archive/x",
        "six/x y&amp;z",
    ] {
        place.server.state().objects.insert(format!("team/a/{key}"), "foreign".into());
    }
    place.server.state().odd_keys = vec!["/stray", "a//b", "//", "x/", "../up", "bell&#x7;", "a&amp;b"];
    assert_eq!(place.publish(&registry, 2).await.unwrap(), "six@v2");
    let names: Vec<_> = registry.datasets().await.unwrap().into_iter().map(|dataset| dataset.name).collect();
    assert_eq!(names, ["six"]);
    let garbage = registry.garbage("six", chrono::TimeDelta::zero(), |_| true).await.unwrap();
    assert!(garbage.is_empty(), "{garbage:?}");
    let version = registry.resolve("six", "latest").await.unwrap();
    registry.verify(&version).await.unwrap();
}

#[tokio::test]
async fn listings_come_in_pages_of_any_size() {
    let place = Place::new().await;
    let registry = place.registry();
    place.server.state().page = 2;
    for version in 1..=5 {
        place.publish(&registry, version).await.unwrap();
    }
    place.server.state().objects.insert("team/a/zoo/log/x".into(), "foreign".into());
    assert_eq!(registry.datasets().await.unwrap()[0].versions.len(), 5);
    place.server.log();
    registry.dataset("six").await.unwrap();
    let pages = place.server.log().iter().filter(|(_, line)| line.ends_with("/bucket")).count();
    assert_eq!(pages, 3, "five entries are three pages");

    // the whole is never less than the whole
    place.server.state().cut_off = true;
    let text = shown(registry.dataset("six").await.unwrap_err());
    assert!(text.contains("a listing that breaks off; it does not speak ListObjectsV2"), "{text}");
}

#[tokio::test]
async fn an_endpoint_may_have_a_path_or_the_bucket_in_its_name() {
    let place = Place::new().await;
    place.server.state().base = "/base/path";
    for end in ["", "/"] {
        let endpoint = format!("http://{}/base/path{end}", place.server.address);
        let registry = place.registry_by(place.server.settings().with_endpoint(endpoint));
        place.publish(&registry, 1).await.unwrap();
        registry.verify(&registry.resolve("six", "v1").await.unwrap()).await.unwrap();
    }
    let log = place.server.log();
    assert!(log.iter().all(|(_, line)| line.contains(" /base/path/bucket")), "{log:?}");

    place.server.state().base = "";
    for endpoint in ["http://store.example/", "http://bucket.store.example"] {
        // the name is known to the proxy alone
        let settings =
            place.server.settings().with_endpoint(endpoint).with_virtual_hosted_style_request(true);
        let settings = settings.with_proxy_url(format!("http://{}", place.server.address));
        let registry = place.registry_by(settings);
        registry.verify(&registry.resolve("six", "v1").await.unwrap()).await.unwrap();
        let log = place.server.log();
        assert!(log.iter().all(|(_, line)| line.contains("GET bucket.store.example /")), "{log:?}");
    }
}

#[tokio::test]
async fn a_refusal_is_said_once_and_with_a_way_out() {
    let place = Place::new().await;
    let registry = place.registry();
    place.publish(&registry, 1).await.unwrap();
    let region = "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region></Error>";
    let page = "<!DOCTYPE html><html><body>Sign in</body></html>";
    let s3 = |code: &str| super::server::error(code);
    let cases: Vec<(u16, Vec<_>, String, &str)> = vec![
        (403, vec![], s3("InvalidAccessKeyId"), "correct AWS_ACCESS_KEY_ID"),
        (403, vec![], s3("SignatureDoesNotMatch"), "correct AWS_SECRET_ACCESS_KEY"),
        (
            403,
            vec![("date", "Sun, 01 Mar 2020 12:00:00 GMT")],
            s3("RequestTimeTooSkewed"),
            "days ahead of the store's",
        ),
        (404, vec![], s3("NoSuchBucket"), "make the bucket, or correct its name"),
        (400, vec![], region.into(), "the bucket is in region `eu-west-1`: set AWS_DEFAULT_REGION"),
        (301, vec![("x-amz-bucket-region", "eu-west-3")], s3("PermanentRedirect"), "region `eu-west-3`"),
        (
            307,
            vec![("location", "http://other.example/")],
            s3("TemporaryRedirect"),
            "at `http://other.example/`",
        ),
        (302, vec![("location", "https://login.example/")], page.into(), "a web page; a proxy, a login"),
        (200, vec![("content-type", "text/html")], page.into(), "a web page; a proxy, a login"),
        (200, vec![], "{\"healthy\": true}".into(), NO_LISTING),
        (403, vec![], String::new(), "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
    ];
    for (status, headers, body, expected) in cases {
        place.server.state().planned.clear();
        place.server.plan(None, "", usize::MAX, Answer::Status(status, headers, body));
        place.server.log();
        let mut errors =
            vec![registry.datasets().await.unwrap_err(), place.publish(&registry, 2).await.unwrap_err()];
        // a server that says yes to everything is found out by its listings alone
        if expected != NO_LISTING {
            errors.push(place.probe().await.unwrap_err());
        }
        for error in errors {
            assert!(!error.is_transient(), "{error}");
            let text = shown(error);
            assert_eq!(text.matches(expected).count(), 1, "{text}\n{expected}");
            assert_eq!(text.matches("the store answers").count(), 1, "{text}");
            assert!(!text.contains("Generic") && !text.contains("Error performing"), "{text}");
        }
    }
}

#[tokio::test]
async fn a_redirected_write_is_not_taken_for_one() {
    let place = Place::new().await;
    let elsewhere = Server::start().await;
    let registry = place.registry();
    let address: &'static str = Box::leak(format!("http://{}/bucket/x", elsewhere.address).into_boxed_str());
    elsewhere.state().objects.insert("x".into(), "a page that GET finds".into());
    place.server.plan(
        Some(Method::PUT),
        "",
        usize::MAX,
        Answer::Status(301, vec![("location", address)], String::new()),
    );
    let text = shown(place.publish(&registry, 1).await.unwrap_err());
    assert!(text.contains(&format!("301 Moved Permanently; the bucket is at `{address}`")), "{text}");
    assert!(elsewhere.log().is_empty());
}

#[tokio::test]
async fn torn_bodies_and_absent_etags_cost_nothing() {
    let place = Place::new().await;
    let registry = place.registry();
    place.server.state().without_etags = true;
    place.publish(&registry, 1).await.unwrap();
    place.server.state().without_etags = false;
    let version = registry.resolve("six", "v1").await.unwrap();
    place.server.plan(Some(Method::GET), "train-00000", 1, Answer::Torn);
    let folder = place.folder.path().join("fetched");
    registry.fetch(&version, &folder).await.unwrap();
    assert!(folder.join("data/train-00000-of-00001.parquet").exists());
}

#[tokio::test]
async fn a_store_without_conditional_puts_is_named_as_one() {
    let place = Place::new().await;
    place.probe().await.unwrap();
    assert!(place.server.state().objects.is_empty(), "the probe leaves something");
    for (status, code) in [(501, "NotImplemented"), (400, "InvalidArgument"), (403, "AccessDenied")] {
        place.server.log();
        place.server.state().condition = Condition::Refused(status, code);
        let error = place.probe().await.unwrap_err();
        assert!(matches!(error, Error::NoConditionalPut { .. }) && !error.is_transient(), "{error:?}");
        let text = shown(error);
        assert!(text.contains("has no conditional puts") && text.contains(code), "{text}");
        let creates = place.server.log().into_iter().filter(|(_, line)| line.contains("PUT")).count();
        assert_eq!(creates, 17, "one round and the same put without a condition");
        assert!(place.server.state().objects.is_empty());
    }
    place.server.state().condition = Condition::Ignored;
    assert!(matches!(place.probe().await.unwrap_err(), Error::UnsafeStore { winners: 16, .. }));
}

#[tokio::test]
async fn settings_that_cannot_work_are_named() {
    let place = Place::new().await;
    let refused = |settings: AmazonS3Builder| dpg_store::s3(settings, "bucket").unwrap_err().to_string();
    let http = refused(place.server.settings().with_allow_http(false));
    assert!(http.contains("is not encrypted; set AWS_ALLOW_HTTP=true"), "{http}");
    let host = refused(place.server.settings().with_endpoint("store:9000"));
    assert!(host.contains("`store:9000` in AWS_ENDPOINT_URL"), "{host}");
    let key = refused(AmazonS3Builder::new().with_access_key_id("access"));
    assert!(!key.contains("Generic"), "{key}");
}
