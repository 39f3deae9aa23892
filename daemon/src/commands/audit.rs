//! `dpg audit`: rewards against finite differences and leaving out.

use std::fmt::Write;
use std::path::Path;

use burn::tensor::{DType, Device};
use dpg_dataset::{Columns, Example, read_examples};
use dpg_engine::{Run, Source, Target};
use dpg_spec::Spec;
use serde_json::json;

use crate::{commands::show, compute::compute, data_dir::DataDir, resolve::resolve, stop::Stop};

/// Audits a spec on `file`, or on what the untrained generator writes.
pub(crate) async fn audit(
    data: &DataDir,
    spec: &Path,
    file: Option<&Path>,
    count: usize,
    as_json: bool,
) -> anyhow::Result<()> {
    let local = resolve(Spec::load(spec)?, &data.hub()?).await?.local;
    let stop = Stop::listen()?;
    let file = file.map(Path::to_path_buf);
    let audit = compute(move || {
        let target = Target::load(&local, DType::F64, &[Device::flex()])?;
        let metric = target.metric(&local)?;
        let cancelled = || stop.is_set();
        let examples = match file {
            Some(file) => read_examples(&file, &Columns::detect(&file)?, None)?,
            None => generated(&local, &cancelled)?,
        };
        Ok(dpg_engine::audit(&target, metric.as_ref(), &examples, count, &cancelled)?)
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
        text + &format!(
            "relative error against finite differences  {:.2e}\n\
             relative error against leaving out         {:.2e}\n\
             rank correlation with leaving out          {:.4}\n\
             metasmoothness                             {:.4}\n\
             linear datamodelling score                 {:.4}",
            audit.finite_difference_error,
            audit.leave_one_out_error,
            audit.leave_one_out_rank_correlation,
            audit.metasmoothness,
            audit.linear_datamodelling_score
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
