//! A real S3 server over HTTP, which checks signatures. Its conditional puts are check-then-act, so
//! requests that change something take turns.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, TryStreamExt};
use hyper::body::{Body, Frame, Incoming};
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
use tokio::time::Sleep;

/// How long a slow answer takes more than others, and a torn one before it breaks off.
const SLOW: Duration = Duration::from_secs(1);
const TORN: Duration = Duration::from_millis(20);

#[derive(Clone, Copy)]
enum Fault {
    /// 503, and nothing is done.
    Refused,
    /// 500, and yet it is done.
    Denied,
    /// It is done, and the connection ends without an answer.
    Silent,
    /// It is done, and the connection ends in the middle of the answer's body.
    Torn,
    /// It is done late.
    Slow,
}

const FAULTS: [Fault; 5] = [Fault::Refused, Fault::Denied, Fault::Silent, Fault::Torn, Fault::Slow];

pub(crate) struct Server {
    address: SocketAddr,
    pub(crate) service: InTurn,
}

#[derive(Clone)]
pub(crate) struct InTurn {
    service: S3Service,
    turn: Arc<Mutex<()>>,
    /// One request in so many meets a fault of each kind; 0 for none.
    pub(crate) faults: Arc<AtomicU64>,
    /// How many faults there were, of all kinds: they take turns, too.
    pub(crate) met: Arc<AtomicU64>,
}

impl InTurn {
    fn fault(&self) -> Option<Fault> {
        let kinds = FAULTS.len() as u64;
        let faults = self.faults.load(Ordering::Relaxed);
        let meets = faults > 0 && uuid::Uuid::new_v4().as_u64_pair().1 % faults < kinds;
        meets.then(|| FAULTS[(self.met.fetch_add(1, Ordering::Relaxed) % kinds) as usize])
    }
}

impl Service<Request<Incoming>> for InTurn {
    type Response = s3s::HttpResponse;
    type Error = s3s::HttpError;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let Self { service, turn, .. } = self.clone();
        let fault = self.fault();
        async move {
            match fault {
                Some(Fault::Refused) => return Ok(status(StatusCode::SERVICE_UNAVAILABLE)),
                Some(Fault::Slow) => tokio::time::sleep(SLOW).await,
                _ => {}
            }
            let reads = matches!(*request.method(), Method::GET | Method::HEAD);
            let _turn = if reads { None } else { Some(turn.lock().await) };
            let answer = service.call(request.map(s3s::Body::from)).await;
            match fault {
                Some(Fault::Denied) => Ok(status(StatusCode::INTERNAL_SERVER_ERROR)),
                Some(Fault::Silent) => Err(broken()),
                Some(Fault::Torn) => torn(answer?).await,
                _ => answer,
            }
        }
        .boxed()
    }
}

fn broken() -> s3s::HttpError {
    s3s::HttpError::new("the connection breaks".into())
}

/// The answer up to the middle of its body. One without a body is lost.
async fn torn(answer: s3s::HttpResponse) -> Result<s3s::HttpResponse, s3s::HttpError> {
    let (head, body) = answer.into_parts();
    let whole: Vec<Bytes> = body.try_collect().await.map_err(s3s::HttpError::new)?;
    let mut whole = Bytes::from(whole.concat());
    whole.truncate(whole.len() / 2);
    if whole.is_empty() {
        return Err(broken());
    }
    let half = Half { bytes: Some(whole), pause: Box::pin(tokio::time::sleep(TORN)) };
    Ok(s3s::HttpResponse::from_parts(head, s3s::Body::http_body(half)))
}

struct Half {
    bytes: Option<Bytes>,
    /// In which the bytes are sent.
    pause: Pin<Box<Sleep>>,
}

impl Body for Half {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Some(bytes) = self.bytes.take() {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        self.pause.as_mut().poll(context).map(|()| Some(Err(std::io::ErrorKind::ConnectionReset.into())))
    }
}

fn status(status: StatusCode) -> s3s::HttpResponse {
    let mut response = s3s::HttpResponse::new(s3s::Body::empty());
    *response.status_mut() = status;
    response
}

impl Server {
    /// Serves `folder`, made with one bucket called `bucket`, until the test ends. Of `faults` requests
    /// one meets each fault.
    pub(crate) async fn start(folder: &Path, faults: u64) -> Self {
        // as the program does at its start
        let _ = rustls::crypto::ring::default_provider().install_default();
        fs::create_dir_all(folder.join("bucket")).unwrap();
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(folder).unwrap());
        builder.set_auth(SimpleAuth::from_single("access", "secret"));
        let service = InTurn {
            service: builder.build(),
            turn: Arc::default(),
            faults: Arc::new(faults.into()),
            met: Arc::default(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self { address: listener.local_addr().unwrap(), service };
        let serving = server.service.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let _ = socket.set_nodelay(true);
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), serving.clone()));
            }
        });
        server
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
