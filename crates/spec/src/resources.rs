//! What a machine must have to do a job.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a worker must have to take the job, as its `device` says; others leave it in the queue. It does not change the
/// dataset, nor what `dpg run` computes on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// GPUs at least. Default 1.
    #[serde(default = "Resources::default_gpus")]
    #[schemars(range(max = 1024))]
    pub gpus: u32,
    /// GB of memory of each at least. Default 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub gpu_memory: f64,
}

impl Resources {
    /// Bytes of memory of each GPU.
    pub fn gpu_bytes(&self) -> u64 {
        (self.gpu_memory * 1e9) as u64
    }

    fn default_gpus() -> u32 {
        1
    }
}
