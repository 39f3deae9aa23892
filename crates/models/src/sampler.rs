//! Batched decoding with a KV cache.
//!
//! The randomness of a row comes from (seed, step, row) alone, so that what a row says does not
//! depend on which rows share its batch. Rows of one prompt share the pass over it; rows that have
//! stopped leave the batch.

mod masses;

use burn::tensor::{DType, Device, Tensor};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::{
    Cache, CausalLm, Error, Params, Tokens, check_tokens, device,
    fused::{exponentials, is_here},
    logits,
};
use masses::{Masses, PART};

/// How to decode.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 takes the most likely token (greedy decoding).
    pub temperature: f64,
    /// Stop tokens are not drawn before so many tokens.
    pub min_new_tokens: usize,
    /// Decoding ends after so many tokens.
    pub max_new_tokens: usize,
    /// Tokens that end a row; those that the model has not are never drawn.
    pub stop: Vec<u32>,
    /// Tokens that are never drawn, since no tokenizer knows them.
    pub never: Vec<u32>,
    /// Seed of the run.
    pub seed: u64,
    /// Number of the draw within the run; each gives fresh randomness.
    pub step: u64,
    /// Rows that are decoded together; bounds memory, changes nothing else.
    pub batch: usize,
    /// What shares the rows, at least one.
    pub devices: Vec<Device>,
}

impl Sampling {
    /// Tokens that cannot be drawn as number `place` of a completion.
    pub fn forbidden(&self, place: usize) -> impl Iterator<Item = u32> {
        let stop = if place < self.min_new_tokens { self.stop.as_slice() } else { &[] };
        stop.iter().chain(&self.never).copied()
    }
}

/// What was drawn for one prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// Drawn tokens, the stop token included if there is one.
    pub tokens: Vec<u32>,
    /// Log-probability of each under the distribution it was drawn from.
    pub log_probs: Vec<f64>,
    /// It ended with a stop token rather than at `max_new_tokens`.
    pub stopped: bool,
}

/// Draws one completion for every prompt.
///
/// # Errors
/// [`Error::TooLong`] if a prompt with `max_new_tokens` more does not fit the context.
pub fn sample(
    lm: &dyn CausalLm,
    theta: &Tensor<1>,
    prompts: &[Vec<u32>],
    sampling: &Sampling,
) -> Result<Vec<Completion>, Error> {
    sample_until(lm, theta, prompts, sampling, &|| false)
}

/// [`sample`] that asks `cancelled` before every token of a batch.
///
/// # Errors
/// [`Error::Cancelled`] if that says so.
pub fn sample_until(
    lm: &dyn CausalLm,
    theta: &Tensor<1>,
    prompts: &[Vec<u32>],
    sampling: &Sampling,
    cancelled: &(dyn Fn() -> bool + Sync),
) -> Result<Vec<Completion>, Error> {
    for (index, prompt) in prompts.iter().enumerate() {
        let (length, limit) = (prompt.len() + sampling.max_new_tokens, lm.context());
        if length > limit || prompt.is_empty() {
            let what = format!("prompt {index} of {} tokens with its completion", prompt.len());
            return Err(Error::TooLong { what, length, limit });
        }
        check_tokens(lm, prompt, || format!("prompt {index}"))?;
    }
    // rows of similar length decode together, so that little is padding, and those of one prompt
    let mut order: Vec<usize> = (0..prompts.len()).collect();
    order.sort_by_key(|&row| (prompts[row].len(), &prompts[row]));
    let mut completions: Vec<Option<Completion>> = vec![None; prompts.len()];
    let parts = device::map(&sampling.devices, &order, |device, part| {
        let params = Params::new(lm.layout(), &theta.clone().to_device(device));
        let batches = part.chunks(sampling.batch.max(1));
        let decoded = batches.map(|rows| decode(lm, &params, prompts, rows, sampling, cancelled));
        Ok(decoded.collect::<Result<Vec<_>, Error>>()?.concat())
    });
    for part in parts {
        for (row, completion) in part? {
            completions[row] = Some(completion);
        }
    }
    Ok(completions.into_iter().map(|completion| completion.expect("every row was decoded")).collect())
}

