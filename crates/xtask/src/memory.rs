//! `cargo xtask memory`: a metagradient run in bounded memory, its peak by formula beside the peak
//! measured.

use std::path::PathBuf;

use burn::tensor::Device;
use dpg_bench::{Engine, Shape, peak_memory};
use dpg_metagrad::Storage;

/// What to run.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A shape of `bench`; `short` is GPT-2 on one example of 16 tokens a step.
    #[arg(long, default_value = "short", value_parser = Shape::parse)]
    shape: Shape,
    /// Steps of fine-tuning.
    #[arg(long, default_value_t = 96)]
    steps: usize,
    /// Memory that flat vectors may take, in gigabytes; activations come on top.
    #[arg(long, default_value_t = 12.0)]
    gigabytes: f64,
    /// Folder for what does not fit [default: the system's for temporary files].
    #[arg(long)]
    spill: Option<PathBuf>,
}

pub(crate) fn memory(arguments: &Arguments) {
    let shape = arguments.shape;
    let engine = Engine::new(shape, &Device::flex());
    let folder = arguments.spill.clone().unwrap_or_else(std::env::temp_dir);
    let gb = |bytes: u64| bytes as f64 / 1e9;
    let before = peak_memory();
    let seconds = engine.metagradient_within(arguments.steps, |sft| {
        let storage = Storage::within((arguments.gigabytes * 1e9) as u64, sft, &folder);
        let bytes = storage.bytes(sft);
        let kept = match (storage.segment, storage.stride) {
            (Some(steps), _) => format!("in segments of {steps}"),
            (None, Some(steps)) => format!("a state kept every {steps} steps"),
            (None, None) => "gradients and the first state kept".into(),
        };
        println!(
            "{:.1} M parameters, T = {}, {kept}\nby formula  {:.2} GB of vectors, {:.2} GB for a pass, {:.2} GB on disk",
            sft.theta.dims()[0] as f64 / 1e6,
            arguments.steps,
            gb(bytes.vectors),
            gb(bytes.pass),
            gb(bytes.spilled)
        );
        storage
    });
    println!(
        "measured    {:.2} GB before, {:.2} GB at the peak, {seconds:.0} s",
        gb(before),
        gb(peak_memory())
    );
}
