//! A dataset is made again: the new version starts from the last generator if its spec says so, and
//! a scheduled one becomes `latest` only if its validation is at least as good as that of the version it replaces.
//!
//! The last generator is the state that the latest version's run ended with, kept in the store under
//! `{prefix}/.generators/{dataset}/{job}` from before the version is published.

use std::path::Path as FilePath;

use anyhow::Context;
use dpg_engine::{History, STATE_FILE, WARM_FILE};
use dpg_queue::{Error as QueueError, Job};
use dpg_registry::{Dependency, Error as RegistryError, Version, Withdrawal};
use dpg_spec::Spec;
use dpg_store::Cause;
use futures::TryStreamExt;
use object_store::ObjectStore;
use object_store::path::Path;
use serde::Serialize;
use tracing::warn;
use uuid::Uuid;

use crate::jobs::checkpoint::{delete, download, upload};
use crate::jobs::submission;
use crate::pipeline::figures::PHI;
use crate::services::Services;
use crate::terminal::told::told;

/// What a job's run has to do with the dataset's latest version.
pub(crate) struct Refresh<'a> {
    services: &'a Services,
    job: &'a Job,
    spec: Spec,
    champion: Option<Champion>,
}

/// The latest version, made by a job of this queue.
struct Champion {
    version: Version,
    spec: Spec,
    phi: Option<f64>,
}

/// A new version against the one it replaces.
#[derive(Debug, Serialize)]
pub(crate) struct Comparison {
    /// The version that was the latest.
    champion: String,
    /// Its Phi on validation.
    champion_phi: f64,
    /// The new version's.
    phi: f64,
    /// Whether the new one becomes the latest.
    latest: bool,
}

impl<'a> Refresh<'a> {
    pub(crate) async fn new(services: &'a Services, job: &'a Job, spec: &Spec) -> anyhow::Result<Self> {
        let champion = champion(services, &job.name).await?;
        Ok(Self { services, job, spec: spec.clone(), champion })
    }

    /// Fetches the last generator into the run's folder, and names it among what the dataset is made of.
    pub(crate) async fn warm_start(
        &self,
        folder: &FilePath,
        models: &mut Vec<Dependency>,
    ) -> anyhow::Result<()> {
        let Some(champion) = self.champion.as_ref().filter(|champion| self.continues(&champion.spec)) else {
            return Ok(());
        };
        let path = self.generators().join(champion.version.job.as_str());
        match download(&self.services.store, &path, &folder.join(WARM_FILE)).await {
            Err(error) if is_not_found(&error) => {
                warn!(%path, "the last generator is not there; starting from the first one");
                return Ok(());
            }
            fetched => fetched.context("cannot fetch the last generator")?,
        }
        let uri = champion.version.to_string();
        let dependency = Dependency { name: "policy.warm_start".into(), uri, digest: [].into() };
        models.push(dependency);
        Ok(())
    }

    /// Whether the run may go on with the generator that a run of `earlier` ended with.
    fn continues(&self, earlier: &Spec) -> bool {
        let learns = |spec: &Spec| {
            let generator = spec.generator.as_ref()?;
            // what is kept is how often each is asked
            let mut names = generator.arms();
            names.extend(generator.learnt_classes().map(|_| "classes of prompts".to_owned()));
            names.extend(generator.local().map(|local| local.model.clone()));
            let learnt = spec.output.length.as_ref().filter(|length| length.learn);
            names.extend(learnt.iter().flat_map(|length| length.classes()).map(|class| class.name));
            Some(names)
        };
        self.spec.policy.warm_start && earlier.policy.warm_start && learns(&self.spec) == learns(earlier)
    }

    /// Compares a scheduled run with the latest version, if they were measured the same way.
    pub(crate) fn compare(&self, history: &History) -> Option<Comparison> {
        self.job.schedule?;
        let champion = self.champion.as_ref()?;
        let measured = |spec: &Spec| {
            (spec.seed, spec.target.clone(), spec.metric.clone(), spec.generator.clone(), spec.output.format)
        };
        if measured(&champion.spec) != measured(&self.spec) {
            return None;
        }
        let (champion_phi, phi) = (champion.phi?, history.validations.last()?.score.value);
        let latest = phi >= champion_phi;
        Some(Comparison { champion: champion.version.to_string(), champion_phi, phi, latest })
    }

    /// Keeps the run's generator for the next refresh.
    pub(crate) async fn keep_generator(&self, folder: &FilePath) -> anyhow::Result<()> {
        if !self.spec.policy.warm_start {
            return Ok(());
        }
        let path = self.generators().join(self.job.id.to_string());
        let kept = upload(&self.services.store, &folder.join(STATE_FILE), path).await;
        kept.context("cannot keep the generator")
    }

    /// Removes the generators that no refresh will start from.
    pub(crate) async fn drop_generators(&self) {
        if let Err(error) = self.try_drop().await {
            warn!(dataset = self.job.name, "cannot remove old generators: {}", told(&error));
        }
    }

    async fn try_drop(&self) -> anyhow::Result<()> {
        if !self.spec.policy.warm_start {
            return Ok(());
        }
        let latest = latest(self.services, &self.job.name).await?.map(|version| version.job);
        let kept: Vec<_> = self.services.store.list(Some(&self.generators())).try_collect().await?;
        for object in kept {
            if object.location.filename() != latest.as_deref() {
                delete(&self.services.store, &object.location).await?;
            }
        }
        Ok(())
    }

    fn generators(&self) -> Path {
        self.services.prefix.clone().join(".generators").join(self.job.name.as_str())
    }
}

impl Comparison {
    /// Why the new version is not to become the latest, if it is not.
    pub(crate) fn withheld(&self) -> Option<Withdrawal> {
        let Self { champion, champion_phi, phi, .. } = self;
        let why = || format!("Phi on validation is {phi}, worse than {champion_phi} of {champion}");
        (!self.latest).then(why).map(Withdrawal::Outdone)
    }
}

async fn latest(services: &Services, dataset: &str) -> anyhow::Result<Option<Version>> {
    match services.registry.dataset(dataset).await {
        Ok(dataset) => Ok(dataset.latest().cloned()),
        Err(RegistryError::NoDataset { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn champion(services: &Services, dataset: &str) -> anyhow::Result<Option<Champion>> {
    let Some(version) = latest(services, dataset).await? else { return Ok(None) };
    let Ok(id) = version.job.parse::<Uuid>() else { return Ok(None) };
    let job = match services.queue.job(id).await {
        // made by `dpg run`, or by the jobs of another queue
        Err(QueueError::NotFound { .. }) => return Ok(None),
        job => job?,
    };
    // others may write to the store: what this queue's job made is what the job says it made
    let made = job.result.as_ref().and_then(|result| result.get("manifest_sha256"));
    if made.and_then(serde_json::Value::as_str) != Some(&version.manifest_sha256) {
        return Ok(None);
    }
    let Ok(spec) = submission::shown(&job) else { return Ok(None) };
    let measured = services.registry.manifest(&version).await?.validation;
    let phi = measured.iter().find(|measured| measured.name == PHI).and_then(|measured| measured.after);
    Ok(Some(Champion { version, spec, phi }))
}

fn is_not_found(error: &anyhow::Error) -> bool {
    error.downcast_ref().is_some_and(Cause::is_not_found)
}
