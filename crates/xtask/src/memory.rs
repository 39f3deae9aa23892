//! `cargo xtask memory`: a metagradient run in bounded memory, its peak by formula beside the peak
//! measured.

use std::path::PathBuf;
use std::time::Instant;

use benches::{Engine, Shape, peak_memory};
use burn::tensor::Device;
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
    dpg_models::keep_freed_memory();
    let engine = Engine::new(shape, &Device::flex());
    let vector = engine.parameters() as u64 * 4;
    let folder = arguments.spill.clone().unwrap_or_else(std::env::temp_dir);
    let steps = arguments.steps;
    let storage = Storage::within((arguments.gigabytes * 1e9) as u64, steps, vector, 2, &folder);
    let (by_formula, on_disk) = storage.bytes(steps, vector, 2);
    let gb = |bytes: u64| bytes as f64 / 1e9;
    let segment = storage.segment.map_or("all kept".into(), |steps| format!("segments of {steps}"));
    println!(
        "{:.1} M parameters, one vector {:.3} GB; T = {steps}, {segment}",
        vector as f64 / 4e6,
        gb(vector)
    );
    println!("by formula   {:.2} GB in memory and {:.2} GB on disk", gb(by_formula), gb(on_disk));
    println!("before       {:.2} GB", gb(peak_memory()));
    let start = Instant::now();
    engine.metagradient_within(steps, &storage);
    println!("peak         {:.2} GB after {:.0} s", gb(peak_memory()), start.elapsed().as_secs_f64());
}
