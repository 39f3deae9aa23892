//! `dpg plan`: what a run would do, and whether its rewards would mean anything.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;
use burn::tensor::{DType, Device};
use clap::Args;
use dpg_engine::{Draw, Problem, recipe};
use dpg_metagrad::Storage;
use dpg_models::{MatmulPrecision, device::backend_of};
use dpg_spec::Spec;
use serde_json::{Value, json};

use crate::commands::{load_spec, show};
use crate::pipeline::compute::compute;
use crate::pipeline::device;
use crate::pipeline::memory;
use crate::pipeline::resolve::resolve;
use crate::settings::data_dir::DataDir;
use crate::terminal::progress::Watch;
use crate::terminal::stop::Stop;

/// What `dpg plan` plans.
#[derive(Debug, Args)]
pub(crate) struct PlanArguments {
    /// The target spec; `-` reads it from standard input.
    spec: PathBuf,
    /// Optimise the weights of one step's examples themselves for so many rounds: what a generator
    /// that writes the same texts could reach at best. A round takes as long as scoring a step.
    #[arg(long, value_name = "ROUNDS")]
    reweigh: Option<usize>,
    /// What to compute on.
    #[arg(long, env = "DPG_DEVICE", default_value = "cpu", help = device::help("What to compute on"))]
    device: String,
}

/// Prints the plan of a spec. It draws and scores one step to measure time and signal, and keeps
/// nothing of it.
pub(crate) async fn plan(data: &DataDir, arguments: PlanArguments, as_json: bool) -> anyhow::Result<()> {
    let PlanArguments { spec, reweigh, device } = arguments;
    let devices = dpg_models::device::parse(&device)?;
    let resolved = resolve(load_spec(&spec)?, &data.hub()?).await?;
    let stop = Stop::listen()?;
    let local = resolved.local.clone();
    let value = compute(move || measure(&local, reweigh, &devices, &Watch::new(stop))).await?;
    show(as_json, &value, || text(&resolved.spec.name, &value));
    Ok(())
}

fn measure(spec: &Spec, rounds: Option<usize>, devices: &[Device], watch: &Watch) -> anyhow::Result<Value> {
    memory::check(spec, devices)?;
    let problem = Problem::load(spec, DType::F32, devices)?;
    let (target, writer) = (&problem.target, problem.writer()?);
    let cancelled = || watch.pass();
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let folder = folder.path();
    let scorer = problem.scorer(folder, &cancelled);
    let rows = spec.policy.prompts_per_step * spec.policy.group_size;
    watch.begin(format!("drawing {rows} rollouts"), writer.generator.passes(rows));
    let started = Instant::now();
    let examples = problem.first_draw(&cancelled)?;
    let draw_s = started.elapsed().as_secs_f64();
    watch.begin("scoring them", 2 * target.passes(rows));
    let started = Instant::now();
    let rewards = scorer.score(&examples, Draw::FIRST)?.rewards;
    let score_s = started.elapsed().as_secs_f64();
    watch.begin(
        "comparing precisions and halves",
        4 * 2 * target.passes(rows.min(32)) + 3 * target.passes(rows),
    );
    let precisions = [MatmulPrecision::F32, MatmulPrecision::Tf32, MatmulPrecision::Bf16];
    let [f32, tf32, bf16] = problem.reward_errors(&examples, precisions, &cancelled)?;
    let backend = backend_of(&devices[0]);
    let imitated = precisions.iter().any(|precision| !backend.precisions().contains(precision));
    let signal = scorer.signal(&examples, &problem.held_out.helpful(&spec.metric), &rewards)?;
    let reweighed = rounds
        .map(|rounds| {
            watch.begin("reweighing", 2 * (rounds + 1) * target.passes(rows));
            scorer.reweigh(&examples, rounds)
        })
        .transpose()?;

    let encoded = target.encode(&examples)?;
    let tokens: usize = encoded.iter().map(|example| example.tokens.len()).sum();
    let batches = target.batches(&(0..encoded.len()).collect::<Vec<_>>(), Draw::FIRST);
    let sft = target.sft(&encoded, &[], &batches, &cancelled);
    let storage = Storage::fitting(&sft, folder);
    let bytes = storage.bytes(&sft);
    // the policy's update reads every rollout forwards and backwards, about what drawing it costs
    let step_s = 2.0 * draw_s + score_s;
    Ok(json!({
        "device": backend.remark(),
        "recipe": recipe(spec)?,
        "target_parameters": target.model.lm.layout().len(),
        "generator_parameters": writer.generator.about().parameters,
        "steps": spec.policy.steps,
        "rollouts_per_step": examples.len(),
        "target_tokens_per_step": tokens,
        "inner_steps": batches.len(),
        "inner_run_vector_bytes": bytes.vectors,
        "inner_run_pass_bytes": bytes.pass,
        "inner_run_spilled_bytes": bytes.spilled,
        "inner_run_segment": storage.segment,
        "training_prompts": writer.training.len(),
        "validation_prompts": writer.validation.len(),
        "estimated_seconds": step_s * spec.policy.steps as f64,
        "seconds_per_step": step_s,
        "reward_errors": { "f32": f32, "tf32": tf32, "bf16": bf16, "imitated": imitated },
        "signal": signal,
        "advice": signal.advice(),
        "reweighed": reweighed,
    }))
}

