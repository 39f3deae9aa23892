//! What changed between two versions: rows, rewards, what validation measured, and the spec.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use arrow::array::{Array, AsArray};
use arrow::datatypes::Float64Type;
use bytes::Bytes;
use dpg_dataset::Config;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::Serialize;

use crate::layout::SPEC;
use crate::{Error, Manifest, Registry, Result, Version};

/// What changed from one version to another.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Diff {
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
    /// What validation measured, by name.
    pub metrics: Vec<MetricChange>,
    /// Settings of the spec that differ, by key.
    pub spec: Vec<Change>,
}

/// Statistics of the training rows' rewards; all 0 without rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
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

/// A figure of validation in two versions, with data of the trained generators; absent where it was
/// not measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MetricChange {
    /// What it is.
    pub name: String,
    /// Its value in the version compared with.
    pub from: Option<f64>,
    /// Its value in the version compared.
    pub to: Option<f64>,
}

/// A setting that differs, as TOML; absent where it is not written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Its path, `policy.learning_rate`.
    pub key: String,
    /// Its value in the version compared with.
    pub from: Option<String>,
    /// Its value in the version compared.
    pub to: Option<String>,
}

/// A [`Diff`] with what it takes to show the rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// What changed.
    pub diff: Diff,
    /// Pearson's correlation of the rewards of rows with the same content; absent where there are fewer than
    /// three, or one side has equal rewards.
    pub correlation: Option<f64>,
    /// Training rows of the version compared with whose content the other does not have, the largest rewards first.
    pub gone: Vec<usize>,
    /// Training rows of the version compared whose content the other does not have, the largest rewards first.
    pub came: Vec<usize>,
}

impl Registry {
    /// Compares two versions, of one dataset or of two.
    pub async fn diff(&self, from: &Version, to: &Version) -> Result<Diff> {
        Ok(self.compare(from, to).await?.diff)
    }

    /// Compares two versions, and finds the rows that went and came.
    pub async fn compare(&self, from: &Version, to: &Version) -> Result<Comparison> {
        let (old, new) = (self.contents(from).await?, self.contents(to).await?);
        let (correlation, gone, came) = (old.correlation(&new), old.without(&new), new.without(&old));
        let mut rows: HashMap<&str, (u64, u64)> = HashMap::new();
        old.hashes.iter().for_each(|hash| rows.entry(hash).or_default().0 += 1);
        new.hashes.iter().for_each(|hash| rows.entry(hash).or_default().1 += 1);
        let sum = |count: fn(&(u64, u64)) -> u64| rows.values().map(count).sum();
        let diff = Diff {
            from: from.to_string(),
            to: to.to_string(),
            rows_added: sum(|(old, new)| new.saturating_sub(*old)),
            rows_removed: sum(|(old, new)| old.saturating_sub(*new)),
            rows_kept: sum(|(old, new)| *old.min(new)),
            rewards_from: RewardStatistics::of(old.rewards),
            rewards_to: RewardStatistics::of(new.rewards),
            metrics: metrics(&old.manifest, &new.manifest),
            spec: changes(&old.spec, &new.spec),
        };
        Ok(Comparison { diff, correlation, gone, came })
    }

    async fn contents(&self, version: &Version) -> Result<Contents> {
        let damaged = |file: &str, reason: String| Error::Damaged {
            version: version.to_string(),
            damages: vec![format!("`{file}`: {reason}")],
        };
        let manifest = self.manifest(version).await?;
        let spec = self.read_file(version, SPEC).await?;
        let spec = std::str::from_utf8(&spec).map_err(|error| error.to_string()).and_then(flatten);
        let spec = spec.map_err(|reason| damaged(SPEC, reason))?;
        let (mut hashes, mut rewards) = (Vec::new(), Vec::new());
        let prefix = format!("{}/train-", Config::Rewards.folder());
        for file in manifest.files.iter().filter(|file| file.path.starts_with(&prefix)) {
            let bytes = self.read_file(version, &file.path).await?;
            let rows = tokio::task::spawn_blocking(move || scores(bytes)).await;
            let rows = rows.map_err(|panic| panic.to_string()).flatten();
            let (more_hashes, more_rewards) = rows.map_err(|reason| damaged(&file.path, reason))?;
            hashes.extend(more_hashes);
            rewards.extend(more_rewards);
        }
        Ok(Contents { manifest, spec, hashes, rewards })
    }
}

/// What is compared of a version.
struct Contents {
    manifest: Manifest,
    spec: BTreeMap<String, String>,
    hashes: Vec<String>,
    rewards: Vec<f64>,
}

impl Contents {
    fn hashes(&self) -> HashMap<&str, f64> {
        self.hashes.iter().map(String::as_str).zip(self.rewards.iter().copied()).collect()
    }

    /// Rows whose content another version does not have, the largest rewards first.
    fn without(&self, other: &Self) -> Vec<usize> {
        let known = other.hashes();
        let mut rows: Vec<_> =
            (0..self.hashes.len()).filter(|row| !known.contains_key(self.hashes[*row].as_str())).collect();
        rows.sort_by(|one, two| self.rewards[*two].total_cmp(&self.rewards[*one]));
        rows
    }

