//! Downloads from a Hub on this machine, and what is left in the cache.

mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dpg_hub::{Error, Options, Uri, resolve};
use object_store::aws::AmazonS3Builder;
use server::{COMMIT, Etag, Fault, Server};
use tempfile::TempDir;

const INDEX: &str = r#"{"metadata": {}, "weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-1.safetensors"}}"#;

struct Place {
    folder: TempDir,
    server: Server,
    options: Options,
}

impl Place {
    /// A repository `org/name` of these files, and an empty cache.
    async fn with(files: &[(&str, &[u8])]) -> Self {
        // As the program does at its start; another test may have done it already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start().await;
        server.state().files =
            files.iter().map(|(name, content)| ((*name).into(), content.to_vec())).collect();
        let options = Options {
            embedded: folder.path().join("embedded"),
            downloads: folder.path().join("downloads"),
            hf_cache: folder.path().join("hub"),
            hf_endpoint: server.endpoint.clone(),
            hf_token: None,
            hf_offline: false,
            retry_wait: Duration::from_millis(1),
            s3: AmazonS3Builder::new(),
        };
        Self { folder, server, options }
    }

    async fn small() -> Self {
        Self::with(&[
            ("config.json", b"{}"),
            ("tokenizer.json", b"{\"model\": {}}"),
            ("model.safetensors", WEIGHTS),
            ("pytorch_model.bin", b"not wanted"),
        ])
        .await
    }

    async fn resolve(&self, uri: &str) -> Result<PathBuf, Error> {
        // Spawned, as the daemon does: the future has to be `Send`.
        let (uri, options) = (Uri::parse(uri).unwrap(), self.options.clone());
        tokio::spawn(async move { resolve(&uri, &options).await }).await.unwrap()
    }

    fn repository(&self) -> PathBuf {
        self.folder.path().join("hub/models--org--name")
    }
}

const WEIGHTS: &[u8] = &[7; 100_000];

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        folder.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_model_comes_into_the_cache_that_python_reads() {
    let place = Place::small().await;
    let folder = place.resolve("hf:org/name@main").await.unwrap();
    assert_eq!(folder, place.repository().join("snapshots").join(COMMIT));
    assert_eq!(names(&folder), ["config.json", "model.safetensors", "tokenizer.json"]);
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), WEIGHTS);
    let link = fs::read_link(folder.join("config.json")).unwrap();
    // `git hash-object` of a file with `{}`.
    assert_eq!(link, Path::new("../../blobs/9e26dfeeb6e641a33dae4961196235bdb965b21b"));
    assert_eq!(fs::read_to_string(place.repository().join("refs/main")).unwrap(), COMMIT);
    assert_eq!(names(&place.repository().join("blobs")).len(), 3);
    assert!(place.repository().join(".no_exist").join(COMMIT).join("chat_template.jinja").exists());
}

#[tokio::test]
async fn what_is_cached_is_not_asked_for_again() {
    let place = Place::small().await;
    let first = place.resolve("hf:org/name").await.unwrap();
    place.server.log();
    assert_eq!(place.resolve("hf:org/name").await.unwrap(), first);
    assert_eq!(place.server.log(), ["HEAD config.json"], "a branch may have moved");
    assert_eq!(place.resolve(&format!("hf:org/name@{COMMIT}")).await.unwrap(), first);
    assert!(place.server.log().is_empty(), "a commit never changes");
}

#[tokio::test]
async fn sharded_weights_are_found_through_their_index() {
    let files: [(&str, &[u8]); 4] = [
        ("config.json", b"{}"),
        ("model.safetensors.index.json", INDEX.as_bytes()),
        ("model-1.safetensors", b"one"),
        ("model-2.safetensors", b"two"),
    ];
    let place = Place::with(&files).await;
    let folder = place.resolve("hf:org/name@refs/pr/1").await.unwrap();
    assert_eq!(fs::read(folder.join("model-2.safetensors")).unwrap(), b"two");
    assert!(place.repository().join("refs/refs/pr/1").exists());

    place.server.state().files.remove("model-2.safetensors");
    fs::remove_dir_all(place.repository()).unwrap();
    let error = place.resolve("hf:org/name").await.unwrap_err().to_string();
    assert!(error.contains("`model-2.safetensors`") && error.contains("404"), "{error}");

    let evil = INDEX.replace("model-2", "../../../evil").into_bytes();
    place.server.state().files.insert("model.safetensors.index.json".into(), evil);
    fs::remove_dir_all(place.repository()).unwrap();
    let error = place.resolve("hf:org/name").await.unwrap_err().to_string();
    assert!(error.contains("`../../../evil.safetensors` is not the name of a file"), "{error}");
}

#[tokio::test]
async fn a_renamed_repository_is_followed() {
    let place = Place::small().await;
    let folder = place.resolve("hf:old/name").await.unwrap();
    assert!(folder.starts_with(place.folder.path().join("hub/models--old--name")));
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), WEIGHTS);
}

