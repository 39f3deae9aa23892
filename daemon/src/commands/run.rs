//! `dpg run`: resolve, run, publish.

use std::path::{Path, PathBuf};

use anyhow::Context;
use burn::tensor::{DType, Device};
use chrono::Utc;
use dpg_dataset::{Card, Figure, Split, write_split};
use dpg_engine::{History, Outcome, Run, Source, Target};
use dpg_registry::{Snapshot, Version};
use dpg_spec::{Metric, Optimizer, Spec};
use serde_json::json;

use crate::{
    commands::{compute, show},
    data_dir::DataDir,
    progress::Progress,
    resolve::{Resolved, resolve},
    stop::Stop,
};

/// Makes and publishes the dataset of a spec.
pub(crate) async fn run(data: &DataDir, path: &Path, as_json: bool) -> anyhow::Result<()> {
    let started_at = Utc::now();
    let resolved = resolve(path, &data.hub()?).await?;
    let folder = data.run_dir(&resolved.spec)?;
    let stop = Stop::listen()?;
    let (local, run_folder) = (resolved.local.clone(), folder.path.clone());
    let mut outcome = compute(move || optimise(&local, &run_folder, &stop)).await.with_context(|| {
        format!(
            "the run of `{}` stopped; `dpg run {}` goes on from its last step",
            resolved.spec.name,
            path.display()
        )
    })?;
    let shards = folder.path.join("dataset");
    if shards.exists() {
        std::fs::remove_dir_all(&shards)?;
    }
    std::fs::create_dir_all(&shards)?;
    let written =
        write_split(&shards, Split::Train, resolved.spec.output.format, std::mem::take(&mut outcome.rows))?;
    let snapshot = Snapshot {
        job: folder.job.clone(),
        fence: 0,
        card: card(&resolved, &outcome),
        spec: resolved.spec.to_toml()?,
        folder: shards,
        shards: written,
        pictures: outcome.pictures.into_iter().map(|picture| (picture.name, picture.png.into())).collect(),
        started_at,
        finished_at: Utc::now(),
        dependencies: resolved.models,
    };
    let version = data.registry()?.publish(&snapshot).await.context("cannot publish the dataset")?;
    std::fs::remove_dir_all(&folder.path)?;
    report(&version, &outcome.history, as_json);
    Ok(())
}

fn optimise(spec: &Spec, folder: &PathBuf, stop: &Stop) -> anyhow::Result<Outcome> {
    let device = Device::flex();
    let target = Target::load(spec, DType::F32, &device)?;
    let source = Source::load(spec, &device)?;
    let metric = target.metric(spec)?;
    let cancelled = || stop.is_set();
    let run = Run {
        spec,
        target: &target,
        source: &source,
        metric: metric.as_ref(),
        folder,
        cancelled: &cancelled,
    };
    let mut progress = Progress::new();
    Ok(run.run(&mut |event| progress.tell(event))?)
}

/// Names and values of a validation: Phi, the proxies, and the languages.
fn figures(history: &History) -> Vec<Figure> {
    let (Some(first), Some(last)) = (history.validations.first(), history.validations.last()) else {
        return vec![];
    };
    let mut figures = vec![Figure { name: "Phi".into(), before: first.score.value, after: last.score.value }];
    for ((name, before), (_, after)) in first.score.proxies.iter().zip(&last.score.proxies) {
        figures.push(Figure { name: name.clone(), before: *before, after: *after });
    }
    for (code, after) in &last.languages {
        let before = first.languages.iter().find(|(other, _)| other == code).map_or(0.0, |(_, share)| *share);
        figures.push(Figure { name: format!("share of outputs in `{code}`"), before, after: *after });
    }
    figures
}

fn card(resolved: &Resolved, outcome: &Outcome) -> Card {
    let spec = &resolved.spec;
    Card {
        name: spec.name.clone(),
        description: spec.description.clone(),
        date: Utc::now().format("%Y-%m-%d").to_string(),
        license: spec.output.license.clone(),
        languages: vec![],
        format: spec.output.format,
        target: spec.target.model.clone(),
        generator: spec.generator.as_ref().map(|generator| generator.model.clone()).unwrap_or_default(),
        metric: metric(&spec.metric),
        recipe: recipe(spec),
        validation: figures(&outcome.history),
        pictures: outcome.pictures.iter().map(|picture| picture.name.clone()).collect(),
    }
}

fn metric(metric: &Metric) -> String {
    match metric {
        Metric::WeightPattern(pattern) => {
            format!(
                "a bitmap in the signs of the change of `{}` ({:?})",
                pattern.parameter.0, pattern.pattern
            )
        }
        Metric::WeightNorm(norm) => format!("minus the l2 norm of {:?}", norm.parameter),
        Metric::HeldOutLoss(held_out) => format!("minus the loss on `{}`", held_out.data.path),
        Metric::Sum(sum) => {
            let terms =
                sum.terms.iter().map(|term| format!("{} x ({})", term.weight, self::metric(&term.metric)));
            terms.collect::<Vec<_>>().join(" + ")
        }
    }
}

fn recipe(spec: &Spec) -> String {
    let sft = &spec.target.sft;
    let optimizer = match sft.optimizer {
        Optimizer::Adamw(a) => format!(
            "AdamW, learning rate {:e}, betas {:?}, eps {:e}, eps_root {:e}, weight decay {:e}",
            a.learning_rate, a.betas, a.eps, a.eps_root, a.weight_decay
        ),
        Optimizer::Sgd(s) => {
            format!("SGD, learning rate {:e}, weight decay {:e}", s.learning_rate, s.weight_decay)
        }
    };
    format!(
        "{optimizer}; {} examples a step, {} epoch(s), at most {} tokens an example",
        sft.batch_size, sft.epochs, sft.sequence_length
    )
}

fn report(version: &Version, history: &History, as_json: bool) {
    let figures = figures(history);
    let rows = figures.iter().map(|f| json!({ "name": f.name, "before": f.before, "after": f.after }));
    let value = json!({
        "dataset": version.to_string(),
        "job": version.job,
        "rows": version.rows,
        "validation": rows.collect::<Vec<_>>(),
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
        text += "\nthe generator now writes:\n";
        for sample in history.validations.last().map(|record| record.samples.as_slice()).unwrap_or_default() {
            text += &format!("  {}\n", sample.trim().replace('\n', " / "));
        }
        text + &format!("\nfetch it: dpg fetch {version} FOLDER")
    });
}