fn text(name: &str, value: &Value) -> String {
    let number = |key: &str| value[key].as_f64().unwrap_or(f64::NAN);
    let signal = |key: &str| value["signal"][key].as_f64().unwrap_or(f64::NAN);
    let error = |key: &str| value["reward_errors"][key].as_f64().unwrap_or(f64::NAN);
    let imitated = if value["reward_errors"]["imitated"] == true { " (both imitated)" } else { "" };
    let verdict = value["advice"].as_str().map_or_else(
        || "the rewards tell good examples from bad ones".to_owned(),
        |advice| format!("WARNING: {advice}"),
    );
    let separability = value["signal"]["separability"].as_f64().map_or(String::new(), |area| {
        format!("\n             AUC {area:.2} of held-out texts against the generator's, by reward")
    });
    let saturation = value["signal"]["saturation"]
        .as_f64()
        .map_or(String::new(), |ratio| format!(", {ratio:.1} times sqrt(eps_root) + eps"));
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
    let recipe: Vec<_> = value["recipe"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let recipe = recipe.join("\n             ");
    let spilled = value["inner_run_segment"].as_u64().map_or(String::new(), |steps| {
        format!(" in segments of {steps} steps and {:.1} MB on disk", number("inner_run_spilled_bytes") / 1e6)
    });
    format!(
        "`{name}` is valid; nothing was started\n\
         target       {} parameters\n\
         generator    {} parameters, {} prompts to train on and {} to validate on\n\
         device       {}\n\
         recipe       {recipe}\n\
         a step       {} rollouts, {} target tokens, inner steps: {}\n             {:.1} MB of weights, moments and gradients{spilled}, {:.1} MB for a pass\n\
         the run      {} steps of about {:.1} s: {:.1} minutes\n\
         rewards      off by {:.1e} in f32, their precision, against f64; in tf32 {:.1e}, in bf16 {:.1e}{imitated}\n\
         signal       Phi {:.6} as it is, {:.6} after the better half by reward, {:.6} after the worse{separability}\n             gradient {:.1e}, root mean square where the metric looks{saturation}\n             {verdict}{reweighed}",
        number("target_parameters"),
        number("generator_parameters"),
        number("training_prompts"),
        number("validation_prompts"),
        value["device"].as_str().unwrap_or(""),
        number("rollouts_per_step"),
        number("target_tokens_per_step"),
        number("inner_steps"),
        number("inner_run_vector_bytes") / 1e6,
        number("inner_run_pass_bytes") / 1e6,
        number("steps"),
        number("seconds_per_step"),
        number("estimated_seconds") / 60.0,
        error("f32"),
        error("tf32"),
        error("bf16"),
        signal("untrained"),
        signal("better_half"),
        signal("worse_half"),
        signal("gradient"),
    )
}
