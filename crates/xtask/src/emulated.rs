//! `cargo xtask emulated`: the backends of GPUs on a machine without one. WebGPU runs on a Vulkan driver that is a
//! program (Mesa's lavapipe), CUDA on a fake driver (tests/fakecuda).

mod counts;
mod machine;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
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
    /// Count alone, and write the counts here, as Markdown.
    #[arg(long)]
    report: Option<PathBuf>,
}

/// Metagradient runs whose kernels are all compiled and counted, and what they may take at most.
const BOUNDS: [Bound; 2] = [
    Bound { shape: "large", steps: 16, launches: 70_000, gigabytes: 30.0 },
    Bound { shape: "smollm2", steps: 2, launches: 20_000, gigabytes: 9.0 },
];
const QUICK: [Bound; 1] = [Bound { shape: "large", steps: 2, launches: 7_000, gigabytes: 20.0 }];

/// A device of an emulated machine.
struct Card {
    title: &'static str,
    device: &'static str,
    variables: &'static [(&'static str, &'static str)],
}

const WEBGPU: Card = Card { title: "WebGPU", device: "wgpu:0", variables: &[] };
const CUDA: Card = Card { title: "CUDA", device: "cuda:0", variables: &[FILLED] };
const TWO: Card = Card {
    title: "CUDA, two older cards",
    device: "cuda:0,cuda:1",
    variables: &[FILLED, ("FAKECUDA_SM", "80"), ("FAKECUDA_DEVICES", "2")],
};
/// What a kernel reads before it was written is no number.
const FILLED: (&str, &str) = ("FAKECUDA_FILL", "1");

/// What takes two minutes on the fake driver.
const SHORTER: [(&str, i64); 9] = [
    ("target.sft.batch_size", 4),
    ("target.sft.sequence_length", 48),
    ("metric.data.limit", 4),
    ("generator.max_new_tokens", 8),
    ("policy.steps", 1),
    ("policy.prompts_per_step", 2),
    ("policy.group_size", 2),
    ("policy.validation_examples", 2),
    ("output.examples", 4),
];

fn shorter(spec: &str) -> Result<String> {
    let mut spec: toml::Table = spec.parse()?;
    for (key, value) in SHORTER {
        let (tables, key) = key.rsplit_once('.').context("a key in a table")?;
        let mut table = &mut spec;
        for name in tables.split('.') {
            table = table.get_mut(name).and_then(toml::Value::as_table_mut).context("a table of the spec")?;
        }
        table.insert(key.into(), value.into());
    }
    Ok(toml::to_string(&spec)?)
}

pub(crate) fn emulated(arguments: &Arguments) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    let machine = Machine::new(&root, arguments.binary.as_deref())?;
    if arguments.report.is_none() {
        compute(&machine, &root, arguments.quick)?;
    }
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
        fs::write(path, report(&counted, assembled))?;
    }
    Ok(())
}

/// Runs kernels: rewards against f64, and a run from drawing to publishing.
fn compute(machine: &Machine, root: &Path, quick: bool) -> Result<()> {
    machine.instructions(root)?;
    let some: &[&str] = &["--metric", "held_out_loss"];
    for (card, kinds) in [(WEBGPU, if quick { some } else { &[] }), (CUDA, &[]), (TWO, some)] {
        let rewards = [&["conformance", "--device", card.device], kinds].concat();
        machine.dpg(&format!("{}: rewards", card.title), card.variables, &rewards)?;
    }
    let refused = [FILLED, ("FAKECUDA_REFUSE", "150")];
    let rewards = [&["conformance", "--device", CUDA.device], some].concat();
    machine.fails("CUDA: a product that cuBLAS refuses", &refused, &rewards, "cuBLAS answers")?;
    let folder = tempfile::tempdir()?;
    let spec = folder.path().join("short.toml");
    let short = fs::read_to_string(root.join("deploy/cuda/short.toml"))?;
    fs::write(&spec, if quick { shorter(&short)? } else { short })?;
    let spec = spec.to_str().context("the temporary folder's path is not text")?;
    for card in [WEBGPU, if quick { TWO } else { CUDA }] {
        machine.dpg(
            &format!("{}: a run", card.title),
            card.variables,
            &["run", spec, "--device", card.device],
        )?;
    }
    let generator = root.join("config/embedded/generator");
    let generator = generator.to_str().context("the project's path is not text")?;
    let few = ["--examples", "2", "--max-new-tokens", "8"];
    for card in [WEBGPU, CUDA] {
        let draw = [&["generate", generator, "--device", card.device], &few[..]].concat();
        machine.dpg(&format!("{}: examples", card.title), card.variables, &draw)?;
    }
    Ok(())
}
