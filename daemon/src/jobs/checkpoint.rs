//! Copies of runs' states in the store, so that another machine goes on where this one stopped.
//!
//! A worker writes `{prefix}/.runs/{job}/{fence}` and nothing else: one whose lease was lost without
//! its knowing cannot overwrite what a later one wrote. Beside it, as `{fence}-answers.jsonl`, go the answers of a teacher
//! behind an API, which were paid for. Whoever claims the job takes the copy of the
//! highest fence, unless that is its own machine's and so not newer than the file here. Datasets'
//! names start with a letter or digit, so the registry does not see `.runs`.

use std::convert::Infallible;
use std::fs;
use std::io::ErrorKind::NotFound;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use dpg_engine::{ANSWERS_FILE, STATE_FILE};
use dpg_queue::{Error as QueueError, Queue};
use dpg_store::Cause;
use futures::{StreamExt, TryStreamExt};
use object_store::buffered::BufWriter;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::io::AsyncWriteExt;
use tracing::{info, warn};
use uuid::Uuid;

use crate::services::Services;
use crate::terminal::told::told;

/// The fence of the last attempt on this machine.
const FENCE: &str = "fence";

/// The copies of one job's states, for one attempt.
pub(crate) struct Checkpoints {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    folder: PathBuf,
    fence: i64,
}

impl Checkpoints {
    pub(crate) fn new(services: &Services, job: Uuid, fence: i64) -> Self {
        let job = job.to_string();
        Self {
            store: Arc::clone(&services.store),
            prefix: services.prefix.clone().join(".runs").join(job.as_str()),
            folder: services.data.runs().join(job),
            fence,
        }
    }

    /// Fetches the newest copy if another machine has worked on the job since this one.
    pub(crate) async fn restore(&self) -> anyhow::Result<()> {
        let here = fs::read_to_string(self.folder.join(FENCE)).ok().filter(|_| self.changed().is_some());
        let here = here.and_then(|fence| fence.trim().parse().ok()).unwrap_or(0);
        let copies = self.copies().await?;
        let newest = copies.iter().map(|(fence, _)| *fence).max();
        for (fence, path) in copies.iter().filter(|(fence, _)| Some(*fence) == newest && *fence > here) {
            let is_answers = path.filename().is_some_and(|name| name.ends_with(ANSWERS_FILE));
            let file = self.folder.join(if is_answers { ANSWERS_FILE } else { STATE_FILE });
            download(&self.store, path, &file).await.context("cannot fetch the run's state")?;
            info!(%path, fence, "fetched the run's state");
        }
        let file = self.folder.join(FENCE);
        fs::write(&file, self.fence.to_string()).with_context(|| format!("cannot write `{}`", file.display()))
    }

    /// Copies the state again and again, if it has changed.
    pub(crate) async fn keep(&self, period: Duration) -> Infallible {
        let mut copied = None;
        loop {
            tokio::time::sleep(period.max(Duration::from_millis(100))).await;
            let changed = self.changed();
            if changed.is_some() && changed != copied {
                match self.copy().await {
                    Ok(()) => copied = changed,
                    Err(error) => warn!(path = %self.prefix, "cannot copy the run's state: {}", told(&error)),
                }
            }
        }
    }

    /// When the state or the answers changed last.
    fn changed(&self) -> Option<SystemTime> {
        let files = [STATE_FILE, ANSWERS_FILE].map(|name| self.folder.join(name));
        files.iter().filter_map(|file| fs::metadata(file).and_then(|metadata| metadata.modified()).ok()).max()
    }

    /// Copies the answers and the state, as far as there are any, and removes the copies of earlier attempts.
    pub(crate) async fn copy(&self) -> anyhow::Result<()> {
        let fence = format!("{:012}", self.fence);
        // the state knows no answer that is not copied before it
        for (file, copy) in [(ANSWERS_FILE, format!("{fence}-{ANSWERS_FILE}")), (STATE_FILE, fence.clone())] {
            let file = self.folder.join(file);
            if file.exists() {
                upload(&self.store, &file, self.prefix.clone().join(copy)).await?;
            }
        }
        for (fence, path) in self.copies().await? {
            if fence < self.fence {
                delete(&self.store, &path).await?;
            }
        }
        Ok(())
    }

