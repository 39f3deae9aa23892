//! `dpg audit`: rewards against finite differences, leaving out, and training on subsets.

use std::fmt::Write;
use std::path::PathBuf;

use anyhow::bail;
use burn::tensor::{DType, Device};
use clap::Args;
use dpg_dataset::{Columns, Example, read_examples};
use dpg_engine::{Extent, Problem, Statistic};
use dpg_spec::Spec;
use serde_json::json;

use crate::commands::{Input, Programs, check_standard_input, load_spec, show};
use crate::pipeline::compute::compute;
use crate::pipeline::resolve::resolve;
use crate::settings::config::Config;
use crate::settings::data_dir::DataDir;
use crate::settings::teachers::connect;
use crate::terminal::progress::Watch;
use crate::terminal::stop::Stop;

/// What `dpg audit` compares.
#[derive(Debug, Args)]
pub(crate) struct AuditArguments {
    /// The target spec; `-` reads it from standard input.
    spec: PathBuf,
    /// The dataset, JSONL or Parquet; `-` reads it from standard input; without it the untrained generator writes one.
    #[arg(long)]
    data: Option<PathBuf>,
    /// How many of its first rows are read [default: all].
    #[arg(long)]
    rows: Option<usize>,
    /// Examples that are compared one by one.
    #[arg(long, default_value_t = 16)]
    examples: usize,
    /// Random subsets of each size for the linear datamodelling score.
    #[arg(long, default_value_t = 32)]
    subsets: usize,
    /// Sizes of subsets, as shares of the rows.
    #[arg(long, default_values_t = [0.9, 0.5], value_delimiter = ',')]
    shares: Vec<f64>,
    #[command(flatten)]
    programs: Programs,
}

/// Audits a spec on a file, or on what the untrained generator writes.
pub(crate) async fn audit(data: &DataDir, arguments: AuditArguments, as_json: bool) -> anyhow::Result<()> {
    let AuditArguments { spec, data: file, rows, examples, subsets, shares, programs } = arguments;
    if let Some(share) = shares.iter().find(|&&share| !(share > 0.0 && share < 1.0)) {
        bail!("--shares {share}: expected numbers between 0 and 1");
    }
    let extent = Extent { examples, subsets, shares };
    let file = file.as_deref();
    check_standard_input(&[&spec, file.unwrap_or(&spec)][..if file.is_some() { 2 } else { 1 }])?;
    let mut local = resolve(load_spec(&spec, &programs, data)?, &data.hub()?).await?.local;
    if file.is_none() {
        connect(&mut local, &Config::in_force(data)?.teachers, None)?;
    }
    let file = file.map(Input::open).transpose()?;
    let stop = Stop::listen()?;
    let audit = compute(move || {
        let watch = Watch::new(stop);
        let cancelled = || watch.pass();
        let devices = [Device::flex()];
        let problem = Problem::to_score(&local, DType::F64, &devices)?;
        let mut examples = match &file {
            Some(file) => read_examples(&file.path, &Columns::detect(&file.path)?, rows)?,
            None => generated(&local, &watch)?,
        };
        examples.truncate(rows.unwrap_or(usize::MAX));
        let passes = extent.runs(examples.len()) * problem.target.passes(examples.len());
        watch.begin(format!("auditing {} examples", examples.len()), passes);
        let scratch = std::env::temp_dir();
        let audit = problem.scorer(&scratch, &cancelled).audit(&examples, extent);
        let mut audit = audit.map_err(|error| match &file {
            Some(file) => error.in_file(&file.path),
            None => error,
        })?;
        audit.warnings.extend(problem.rounded(&examples, &cancelled)?);
        Ok(audit)
    })
    .await?;
    show(as_json, &json!(audit), || {
        let mut text = format!("{:>8} {:>14} {:>14} {:>14}\n", "example", "reward", "difference", "left out");
        for one in &audit.examples {
            // writing to a string cannot fail
            let _ = writeln!(
                text,
                "{:>8} {:>14.6e} {:>14.6e} {:>14.6e}",
                one.index, one.reward, one.finite_difference, one.leave_one_out
            );
        }
        let scores = audit.linear_datamodelling.iter().map(|of| {
            let interval =
                of.interval.map_or(String::new(), |[low, high]| format!(", 95% in [{low:.4}, {high:.4}]"));
            let (share, score) = (100.0 * of.share, decimal(of.score));
            format!("\nlinear datamodelling score, subsets of {share:.0}%  {score}{interval}")
        });
        let scores: String = scores.collect();
        let warnings: String = audit.warnings.iter().map(|warning| format!("\nWARNING: {warning}")).collect();
        text + &format!(
            "relative error against finite differences  {}\n\
             the same along random directions           {}\n\
             relative error against leaving out         {}\n\
             rank correlation with leaving out          {}\n\
             metasmoothness                             {}{scores}{warnings}",
            power(audit.finite_difference_error),
            power(audit.directional_error),
            power(audit.leave_one_out_error),
            decimal(audit.leave_one_out_rank_correlation),
            decimal(audit.metasmoothness)
        )
    });
    Ok(())
}

fn power(statistic: Statistic) -> String {
    written(statistic, |value| format!("{value:.2e}"))
}

fn decimal(statistic: Statistic) -> String {
    written(statistic, |value| format!("{value:.4}"))
}

fn written(statistic: Statistic, number: impl Fn(f64) -> String) -> String {
    match statistic {
        Statistic::Value(value) => number(value),
        Statistic::Undefined(why) => format!("undefined ({why})"),
    }
}

fn generated(spec: &Spec, watch: &Watch) -> anyhow::Result<Vec<Example>> {
    let problem = Problem::load(spec, DType::F32, &[Device::flex()], &|| watch.pass())?;
    let rows = spec.policy.rollouts();
    watch.begin(format!("drawing {rows} examples"), problem.writer()?.generator.passes(rows));
    Ok(problem.first_draw(&|| watch.pass())?)
}