#[tokio::test]
async fn a_broken_transfer_goes_on_where_it_stopped() {
    let place = Place::small().await;
    place.server.fault("model.safetensors", Fault::Truncate(60_000));
    place.server.fault("model.safetensors", Fault::Status(503));
    place.server.fault("model.safetensors", Fault::Status(429));
    let folder = place.resolve("hf:org/name").await.unwrap();
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), WEIGHTS);
    let log = place.server.log();
    let storage: Vec<_> =
        log.iter().filter_map(|line| line.strip_prefix("STORAGE model.safetensors")).collect();
    assert_eq!(storage, ["", " bytes=60000-", " bytes=60000-", " bytes=60000-"]);
}

#[tokio::test]
async fn an_interrupted_run_is_resumed_by_the_next() {
    let place = Place::small().await;
    for _ in 0..6 {
        place.server.fault("model.safetensors", Fault::Truncate(10_000));
    }
    let error = place.resolve("hf:org/name").await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert!(error.to_string().contains("`model.safetensors` of `hf:org/name@main`"), "{error}");
    assert!(!place.repository().join("refs").exists(), "an incomplete model is not published");
    place.server.log();
    let folder = place.resolve("hf:org/name").await.unwrap();
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), WEIGHTS);
    let log = place.server.log();
    assert!(log.contains(&"STORAGE model.safetensors bytes=60000-".into()), "{log:?}");
    assert!(!log.contains(&"GET config.json".into()), "{log:?}");
}

#[tokio::test]
async fn wrong_content_is_refused() {
    let place = Place::small().await;
    for file in ["model.safetensors", "config.json"] {
        place.server.fault(file, Fault::Garbage);
        let error = place.resolve("hf:org/name").await.unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }) && !error.is_transient(), "{error}");
        assert!(error.to_string().contains(&format!("`{file}` of `hf:org/name@main` is corrupt")), "{error}");
        let _ = fs::remove_dir_all(place.repository().join("snapshots"));
        let _ = fs::remove_file(place.repository().join("blobs/9e26dfeeb6e641a33dae4961196235bdb965b21b"));
    }
    // A wrong piece left by an earlier attempt is thrown away, once.
    place.server.fault("model.safetensors", Fault::Truncate(10));
    place.server.fault("model.safetensors", Fault::Garbage);
    let folder = place.resolve("hf:org/name").await.unwrap();
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), WEIGHTS);
}

#[tokio::test]
async fn a_token_is_sent_to_the_hub_and_to_nobody_else() {
    let mut place = Place::small().await;
    place.server.state().token = Some("hf_right".into());
    for token in [None, Some("hf_wrong".to_owned())] {
        place.options.hf_token = token;
        let error = place.resolve("hf:org/name").await.unwrap_err();
        assert!(!error.is_transient());
        let text = error.to_string();
        assert!(text.contains("401") && text.contains("HF_TOKEN") && text.contains("/org/name"), "{text}");
    }
    place.options.hf_token = Some("hf_right".into());
    place.resolve("hf:org/name").await.unwrap();
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let place = Place::small().await;
    for uri in ["hf:org/other@main", "hf:org/name@v9"] {
        let error = place.resolve(uri).await.unwrap_err().to_string();
        assert!(error.contains("404") && error.contains(uri) && error.contains("check that"), "{error}");
    }
    place.server.state().files.remove("model.safetensors");
    let error = place.resolve("hf:org/name").await.unwrap_err().to_string();
    assert!(error.contains("neither `model.safetensors` nor"), "{error}");
    place.server.state().files.remove("config.json");
    let error = place.resolve("hf:org/name@refs/pr/1").await.unwrap_err().to_string();
    assert!(error.contains("a file `config.json`"), "{error}");
}

#[tokio::test]
async fn offline_the_cache_alone_is_used() {
    let mut place = Place::small().await;
    place.options.hf_offline = true;
    let error = place.resolve("hf:org/name").await.unwrap_err().to_string();
    assert!(error.contains("`hf:org/name@main`") && error.contains("config.json"), "{error}");
    assert!(error.contains("HF_HUB_OFFLINE"), "{error}");
    place.options.hf_offline = false;
    let folder = place.resolve("hf:org/name").await.unwrap();
    place.server.log();
    place.options.hf_offline = true;
    assert_eq!(place.resolve("hf:org/name").await.unwrap(), folder);
    assert!(place.server.log().is_empty());
    // As a library leaves it that did not want the weights and never asked for a chat template.
    fs::remove_file(folder.join("model.safetensors")).unwrap();
    fs::remove_dir_all(place.repository().join(".no_exist")).unwrap();
    let error = place.resolve("hf:org/name").await.unwrap_err().to_string();
    assert!(error.contains("has no model.safetensors;"), "{error}");
}