    /// The correlation of the rewards of contents that both have.
    fn correlation(&self, other: &Self) -> Option<f64> {
        let known = other.hashes();
        let pairs = self.hashes().into_iter().filter_map(|(hash, reward)| Some((reward, *known.get(hash)?)));
        let mut pairs: Vec<(f64, f64)> = pairs.collect();
        // sums do not depend on the order of a hash map
        pairs.sort_by(|one, two| one.0.total_cmp(&two.0).then(one.1.total_cmp(&two.1)));
        let mean = |of: fn(&(f64, f64)) -> f64| pairs.iter().map(of).sum::<f64>() / pairs.len() as f64;
        let (one, two) = (mean(|pair| pair.0), mean(|pair| pair.1));
        let sum = |of: &dyn Fn(f64, f64) -> f64| pairs.iter().map(|(a, b)| of(a - one, b - two)).sum::<f64>();
        let spread = (sum(&|a, _| a * a) * sum(&|_, b| b * b)).sqrt();
        (pairs.len() > 2 && spread > 0.0).then(|| sum(&|a, b| a * b) / spread)
    }
}

/// Content hashes and rewards of a shard of the scoring record.
fn scores(shard: Bytes) -> std::result::Result<(Vec<String>, Vec<f64>), String> {
    let columns = ["content_sha256", "reward"];
    let read = || -> parquet::errors::Result<_> {
        let reader = ParquetRecordBatchReaderBuilder::try_new(shard)?;
        let mask = ProjectionMask::columns(reader.parquet_schema(), columns);
        reader
            .with_projection(mask)
            .build()?
            .map(|batch| Ok(batch?))
            .collect::<parquet::errors::Result<Vec<_>>>()
    };
    let (mut hashes, mut rewards) = (Vec::new(), Vec::new());
    for batch in read().map_err(|error| error.to_string())? {
        let found = columns.map(|column| batch.column_by_name(column));
        let [Some(hash), Some(reward)] = found else {
            return Err(format!("it has no columns `{}`", columns.join("` and `")));
        };
        let types = (hash.as_string_opt::<i32>(), reward.as_primitive_opt::<Float64Type>());
        let (Some(hash), Some(reward)) = types else {
            return Err(format!("its columns `{}` are of other types", columns.join("` and `")));
        };
        hashes.extend((0..hash.len()).map(|row| hash.value(row).to_owned()));
        rewards.extend_from_slice(reward.values());
    }
    Ok((hashes, rewards))
}

impl RewardStatistics {
    pub(crate) fn of(mut rewards: Vec<f64>) -> Self {
        if rewards.is_empty() {
            return Self::default();
        }
        rewards.sort_by(f64::total_cmp);
        let rows = rewards.len();
        let mean = rewards.iter().sum::<f64>() / rows as f64;
        let variance = rewards.iter().map(|reward| (reward - mean).powi(2)).sum::<f64>() / rows as f64;
        Self {
            rows: rows as u64,
            mean,
            std: variance.sqrt(),
            min: rewards[0],
            median: f64::midpoint(rewards[(rows - 1) / 2], rewards[rows / 2]),
            max: rewards[rows - 1],
            positive: rewards.iter().filter(|reward| **reward > 0.0).count() as f64 / rows as f64,
        }
    }
}

fn metrics(from: &Manifest, to: &Manifest) -> Vec<MetricChange> {
    let mut changes: Vec<_> = from
        .validation
        .iter()
        .map(|figure| MetricChange { name: figure.name.clone(), from: figure.after, to: None })
        .collect();
    for figure in &to.validation {
        match changes.iter_mut().find(|change| change.name == figure.name) {
            Some(change) => change.to = figure.after,
            None => changes.push(MetricChange { name: figure.name.clone(), from: None, to: figure.after }),
        }
    }
    changes
}

/// The settings of a spec by their paths; tables of a list as one value.
fn flatten(spec: &str) -> std::result::Result<BTreeMap<String, String>, String> {
    fn walk(path: &str, value: &toml::Value, settings: &mut BTreeMap<String, String>) {
        match value {
            toml::Value::Table(table) => {
                for (key, value) in table {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    walk(&path, value, settings);
                }
            }
            value => drop(settings.insert(path.into(), value.to_string())),
        }
    }
    let table: toml::Table = toml::from_str(spec).map_err(|error| error.message().to_owned())?;
    let mut settings = BTreeMap::new();
    walk("", &toml::Value::Table(table), &mut settings);
    Ok(settings)
}

fn changes(from: &BTreeMap<String, String>, to: &BTreeMap<String, String>) -> Vec<Change> {
    let keys: BTreeSet<_> = from.keys().chain(to.keys()).collect();
    keys.into_iter()
        .filter(|key| from.get(*key) != to.get(*key))
        .map(|key| Change { key: key.clone(), from: from.get(key).cloned(), to: to.get(key).cloned() })
        .collect()
}
