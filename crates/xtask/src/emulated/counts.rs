//! What the fake driver counted, its bounds, and what it would take on a real card.

use std::fmt::Write;

use anyhow::{Result, bail};
use dpg_bench::Shape;
use serde::Deserialize;

/// What a process did on the fake driver.
#[derive(Deserialize)]
pub(super) struct Counts {
    launches: u64,
    /// Different ones, as they were compiled.
    kernels: u64,
    /// Of device memory.
    peak_bytes: u64,
    /// Copies to the host, each of which waits for the device.
    read_backs: u64,
    bytes_read_back: u64,
    by_kernel: Vec<Kernel>,
}

/// All kernels of a name.
#[derive(Deserialize)]
struct Kernel {
    name: String,
    launches: u64,
    /// Moved, by the loads and stores in the code; what a loop repeats counts once.
    bytes: f64,
}

/// A metagradient run and what it may take at most.
pub(super) struct Bound {
    pub(super) shape: &'static str,
    pub(super) steps: usize,
    pub(super) launches: u64,
    pub(super) gigabytes: f64,
}

impl Bound {
    /// Refuses counts over the bound.
    pub(super) fn check(&self, counts: &Counts) -> Result<()> {
        let (launches, gigabytes) = (counts.launches, counts.peak_bytes as f64 / 1e9);
        println!("    {launches} launches of {} kernels, {gigabytes:.1} GB", counts.kernels);
        if launches > self.launches || gigabytes > self.gigabytes {
            let Self { shape, steps, launches: most, gigabytes: room } = self;
            bail!("`{shape}`, T = {steps}: more than {most} launches or {room} GB, which are the bounds");
        }
        Ok(())
    }
}

/// Bytes a second that kernels reach: four fifths of an H100's.
const BANDWIDTH: f64 = 0.8 * 3.35e12;
/// Operations a second on bfloat16 that products reach: three fifths of an H100's.
const PRODUCTS: f64 = 0.6 * 989e12;
/// Seconds that the host takes for a launch, while the device works.
const LAUNCH: f64 = 5e-6;
/// Products of bfloat16 that one of f32 is made of.
const PARTS: f64 = 3.0;

/// What a run would take on an H100, in seconds.
struct Estimate {
    products: f64,
    memory: f64,
    host: f64,
}

impl Estimate {
    fn new(shape: &Shape, steps: usize, counts: &Counts) -> Self {
        let moved: f64 = counts.by_kernel.iter().filter(|kernel| !kernel.multiplies()).map(|k| k.bytes).sum();
        Self {
            products: PARTS * operations(shape, steps) / PRODUCTS,
            memory: moved / BANDWIDTH,
            host: LAUNCH * counts.launches as f64,
        }
    }

    /// The device computes while the host launches.
    fn total(&self) -> f64 {
        (self.products + self.memory).max(self.host)
    }
}

impl Kernel {
    /// Whether it is a product, which operations count.
    fn multiplies(&self) -> bool {
        self.name.contains("matmul")
    }
}

/// Operations of the products of a metagradient run: 3 forward passes a step of training, 8 a step of the way back, and
/// 3 of its last.
fn operations(shape: &Shape, steps: usize) -> f64 {
    let steps = steps as f64;
    (3.0 * steps + 8.0 * (steps - 1.0) + 3.0) * shape.forward_operations()
}

/// The counts as a page.
pub(super) fn report(counted: &[(Shape, &Bound, Counts)], assembled: usize) -> String {
    let mut text = format!(
        "# Emulated: no GPU was there\n\n\
         `cargo xtask emulated --report benches/reports/gpu-emulated.md` wrote this. The CUDA backend ran on a fake driver that \
         compiles every kernel with NVIDIA's compiler, counts, and computes nothing ([tests/fakecuda](../../tests/fakecuda/README.md)). \
         `ptxas` took all {assembled} kernels: those for compute capability 9.0 for sm_90a, those for 8.0 for sm_80 and sm_120.\n\n\
         | one metagradient run | launches | bound | kernels | memory | bound | read back | times | products | elementwise and sums |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n"
    );
    for (shape, bound, counts) in counted {
        let moved: f64 = counts.by_kernel.iter().filter(|kernel| !kernel.multiplies()).map(|k| k.bytes).sum();
        let _ = writeln!(
            text,
            "| `{}`, T = {} | {} | {} | {} | {:.1} GB | {:.0} GB | {:.1} MB | {} | {:.0} TFLOP | {:.2} TB |",
            shape.name,
            bound.steps,
            counts.launches,
            bound.launches,
            counts.kernels,
            counts.peak_bytes as f64 / 1e9,
            bound.gigabytes,
            counts.bytes_read_back as f64 / 1e6,
            counts.read_backs,
            operations(shape, bound.steps) / 1e12,
            moved / 1e12,
        );
    }
    text += "\n## What it would take on an H100\n\n\
        An estimate, not a measurement. Products: their operations, three times for the parts in bfloat16, at 60 % of 989 TFLOP/s. \
        Memory: what the loads and stores in the other kernels' code move, at 80 % of 3.35 TB/s; what a loop repeats counts once, \
        so sums over rows are worth more than is said here. Launches: 5 us of the host each. The device works while the host \
        launches, so the whole is the longer of both.\n\n\
        | one metagradient run | products | memory | launches | whole |\n|---|--:|--:|--:|--:|\n";
    for (shape, bound, counts) in counted {
        let estimate = Estimate::new(shape, bound.steps, counts);
        let _ = writeln!(
            text,
            "| `{}`, T = {} | {:.2} s | {:.2} s | {:.2} s | {:.2} s |",
            shape.name,
            bound.steps,
            estimate.products,
            estimate.memory,
            estimate.host,
            estimate.total(),
        );
    }
    text += "\n## Kernels\n";
    for (shape, bound, counts) in counted {
        let _ = write!(
            text,
            "\n`{}`, T = {}:\n\n| kernel | launches | moved |\n|---|--:|--:|\n",
            shape.name, bound.steps
        );
        let mut kernels: Vec<&Kernel> = counts.by_kernel.iter().collect();
        kernels.sort_by_key(|kernel| std::cmp::Reverse(kernel.launches));
        for Kernel { name, launches, bytes } in kernels.into_iter().take(12) {
            let _ = writeln!(text, "| `{name}` | {launches} | {:.2} TB |", bytes / 1e12);
        }
    }
    text
}
