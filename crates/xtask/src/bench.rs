//! `cargo xtask bench`: the engine beside the limit that its matrix products set and beside JAX
//! (benches/peers), all measured in one run, as a Markdown table and as JSON.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow};
use benches::{Measured, Shape, measure};
use burn::tensor::Device;
use serde_json::{Map, Value, json};

/// T of the runs; the peers are measured at the first two.
const STEPS: [usize; 3] = [1, 8, 16];

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// tiny, small or medium.
    #[arg(long, default_value = "small")]
    shape: String,
    /// Rounds, of which the median counts.
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
    let peers =
        peers(&shape, arguments).inspect_err(|error| eprintln!("the JAX peers are left out: {error:#}")).ok();
    let ours = measure(&shape, &Device::flex(), &STEPS, arguments.rounds);
    let ratios = ratios(&ours, peers.as_ref());
    print!("{}", table(&shape, &ours, peers.as_ref(), &ratios));
    if let Some(path) = &arguments.json {
        let value = json!({
            "shape": shape,
            "threads": threads(),
            "ours": ours,
            "jax": peers,
            "ratios": ratios,
        });
        std::fs::write(path, serde_json::to_string_pretty(&value)? + "\n")
            .with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    Ok(())
}

/// Runs the JAX peers at T = 1 and 8.
fn peers(shape: &Shape, arguments: &Arguments) -> Result<Value> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../benches/peers/jax_peer.py");
    let mut settings = serde_json::to_value(shape)?;
    settings["steps"] = json!(&STEPS[..2]);
    let output = Command::new(&arguments.python)
        .arg(script)
        .args([settings.to_string(), arguments.rounds.to_string()])
        .output()
        .with_context(|| format!("cannot start `{}`", arguments.python))?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        return Err(anyhow!("{}", error.lines().last().unwrap_or("it failed").to_owned()));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn at(times: &[(usize, f64)], steps: usize) -> f64 {
    times.iter().find(|(t, _)| *t == steps).map_or(f64::NAN, |(_, seconds)| *seconds)
}

fn ratios(ours: &Measured, peers: Option<&Value>) -> Map<String, Value> {
    let over_plain = |steps| at(&ours.metagradient, steps) / at(&ours.plain, steps);
    let mut ratios = Map::new();
    let mut add = |name: &str, ratio: f64| ratios.insert(name.into(), json!(ratio));
    add("metagradient_over_plain_t1", over_plain(1));
    add("metagradient_over_plain_t8", over_plain(8));
    add("metagradient_over_plain_t16", over_plain(16));
    // by count the fused pass is 8 forward passes
    add("fused_pass_over_gemm_limit", ours.fused_pass / (8.0 * ours.forward_products));
    add("plain_step_over_gemm_limit", at(&ours.plain, 8) / (8.0 * 3.0 * ours.forward_products));
    if let Some(peers) = peers {
        let jax = |name: &str| peers[name].as_f64().unwrap_or(f64::NAN);
        add("best_jax_over_ours_t8", jax("best_t8") / at(&ours.metagradient, 8));
        add("naive_jax_over_ours_t8", jax("naive_t8") / at(&ours.metagradient, 8));
        add("jax_sft_over_ours", jax("plain_t8") / at(&ours.plain, 8));
    }
    ratios
}

fn table(shape: &Shape, ours: &Measured, peers: Option<&Value>, ratios: &Map<String, Value>) -> String {
    let ms = |seconds: f64| if seconds.is_nan() { "-".into() } else { format!("{:.0} ms", seconds * 1e3) };
    let jax = |name: &str| ms(peers.and_then(|peers| peers[name].as_f64()).unwrap_or(f64::NAN));
    let limit = |passes: f64| ms(passes * ours.forward_products);
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
        shape.forward_operations() / ours.forward_products / 1e9,
    );
    let mut row = |name: &str, ours: String, limit: String, best: String, naive: String| {
        text += &format!("| {name} | {ours} | {limit} | {best} | {naive} |\n");
    };
    let none = || String::from("-");
    row("dual forward", ms(ours.dual_forward), limit(3.0), none(), none());
    row("fused dual forward and backward", ms(ours.fused_pass), limit(8.0), none(), none());
    for steps in STEPS {
        let t = steps as f64;
        let plain = at(&ours.plain, steps);
        row(
            &format!("fine-tuning, T = {steps}"),
            ms(plain),
            limit(3.0 * t),
            jax(&format!("plain_t{steps}")),
            none(),
        );
        row(
            &format!("metagradient run, T = {steps}"),
            ms(at(&ours.metagradient, steps)),
            limit(3.0 * t + 8.0 * (t - 1.0) + 3.0),
            jax(&format!("best_t{steps}")),
            jax(&format!("naive_t{steps}")),
        );
    }
    row("policy update", ms(ours.policy_update), none(), none(), none());
    text += &format!(
        "\nsampling {:.0} tokens/s; peak memory {:.0} MB\n\n",
        ours.sampled_tokens_per_second,
        ours.peak_memory as f64 / 1e6
    );
    for (name, ratio) in ratios {
        text += &format!("{name} {:.2}\n", ratio.as_f64().unwrap_or(f64::NAN));
    }
    text
}
