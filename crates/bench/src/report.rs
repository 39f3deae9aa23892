//! All figures of one shape on one device.

use burn::tensor::Device;
use dpg_models::{device::KernelTime, make_room_for};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{
    Engine, Parts, Peer, Run, Sampled, Shape,
    measure::{median, progress},
    measure_parts, measure_run, measure_sampling, peak_memory,
    peer::Process,
};

/// What was measured.
pub struct Report {
    shape: Shape,
    device: String,
    parts: Parts,
    /// Runs of each of [`Shape::steps`], without a peer or beside one after the other: each may need all memory.
    beside: Vec<Beside>,
    peak_memory: u64,
    device_memory: Option<u64>,
    kernels: Vec<KernelTime>,
}

/// Runs and samplings in turn with a peer's.
#[derive(Serialize)]
struct Beside {
    /// The peer's name, version and device.
    peer: Option<Value>,
    /// None beside a peer that only samples.
    runs: Vec<Run>,
    sampled: Option<Sampled>,
}

impl Beside {
    fn measure(engine: &Engine, rounds: usize, mut process: Option<Process>) -> Self {
        let about = process.as_ref().map(|process| process.about.clone());
        let has_runs = process.as_ref().is_none_or(|process| process.has("plain"));
        let peer: &mut Peer = &mut |kind, count| process.as_mut()?.seconds(kind, count).ok();
        let steps = if has_runs { engine.shape().steps() } else { &[] };
        Self {
            peer: about,
            runs: steps.iter().map(|&steps| measure_run(engine, steps, rounds, peer)).collect(),
            sampled: measure_sampling(engine, rounds, peer),
        }
    }

    fn name(&self) -> &str {
        self.peer.as_ref().and_then(|peer| peer["name"].as_str()).unwrap_or("no peer")
    }
}

