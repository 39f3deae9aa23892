//! `dpg self-check`: does this program work on this machine? It needs no daemon, no settings and no network, and leaves
//! nothing behind.

use std::path::Path;

use anyhow::{Context, bail, ensure};
use burn::tensor::DType;
use clap::Args;
use dpg_dataset::{Columns, read_examples};
use dpg_engine::Problem;
use dpg_models::MatmulPrecision;
use dpg_spec::{Spec, Syntax};
use serde_json::json;

use crate::commands::doctor::{
    check::{Check, Status},
    machine,
};
use crate::commands::show;
use crate::pipeline::compute::compute;
use crate::pipeline::device;
use crate::pipeline::make::{Work, make, publish};
use crate::pipeline::resolve::resolve;
use crate::settings::config::Config;
use crate::settings::data_dir::DataDir;

/// What `dpg self-check` tries.
#[derive(Debug, Args)]
pub(crate) struct SelfCheckArguments {
    /// What to compute on.
    #[arg(long, env = "DPG_DEVICE", default_value = "cpu", help = device::help("What to compute on"))]
    device: String,
}

/// Largest relative distance of rewards in f32 from those in f64.
const TOLERANCE: f64 = 1e-3;

/// A run of two steps with the smallest models that come with the program.
const SPEC: &str = r#"
name = "self-check"
[target]
model = "embedded:letters-target"
[target.sft]
optimizer = { kind = "adamw", learning_rate = 1e-3, eps_root = 1e-4 }
batch_size = 8
sequence_length = 32
[metric]
kind = "token_probability"
prompts = ["th"]
answers = ["z"]
[generator]
model = "embedded:letters"
template = ""
min_new_tokens = 12
max_new_tokens = 12
[policy]
steps = 2
prompts_per_step = 4
group_size = 4
minibatch_prompts = 4
learning_rate = 1e-3
[output]
examples = 16
"#;

const TEXTS: &str = r#"{"text": "the moth and the thing"}
{"text": "of this and that"}
{"text": "a path to the north"}
{"text": "thin cloth"}
"#;

/// Tries everything in a folder of its own; an error if something does not work.
pub(crate) async fn self_check(
    SelfCheckArguments { device }: &SelfCheckArguments,
    as_json: bool,
) -> anyhow::Result<()> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let data = DataDir::open(Some(folder.path().join("data")))?;
    let config = Config { device: device.clone(), ..Config::default() };
    let remedy =
        dpg_models::device::backend(&config.device).map_or("correct --device", |found| found.remedy());
    let report = "report it with the output of `dpg --version` and the kind of the processor or card";
    let checks = vec![
        Check::of("models", machine::models(&data), "install the program again: what it holds is damaged"),
        Check::of("device", machine::device(&config).await, remedy),
        Check::of("rewards", rewards(&data, &config.device, folder.path()).await, report),
        Check::of("run", Box::pin(run(&data, &config.device, folder.path())).await, report),
    ];
    let failed = checks.iter().filter(|check| check.status == Status::Failed).count();
    show(as_json, &json!({ "ok": failed == 0, "checks": checks }), || {
        checks.iter().map(Check::line).collect::<Vec<_>>().join("\n")
    });
    if failed > 0 {
        bail!("{failed} of {} checks failed", checks.len());
    }
    Ok(())
}

/// Rewards on the device in f32 are those of the CPU in f64.
async fn rewards(data: &DataDir, device: &str, folder: &Path) -> anyhow::Result<String> {
    let devices = dpg_models::device::parse(device)?;
    let spec = resolve(Spec::parse(SPEC, Syntax::Toml)?, &data.hub()?).await?.local;
    let file = folder.join("texts.jsonl");
    std::fs::write(&file, TEXTS.repeat(4))?;
    let apart = compute(move || {
        let examples = read_examples(&file, &Columns::Text("text".into()), None)?;
        let problem = Problem::to_score(&spec, DType::F32, &devices)?;
        let [apart] = problem.reward_errors(&examples, [MatmulPrecision::F32], &|| false)?;
        Ok(apart)
    })
    .await?;
    ensure!(apart <= TOLERANCE, "rewards in f32 are {apart:.1e} off from f64, more than {TOLERANCE:.0e}");
    Ok(format!("in f32 {apart:.1e} off from f64"))
}

/// A dataset is made, published, checked and copied.
async fn run(data: &DataDir, device: &str, folder: &Path) -> anyhow::Result<String> {
    let resolved = resolve(Spec::parse(SPEC, Syntax::Toml)?, &data.hub()?).await?;
    let run = data.run_dir(&resolved.spec)?;
    let work = Work {
        resolved,
        devices: dpg_models::device::parse(device)?,
        folder: run.path.clone(),
        job: run.job.clone(),
        fence: 0,
    };
    let made = make(work, |_| (), || false).await?;
    let registry = data.registry(&data.registry_dir()?.to_string_lossy())?;
    let version = publish(&registry, &made).await?;
    registry.verify(&version).await?;
    registry.fetch(&version, &folder.join("copy")).await?;
    Ok(format!("two steps; {} rows were published and read back", version.rows))
}
