//! The data folder: registry, runs, downloads, and the models that the program brings with it.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use dpg_registry::{Registry, open_store};
use dpg_spec::Spec;
use rust_embed::RustEmbed;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::settings::private::private_folder;

#[derive(RustEmbed)]
#[folder = "../config/embedded/"]
struct Embedded;

/// The data folder.
pub(crate) struct DataDir {
    root: PathBuf,
}

/// A run's folder, locked against other processes as long as this lives.
pub(crate) struct RunDir {
    pub(crate) path: PathBuf,
    /// The job's id, the same in every attempt.
    pub(crate) job: String,
    _lock: File,
}

impl DataDir {
    /// The folder given, or the user's; it is created on first use.
    pub(crate) fn open(folder: Option<PathBuf>) -> anyhow::Result<Self> {
        let root = match folder {
            Some(folder) => folder,
            None => directories::ProjectDirs::from("", "", "dpg")
                .context("this user has no data directory; give one with --data-dir")?
                .data_dir()
                .to_path_buf(),
        };
        private_folder(&root)?;
        Ok(Self { root: root.canonicalize()? })
    }

    /// The folder itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A path in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The registry in a store, which publishes with this folder's key.
    pub(crate) fn registry(&self, store: &str) -> anyhow::Result<Registry> {
        let (store, prefix) = open_store(store)?;
        Ok(Registry::new(store, prefix, self.key_file()))
    }

    /// Folder of the registry, made if absent.
    pub(crate) fn registry_dir(&self) -> anyhow::Result<PathBuf> {
        let folder = self.root.join("registry");
        create(&folder)?;
        Ok(folder)
    }

    /// The key that signs what is published.
    pub(crate) fn key_file(&self) -> PathBuf {
        self.root.join("signing-key.pem")
    }

    /// The embedded queue.
    pub(crate) fn queue_file(&self) -> PathBuf {
        self.root.join("queue.db")
    }

    /// How locations in specs are turned into files.
    pub(crate) fn hub(&self) -> anyhow::Result<dpg_hub::Options> {
        Ok(dpg_hub::Options::from_env(self.unpack()?, self.root.join("downloads")))
    }

    /// Writes the embedded models to a folder named by their content, once.
    fn unpack(&self) -> anyhow::Result<PathBuf> {
        let mut names: Vec<_> = Embedded::iter().collect();
        names.sort();
        let files: Vec<_> = names.iter().filter_map(|name| Some((name, Embedded::get(name)?))).collect();
        let mut hash = Sha256::new();
        for (name, file) in &files {
            hash.update(name.as_bytes());
            hash.update(file.metadata.sha256_hash());
        }
        let folder = self.root.join("embedded").join(&hex::encode(hash.finalize())[..16]);
        if folder.exists() {
            return Ok(folder);
        }
        let temporary = folder.with_extension(format!("{}.tmp", std::process::id()));
        for (name, file) in &files {
            let path = temporary.join(name.as_ref());
            create(path.parent().unwrap_or(&temporary))?;
            fs::write(&path, &file.data).with_context(|| format!("cannot write `{}`", path.display()))?;
        }
        match fs::rename(&temporary, &folder) {
            // another process was first
            Err(_) if folder.exists() => {
                fs::remove_dir_all(&temporary)?;
                Ok(folder)
            }
            renamed => {
                renamed.with_context(|| format!("cannot write `{}`", folder.display()))?;
                Ok(folder)
            }
        }
    }

    /// The folder of the run of a spec: a changed spec is another run.
    pub(crate) fn run_dir(&self, spec: &Spec) -> anyhow::Result<RunDir> {
        let path = self.run_path(spec);
        let Some(lock) = lock(&path)? else {
            bail!("`{}` is being run by another process; wait for it or stop it", spec.name)
        };
        let file = path.join("job");
        let job = match fs::read_to_string(&file) {
            Ok(job) if !job.is_empty() => job,
            _ => {
                let job = uuid::Uuid::now_v7().to_string();
                fs::write(&file, &job).with_context(|| format!("cannot write `{}`", file.display()))?;
                job
            }
        };
        Ok(RunDir { path, job, _lock: lock })
    }

    /// Where a run of a spec that has ended is noted: beside its folder.
    pub(crate) fn ended_run(&self, spec: &Spec) -> PathBuf {
        self.run_path(spec).with_extension("json")
    }

    fn run_path(&self, spec: &Spec) -> PathBuf {
        self.runs().join(format!("{}-{}", spec.name, &spec.sha256()[..12]))
    }

    /// Where a run's events for TensorBoard go.
    pub(crate) fn board(&self, dataset: &str, job: &str) -> PathBuf {
        self.boards().join(dataset).join(job)
    }

    /// The folder of all of them.
    pub(crate) fn boards(&self) -> PathBuf {
        self.root.join("tensorboard")
    }

    /// The folder of the runs, one each.
    pub(crate) fn runs(&self) -> PathBuf {
        self.root.join("runs")
    }

    /// The folder of the run of a job in the queue; `None` as long as another attempt works there.
    pub(crate) fn job_dir(&self, job: Uuid) -> anyhow::Result<Option<RunDir>> {
        let path = self.runs().join(job.to_string());
        Ok(lock(&path)?.map(|lock| RunDir { path, job: job.to_string(), _lock: lock }))
    }
}

/// Makes a run's folder and locks it; `None` if somebody else has it locked.
fn lock(folder: &Path) -> anyhow::Result<Option<File>> {
    create(folder)?;
    let lock = File::create(folder.join("lock"))?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error).context("cannot lock the run's folder"),
    }
}

fn create(folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create the folder `{}`", folder.display()))
}
