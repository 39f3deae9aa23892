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
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use object_store::ObjectStore;
use object_store::aws::AmazonS3Builder;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::net::TcpListener;
use tokio::sync::Mutex;

pub(crate) struct Server {
    address: SocketAddr,
}

#[derive(Clone)]
struct InTurn {
    service: S3Service,
    turn: Arc<Mutex<()>>,
    /// One answer in so many is a failure of each kind; 0 for none.
    faults: u64,
}

impl Service<Request<Incoming>> for InTurn {
    type Response = s3s::HttpResponse;
    type Error = s3s::HttpError;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let Self { service, turn, faults } = self.clone();
        let fault = if faults == 0 { 3 } else { uuid::Uuid::new_v4().as_u64_pair().1 % faults };
        async move {
            if fault == 0 {
                return Ok(status(StatusCode::SERVICE_UNAVAILABLE));
            }
            let reads = matches!(*request.method(), Method::GET | Method::HEAD);
            let _turn = if reads { None } else { Some(turn.lock().await) };
            let answer = service.call(request.map(s3s::Body::from)).await;
            match fault {
                // it is done, and the client is not told
                1 => Ok(status(StatusCode::INTERNAL_SERVER_ERROR)),
                2 => Err(s3s::HttpError::new("the connection breaks".into())),
                _ => answer,
            }
        }
        .boxed()
    }
}

fn status(status: StatusCode) -> s3s::HttpResponse {
    let mut response = s3s::HttpResponse::new(s3s::Body::empty());
    *response.status_mut() = status;
    response
}

impl Server {
    /// Serves `folder`, made with one bucket called `bucket`, until the test ends. Of `faults` requests
    /// one is refused, one is done and answered with an error, and one is done and not answered.
    pub(crate) async fn start(folder: &Path, faults: u64) -> Self {
        // as the program does at its start
        let _ = rustls::crypto::ring::default_provider().install_default();
        fs::create_dir_all(folder.join("bucket")).unwrap();
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(folder).unwrap());
        builder.set_auth(SimpleAuth::from_single("access", "secret"));
        let service = InTurn { service: builder.build(), turn: Arc::default(), faults };
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
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
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
    pub(crate) fn bucket(&self) -> Arc<dyn ObjectStore> {
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
