//! Trying a dataset out: fresh targets are fine-tuned on its Parquet files, as a user would, and on
//! controls.

use std::path::Path;

use anyhow::bail;
use burn::tensor::{DType, Device};
use dpg_dataset::{Columns, Config, Split, read_examples, read_rewards, read_texts};
use dpg_engine::{Estimate, Problem, Published, Verification};
use dpg_registry::{Local, Version, Withdrawal};
use dpg_spec::Spec;
use serde_json::{Value, json};

/// Data orders that a dataset is tried under before it is published.
pub(crate) const ORDERS: usize = 5;

/// Fine-tunes fresh targets on the dataset in `folder` and on controls. The spec's locations are local.
/// `begin` hears about how many passes that takes, before each of which `cancelled` is asked.
pub(crate) fn verify(
    spec: &Spec,
    devices: &[Device],
    folder: &Path,
    orders: usize,
    begin: impl FnOnce(usize),
    cancelled: &(dyn Fn() -> bool + Sync),
) -> anyhow::Result<Verification> {
    let dataset = read(folder)?;
    let problem = Problem::load(spec, DType::F32, devices, cancelled)?;
    let rows = dataset.examples.len();
    // five arms of all rows, one of them drawn anew, and three of a tenth; one more without `eps_root`
    let passes = |rows| problem.target.passes(rows);
    let whole = 5 + usize::from(spec.without_eps_root().is_some());
    let arms = whole * passes(rows) + 3 * passes(rows.div_ceil(10));
    begin(orders * (arms + problem.writer()?.generator.passes(rows)));
    Ok(problem.verify(&dataset, orders, folder, cancelled)?)
}

/// The training rows of a dataset with their rewards and prompts.
fn read(folder: &Path) -> anyhow::Result<Published> {
    let mut dataset = Published::default();
    let local = Local(folder);
    for shard in local.shards(Config::Default, Split::Train)? {
        dataset.examples.extend(read_examples(&shard, &Columns::detect(&shard)?, None)?);
        dataset.rewards.extend(read_rewards(&shard)?);
    }
    for shard in local.shards(Config::Rewards, Split::Train)? {
        dataset.prompts.extend(read_texts(&shard, "prompt", None)?);
    }
    Ok(dataset)
}

/// What is recorded of a verification.
pub(crate) fn report(verification: &Verification) -> Value {
    let failures = verification.failures();
    json!({ "holds": failures.is_empty(), "failures": failures, "arms": verification })
}

/// Why a dataset is not to become `latest`, if it is not.
pub(crate) fn withheld(verification: &Verification) -> Option<Withdrawal> {
    let failures = verification.failures();
    let why = || format!("it is not better than its controls: {}", failures.join("; "));
    (!failures.is_empty()).then(why).map(Withdrawal::Failed)
}

/// An error if the version was published as one that did not pass.
pub(crate) fn check_passed(version: &Version) -> anyhow::Result<()> {
    if let Some(Withdrawal::Failed(why)) = &version.withdrawn {
        bail!(
            "{version} is kept but withheld, {why}. `dpg datasets show {version}` has the figures; to use it all \
             the same, fetch it by its number or give it a tag, and to publish such datasets, remove \
             `output.publish_if`"
        );
    }
    Ok(())
}

/// Arms in rows and figures in columns.
pub(crate) fn table(verification: &Verification) -> String {
    let rows = cells(verification, "Phi");
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..rows[0].len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = format!("{:width$}", row[0], width = widths[0]);
        for (cell, width) in row.iter().zip(&widths).skip(1) {
            line += &format!("  {cell:>width$}");
        }
        text += &format!("{}\n", line.trim_end());
    }
    text
}

/// The same for a dataset card.
pub(crate) fn markdown(verification: &Verification) -> String {
    let mut text = format!(
        "Fresh targets fine-tuned on this data and on controls before it was published, under {} data orders, \
         with 95% confidence intervals.\n\n",
        verification.orders()
    );
    for (number, row) in cells(verification, "metric").iter().enumerate() {
        text += &format!("| {} |\n", row.join(" | "));
        if number == 0 {
            text += &format!("|{}\n", "---|".repeat(row.len()));
        }
    }
    for failure in verification.failures() {
        text += &format!("\nIt did not pass: {failure}.\n");
    }
    text
}

/// The table's cells, its head first.
fn cells(verification: &Verification, metric: &str) -> Vec<Vec<String>> {
    let figures = figures(verification);
    let head = ["fine-tuned on", "rows", metric].into_iter().chain(figures.iter().map(String::as_str));
    let mut rows = vec![head.map(str::to_owned).collect()];
    for (name, arm) in verification.arms() {
        let mut row = vec![name.to_owned(), arm.rows.to_string(), within(arm.mean, arm.margin, 6)];
        row.extend(figures.iter().map(|name| {
            let found = arm.proxies.iter().find(|figure| figure.name == *name);
            found.map_or(String::new(), |figure| within(figure.mean, figure.margin, 4))
        }));
        rows.push(row);
    }
    rows
}

fn within(mean: f64, margin: f64, digits: usize) -> String {
    if margin == 0.0 { format!("{mean:.digits$}") } else { format!("{mean:.digits$} ± {margin:.digits$}") }
}

/// The figures that are worth a column: those of the metric, and languages that matter.
fn figures(verification: &Verification) -> Vec<String> {
    const MATTERS: f64 = 0.1;
    let arms = [&verification.dataset, &verification.untrained_generator];
    let of_metric = |name: &str| verification.nothing.proxies.iter().any(|other| other.name == name);
    let mut names: Vec<String> = vec![];
    for Estimate { name, mean, .. } in arms.iter().flat_map(|arm| &arm.proxies) {
        if !names.contains(name) && (of_metric(name) || *mean >= MATTERS) {
            names.push(name.clone());
        }
    }
    names
}
