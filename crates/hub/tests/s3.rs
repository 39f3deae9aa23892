//! Downloads from a real S3 server on this machine, which checks signatures.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use dpg_hub::{Error, Options, Uri, resolve};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use object_store::aws::AmazonS3Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tempfile::TempDir;
use tokio::net::TcpListener;

struct Place {
    folder: TempDir,
    options: Options,
}

impl Place {
    /// A server of the folder `server`, whose subfolders are buckets, and an empty cache.
    async fn start() -> Self {
        // As the program does at its start; another test may have done it already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let server = folder.path().join("server");
        fs::create_dir_all(server.join("bucket/models/gpt2/checkpoint-1")).unwrap();
        for (name, content) in [
            ("config.json", "{}"),
            ("model.safetensors", "weights"),
            ("optimizer.pt", "not wanted"),
            ("checkpoint-1/model.safetensors", "not wanted"),
        ] {
            fs::write(server.join("bucket/models/gpt2").join(name), content).unwrap();
        }
        fs::write(server.join("bucket/prompts.jsonl"), "{}").unwrap();
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(&server).unwrap());
        builder.set_auth(SimpleAuth::from_single("access", "secret"));
        let service = builder.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let s3 = AmazonS3Builder::new()
            .with_endpoint(format!("http://{}", listener.local_addr().unwrap()))
            .with_allow_http(true)
            .with_region("us-east-1")
            .with_access_key_id("access")
            .with_secret_access_key("secret");
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), service.clone()));
            }
        });
        let options = Options {
            embedded: folder.path().join("embedded"),
            downloads: folder.path().join("downloads"),
            hf_cache: folder.path().join("hub"),
            hf_endpoint: "http://127.0.0.1:1".into(),
            hf_token: None,
            hf_offline: true,
            retry_wait: Duration::from_millis(1),
            s3,
        };
        Self { folder, options }
    }

    async fn resolve(&self, uri: &str) -> Result<PathBuf, Error> {
        let (uri, options) = (Uri::parse(uri).unwrap(), self.options.clone());
        tokio::spawn(async move { resolve(&uri, &options).await }).await.unwrap()
    }
}

#[tokio::test]
async fn a_model_folder_is_downloaded_and_follows_the_bucket() {
    let place = Place::start().await;
    let folder = place.resolve("s3://bucket/models/gpt2").await.unwrap();
    let mut names: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["config.json", "model.safetensors"]);
    assert_eq!(fs::read_to_string(folder.join("model.safetensors")).unwrap(), "weights");

    assert_eq!(place.resolve("s3://bucket/models/gpt2/").await.unwrap(), folder);
    fs::write(place.folder.path().join("server/bucket/models/gpt2/model.safetensors"), "weights, again")
        .unwrap();
    let changed = place.resolve("s3://bucket/models/gpt2").await.unwrap();
    assert_ne!(changed, folder);
    assert_eq!(fs::read_to_string(changed.join("model.safetensors")).unwrap(), "weights, again");
    assert_eq!(fs::read_to_string(folder.join("model.safetensors")).unwrap(), "weights");
}

#[tokio::test]
async fn files_of_an_interrupted_download_are_kept() {
    let place = Place::start().await;
    let folder = place.resolve("s3://bucket/models/gpt2").await.unwrap();
    let partial = folder.with_added_extension("partial");
    fs::rename(&folder, &partial).unwrap();
    fs::remove_file(partial.join("config.json")).unwrap();
    fs::write(partial.join("model.safetensors"), "WEIGHTS").unwrap();
    assert_eq!(place.resolve("s3://bucket/models/gpt2").await.unwrap(), folder);
    assert_eq!(fs::read_to_string(folder.join("config.json")).unwrap(), "{}");
    assert_eq!(
        fs::read_to_string(folder.join("model.safetensors")).unwrap(),
        "WEIGHTS",
        "not downloaded again"
    );
    assert!(!partial.exists());
}

#[tokio::test]
async fn a_single_object_keeps_its_name() {
    let place = Place::start().await;
    let file = place.resolve("s3://bucket/prompts.jsonl").await.unwrap();
    assert_eq!(file.file_name().unwrap(), "prompts.jsonl");
    assert_eq!(fs::read_to_string(file).unwrap(), "{}");
}

#[tokio::test]
async fn what_cannot_be_read_is_named() {
    let mut place = Place::start().await;
    let error = place.resolve("s3://bucket/models/llama").await.unwrap_err().to_string();
    assert_eq!(error, "`s3://bucket/models/llama` is neither an object nor a folder with model files");
    place.options.s3 = place.options.s3.with_secret_access_key("wrong");
    let error = place.resolve("s3://bucket/models/gpt2").await.unwrap_err();
    assert!(!error.is_transient());
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(error.to_string(), "cannot read `s3://bucket/models/gpt2`");
    assert!(cause.contains("SignatureDoesNotMatch") && cause.contains("AWS_SECRET_ACCESS_KEY"), "{cause}");
}