/// A row that is still being decoded.
struct Row {
    index: usize,
    rng: ChaCha8Rng,
    completion: Completion,
}

fn decode(
    lm: &dyn CausalLm,
    params: &Params,
    prompts: &[Vec<u32>],
    rows: &[usize],
    sampling: &Sampling,
    cancelled: &(dyn Fn() -> bool + Sync),
) -> Result<Vec<(usize, Completion)>, Error> {
    let mut inputs: Vec<&[u32]> = vec![];
    // the input that each row is drawn from
    let mut sources = Vec::with_capacity(rows.len());
    for &row in rows {
        if inputs.last().is_none_or(|last| *last != prompts[row]) {
            inputs.push(&prompts[row]);
        }
        sources.push(inputs.len() - 1);
    }
    let longest = inputs.iter().map(|input| input.len()).max().unwrap_or(0);
    let mut cache = Cache::new(lm.layers(), inputs.iter().map(|input| longest - input.len()).collect());
    let mut active: Vec<Row> = rows.iter().map(|&index| Row::new(index, sampling)).collect();
    let mut done = Vec::with_capacity(rows.len());
    let mut block = Tokens::left_padded(&inputs);
    loop {
        if cancelled() {
            return Err(Error::Cancelled);
        }
        let hidden = lm.hidden(params, &block, Some(&mut cache));
        let [batch, seq, _] = hidden.dims();
        let last = hidden.narrow(1, seq - 1, 1);
        let logits = logits(lm, params, last).primal.reshape([batch, lm.vocab_size()]);
        if is_here(&logits) {
            draw_here(&mut active, logits, &sources, sampling);
        } else {
            draw_elsewhere(&mut active, logits, &sources, sampling);
        }

        let (running, ended): (Vec<_>, Vec<_>) =
            active.into_iter().zip(sources).partition(|(row, _)| !row.ended(sampling));
        done.extend(ended.into_iter().map(|(row, _)| (row.index, row.completion)));
        (active, sources) = running.into_iter().unzip();
        if active.is_empty() {
            return Ok(done);
        }
        if !sources.iter().copied().eq(0..batch) {
            cache.select(&sources);
            sources = (0..active.len()).collect();
        }
        let next: Vec<[u32; 1]> =
            active.iter().map(|row| [*row.completion.tokens.last().expect("a token was drawn")]).collect();
        block = Tokens::right_padded(&next);
    }
}

impl Row {
    fn new(index: usize, sampling: &Sampling) -> Self {
        let completion = Completion { tokens: vec![], log_probs: vec![], stopped: false };
        Self { index, rng: row_rng(sampling.seed, sampling.step, index as u64), completion }
    }

    fn ended(&self, sampling: &Sampling) -> bool {
        self.completion.stopped || self.completion.tokens.len() >= sampling.max_new_tokens
    }

    /// Begins to invert the cumulative distribution at one uniform number: finds the part of the tokens, given the mass of
    /// each, so that few tokens are passed one by one.
    fn pick(&mut self, parts: &[f64]) -> Pick {
        let all: f64 = parts.iter().sum();
        let drawn = self.rng.random::<f64>() * all;
        let (part, left) = invert(parts, drawn);
        Pick { part, left, all }
    }

    fn push(&mut self, id: usize, log_prob: f64, sampling: &Sampling) {
        self.completion.tokens.push(id as u32);
        self.completion.log_probs.push(log_prob);
        self.completion.stopped = sampling.stop.contains(&(id as u32));
    }
}

/// A part of the tokens, of which one is to be drawn.
struct Pick {
    part: usize,
    /// The mass of its tokens before that one,
    left: f64,
    /// and that of all tokens.
    all: f64,
}

impl Pick {
    /// The token's place in the part, given the masses there.
    fn token(&self, masses: &[f32]) -> usize {
        invert(masses, self.left).0
    }
}

