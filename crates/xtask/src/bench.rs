//! `cargo xtask bench`: the engine beside the limit that its matrix products set and beside JAX
//! (benches/peers), measured in turn, as a Markdown table and as JSON.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, anyhow};
use benches::{Engine, Parts, Run, Shape, measure_parts, measure_run, peak_memory};
use burn::tensor::Device;
use serde_json::{Map, Value, json};

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// tiny, small or medium.
    #[arg(long, default_value = "small")]
    shape: String,
    /// Rounds, of which the median counts; half of them at T = 8, one at T = 16.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Also write the figures here.
    #[arg(long)]
    json: Option<PathBuf>,
    /// A Python with JAX; without one the peers are left out.
    #[arg(long, default_value = "python3", env = "DPG_BENCH_PYTHON")]
    python: String,
}

pub(crate) fn bench(arguments: &Arguments) -> Result<()> {
    let shape = Shape::named(&arguments.shape).ok_or_else(|| {
        let names: Vec<&str> = Shape::ALL.iter().map(|shape| shape.name).collect();
        anyhow!("no shape is called `{}`; there are: {}", arguments.shape, names.join(", "))
    })?;
    dpg_models::keep_freed_memory();
    eprintln!("starting JAX");
    let mut jax = Jax::start(&shape, &arguments.python)
        .inspect_err(|error| eprintln!("the JAX peers are left out: {error:#}"))
        .ok();
    let engine = Engine::new(shape, &Device::flex());
    let rounds = arguments.rounds.max(1);
    let parts = measure_parts(&engine, rounds);
    engine.metagradient(2); // warms up
    let mut peer = |kind: &str, steps| jax.as_mut().and_then(|jax| jax.seconds(kind, steps).ok());
    let runs = [
        measure_run(&engine, 1, rounds, &mut peer),
        measure_run(&engine, 8, rounds.div_ceil(2), &mut peer),
        measure_run(&engine, 16, 1, &mut |_, _| None),
    ];
    let ratios = ratios(&parts, &runs);
    let table = table(&shape, &parts, &runs, &ratios);
    print!("{table}");
    if let Some(path) = &arguments.json {
        let value = json!({
            "shape": shape,
            "threads": threads(),
            "jax": jax.map(|jax| jax.about.clone()),
            "parts": parts,
            "runs": runs,
            "peak_memory": peak_memory(),
            "ratios": ratios,
        });
        std::fs::write(path, serde_json::to_string_pretty(&value)? + "\n")
            .with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    Ok(())
}

/// The JAX peers, a process that is asked for one run at a time.
struct Jax {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    about: Value,
}

impl Jax {
    fn start(shape: &Shape, python: &str) -> Result<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../benches/peers/jax_peer.py");
        let mut process = Command::new(python)
            .arg(script)
            .arg(serde_json::to_string(shape)?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start `{python}`"))?;
        let input = process.stdin.take().context("its input is a pipe")?;
        let output = BufReader::new(process.stdout.take().context("its output is a pipe")?);
        let mut jax = Self { process, input, output, about: Value::Null };
        jax.about = serde_json::from_str(&jax.line()?)?;
        Ok(jax)
    }

    fn seconds(&mut self, kind: &str, steps: usize) -> Result<f64> {
        writeln!(self.input, "{kind} {steps}")?;
        Ok(self.line()?.trim().parse()?)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            return Err(anyhow!("it ended; its message is above"));
        }
        Ok(line)
    }
}

impl Drop for Jax {
    fn drop(&mut self) {
        // it holds nothing that is worth saving
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn ratios(parts: &Parts, runs: &[Run; 3]) -> Map<String, Value> {
    let mut ratios = Map::new();
    let mut add = |name: &str, ratio: f64| ratios.insert(name.into(), json!(ratio));
    for run in runs {
        add(&format!("metagradient_over_plain_t{}", run.steps), run.metagradient / run.plain);
    }
    let [_, eight, _] = runs;
    // by count the fused pass is 8 forward passes, and a step of plain fine-tuning 3
    add("fused_pass_over_gemm_limit", parts.fused_pass / (8.0 * parts.forward_products));
    add("plain_step_over_gemm_limit", eight.plain / (8.0 * 3.0 * parts.forward_products));
    if let (Some(plain), Some(best), Some(naive)) = (eight.jax_plain, eight.jax_best, eight.jax_naive) {
        add("best_jax_over_ours_t8", best / eight.metagradient);
        add("naive_jax_over_ours_t8", naive / eight.metagradient);
        add("jax_sft_over_ours", plain / eight.plain);
    }
    ratios
}

fn table(shape: &Shape, parts: &Parts, runs: &[Run; 3], ratios: &Map<String, Value>) -> String {
    let ms = |seconds: f64| format!("{:.0} ms", seconds * 1e3);
    let peer = |seconds: Option<f64>| seconds.map_or("-".into(), ms);
    let limit = |passes: f64| ms(passes * parts.forward_products);
    let mut text = format!(
        "GPT-2 shape `{}`: {} x {}, vocabulary {}, {} x {} tokens a step, f32, {} threads; one forward pass {:.1} \
         GFLOP at {:.0} GFLOP/s\n\n| | ours | matrix products alone | JAX, best | JAX, as usually written |\n\
         |---|--:|--:|--:|--:|\n",
        shape.name,
        shape.layers,
        shape.hidden,
        shape.vocab,
        shape.batch,
        shape.sequence,
        threads(),
        shape.forward_operations() / 1e9,
        shape.forward_operations() / parts.forward_products / 1e9,
    );
    let mut row = |name: &str, ours: String, limit: String, best: String, naive: String| {
        text += &format!("| {name} | {ours} | {limit} | {best} | {naive} |\n");
    };
    let none = || String::from("-");
    row("dual forward", ms(parts.dual_forward), limit(3.0), none(), none());
    row("fused dual forward and backward", ms(parts.fused_pass), limit(8.0), none(), none());
    for run in runs {
        let (steps, t) = (run.steps, run.steps as f64);
        row(&format!("fine-tuning, T = {steps}"), ms(run.plain), limit(3.0 * t), peer(run.jax_plain), none());
        let passes = 3.0 * t + 8.0 * (t - 1.0) + 3.0;
        row(
            &format!("metagradient run, T = {steps}"),
            ms(run.metagradient),
            limit(passes),
            peer(run.jax_best),
            peer(run.jax_naive),
        );
    }
    row("policy update", ms(parts.policy_update), none(), none(), none());
    row("sampling", format!("{:.0} tokens/s", parts.sampled_tokens_per_second), none(), none(), none());
    row("peak memory", format!("{:.0} MB", peak_memory() as f64 / 1e6), none(), none(), none());
    text += "\n| ratio | |\n|---|--:|\n";
    for (name, ratio) in ratios {
        text += &format!("| {name} | {:.2} |\n", ratio.as_f64().unwrap_or(f64::NAN));
    }
    text
}
