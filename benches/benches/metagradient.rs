//! The price of exact rewards: a whole metagradient run over plain fine-tuning of the same T steps,
//! the two measured in turn. `cargo bench -p benches`
//!
//! Counted in forward passes F: a training step is 3 F (forward, and backward at twice its cost). On
//! the way back a step is 8 F: a forward pass in dual numbers (3 F: two products for the tangent of
//! each) and the backward pass through it (5 F); the first step needs no Hessian-vector product and
//! is 3 F. So a run of T steps is 3T + 8 (T - 1) + 3 against 3T.

use std::time::Instant;

use benches::Shape;
use burn::tensor::Device;
use dpg_metagrad::{Sft, Storage, metagradient, metrics::WeightNorm, optimizers};
use dpg_spec as spec;

const SHAPE: Shape = Shape { hidden: 256, layers: 4, vocab: 2048, batch: 32, sequence: 64 };
/// Runs of each kind; the median counts.
const ROUNDS: usize = 5;

fn main() {
    let device = Device::flex();
    let lm = SHAPE.model();
    let theta = SHAPE.weights(lm.as_ref(), &device);
    let head = spec::WeightNorm { parameter: spec::Parameters::One(spec::NamedParameter::lm_head()) };
    let metric = WeightNorm::new(&head, lm.as_ref()).expect("the model has a head");
    let optimizer = optimizers::from_spec(spec::Optimizer::Adamw(spec::AdamW::default()));
    println!(
        "GPT-2 of {} parameters ({} x {}, vocabulary {}), {} x {} tokens a step, f32, {} threads; one forward pass: {:.1} GFLOP\n",
        lm.layout().len(),
        SHAPE.layers,
        SHAPE.hidden,
        SHAPE.vocab,
        SHAPE.batch,
        SHAPE.sequence,
        std::thread::available_parallelism().map_or(1, usize::from),
        SHAPE.forward_operations() / 1e9,
    );
    println!("| T | plain | metagradient | ratio | by count | plain | metagradient |");
    println!("|--:|--:|--:|--:|--:|--:|--:|");
    for steps in [1, 4, 16] {
        let examples = SHAPE.examples(steps * SHAPE.batch);
        let batches: Vec<Vec<usize>> =
            (0..examples.len()).collect::<Vec<_>>().chunks(SHAPE.batch).map(<[usize]>::to_vec).collect();
        let weights = vec![1.0; examples.len()];
        let sft = Sft {
            lm: lm.as_ref(),
            theta: &theta,
            examples: &examples,
            weights: &weights,
            batches: &batches,
            optimizer: optimizer.as_ref(),
            microbatch: SHAPE.batch,
            cancelled: &|| false,
        };
        let plain = || drop(sft.train().expect("plain fine-tuning"));
        let whole = || drop(metagradient(sft, &metric, &Storage::default()).expect("metagradient"));
        let (mut plain_times, mut whole_times) = (vec![], vec![]);
        for round in 0..=ROUNDS {
            let (a, b) = (seconds(plain), seconds(whole));
            // the first round warms caches up
            if round > 0 {
                plain_times.push(a);
                whole_times.push(b);
            }
        }
        let ratio =
            median(plain_times.iter().zip(&whole_times).map(|(plain, whole)| whole / plain).collect());
        let (plain, whole) = (median(plain_times), median(whole_times));
        let t = steps as f64;
        let (count_plain, count_whole) = (3.0 * t, 3.0 * t + 8.0 * (t - 1.0) + 3.0);
        let rate = |count: f64, time: f64| count * SHAPE.forward_operations() / time / 1e9;
        println!(
            "| {steps} | {plain:.2} s | {whole:.2} s | **{ratio:.2}** | {count_whole:.0} F / {count_plain:.0} F = {:.2} | {:.0} GFLOP/s | {:.0} GFLOP/s |",
            count_whole / count_plain,
            rate(count_plain, plain),
            rate(count_whole, whole),
        );
    }
}

fn seconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
