//! The formula of a run's memory against the peak of a process that does nothing else.
#![cfg(target_os = "linux")]

use std::path::{Path, PathBuf};
use std::process::Command;

use burn::tensor::{Device, Tensor};
use dpg_metagrad::{Sft, Storage, metagradient, metrics::WeightNorm};
use dpg_models::{Example, from_config};
use dpg_spec as spec;
use serde_json::json;

const STEPS: usize = 12;

/// Says which storage the process that measures uses: steps of the run and of a segment, from state to
/// state, and a folder.
const RUN: &str = "DPG_TEST_STEPS";
const SEGMENT: &str = "DPG_TEST_SEGMENT";
const STRIDE: &str = "DPG_TEST_STRIDE";
const SPILL: &str = "DPG_TEST_SPILL";

/// Peak of this process in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Runs one example of 4 tokens a step on a model whose vectors are large, and prints the bytes by
/// formula and those that the run added.
#[test]
#[ignore = "a process that the other tests start"]
fn measured() {
    let config = json!({
        "model_type": "gpt2", "vocab_size": 512, "n_positions": 4, "n_embd": 256, "n_layer": 4, "n_head": 4,
    });
    let lm = from_config(config, Path::new("test")).unwrap();
    let theta: Vec<f32> = (0..lm.layout().len()).map(|i| ((i * 7919) % 1000) as f32 * 1e-4).collect();
    let theta = Tensor::<1>::from_data(theta.as_slice(), &Device::flex());
    let number = |name: &str| std::env::var(name).ok().map(|number| number.parse::<usize>().unwrap());
    let steps = number(RUN).unwrap_or(STEPS);
    let examples: Vec<Example> =
        (0..steps as u32).map(|i| Example::all_scored(vec![i, 2 * i, 3 * i, 1])).collect();
    let batches: Vec<Vec<usize>> = (0..steps).map(|step| vec![step]).collect();
    let head = spec::WeightNorm { parameter: spec::Parameters::One(spec::NamedParameter::lm_head()) };
    let metric = WeightNorm::new(&head, lm.as_ref(), &theta).unwrap();
    let recipe = spec::Sft::default();
    let sft = Sft {
        lm: lm.as_ref(),
        theta: &theta,
        examples: &examples,
        weights: &vec![1.0; steps],
        batches: &batches,
        recipe: &recipe,
        microbatch: 1,
        devices: &[Device::flex()],
        cancelled: &|| false,
    };
    let storage = Storage {
        segment: number(SEGMENT),
        stride: number(STRIDE),
        spill: std::env::var_os(SPILL).is_some(),
        scratch: std::env::var_os(SPILL).map(PathBuf::from).unwrap_or_default(),
        ..Storage::default()
    };
    let before = peak();
    metagradient(sft, &metric, &storage).unwrap();
    let bytes = storage.bytes(&sft);
    // theta_0 was there before
    println!("measured {} {}", bytes.peak(), peak() - before + 4 * lm.layout().len() as u64);
}

/// By formula and measured.
fn run(steps: usize, segment: Option<usize>, stride: Option<usize>, spill: Option<&Path>) -> [f64; 2] {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "measured", "--ignored", "--nocapture"]);
    // each block by itself, so that holes between others do not count
    command.env("MALLOC_MMAP_THRESHOLD_", "65536");
    command.env(RUN, steps.to_string()).env_remove(SEGMENT).env_remove(STRIDE).env_remove(SPILL);
    command.envs(segment.map(|steps| (SEGMENT, steps.to_string())));
    command.envs(stride.map(|steps| (STRIDE, steps.to_string())));
    command.envs(spill.map(|folder| (SPILL, folder)));
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find_map(|line| line.split_once("measured ").map(|(_, numbers)| numbers));
    let line = line.unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)));
    let numbers: Vec<f64> = line.split(' ').map(|number| number.parse().unwrap()).collect();
    println!(
        "T = {steps}, {segment:?} {stride:?} {}: {:.1} MB, measured {:.1} MB",
        spill.is_some(),
        numbers[0] / 1e6,
        numbers[1] / 1e6
    );
    [numbers[0], numbers[1]]
}

#[test]
fn the_peak_is_what_the_formula_says() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        (STEPS, None, Some(1), None),
        (STEPS, None, None, None),
        (STEPS, Some(3), None, Some(folder.path())),
        (2, None, None, None),
        (1, None, None, None),
    ];
    // processes of their own, side by side
    let runs: Vec<_> = std::thread::scope(|scope| {
        let begun = cases
            .map(|(steps, segment, stride, spill)| scope.spawn(move || run(steps, segment, stride, spill)));
        begun.into_iter().map(|run| run.join().unwrap()).collect()
    });
    let mut last = f64::INFINITY;
    for [formula, measured] in runs {
        assert!((0.9..1.1).contains(&(measured / formula)), "{measured} of {formula} bytes");
        assert!(measured < 0.9 * last, "{measured} bytes after {last}");
        last = measured;
    }
}
