//! The price of exact rewards: a whole metagradient run over plain fine-tuning of the same T steps,
//! the two measured in turn. `cargo bench -p dpg-bench`
//!
//! Counted in forward passes F: a training step is 3 F (forward, and backward at twice its cost). On
//! the way back a step is 8 F: a forward pass in dual numbers (3 F: two products for the tangent of
//! each) and the backward pass through it (5 F); the first step needs no Hessian-vector product and
//! is 3 F. So a run of T steps is 3T + 8 (T - 1) + 3 against 3T.

use burn::tensor::Device;
use dpg_bench::{Engine, Shape, measure_run};

#[global_allocator]
static ALLOCATOR: dpg_models::Allocator = dpg_models::Allocator;

const SHAPE: Shape = Shape::gpt2("bench", [256, 4, 4096], [32, 64]);
/// Runs of each kind; the median counts.
const ROUNDS: usize = 5;

fn main() {
    dpg_models::keep_freed_memory();
    println!(
        "GPT-2, {} x {}, vocabulary {}, {} x {} tokens a step, f32, {} threads; one forward pass: {:.1} GFLOP\n",
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
    let engine = Engine::new(SHAPE, &Device::flex());
    engine.metagradient(2);
    for steps in [1, 4, 16] {
        let run = measure_run(&engine, steps, ROUNDS, &mut |_, _| None);
        let (plain, whole) = (run.plain, run.metagradient);
        let t = steps as f64;
        let (count_plain, count_whole) = (3.0 * t, 3.0 * t + 8.0 * (t - 1.0) + 3.0);
        let rate = |count: f64, time: f64| count * SHAPE.forward_operations() / time / 1e9;
        println!(
            "| {steps} | {plain:.2} s | {whole:.2} s | **{:.2}** | {count_whole:.0} F / {count_plain:.0} F = {:.2} | \
             {:.0} GFLOP/s | {:.0} GFLOP/s |",
            whole / plain,
            count_whole / count_plain,
            rate(count_plain, plain),
            rate(count_whole, whole),
        );
    }
}
