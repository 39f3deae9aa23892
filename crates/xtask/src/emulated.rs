//! `cargo xtask emulated`: the backends of GPUs on a machine without one. WebGPU runs on a Vulkan driver that is a
//! program (Mesa's lavapipe), CUDA on a fake driver (tests/fakecuda).

mod counts;
mod machine;

use std::path::{Path, PathBuf};

use anyhow::Result;
use dpg_bench::Shape;

use counts::{Bound, report};
use machine::Machine;

/// What to check.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Take this program instead of building one with CUDA and WebGPU.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Some of the rewards and a small benchmark: ten minutes instead of hours.
    #[arg(long, conflicts_with = "report")]
    quick: bool,
    /// Also write the counts here, as Markdown.
    #[arg(long)]
    report: Option<PathBuf>,
}

/// Metagradient runs whose kernels are all compiled and counted, and what they may take at most.
const BOUNDS: [Bound; 2] = [
    Bound { shape: "large", steps: 16, launches: 130_000, gigabytes: 60.0 },
    Bound { shape: "smollm2", steps: 2, launches: 40_000, gigabytes: 30.0 },
];
const QUICK: [Bound; 1] = [Bound { shape: "large", steps: 2, launches: 20_000, gigabytes: 60.0 }];

pub(crate) fn emulated(arguments: &Arguments) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    let machine = Machine::new(&root, arguments.binary.as_deref())?;
    machine.instructions(&root)?;

    let kinds: &[&str] = if arguments.quick { &["--metric", "held_out_loss"] } else { &[] };
    let rewards = |device| [&["conformance", "--device", device], kinds].concat();
    machine.dpg("WebGPU: rewards", &[], &rewards("wgpu:0"))?;
    let filled = ("FAKECUDA_FILL", "1");
    for (title, capability, device) in [
        ("CUDA, copies by TMA: rewards", "90", "cuda:0"),
        ("CUDA, no TMA: rewards", "80", "cuda:0"),
        ("CUDA, two cards: rewards", "90", "cuda:0,cuda:1"),
    ] {
        let variables = [filled, ("FAKECUDA_SM", capability), ("FAKECUDA_DEVICES", "2")];
        machine.dpg(title, &variables, &rewards(device))?;
    }

    let short = root.join("deploy/cuda/short.toml");
    let short = short.to_str().expect("a checkout's path is text");
    machine.dpg("WebGPU: a run", &[], &["run", short, "--device", "wgpu:0"])?;
    machine.dpg("CUDA: a run", &[filled], &["run", short, "--device", "cuda:0"])?;

    let mut counted = vec![];
    for bound in if arguments.quick { &QUICK[..] } else { &BOUNDS[..] } {
        let shape = Shape::parse(bound.shape).expect("a bound is for a shape that there is");
        let counts = machine.count(bound)?;
        bound.check(&counts)?;
        counted.push((shape, bound, counts));
    }
    if !arguments.quick {
        // the other paths: sampling, the update of the policy; and a card of another generation
        for capability in ["90", "80"] {
            let variables = [("FAKECUDA_MODE", "null"), ("FAKECUDA_SM", capability)];
            let arguments =
                ["bench", "--device", "cuda:0", "--shape", "medium", "--rounds", "1", "--python", "none"];
            machine.dpg("CUDA: all kernels of a benchmark", &variables, &arguments)?;
        }
    }
    let assembled = machine.assemble()?;
    println!("ptxas took {assembled} kernels");
    if let Some(path) = &arguments.report {
        std::fs::write(path, report(&counted, assembled))?;
    }
    Ok(())
}
