//! The registry over HTTP against a real S3 server, which checks signatures. Its conditional puts
//! are check-then-act, so requests that change something take turns.

use std::net::SocketAddr;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use object_store::ObjectStore;
use object_store::aws::AmazonS3Builder;
use object_store::path::Path;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::net::TcpListener;
use tokio::sync::Mutex;

use super::{Place, add_large_shard, objects};
use crate::{Error, Fetched, Registry, probe_conditional_put};

#[derive(Clone)]
struct InTurn {
    service: S3Service,
    turn: Arc<Mutex<()>>,
}

impl Service<Request<Incoming>> for InTurn {
    type Response = s3s::HttpResponse;
    type Error = s3s::HttpError;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let Self { service, turn } = self.clone();
        async move {
            let reads = matches!(*request.method(), Method::GET | Method::HEAD);
            let _turn = if reads { None } else { Some(turn.lock().await) };
            service.call(request.map(s3s::Body::from)).await
        }
        .boxed()
    }
}

/// Serves a folder, whose subfolders are buckets, on a free port until the test ends.
async fn serve(folder: &std::path::Path) -> SocketAddr {
    let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(folder).unwrap());
    builder.set_auth(SimpleAuth::from_single("access", "secret"));
    let service = InTurn { service: builder.build(), turn: Arc::default() };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), service.clone()));
        }
    });
    address
}

fn bucket(address: SocketAddr, secret: &str) -> Arc<dyn ObjectStore> {
    // As the program does at its start; another test may have done it already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let store = AmazonS3Builder::new()
        .with_bucket_name("bucket")
        .with_endpoint(format!("http://{address}"))
        .with_allow_http(true)
        .with_region("us-east-1")
        .with_access_key_id("access")
        .with_secret_access_key(secret)
        .build();
    Arc::new(store.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn publish_race_fetch_and_collect_on_s3() {
    let server = tempfile::tempdir().unwrap();
    std::fs::create_dir(server.path().join("bucket")).unwrap();
    let address = serve(server.path()).await;
    let mut place = Place::memory();
    let prefix = Path::from("team/datasets");
    place.registry = Registry::new(bucket(address, "secret"), prefix.clone(), &place.registry.key_file);
    let registry = &place.registry;
    probe_conditional_put(&registry.store, &prefix).await.unwrap();
    assert!(objects(registry).await.is_empty());

    let mut first = place.snapshot("first", 1);
    add_large_shard(&mut first);
    let first = registry.publish(&first).await.unwrap();
    registry.verify(&first).await.unwrap();
    registry.verify_signature(&first, Some(&registry.public_key().unwrap())).await.unwrap();
    let folder = place.folder.path().join("fetched");
    assert_eq!(registry.fetch(&first, &folder).await.unwrap(), Fetched { downloaded: 10, kept: 0 });

    let tasks = (0..16).map(|racer| {
        // Eight jobs, each by two publishers.
        let (registry, snapshot) = (registry.clone(), place.snapshot(&format!("job{}", racer / 2), racer));
        tokio::spawn(async move { registry.publish(&snapshot).await.unwrap().number })
    });
    let mut numbers: Vec<_> = join_all(tasks).await.into_iter().map(Result::unwrap).collect();
    assert!(numbers.chunks(2).all(|pair| pair[0] == pair[1]));
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers, (2..=9).collect::<Vec<_>>());
    registry.tag("sixseven", "gold", 4).await.unwrap();
    assert_eq!(registry.resolve("sixseven", "gold").await.unwrap().number, 4);
    assert_eq!(registry.datasets().await.unwrap()[0].versions.len(), 9);

    registry.upload(&place.snapshot("dead", 1)).await.unwrap();
    let removed = registry.gc("sixseven", chrono::TimeDelta::seconds(-60), |_| false).await.unwrap();
    assert!(removed.iter().any(|garbage| garbage.snapshot == "dead-1"));
    for version in &registry.dataset("sixseven").await.unwrap().versions {
        registry.verify(version).await.unwrap();
    }
    super::fetch::ranges(&place).await;
}

#[tokio::test]
async fn wrong_credentials_are_permanent() {
    let server = tempfile::tempdir().unwrap();
    std::fs::create_dir(server.path().join("bucket")).unwrap();
    let address = serve(server.path()).await;
    let mut place = Place::memory();
    place.registry = Registry::new(bucket(address, "wrong"), Path::default(), &place.registry.key_file);
    let error = place.registry.publish(&place.snapshot("a", 1)).await.unwrap_err();
    assert!(matches!(error, Error::Store { .. }) && !error.is_transient(), "{error}");
}
