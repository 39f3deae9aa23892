//! `dpg plan`: what a run would do, and whether its rewards would mean anything.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::commands::{Programs, load_spec, show};
use crate::pipeline::compute::compute;
use crate::pipeline::device;
use crate::pipeline::plan::{Asked, Plan};
use crate::pipeline::resolve::resolve;
use crate::settings::config::Config;
use crate::settings::data_dir::DataDir;
use crate::settings::teachers::connect;
use crate::terminal::progress::Watch;
use crate::terminal::stop::Stop;

/// What `dpg plan` plans.
#[derive(Debug, Args)]
pub(crate) struct PlanArguments {
    /// The target spec; `-` reads it from standard input.
    spec: PathBuf,
    /// Draw and score a step, and fine-tune on its better and worse half: do rewards tell good examples from
    /// bad ones? Takes about as long as two steps.
    #[arg(long)]
    signal: bool,
    /// Draw a step and score its first rows in f64, f32, tf32 and bf16: what does precision cost the rewards?
    #[arg(long)]
    precision: bool,
    /// Optimise the weights of one step's examples themselves for so many rounds: what a generator
    /// that writes the same texts could reach at best. A round takes as long as scoring a step.
    #[arg(long, value_name = "ROUNDS")]
    reweigh: Option<usize>,
    /// What to compute on.
    #[arg(long, env = "DPG_DEVICE", default_value = "cpu", help = device::help("What to compute on"))]
    device: String,
    #[command(flatten)]
    programs: Programs,
}

/// Prints the plan of a spec, from formulas and a few small probes, and what is asked for besides.
pub(crate) async fn plan(data: &DataDir, arguments: PlanArguments, as_json: bool) -> anyhow::Result<()> {
    let PlanArguments { spec, signal, precision, reweigh, device, programs } = arguments;
    let devices = dpg_models::device::parse(&device)?;
    let mut local = resolve(load_spec(&spec, &programs, data)?, &data.hub()?).await?.local;
    connect(&mut local, &Config::in_force(data)?.teachers, None)?;
    let stop = Stop::listen()?;
    let asked = Asked { signal, precision, reweigh };
    let plan = compute(move || Plan::new(&local, asked, &devices, &Watch::new(stop))).await?;
    show(as_json, &json!(plan), || plan.to_string());
    Ok(())
}