#[tokio::test]
async fn a_hub_out_of_reach_leaves_what_was_downloaded() {
    let mut place = Place::small().await;
    let folder = place.resolve("hf:org/name").await.unwrap();
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    place.options.hf_endpoint = format!("http://{}", closed.local_addr().unwrap());
    drop(closed);
    assert_eq!(place.resolve("hf:org/name").await.unwrap(), folder);
    let error = place.resolve("hf:org/unseen").await.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("hf:org/unseen@main"), "{error}");
}

#[tokio::test]
async fn two_at_once_share_one_download() {
    let place = Place::small().await;
    let (one, two) = tokio::join!(place.resolve("hf:org/name"), place.resolve("hf:org/name"));
    assert_eq!(one.unwrap(), two.unwrap());
    let log = place.server.log();
    assert_eq!(log.iter().filter(|line| line.starts_with("STORAGE")).count(), 1, "{log:?}");
    let blobs = names(&place.repository().join("blobs"));
    assert!(blobs.iter().all(|blob| !blob.contains('.')), "{blobs:?}");
}

#[tokio::test]
async fn embedded_and_local_paths_must_exist() {
    let place = Place::small().await;
    for name in ["generator", "target"] {
        fs::create_dir_all(place.options.embedded.join(name)).unwrap();
    }
    assert_eq!(place.resolve("embedded:target").await.unwrap(), place.options.embedded.join("target"));
    let error = place.resolve("embedded:taget").await.unwrap_err().to_string();
    assert_eq!(error, "nothing embedded is called `taget`; there are: generator, target");
    let here = place.options.embedded.to_str().unwrap();
    assert_eq!(place.resolve(here).await.unwrap(), place.options.embedded);
    let error = place.resolve("gpt2-not-here").await.unwrap_err().to_string();
    assert!(error.contains("`gpt2-not-here` does not exist"), "{error}");
}

#[tokio::test]
async fn a_hub_is_left_alone_as_long_as_it_asks() {
    let place = Place::small().await;
    let started = std::time::Instant::now();
    place.server.state().busy =
        [(429, "retry-after", "1"), (503, "ratelimit", "\"resolvers\";r=0;t=1")].into();
    place.resolve("hf:org/name").await.unwrap();
    assert!(started.elapsed() >= Duration::from_secs(2), "it was asked again too early");

    fs::remove_dir_all(place.repository()).unwrap();
    place.server.log();
    place.server.state().busy = [(429, "retry-after", "3600")].into();
    let error = place.resolve("hf:org/name").await.unwrap_err();
    assert!(error.is_transient());
    let text = error.to_string();
    assert!(text.contains("429 Too Many Requests, and asks to wait 3600 s"), "{text}");
    assert_eq!(place.server.log(), ["HEAD config.json"], "an hour is not waited for");
}

#[tokio::test]
async fn a_mirror_behind_a_path_names_content_in_its_own_way() {
    for end in ["", "/"] {
        for etag in [Etag::Weak, Etag::Sha1, Etag::Braces, Etag::Slashes, Etag::Absent] {
            let mut place = Place::small().await;
            place.server.state().base = "/artifactory/api/huggingface";
            place.server.state().mirror = Some(etag);
            place.options.hf_endpoint += &format!("/artifactory/api/huggingface{end}");
            let folder = place.resolve(&format!("hf:org/name@{COMMIT}")).await.unwrap();
            assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), WEIGHTS);
            assert_eq!(fs::read(folder.join("config.json")).unwrap(), b"{}");
            let blobs = names(&place.repository().join("blobs"));
            assert_eq!(blobs.len(), 3, "{blobs:?}");

            // a name that may move needs the commit
            let error = place.resolve("hf:org/name@main").await.unwrap_err().to_string();
            assert!(error.contains("@COMMIT"), "{error}");
        }
    }
}

#[tokio::test]
async fn a_page_or_a_pointer_is_not_taken_for_a_file() {
    let place = Place::small().await;
    place.server.state().is_login = true;
    for uri in ["hf:org/name".to_owned(), format!("hf:org/name@{COMMIT}")] {
        let error = place.resolve(&uri).await.unwrap_err();
        assert!(!error.is_transient() && error.to_string().contains("a web page"), "{error}");
    }
    place.server.state().is_login = false;
    place.server.state().mirror = Some(Etag::Sha1);
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n";
    place.server.state().files.insert("model.safetensors".into(), pointer.to_vec());
    let error = place.resolve(&format!("hf:org/name@{COMMIT}")).await.unwrap_err();
    assert!(!error.is_transient() && error.to_string().contains("a Git LFS pointer"), "{error}");
}

#[tokio::test]
async fn a_gated_model_and_a_proxy_are_named() {
    let place = Place::small().await;
    for (status, expected) in [(403, "accept its terms at http://"), (407, "`HTTPS_PROXY`")] {
        place.server.state().busy = [(status, "x-error-code", "GatedRepo")].into();
        let error = place.resolve("hf:org/name").await.unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains(&status.to_string()), "{error}");
    }
}