    /// Removes the state, here and in the store.
    pub(crate) async fn remove(&self) -> anyhow::Result<()> {
        remove_folder(&self.folder)?;
        for (_, path) in self.copies().await? {
            delete(&self.store, &path).await?;
        }
        Ok(())
    }

    /// The copies there are, by fence.
    async fn copies(&self) -> anyhow::Result<Vec<(i64, Path)>> {
        let objects: Vec<_> = self.store.list(Some(&self.prefix)).try_collect().await.map_err(Cause::from)?;
        let fence = |path: &Path| path.filename()?.split('-').next()?.parse().ok();
        Ok(objects.into_iter().filter_map(|o| Some((fence(&o.location)?, o.location))).collect())
    }
}

/// Copies a file into the store.
pub(crate) async fn upload(store: &Arc<dyn ObjectStore>, file: &FilePath, path: Path) -> anyhow::Result<()> {
    let mut file = tokio::fs::File::open(file).await?;
    let mut writer = BufWriter::new(Arc::clone(store), path);
    if let Err(error) = tokio::io::copy(&mut file, &mut writer).await {
        // the parts of a large upload would stay
        let _ = writer.abort().await;
        return Err(Cause::of_write(error).into());
    }
    Ok(writer.shutdown().await.map_err(Cause::of_write)?)
}

/// Fetches a file that appears when it is complete.
pub(crate) async fn download(
    store: &Arc<dyn ObjectStore>,
    path: &Path,
    file: &FilePath,
) -> anyhow::Result<()> {
    let mut content = store.get(path).await.map_err(Cause::from)?.into_stream();
    let temporary = file.with_extension("fetched");
    let mut written = tokio::fs::File::create(&temporary).await?;
    while let Some(bytes) = content.next().await {
        written.write_all(&bytes.map_err(Cause::from)?).await?;
    }
    written.sync_all().await?;
    Ok(tokio::fs::rename(&temporary, file).await?)
}

pub(crate) async fn delete(store: &Arc<dyn ObjectStore>, path: &Path) -> anyhow::Result<()> {
    match store.delete(path).await {
        Err(object_store::Error::NotFound { .. }) => Ok(()),
        deleted => Ok(deleted.map_err(Cause::from)?),
    }
}

fn remove_folder(folder: &FilePath) -> anyhow::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != NotFound => {
            Err(error).with_context(|| format!("cannot remove `{}`", folder.display()))
        }
        _ => Ok(()),
    }
}

/// Removes what was left of jobs that have ended: by a worker that was killed, or on a machine that
/// another one took the job from.
pub(crate) async fn sweep(services: &Services) -> anyhow::Result<()> {
    let runs = services.prefix.clone().join(".runs");
    let listed = services.store.list_with_delimiter(Some(&runs)).await.map_err(Cause::from)?;
    let stored = listed.common_prefixes.iter().filter_map(Path::filename).map(str::to_owned);
    let local = fs::read_dir(services.data.runs()).into_iter().flatten().flatten();
    let local = local.filter_map(|entry| entry.file_name().into_string().ok());
    let mut jobs: Vec<Uuid> = stored.chain(local).filter_map(|name| name.parse().ok()).collect();
    jobs.sort();
    jobs.dedup();
    for job in jobs {
        if has_ended(&services.queue, job).await? {
            Checkpoints::new(services, job, 0).remove().await?;
        }
    }
    Ok(())
}

/// Whether a job has ended; one that is not in this queue may live in another.
async fn has_ended(queue: &Queue, job: Uuid) -> anyhow::Result<bool> {
    match queue.job(job).await {
        Ok(job) => Ok(job.state.has_ended()),
        Err(QueueError::NotFound { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
