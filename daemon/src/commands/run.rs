//! `dpg run`: resolve, run, publish.

use std::io::IsTerminal;
use std::path::Path;

use anyhow::Context;
use dpg_engine::History;
use dpg_registry::Version;
use dpg_spec::Spec;
use serde_json::json;

use crate::{
    commands::show,
    data_dir::DataDir,
    describe::figures,
    make::{Work, make, publish},
    progress::Progress,
    resolve::resolve,
    stop::Stop,
    verification::check_passed,
};

/// Makes and publishes the dataset of a spec.
pub(crate) async fn run(data: &DataDir, path: &Path, device: &str, as_json: bool) -> anyhow::Result<()> {
    let devices = dpg_models::device::parse(device)?;
    let resolved = resolve(Spec::load(path)?, &data.hub()?).await?;
    let name = resolved.spec.name.clone();
    let folder = data.run_dir(&resolved.spec)?;
    let stop = Stop::listen()?;
    let work = Work { resolved, devices, folder: folder.path.clone(), job: folder.job.clone(), fence: 0 };
    let mut progress = Progress::new();
    let made = async {
        let made = make(work, move |event| progress.tell(event), move || stop.is_set()).await?;
        let registry = data.registry()?;
        let version = publish(&registry, &made).await?;
        anyhow::Ok((version, made.history))
    };
    let (version, history) = made.await.with_context(|| {
        format!("the run of `{name}` stopped; `dpg run {}` goes on from its last step", path.display())
    })?;
    std::fs::remove_dir_all(&folder.path)?;
    report(&version, &history, as_json);
    check_passed(&version)
}

/// A text in one line.
fn line(text: &str) -> String {
    text.trim().replace('\n', " / ")
}

fn report(version: &Version, history: &History, as_json: bool) {
    let figures = figures(history);
    let rows = figures.iter().map(|f| json!({ "name": f.name, "before": f.before, "after": f.after }));
    let value = json!({
        "dataset": version.to_string(),
        "job": version.job,
        "rows": version.rows,
        "validation": rows.collect::<Vec<_>>(),
        "greedy": history.validations.last().map(|record| &record.greedy),
        "samples": history.validations.last().map(|record| &record.samples),
    });
    show(as_json, &value, || {
        let mut text = format!(
            "published {version}: {} rows\n\n{:32} {:>12} {:>12}\n",
            version.rows, "on validation prompts", "start", "end"
        );
        for figure in &figures {
            text += &format!("{:32} {:>12.4} {:>12.4}\n", figure.name, figure.before, figure.after);
        }
        let greedy = history.validations.last().map_or("", |record| record.greedy.as_str());
        text += &format!(
            "\nthe generator now writes, taking the likeliest tokens:\n  {}\nand drawing:\n",
            line(greedy)
        );
        for sample in history.validations.last().map(|record| record.samples.as_slice()).unwrap_or_default() {
            text += &format!("  {}\n", line(sample));
        }
        for decoded in history.validations.last().map(|record| record.decoded.as_slice()).unwrap_or_default()
        {
            let (right, all) = (decoded.right(), decoded.found.len());
            text += &format!("\nwhat it draws, {right} of {all} pixels right:\n\n");
            text += &decoded.terminal(std::io::stdout().is_terminal());
        }
        text + &format!("\nfetch it: dpg fetch {version} FOLDER")
    });
}
