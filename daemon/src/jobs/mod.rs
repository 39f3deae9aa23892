//! Jobs of the queue: how a spec becomes one, and how workers work on it. Read `worker.rs` first.

pub(crate) mod checkpoint;
pub(crate) mod child;
pub(crate) mod failure;
pub(crate) mod hold;
pub(crate) mod labels;
pub(crate) mod measure;
pub(crate) mod mlflow;
pub(crate) mod otlp;
pub(crate) mod protocol;
pub(crate) mod refresh;
pub(crate) mod report;
pub(crate) mod submission;
pub(crate) mod supervisor;
pub(crate) mod trace;
pub(crate) mod webhook;
pub(crate) mod worker;
