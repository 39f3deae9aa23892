//! What the daemon was told, what it may read, and the data folder that it lives in.

pub(crate) mod address;
pub(crate) mod allow;
pub(crate) mod config;
pub(crate) mod data_dir;
pub(crate) mod identity;
pub(crate) mod overrides;
pub(crate) mod private;
pub(crate) mod resident;
pub(crate) mod teachers;
