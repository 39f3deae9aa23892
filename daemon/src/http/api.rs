//! What the handlers share.

use std::sync::Arc;

use dpg_api::Secret;
use object_store::aws::AmazonS3Builder;
use object_store::signer::Signer;
use tokio::sync::{Semaphore, watch};
use uuid::Uuid;

use super::{doorman::Doorman, known::Known, limiter::Limiter, slots::Slots};
use crate::services::Services;

/// What the handlers share.
#[derive(Clone)]
pub(crate) struct Api {
    /// Settings, queue, registry and the data folder.
    pub(super) services: Services,
    /// How often each token is used.
    pub(super) limiter: Arc<Limiter<Uuid>>,
    /// How often an address is wrong.
    pub(super) doorman: Arc<Doorman>,
    /// Jobs that tokens follow.
    pub(super) followers: Arc<Slots<Uuid>>,
    /// Versions whose rows were listed last.
    pub(super) rows: Arc<Known>,
    /// Whether another plan may be made.
    pub(super) planner: Arc<Semaphore>,
    /// Proves that this daemon serves its data folder, if it does.
    pub(super) prover: Option<Prover>,
    /// Signs addresses of objects, if the store is S3.
    pub(super) signer: Option<Arc<dyn Signer>>,
    /// Becomes true when the daemon goes down; streams end then.
    pub(super) stopping: watch::Receiver<bool>,
}

impl Api {
    pub(super) fn new(
        services: Services,
        prover: Option<Prover>,
        stopping: watch::Receiver<bool>,
    ) -> anyhow::Result<Self> {
        let limits = &services.config.limits;
        let limiter = Arc::new(Limiter::new(limits.requests_per_minute));
        let doorman = Arc::new(Doorman::new(limits));
        let followers = Slots::new(limits.streams_per_token, limits.connections.max(1));
        let signer = match services.config.store.strip_prefix("s3://") {
            Some(place) => {
                let bucket = place.split('/').next().unwrap_or(place);
                let store = dpg_store::s3(AmazonS3Builder::from_env(), bucket)?;
                Some(Arc::new(store) as Arc<dyn Signer>)
            }
            None => None,
        };
        let (rows, planner) = (Arc::default(), Arc::new(Semaphore::new(1)));
        Ok(Self { services, limiter, doorman, followers, rows, planner, prover, signer, stopping })
    }
}

/// What a daemon needs for its proofs.
#[derive(Clone)]
pub(crate) struct Prover {
    pub(crate) secret: Secret,
    pub(crate) url: String,
    pub(crate) port: u16,
}
