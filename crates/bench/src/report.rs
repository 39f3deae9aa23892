//! All figures of one shape on one device.

use burn::tensor::Device;
use dpg_models::device::KernelTime;
use serde_json::{Map, Value, json};

use crate::{
    Engine, Parts, Run, Shape, measure::progress, measure_parts, measure_run, peak_memory, peer::Process,
};

/// What was measured.
pub struct Report {
    shape: Shape,
    device: String,
    /// What it is compared with.
    peer: Option<Value>,
    parts: Parts,
    runs: Vec<Run>,
    peak_memory: u64,
    device_memory: Option<u64>,
    kernels: Vec<KernelTime>,
}

impl Report {
    /// Measures at most `rounds` rounds, of which the median counts. `name` is the device's. Without JAX in
    /// `python`, or PyTorch and transformers for a Llama, the peers are left out.
    pub fn measure(shape: Shape, name: &str, device: &Device, rounds: usize, python: &str) -> Self {
        progress("starting the peer");
        let mut process = Process::start(&shape, python)
            .inspect_err(|error| progress(&format!("the peer is left out: `{python}`: {error}")))
            .ok();
        let mut peer = |kind: &str, count| process.as_mut().and_then(|peer| peer.seconds(kind, count).ok());
        let engine = Engine::new(shape, device);
        let rounds = rounds.max(1);
        let parts = measure_parts(&engine, rounds, &mut peer);
        // warms up, and takes all the memory that will be needed
        engine.metagradient(shape.steps().iter().copied().max().unwrap_or(1));
        let runs =
            shape.steps().iter().map(|&steps| measure_run(&engine, steps, rounds, &mut peer)).collect();
        let peer = process.map(|peer| peer.about.clone());
        Self {
            shape,
            device: name.into(),
            peer,
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
            "peer": self.peer,
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
        let Some(middle) = runs.get(runs.len() / 2) else { return ratios };
        let steps = middle.steps as f64;
        // by count the fused pass is 8 forward passes, and a step of plain fine-tuning 3
        add("fused_pass_over_gemm_limit", parts.fused_pass / (8.0 * parts.forward_products));
        add("plain_step_over_gemm_limit", middle.plain / (steps * 3.0 * parts.forward_products));
        let products = Engine::STEP_PASSES * parts.forward_products;
        add("dpg_step_outside_products", 1.0 - products / parts.step);
        let peers = [
            ("best_peer_over_ours", middle.peer_best, middle.metagradient),
            ("naive_peer_over_ours", middle.peer_naive, middle.metagradient),
            ("peer_sft_over_ours", middle.peer_plain, middle.plain),
        ];
        for (name, peer, ours) in peers {
            if let Some(peer) = peer {
                add(&format!("{name}_t{}", middle.steps), peer / ours);
            }
        }
        if let Some(peer) = parts.peer_sampled_tokens_per_second {
            add("sampling_over_peers", parts.sampled_tokens_per_second / peer);
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
        let peer_name = self.peer.as_ref().and_then(|peer| peer["name"].as_str()).unwrap_or("peer");
        let mut text = format!(
            "Shape `{}`: {} x {}, vocabulary {}, {} x {} tokens a step, f32 on {}, {} threads; one forward pass {:.1} \
         GFLOP at {:.0} GFLOP/s\n\n| | ours | matrix products alone | {peer_name}, best | {peer_name}, as usually written |\n\
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
                peer(run.peer_plain),
                none(),
            );
            let passes = 3.0 * t + 8.0 * (t - 1.0) + 3.0;
            row(
                &format!("metagradient run, T = {steps}"),
                ms(run.metagradient),
                limit(passes),
                peer(run.peer_best),
                peer(run.peer_naive),
            );
        }
        row("policy update", ms(parts.policy_update), none(), none(), none());
        let speed = |tokens: f64| format!("{tokens:.0} tokens/s");
        let sampled = parts.peer_sampled_tokens_per_second.map_or_else(none, speed);
        row("sampling", speed(parts.sampled_tokens_per_second), none(), sampled, none());
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
