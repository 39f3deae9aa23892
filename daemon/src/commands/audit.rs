//! `dpg audit`: rewards against finite differences, leaving out, and training on subsets.

use std::fmt::Write;

use anyhow::bail;
use burn::tensor::{DType, Device};
use dpg_dataset::{Columns, Example, read_examples};
use dpg_engine::{Extent, Run, Source, Target};
use dpg_spec::Spec;
use serde_json::json;

use crate::{
    cli::AuditArguments,
    commands::{Input, check_standard_input, load_spec, show},
    compute::compute,
    data_dir::DataDir,
    resolve::resolve,
    stop::Stop,
};

/// Audits a spec on a file, or on what the untrained generator writes.
pub(crate) async fn audit(data: &DataDir, arguments: AuditArguments, as_json: bool) -> anyhow::Result<()> {
    let AuditArguments { spec, data: file, rows, examples, subsets, shares } = arguments;
    if let Some(share) = shares.iter().find(|&&share| !(share > 0.0 && share < 1.0)) {
        bail!("--shares {share}: expected numbers between 0 and 1");
    }
    let extent = Extent { examples, subsets, shares };
    let file = file.as_deref();
    check_standard_input(&[&spec, file.unwrap_or(&spec)][..if file.is_some() { 2 } else { 1 }])?;
    let local = resolve(load_spec(&spec)?, &data.hub()?).await?.local;
    let file = file.map(Input::open).transpose()?;
    let stop = Stop::listen()?;
    let audit = compute(move || {
        let target = Target::load(&local, DType::F64, &[Device::flex()])?;
        let metric = target.metric(&local)?;
        let cancelled = || stop.is_set();
        let mut examples = match file {
            Some(file) => read_examples(&file.path, &Columns::detect(&file.path)?, rows)?,
            None => generated(&local, &cancelled)?,
        };
        examples.truncate(rows.unwrap_or(usize::MAX));
        Ok(dpg_engine::audit(&target, metric.as_ref(), &examples, extent, &cancelled)?)
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
            let [low, high] = of.interval;
            format!(
                "\nlinear datamodelling score, subsets of {:.0}%  {:.4}, 95% in [{low:.4}, {high:.4}]",
                100.0 * of.share,
                of.score
            )
        });
        let scores: String = scores.collect();
        text + &format!(
            "relative error against finite differences  {:.2e}\n\
             the same along random directions           {:.2e}\n\
             relative error against leaving out         {:.2e}\n\
             rank correlation with leaving out          {:.4}\n\
             metasmoothness                             {:.4}{scores}",
            audit.finite_difference_error,
            audit.directional_error,
            audit.leave_one_out_error,
            audit.leave_one_out_rank_correlation,
            audit.metasmoothness
        )
    });
    Ok(())
}

fn generated(spec: &Spec, cancelled: &(dyn Fn() -> bool + Sync)) -> anyhow::Result<Vec<Example>> {
    let devices = [Device::flex()];
    let target = Target::load(spec, DType::F32, &devices)?;
    let source = Source::load(spec, &devices)?;
    let metric = target.metric(spec)?;
    let folder = std::env::temp_dir();
    let run =
        Run { spec, target: &target, source: &source, metric: metric.as_ref(), folder: &folder, cancelled };
    Ok(run.first_draw()?)
}
