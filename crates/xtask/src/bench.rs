//! `cargo xtask bench`: the engine beside the limit that its matrix products set and beside JAX
//! (crates/bench/peers), measured in turn, as a Markdown table and as JSON.

use std::path::PathBuf;

use anyhow::{Context, Result};
use burn::tensor::Device;
use dpg_bench::{Report, Shape};

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// smallest, tiny, small, medium or smollm2.
    #[arg(long, default_value = "small", value_parser = Shape::parse)]
    shape: Shape,
    /// Rounds at most, of which the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Also write the figures here.
    #[arg(long)]
    json: Option<PathBuf>,
    /// A Python with JAX, and for smollm2 with PyTorch and transformers, and with llama-cpp-python; peers that it
    /// has not are left out.
    #[arg(long, default_value = "python3", env = "DPG_BENCH_PYTHON")]
    python: String,
}

pub(crate) fn bench(arguments: &Arguments) -> Result<()> {
    let report =
        Report::measure(arguments.shape, "the CPU", &Device::flex(), arguments.rounds, &arguments.python);
    print!("{}", report.table());
    if let Some(path) = &arguments.json {
        std::fs::write(path, serde_json::to_string_pretty(&report.value())? + "\n")
            .with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    Ok(())
}
