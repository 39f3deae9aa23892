//! `dpg plan`: what a run would do, and whether its rewards would mean anything.

use std::path::Path;
use std::time::Instant;

use burn::tensor::{DType, Device};
use dpg_engine::{Run, Source, Target, helpful, reweigh, signal};
use dpg_metagrad::Storage;
use dpg_spec::{Optimizer, Spec};
use serde_json::{Value, json};

use crate::{commands::show, compute::compute, data_dir::DataDir, resolve::resolve, stop::Stop};

/// Prints the plan of a spec. It draws and scores one step to measure time and signal, and keeps
/// nothing of it.
pub(crate) async fn plan(
    data: &DataDir,
    path: &Path,
    reweigh: Option<usize>,
    as_json: bool,
) -> anyhow::Result<()> {
    let resolved = resolve(Spec::load(path)?, &data.hub()?).await?;
    let stop = Stop::listen()?;
    let local = resolved.local.clone();
    let value = compute(move || measure(&local, reweigh, &stop)).await?;
    show(as_json, &value, || text(&resolved.spec.name, &value));
    Ok(())
}

fn measure(spec: &Spec, rounds: Option<usize>, stop: &Stop) -> anyhow::Result<Value> {
    let device = Device::flex();
    let target = Target::load(spec, DType::F32, &device)?;
    let source = Source::load(spec, &device)?;
    let metric = target.metric(spec)?;
    let cancelled = || stop.is_set();
    let folder = std::env::temp_dir();
    let run = Run {
        spec,
        target: &target,
        source: &source,
        metric: metric.as_ref(),
        folder: &folder,
        cancelled: &cancelled,
    };
    let started = Instant::now();
    let examples = run.first_draw()?;
    let draw_s = started.elapsed().as_secs_f64();
    let started = Instant::now();
    let rewards =
        dpg_engine::score(&target, metric.as_ref(), &examples, 0, &Storage::default(), &cancelled)?.rewards;
    let score_s = started.elapsed().as_secs_f64();
    let helpful = helpful(&spec.metric)?;
    let signal = signal(&target, metric.as_ref(), &examples, &helpful, &rewards, &cancelled)?;
    let reweighed =
        rounds.map(|rounds| reweigh(&target, metric.as_ref(), &examples, rounds, &cancelled)).transpose()?;

    let tokens: usize = target.encode(&examples)?.iter().map(|example| example.tokens.len()).sum();
    let inner_steps = target.batches(&(0..examples.len()).collect::<Vec<_>>(), 0).len();
    let parameters = target.model.lm.layout().len();
    let moments = if matches!(spec.target.sft.optimizer, Optimizer::Adamw(_)) { 2 } else { 0 };
    // the policy's update reads every rollout forwards and backwards, about what drawing it costs
    let step_s = 2.0 * draw_s + score_s;
    Ok(json!({
        "target_parameters": parameters,
        "generator_parameters": source.model.lm.layout().len(),
        "steps": spec.policy.steps,
        "rollouts_per_step": examples.len(),
        "target_tokens_per_step": tokens,
        "inner_steps": inner_steps,
        "inner_run_state_bytes": (2 + moments) * inner_steps * parameters * 4,
        "training_prompts": source.training.len(),
        "validation_prompts": source.validation.len(),
        "estimated_seconds": step_s * spec.policy.steps as f64,
        "seconds_per_step": step_s,
        "signal": signal,
        "signal_separates": signal.separates(),
        "reweighed": reweighed,
    }))
}

fn text(name: &str, value: &Value) -> String {
    let number = |key: &str| value[key].as_f64().unwrap_or(f64::NAN);
    let signal = |key: &str| value["signal"][key].as_f64().unwrap_or(f64::NAN);
    let verdict = if value["signal_separates"].as_bool() == Some(true) {
        "the rewards tell good examples from bad ones"
    } else {
        "WARNING: the rewards do not tell good examples from bad ones; lower the inner learning rate or raise \
         eps_root until they do"
    };
    let separability = value["signal"]["separability"].as_f64().map_or(String::new(), |area| {
        format!("\n             AUC {area:.2} of held-out texts against the generator's, by reward")
    });
    let reweighed = value["reweighed"].as_array().and_then(|scores| {
        let figures = |score: &Value| {
            let proxies = score["proxies"].as_array().into_iter().flatten();
            let proxies = proxies.map(|proxy| {
                format!("  {} {:.4}", proxy[0].as_str().unwrap_or(""), proxy[1].as_f64().unwrap_or(f64::NAN))
            });
            format!("Phi {:.6}{}", score["value"].as_f64().unwrap_or(f64::NAN), proxies.collect::<String>())
        };
        let (first, last) = (scores.first()?, scores.last()?);
        let rounds = scores.len() - 1;
        Some(format!(
            "\n             reweighed, equal weights: {}\n             after {rounds} rounds:        {}",
            figures(first),
            figures(last)
        ))
    });
    let reweighed = reweighed.unwrap_or_default();
    format!(
        "`{name}` is valid; nothing was started\n\
         target       {} parameters\n\
         generator    {} parameters, {} prompts to train on and {} to validate on\n\
         a step       {} rollouts, {} target tokens, {} inner step(s), {:.1} MB of inner states\n\
         the run      {} steps of about {:.1} s: {:.1} minutes\n\
         signal       Phi {:.6} as it is, {:.6} after the better half by reward, {:.6} after the worse{separability}\n             {verdict}{reweighed}",
        number("target_parameters"),
        number("generator_parameters"),
        number("training_prompts"),
        number("validation_prompts"),
        number("rollouts_per_step"),
        number("target_tokens_per_step"),
        number("inner_steps"),
        number("inner_run_state_bytes") / 1e6,
        number("steps"),
        number("seconds_per_step"),
        number("estimated_seconds") / 60.0,
        signal("untrained"),
        signal("better_half"),
        signal("worse_half"),
    )
}