/// The mass that holds the place `left` behind the first one's beginning, and what is left of it there. Rounding may lead past
/// the last one, and then that is it. NaN masses leave nothing to choose; the NaN log-probability stops the run.
fn invert<M: Copy + Into<f64>>(masses: &[M], mut left: f64) -> (usize, f64) {
    let masses = masses.iter().map(|&mass| mass.into()).enumerate();
    let mut found = (0, left);
    for (place, mass) in masses.filter(|(_, mass)| *mass > 0.0) {
        found = (place, left);
        if left < mass {
            break;
        }
        left -= mass;
    }
    found
}

/// Draws a token for every row, each from one of the rows of logits `[inputs, vocab]`.
fn draw_here(rows: &mut [Row], logits: Tensor<2>, sources: &[usize], sampling: &Sampling) {
    let vocab = logits.dims()[1];
    let logits = logits.into_data().convert_dtype(DType::F32);
    let logits = logits.as_slice::<f32>().expect("the numbers are f32");
    let temperature = sampling.temperature.max(COLDEST);
    rows.par_iter_mut().zip(sources).for_each_init(Vec::new, |masses, (row, source)| {
        let logits = &logits[source * vocab..(source + 1) * vocab];
        masses.clear();
        masses.extend_from_slice(logits);
        let place = row.completion.tokens.len();
        forbid(sampling, place, masses, f32::NEG_INFINITY);
        let largest = exponentials(masses, temperature);
        forbid(sampling, place, masses, 0.0);
        let pick = row.pick(&masses.chunks(PART).map(total).collect::<Vec<_>>());
        let first = pick.part * PART;
        let id = first + pick.token(&masses[first..vocab.min(first + PART)]);
        let score = f64::from(logits[id] - largest) / temperature;
        row.push(id, score - pick.all.ln(), sampling);
    });
}

/// The same where logits lie elsewhere: of each row the parts' masses are read, and those of one part.
fn draw_elsewhere(rows: &mut [Row], logits: Tensor<2>, sources: &[usize], sampling: &Sampling) {
    let place = rows[0].completion.tokens.len();
    let mut added = vec![0.0; logits.dims()[1]];
    forbid(sampling, place, &mut added, NEVER);
    let is_same = sources.iter().copied().eq(0..logits.dims()[0]);
    let masses = Masses::new(logits, added, sampling.temperature.max(COLDEST));
    let masses = if is_same { masses } else { masses.select(sources) };
    let sums = masses.sums();
    let picks: Vec<Pick> = rows
        .iter_mut()
        .zip(sums.chunks_exact(sums.len() / sources.len()))
        .map(|(row, sums)| row.pick(sums))
        .collect();
    let parts: Vec<usize> = picks.iter().map(|pick| pick.part).collect();
    for ((row, pick), masses) in rows.iter_mut().zip(picks).zip(masses.of(&parts).chunks_exact(PART)) {
        let token = pick.token(masses);
        row.push(pick.part * PART + token, f64::from(masses[token]).ln() - pick.all.ln(), sampling);
    }
}

/// Sets what cannot be drawn as token number `place` to `value`.
fn forbid<M: Copy>(sampling: &Sampling, place: usize, masses: &mut [M], value: M) {
    for id in sampling.forbidden(place) {
        if let Some(mass) = masses.get_mut(id as usize) {
            *mass = value;
        }
    }
}

/// What is added to logits of tokens that cannot be drawn: infinity is no number everywhere.
const NEVER: f64 = -1e30;

/// At this temperature the most likely token takes all.
const COLDEST: f64 = 1e-9;

fn total(masses: &[f32]) -> f64 {
    masses.iter().copied().map(f64::from).sum()
}

/// A generator of its own for every (seed, step, row).
fn row_rng(seed: u64, step: u64, row: u64) -> ChaCha8Rng {
    keyed_rng([seed, step, row, u64::from_le_bytes(*b"sampling")])
}

/// A random number generator keyed by four numbers, the last naming its purpose.
pub fn keyed_rng(key: [u64; 4]) -> ChaCha8Rng {
    let mut bytes = [0; 32];
    for (place, number) in bytes.chunks_exact_mut(8).zip(key) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    ChaCha8Rng::from_seed(bytes)
}
