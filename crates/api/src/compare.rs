//! Two versions beside each other.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Row;

/// What changed from one version to another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Comparison {
    /// The version compared with, `NAME@vN`.
    pub from: String,
    /// The version compared, `NAME@vN`.
    pub to: String,
    /// Training rows of `to` whose content `from` does not have.
    pub rows_added: u64,
    /// Training rows of `from` whose content `to` does not have.
    pub rows_removed: u64,
    /// Training rows with the same content in both.
    pub rows_kept: u64,
    /// The rewards in `from`.
    pub rewards_from: RewardStatistics,
    /// The rewards in `to`.
    pub rewards_to: RewardStatistics,
    /// Correlation of the rewards of rows with the same content; absent where too few have it.
    pub rewards_correlation: Option<f64>,
    /// What validation measured, by name.
    pub metrics: Vec<MetricChange>,
    /// Settings of the spec that differ, by key.
    pub spec: Vec<SettingChange>,
    /// The rows with the largest rewards among those that `to` does not have; at most 20.
    pub gone: Vec<Row>,
    /// The rows with the largest rewards among those that `from` does not have; at most 20.
    pub came: Vec<Row>,
}

/// Statistics of rewards; all 0 without rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RewardStatistics {
    /// How many there are.
    pub rows: u64,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation.
    pub std: f64,
    /// The smallest.
    pub min: f64,
    /// The one in the middle.
    pub median: f64,
    /// The largest.
    pub max: f64,
    /// The share of rewards above 0.
    pub positive: f64,
}

/// A figure of validation in two versions; absent where it was not measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MetricChange {
    /// What it is.
    pub name: String,
    /// Its value in the version compared with.
    pub from: Option<f64>,
    /// Its value in the version compared.
    pub to: Option<f64>,
}

/// A setting that differs, as TOML; absent where it is not written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SettingChange {
    /// Its path, `policy.learning_rate`.
    pub key: String,
    /// Its value in the version compared with.
    pub from: Option<String>,
    /// Its value in the version compared.
    pub to: Option<String>,
}
