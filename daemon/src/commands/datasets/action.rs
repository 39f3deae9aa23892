//! What `dpg datasets` can be told to do.

use std::path::PathBuf;

use clap::Subcommand;

use crate::clock::retention;

/// What to do with datasets.
#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// List the datasets, or the versions of one.
    List {
        /// The dataset.
        name: Option<String>,
    },
    /// Show a version, with what was found when it was tried out.
    Show {
        /// `NAME@v3`, `NAME@TAG`, or `NAME` for the latest.
        version: String,
    },
    /// Give a version a name, which may move from another.
    Tag {
        /// `NAME@v3`, `NAME@TAG`, or `NAME` for the latest.
        version: String,
        /// The tag.
        tag: String,
    },
    /// Remove a tag.
    Untag {
        /// The dataset.
        name: String,
        /// The tag.
        tag: String,
    },
    /// Withdraw a version: `latest` passes over it, and readers are told why.
    Yank {
        /// `NAME@v3`, `NAME@TAG` or `NAME@latest`.
        version: String,
        /// The reason, which readers are told.
        #[arg(long)]
        reason: String,
    },
    /// Show what changed between two versions: rows, rewards, metrics, spec.
    Diff {
        /// The version compared with: `NAME@v2`, `NAME@TAG`, or `NAME` for the latest.
        from: String,
        /// The version compared; `v3` alone is one of the same dataset.
        to: String,
    },
    /// Remove what publishers that died left behind, and retired versions.
    Gc {
        /// The dataset [default: all].
        name: Option<String>,
        /// Say what would be removed, and remove nothing.
        #[arg(long)]
        dry_run: bool,
        /// Retire versions beyond the newest KEEP first; the latest and tagged ones stay, and 0 keeps
        /// all [default: the settings' `retention.versions`].
        #[arg(long, value_name = "KEEP")]
        keep: Option<usize>,
        /// Hours for which garbage is kept. Publishers and readers must be done within them.
        #[arg(long, default_value_t = retention::HOURS)]
        hours: u32,
    },
    /// Read all files of a version and compare their hashes.
    Verify {
        /// `NAME@v3`, `NAME@TAG`, or `NAME` for the latest.
        version: String,
    },
    /// Check that a version's provenance is signed by a key and is about its files.
    VerifySignature {
        /// `NAME@v3`, `NAME@TAG`, or `NAME` for the latest.
        version: String,
        /// The public key, a PEM file [default: the data folder's key and those in `trust.keys`].
        #[arg(long)]
        key: Option<PathBuf>,
    },
    /// Publish a version as a dataset of the Hugging Face Hub, with `HF_TOKEN`, at `HF_ENDPOINT`. Repeated, it goes on
    /// where it stopped.
    Push {
        /// `NAME@v3`, `NAME@TAG`, or `NAME` for the latest.
        version: String,
        /// `hf:org/name`, or `hf:org/name@branch`. It is made if it is not there.
        repository: String,
        /// Make a new repository a private one.
        #[arg(long)]
        private: bool,
        /// Replace and remove what else is in the repository. The Hub keeps it in the history.
        #[arg(long)]
        overwrite: bool,
    },
    /// Copy a dataset that was pushed to the Hugging Face Hub into the store or a folder, every hash checked.
    Pull {
        /// `hf:org/name@rev`: a tag such as `v3`, a branch or a commit.
        repository: String,
        /// The folder: new, empty, or holding a version that was fetched before, which is replaced [default: into
        /// the store, as the next version, if this machine's key or one in `trust.keys` signed it].
        folder: Option<PathBuf>,
        /// Replace files of the folder, too, that were changed since they were fetched.
        #[arg(long, requires = "folder")]
        overwrite: bool,
    },
    /// Print the public half of the key that signs what this machine publishes.
    PublicKey,
}
