//! Times of the engine's parts beside its peers', as medians over rounds; what is compared is
//! measured in turn, so that a busy machine slows all of it.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::{Engine, engine::GROUP};

/// Seconds of another implementation's run, by its kind (`plain`, `best`, `naive`) and T, or of its sampling
/// (`sample`) and the rows; `None` where there is none.
pub type Peer<'a> = dyn FnMut(&str, usize) -> Option<f64> + 'a;

/// Median seconds of plain fine-tuning and of a metagradient run, of T steps, beside a peer's.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Run {
    /// T.
    pub steps: usize,
    /// Plain fine-tuning.
    pub plain: f64,
    /// A whole metagradient run.
    pub metagradient: f64,
    /// The second over the first, median of the rounds' own: the two are measured seconds apart.
    pub ratio: f64,
    /// The peer's fine-tuning.
    pub peer_plain: Option<f64>,
    /// The peer's metagradient run, as good as it can be made.
    pub peer_best: Option<f64>,
    /// The same, as it is usually written.
    pub peer_naive: Option<f64>,
}

/// Median seconds of the parts that a run is made of.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Parts {
    /// The matrix products of one forward pass alone.
    pub forward_products: f64,
    /// A forward pass in dual numbers.
    pub dual_forward: f64,
    /// The same with the backward pass of its tangents: rewards and Hessian-vector product.
    pub fused_pass: f64,
    /// Tokens a second of batched sampling, each row with a prompt of its own.
    pub sampled_tokens_per_second: f64,
    /// The same for rows in groups of 4 of one prompt, as in a step.
    pub grouped_tokens_per_second: f64,
    /// One update of the policy on a batch of rollouts.
    pub policy_update: f64,
    /// A step of DPG on a batch: rollouts, metagradients at T = 1, update.
    pub step: f64,
}

/// Tokens a second of batched sampling, each row with a prompt of its own, beside a peer's.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Sampled {
    /// Ours.
    pub tokens_per_second: f64,
    /// The peer's.
    pub peer_tokens_per_second: f64,
}

/// After so long no further round is begun: long rows have fewer.
const BUDGET: Duration = Duration::from_secs(80);

/// Measures the parts, at most `rounds` times each in turn after a round that warms up.
pub fn measure_parts(engine: &Engine, rounds: usize) -> Parts {
    let mut times: [Vec<f64>; 7] = Default::default();
    let start = Instant::now();
    for round in (0..=rounds).take_while(|&round| round <= 1 || start.elapsed() < BUDGET) {
        progress(&format!("parts, round {round} of {rounds}"));
        let works: [(&str, &dyn Fn() -> f64); 7] = [
            ("matrix products", &|| engine.products()),
            ("dual forward", &|| engine.dual_forward()),
            ("fused dual forward and backward", &|| engine.fused_pass()),
            ("sampling", &|| engine.sampling(1)),
            ("sampling in groups", &|| engine.sampling(GROUP)),
            ("policy update", &|| engine.policy_update()),
            ("a step of DPG", &|| engine.step()),
        ];
        for ((name, work), times) in works.into_iter().zip(&mut times) {
            let time = work();
            progress(&format!("  {name}: {:.0} ms", time * 1e3));
            if round > 0 {
                times.push(time);
            }
        }
    }
    let [products, dual, fused, sampling, grouped, update, step] = times.map(median);
    let tokens = engine.sampling_tokens();
    Parts {
        forward_products: products,
        dual_forward: dual,
        fused_pass: fused,
        sampled_tokens_per_second: tokens / sampling,
        grouped_tokens_per_second: tokens / grouped,
        policy_update: update,
        step,
    }
}

/// Measures sampling beside a peer's, `rounds` times in turn; nothing for a peer that does not sample.
pub fn measure_sampling(engine: &Engine, rounds: usize, peer: &mut Peer) -> Option<Sampled> {
    let (mut ours, mut theirs) = (vec![], vec![]);
    for _ in 0..rounds {
        theirs.push(peer("sample", engine.shape().sampled_rows())?);
        ours.push(engine.sampling(1));
    }
    let rate = |times: Vec<f64>| engine.sampling_tokens() / median(times);
    Some(Sampled { tokens_per_second: rate(ours), peer_tokens_per_second: rate(theirs) })
}

/// Measures runs of `steps` steps, at most `rounds` times in turn with the peer's; the naive peer once,
/// for it takes longest.
pub fn measure_run(engine: &Engine, steps: usize, rounds: usize, peer: &mut Peer) -> Run {
    let mut times: [Vec<f64>; 5] = Default::default();
    let start = Instant::now();
    for round in (1..=rounds).take_while(|&round| round == 1 || start.elapsed() < BUDGET) {
        progress(&format!("T = {steps}, round {round} of {rounds}"));
        let naive = if round == 1 { peer("naive", steps) } else { None };
        let found = [
            Some(engine.plain(steps)),
            peer("plain", steps),
            Some(engine.metagradient(steps)),
            peer("best", steps),
            naive,
        ];
        let names = ["fine-tuning", "the peer's", "metagradient", "the peer's best", "the peer's, naive"];
        for ((name, time), times) in names.into_iter().zip(found).zip(&mut times) {
            if let Some(time) = time {
                progress(&format!("  {name}: {:.0} ms", time * 1e3));
                times.push(time);
            }
        }
    }
    let median = |times: &Vec<f64>| (!times.is_empty()).then(|| median(times.iter().copied()));
    let ratio = times[2].iter().zip(&times[0]).map(|(metagradient, plain)| metagradient / plain).collect();
    let [plain, peer_plain, metagradient, peer_best, peer_naive] = times.each_ref().map(median);
    let [plain, metagradient, ratio] =
        [plain, metagradient, median(&ratio)].map(|figure| figure.expect("there is a round"));
    Run { steps, plain, metagradient, ratio, peer_plain, peer_best, peer_naive }
}

/// Tells how far it is, if anybody reads it.
pub(crate) fn progress(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// The middle value.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Largest resident memory of this process so far, bytes; 0 where the system does not say.
pub fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}