impl Report {
    /// Measures at most `rounds` rounds, of which the median counts. `name` is the device's. Peers that `python`
    /// has not are left out: JAX, and for a Llama PyTorch with transformers, and llama.cpp.
    pub fn measure(shape: Shape, name: &str, device: &Device, rounds: usize, python: &str) -> Self {
        let engine = Engine::new(shape, device);
        let rounds = rounds.max(1);
        let parts = measure_parts(&engine, rounds);
        // takes all the memory that will be needed, which is there again for the first of those that are measured
        let warm_up = || engine.metagradient(shape.steps().iter().copied().max().unwrap_or(1));
        let mut beside = vec![];
        for (peer, script) in Process::scripts(&shape) {
            progress(&format!("beside {peer}, which starts"));
            // it may need all memory
            make_room_for(usize::MAX);
            match Process::start(&shape, python, script) {
                Ok(process) => {
                    warm_up();
                    beside.push(Beside::measure(&engine, rounds, Some(process)));
                }
                Err(error) => progress(&format!("{peer} is left out: `{python}`: {error}")),
            }
        }
        if beside.iter().all(|beside| beside.runs.is_empty()) {
            warm_up();
            beside.push(Beside::measure(&engine, rounds, None));
        }
        Self {
            shape,
            device: name.into(),
            parts,
            beside,
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
            "parts": self.parts,
            "beside": self.beside,
            "peak_memory": self.peak_memory,
            "device_memory": self.device_memory,
            "kernels": self.kernels,
            "ratios": self.ratios(),
        })
    }

    /// Our runs of one of [`Shape::steps`], by its place there.
    fn runs(&self, place: usize) -> impl Iterator<Item = &Run> {
        self.beside.iter().filter_map(move |beside| beside.runs.get(place))
    }

    /// Ratios by name.
    fn ratios(&self) -> Map<String, Value> {
        let (parts, steps) = (&self.parts, self.shape.steps());
        let mut ratios = Map::new();
        let mut add = |name: &str, ratio: f64| ratios.insert(name.into(), json!(ratio));
        for (place, steps) in steps.iter().enumerate() {
            let ratio = median(self.runs(place).map(|run| run.ratio));
            add(&format!("metagradient_over_plain_t{steps}"), ratio);
        }
        let middle = steps.len() / 2;
        let plain = median(self.runs(middle).map(|run| run.plain));
        // by count the fused pass is 8 forward passes, and a step of plain fine-tuning 3
        add("fused_pass_over_gemm_limit", parts.fused_pass / (8.0 * parts.forward_products));
        add("plain_step_over_gemm_limit", plain / (steps[middle] as f64 * 3.0 * parts.forward_products));
        let products = Engine::step_passes(&self.shape) * parts.forward_products;
        add("dpg_step_outside_products", 1.0 - products / parts.step);
        for beside in &self.beside {
            let peer = beside.name().to_lowercase().replace('.', "_");
            for run in &beside.runs {
                let kinds = [
                    ("fine_tuning", run.peer_plain, run.plain),
                    ("metagradient", run.peer_best, run.metagradient),
                    ("naive_metagradient", run.peer_naive, run.metagradient),
                ];
                for (kind, theirs, ours) in kinds {
                    if let Some(theirs) = theirs {
                        add(&format!("{peer}_over_ours_{kind}_t{}", run.steps), theirs / ours);
                    }
                }
            }
            if let Some(Sampled { tokens_per_second, peer_tokens_per_second }) = beside.sampled {
                add(&format!("sampling_over_{peer}"), tokens_per_second / peer_tokens_per_second);
            }
        }
        ratios
    }

    /// The figures as Markdown tables.
    pub fn table(&self) -> String {
        let Self { shape, parts, .. } = self;
        let ms = |seconds: f64| match seconds * 1e3 {
            few @ 0.0..10.0 => format!("{few:.2} ms"),
            many => format!("{many:.0} ms"),
        };
        let speed = |tokens: f64| format!("{tokens:.0} tokens/s");
        let limit = |passes: f64| ms(passes * parts.forward_products);
        let columns: String = self.beside.iter().map(|beside| format!(" {} |", beside.name())).collect();
        let mut text = format!(
            "Shape `{}`: {} x {}, vocabulary {}, {} x {} tokens a step, f32 on {}, {} threads; one forward pass {:.1} \
             GFLOP at {:.0} GFLOP/s\n\n| | ours | matrix products alone |{columns}\n|---|--:|--:|{}\n",
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
            "--:|".repeat(self.beside.len()),
        );
        let mut row =
            |name: &str, ours: String, limit: String, theirs: &dyn Fn(&Beside) -> Option<String>| {
                text += &format!("| {name} | {ours} | {limit} |");
                for beside in &self.beside {
                    text += &format!(" {} |", theirs(beside).unwrap_or_else(|| "-".into()));
                }
                text += "\n";
            };
        let none = || String::from("-");
        let nobody = |_: &Beside| None;
        row("dual forward", ms(parts.dual_forward), limit(3.0), &nobody);
        row("fused dual forward and backward", ms(parts.fused_pass), limit(8.0), &nobody);
        for (place, &steps) in shape.steps().iter().enumerate() {
            let t = steps as f64;
            let first = if steps == 1 { shape.traced_passes() } else { 3.0 };
            let (plain, walk) = (3.0 * t, 3.0 * t + 8.0 * (t - 1.0) + first);
            let ours = |of: fn(&Run) -> f64| ms(median(self.runs(place).map(of)));
            let theirs =
                |of: fn(&Run) -> Option<f64>| move |beside: &Beside| of(beside.runs.get(place)?).map(ms);
            let (tuning, whole) =
                (format!("fine-tuning, T = {steps}"), format!("metagradient run, T = {steps}"));
            row(&tuning, ours(|run| run.plain), limit(plain), &theirs(|run| run.peer_plain));
            row(&whole, ours(|run| run.metagradient), limit(walk), &theirs(|run| run.peer_best));
            if self.runs(place).any(|run| run.peer_naive.is_some()) {
                let name = format!("{whole}, as usually written");
                row(&name, none(), none(), &theirs(|run| run.peer_naive));
            }
        }
        row("policy update", ms(parts.policy_update), none(), &nobody);
        let sampled = |beside: &Beside| Some(speed(beside.sampled?.peer_tokens_per_second));
        row("sampling", speed(parts.sampled_tokens_per_second), none(), &sampled);
        row("sampling, groups of 4", speed(parts.grouped_tokens_per_second), none(), &nobody);
        row("a step of DPG, T = 1", ms(parts.step), limit(Engine::step_passes(shape)), &nobody);
        let megabytes = |bytes: u64| format!("{:.0} MB", bytes as f64 / 1e6);
        row("peak memory of the process", megabytes(self.peak_memory), none(), &nobody);
        if let Some(memory) = self.device_memory {
            row("memory of the device", megabytes(memory), none(), &nobody);
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
