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
    /// Multiplications and additions, of products.
    operations: f64,
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
/// Operations a second on bfloat16 that products reach: three quarters of an H100's, as they do on an H200.
const BF16: f64 = 0.75 * 989e12;
/// The same in f32, on CUDA cores.
const F32: f64 = 0.4 * 67e12;
/// Seconds that the host takes for a launch, while the device works: those of a processor that burn's fusion, the busiest
/// thread, takes where kernels compute nothing.
const LAUNCH: f64 = 32e-6;

/// What a run would take on an H100, in seconds.
struct Estimate {
    products: f64,
    memory: f64,
    host: f64,
}

impl Estimate {
    fn new(counts: &Counts) -> Self {
        let seconds =
            |kernel: &Kernel| kernel.operations / if kernel.name.contains("bf16") { BF16 } else { F32 };
        Self {
            products: counts.by_kernel.iter().map(seconds).sum(),
            memory: counts.moved() / BANDWIDTH,
            host: LAUNCH * counts.launches as f64,
        }
    }

    /// The device computes while the host launches.
    fn total(&self) -> f64 {
        (self.products + self.memory).max(self.host)
    }
}

impl Counts {
    /// Bytes that kernels but those of products move.
    fn moved(&self) -> f64 {
        self.by_kernel.iter().map(|kernel| kernel.bytes).sum()
    }

    /// Operations of products.
    fn operations(&self) -> f64 {
        self.by_kernel.iter().map(|kernel| kernel.operations).sum()
    }
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
            counts.operations() / 1e12,
            counts.moved() / 1e12,
        );
    }
    text += "\n## What it would take on an H100\n\n\
        An estimate, not a measurement. Products: their operations, those of parts in bfloat16 at 75 % of 989 TFLOP/s and those in \
        f32 at 40 % of 67 TFLOP/s, rates that an H200 reached. Memory: what the loads and stores in the other kernels' code move, at 80 % of 3.35 TB/s; what a loop repeats counts once, \
        so sums over rows are worth more than is said here. Launches: 32 us of the host each. That is what burn's fusion, the \
        busiest of three threads, takes of a Xeon with AVX-512 in steps of `large` where kernels compute nothing (`FAKECUDA_MODE=null \
        perf record dpg bench --device cuda:0 --shape large --steps 32`, without the turns in which it waits). The device \
        works while the host launches, so the whole is the longer of both.\n\n\
        | one metagradient run | products | memory | launches | whole |\n|---|--:|--:|--:|--:|\n";
    for (shape, bound, counts) in counted {
        let estimate = Estimate::new(counts);
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
        for Kernel { name, launches, bytes, .. } in kernels.into_iter().take(12) {
            let _ = writeln!(text, "| `{name}` | {launches} | {:.2} TB |", bytes / 1e12);
        }
    }
    text
}
