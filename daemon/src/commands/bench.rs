//! `dpg bench`: how fast the engine's parts are on a device.

use std::num::NonZeroUsize;

use clap::Args;
use dpg_bench::{Engine, Report, Shape};
use serde_json::json;

use crate::commands::show;
use crate::pipeline::compute::compute;
use crate::pipeline::device::{self, only};

/// What `dpg bench` measures.
#[derive(Debug, Args)]
pub(crate) struct BenchArguments {
    /// The device.
    #[arg(long, env = "DPG_DEVICE", default_value = "cpu", help = device::help_one("The device"))]
    device: String,
    /// smallest, tiny, small, medium, large (GPT-2, 64 x 128), short or smollm2.
    #[arg(long, default_value = "small", value_parser = Shape::parse)]
    shape: Shape,
    /// Rounds, of which the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Only make one metagradient run of so many steps, for a profiler.
    #[arg(long)]
    steps: Option<NonZeroUsize>,
    /// A Python with JAX, and for smollm2 with PyTorch and transformers, and with llama-cpp-python.
    #[arg(long, default_value = "python3", env = "DPG_BENCH_PYTHON")]
    python: String,
}

/// Measures a shape on a device, beside JAX if the Python has it.
pub(crate) async fn bench(arguments: BenchArguments, as_json: bool) -> anyhow::Result<()> {
    let BenchArguments { device, shape, rounds, steps, python } = arguments;
    let devices = dpg_models::device::parse(&device)?;
    if let Some(steps) = steps.map(NonZeroUsize::get) {
        let run = move || Ok(Engine::new(shape, only(&devices)?).metagradient(steps));
        let seconds = compute(run).await?;
        let value = json!({ "shape": shape, "device": device, "steps": steps, "seconds": seconds });
        show(as_json, &value, || format!("metagradient run, T = {steps}: {:.0} ms", seconds * 1e3));
        return Ok(());
    }
    let measure = move || Ok(Report::measure(shape, &device, only(&devices)?, rounds, &python));
    let report = compute(measure).await?;
    show(as_json, &report.value(), || report.table().trim_end().to_owned());
    Ok(())
}
