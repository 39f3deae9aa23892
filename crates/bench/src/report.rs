//! All figures of one shape on one device.

use burn::tensor::Device;
use dpg_models::device::KernelTime;
use serde_json::{Map, Value, json};

use crate::{
    Engine, Parts, Run, Shape, measure::progress, measure_parts, measure_run, peak_memory, peer::Jax,
};

/// What was measured.
pub struct Report {
    shape: Shape,
    device: String,
    jax: Option<Value>,
    parts: Parts,
    runs: [Run; 3],
    peak_memory: u64,
    device_memory: Option<u64>,
    kernels: Vec<KernelTime>,
}

impl Report {
    /// Measures at most `rounds` rounds, of which the median counts. `name` is the device's. Without JAX in
    /// `python` the peers are left out.
    pub fn measure(shape: Shape, name: &str, device: &Device, rounds: usize, python: &str) -> Self {
        progress("starting JAX");
        let mut jax = Jax::start(&shape, python)
            .inspect_err(|error| progress(&format!("the JAX peers are left out: `{python}`: {error}")))
            .ok();
        let engine = Engine::new(shape, device);
        let rounds = rounds.max(1);
        let parts = measure_parts(&engine, rounds);
        engine.metagradient(16); // warms up, and takes all the memory that will be needed
        let mut peer = |kind: &str, steps| jax.as_mut().and_then(|jax| jax.seconds(kind, steps).ok());
        let runs = [
            measure_run(&engine, 1, rounds, &mut peer),
            measure_run(&engine, 8, rounds, &mut peer),
            measure_run(&engine, 16, rounds, &mut peer),
        ];
        let jax = jax.map(|jax| jax.about.clone());
        Self {
            shape,
            device: name.into(),
            jax,
            parts,
            runs,
            peak_memory: peak_memory(),
            // pools keep what they took
            device_memory: device.memory_pool_usage().map(|usage| usage.bytes_reserved),
            kernels: engine.kernels(),
        }
    }

    /// The figures as JSON.
    pub fn value(&self) -> Value {
        json!({
            "shape": self.shape,
            "device": self.device,
            "threads": threads(),
            "jax": self.jax,
            "parts": self.parts,
            "runs": self.runs,
            "peak_memory": self.peak_memory,
            "device_memory": self.device_memory,
            "kernels": self.kernels,
            "ratios": self.ratios(),
        })
    }

    /// Ratios by name.
    fn ratios(&self) -> Map<String, Value> {
        let (parts, runs) = (&self.parts, &self.runs);
        let mut ratios = Map::new();
        let mut add = |name: &str, ratio: f64| ratios.insert(name.into(), json!(ratio));
        for run in runs {
            add(&format!("metagradient_over_plain_t{}", run.steps), run.ratio);
        }
        let [_, eight, _] = runs;
        // by count the fused pass is 8 forward passes, and a step of plain fine-tuning 3
        add("fused_pass_over_gemm_limit", parts.fused_pass / (8.0 * parts.forward_products));
        add("plain_step_over_gemm_limit", eight.plain / (8.0 * 3.0 * parts.forward_products));
        let products = Engine::STEP_PASSES * parts.forward_products;
        add("dpg_step_outside_products", 1.0 - products / parts.step);
        if let (Some(plain), Some(best), Some(naive)) = (eight.jax_plain, eight.jax_best, eight.jax_naive) {
            add("best_jax_over_ours_t8", best / eight.metagradient);
            add("naive_jax_over_ours_t8", naive / eight.metagradient);
            add("jax_sft_over_ours", plain / eight.plain);
        }
        ratios
    }

    /// The figures as Markdown tables.
    pub fn table(&self) -> String {
        let Self { shape, parts, runs, .. } = self;
        let ms = |seconds: f64| match seconds * 1e3 {
            few @ 0.0..10.0 => format!("{few:.2} ms"),
            many => format!("{many:.0} ms"),
        };
        let peer = |seconds: Option<f64>| seconds.map_or("-".into(), ms);
        let limit = |passes: f64| ms(passes * parts.forward_products);
        let mut text = format!(
            "GPT-2 shape `{}`: {} x {}, vocabulary {}, {} x {} tokens a step, f32 on {}, {} threads; one forward pass {:.1} \
         GFLOP at {:.0} GFLOP/s\n\n| | ours | matrix products alone | JAX, best | JAX, as usually written |\n\
         |---|--:|--:|--:|--:|\n",
            shape.name,
            shape.layers,
            shape.hidden,
            shape.vocab,
            shape.batch,
            shape.sequence,
            self.device,
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
            row(
                &format!("fine-tuning, T = {steps}"),
                ms(run.plain),
                limit(3.0 * t),
                peer(run.jax_plain),
                none(),
            );
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
        let speed = |tokens: f64| format!("{tokens:.0} tokens/s");
        row("sampling", speed(parts.sampled_tokens_per_second), none(), none(), none());
        row("sampling, groups of 4", speed(parts.grouped_tokens_per_second), none(), none(), none());
        row("a step of DPG, T = 1", ms(parts.step), limit(Engine::STEP_PASSES), none(), none());
        let megabytes = |bytes: u64| format!("{:.0} MB", bytes as f64 / 1e6);
        row("peak memory of the process", megabytes(self.peak_memory), none(), none(), none());
        if let Some(memory) = self.device_memory {
            row("memory of the device", megabytes(memory), none(), none(), none());
        }
        text += "\n| ratio | |\n|---|--:|\n";
        for (name, ratio) in self.ratios() {
            text += &format!("| {name} | {:.2} |\n", ratio.as_f64().unwrap_or(f64::NAN));
        }
        text + &self.kernel_table()
    }

    /// The longest kernels of a metagradient run of [`Engine::KERNEL_STEPS`] steps; nothing where kernels are
    /// not launched.
    fn kernel_table(&self) -> String {
        const ROWS: usize = 40;
        if self.kernels.is_empty() {
            return String::new();
        }
        let launches: usize = self.kernels.iter().map(|kernel| kernel.launches).sum();
        let seconds: f64 = self.kernels.iter().map(|kernel| kernel.seconds).sum();
        let mut text = format!(
            "\n| kernel of a metagradient run, T = {} | launches | ms | share |\n|---|--:|--:|--:|\n\
             | all {} | {launches} | {:.1} | |\n",
            Engine::KERNEL_STEPS,
            self.kernels.len(),
            seconds * 1e3,
        );
        for KernelTime { name, launches, seconds: own } in self.kernels.iter().take(ROWS) {
            let share = 100.0 * own / seconds;
            text += &format!("| `{name}` | {launches} | {:.1} | {share:.1}% |\n", own * 1e3);
        }
        text
    }
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
