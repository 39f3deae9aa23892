//! A real S3 server over HTTP, which checks signatures. Its conditional puts are check-then-act, so
//! requests that change something take turns.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use object_store::ObjectStore;
use object_store::aws::AmazonS3Builder;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::net::TcpListener;
use tokio::sync::Mutex;

pub struct Server {
    address: SocketAddr,
}

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

impl Server {
    /// Serves `folder`, made with one bucket called `bucket`, until the test ends.
    pub async fn start(folder: &Path) -> Self {
        // as the program does at its start
        let _ = rustls::crypto::ring::default_provider().install_default();
        fs::create_dir_all(folder.join("bucket")).unwrap();
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(folder).unwrap());
        builder.set_auth(SimpleAuth::from_single("access", "secret"));
        let service = InTurn { service: builder.build(), turn: Arc::default() };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let _ = socket.set_nodelay(true);
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), service.clone()));
            }
        });
        Self { address }
    }

    /// What a program needs to reach it.
    pub fn environment(&self) -> Vec<(String, String)> {
        let pairs = [
            ("AWS_ACCESS_KEY_ID", "access"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
            ("AWS_ENDPOINT_URL", &format!("http://{}", self.address)),
            ("AWS_ALLOW_HTTP", "true"),
        ];
        pairs.map(|(name, value)| (name.into(), value.into())).into()
    }

    /// The bucket.
    pub fn bucket(&self) -> Arc<dyn ObjectStore> {
        let store = AmazonS3Builder::new()
            .with_bucket_name("bucket")
            .with_endpoint(format!("http://{}", self.address))
            .with_allow_http(true)
            .with_region("us-east-1")
            .with_access_key_id("access")
            .with_secret_access_key("secret")
            .build();
        Arc::new(store.unwrap())
    }
}
