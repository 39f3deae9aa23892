//! Every random choice of a run: the numbers that tell its draws apart, and what keys each choice.
//!
//! A choice is keyed by three numbers and a tag, its purpose; no other file names a tag or a range of
//! numbers. The tokens of a draw are the generator's to choose, by the seed and the draw's number.

use dpg_models::keyed_rng;
use dpg_policy::choice_at;
use rand::{
    Rng, RngExt,
    seq::{SliceRandom, index},
};

/// The number of a draw: it keys what is drawn, and in which order a target is fine-tuned on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw(u64);

/// Steps count from 0, all else far above them.
const VALIDATION: u64 = 1 << 32;
const FINAL: u64 = 1 << 33;
/// Draws for the dataset are fewer.
const SIBLINGS: u64 = FINAL + (1 << 32);
const VERIFICATION: u64 = 1 << 34;
const GENERATION: u64 = 1 << 35;

impl Draw {
    /// That of the first step, and of examples that no generator drew.
    pub const FIRST: Self = Self(0);
    /// That of the dataset.
    pub const FINAL: Self = Self(FINAL);
    /// That of examples which are drawn outside of runs.
    pub const GENERATION: Self = Self(GENERATION);

    /// That of a step, from 0.
    pub fn step(step: usize) -> Self {
        Self(step as u64)
    }

    /// That of the validation before a step.
    pub fn validation(step: usize) -> Self {
        Self(VALIDATION + step as u64)
    }

    /// That of a draw for the dataset, from 0, the first of which is [`FINAL`](Self::FINAL).
    pub(crate) fn dataset(number: u64) -> Self {
        Self(FINAL + number)
    }

    /// That of the short siblings of the dataset's long rows.
    pub(crate) const SIBLINGS: Self = Self(SIBLINGS);

    /// That of a data order of a verification, from 0.
    pub fn verification(order: u64) -> Self {
        Self(VERIFICATION + order)
    }

    /// The number.
    pub fn number(self) -> u64 {
        self.0
    }
}

fn rng(key: [u64; 3], purpose: [u8; 8]) -> impl Rng {
    let [a, b, c] = key;
    keyed_rng([a, b, c, u64::from_le_bytes(purpose)])
}

/// Puts the rows of a prompts' file in the order of which the first are kept for validation.
pub(crate) fn shuffle_prompts<T>(rows: &mut [T], seed: u64) {
    rows.shuffle(&mut rng([seed, 0, 0], *b"prompts "));
}

/// Which `count` of `available` prompts a draw asks: other ones as far as there are.
pub(crate) fn choose_prompts(available: usize, count: usize, seed: u64, draw: Draw) -> Vec<usize> {
    let mut rng = rng([seed, draw.0, 0], *b"choosing");
    if count <= available {
        index::sample(&mut rng, available, count).into_vec()
    } else {
        (0..count).map(|_| rng.random_range(0..available)).collect()
    }
}

/// Of which class of prompts each of `count` places of a draw is, where class i has the share `shares[i]`.
pub(crate) fn choose_classes(shares: &[f64], count: usize, seed: u64, draw: Draw) -> Vec<usize> {
    let mut rng = rng([seed, draw.0, 0], *b"classes ");
    (0..count).map(|_| choice_at(shares, rng.random()).unwrap_or(shares.len() - 1)).collect()
}

/// Shuffles examples for an epoch of fine-tuning on a draw.
pub(crate) fn shuffle_epoch(order: &mut [usize], seed: u64, draw: Draw, epoch: usize) {
    order.shuffle(&mut rng([seed, draw.0, epoch as u64], *b"shuffle "));
}

/// A direction in the weights of `len` examples, 1 or -1 each.
pub(crate) fn direction(len: usize, number: u64) -> Vec<f64> {
    let mut rng = rng([0, number, 0], *b"slopes  ");
    (0..len).map(|_| if rng.random_bool(0.5) { 1.0 } else { -1.0 }).collect()
}

/// Weights of `len` examples, 1 for `kept` of them and 0 for the others.
pub(crate) fn subset(len: usize, kept: usize, number: u64) -> Vec<f64> {
    let mut weights: Vec<f64> = (0..len).map(|i| if i < kept { 1.0 } else { 0.0 }).collect();
    weights.shuffle(&mut rng([0, number, kept as u64], *b"subsets "));
    weights
}

/// Shuffles the rows of a verification's arm for a data order.
pub(crate) fn shuffle_rows<T>(rows: &mut [T], order: u64) {
    rows.shuffle(&mut rng([VERIFICATION, order, 0], *b"verify  "));
}

/// `count` of some rows at random, others for each data order of a verification.
pub(crate) fn some_rows(rows: &[usize], count: usize, order: u64) -> Vec<usize> {
    let mut shuffled = rows.to_vec();
    shuffled.shuffle(&mut rng([VERIFICATION, order, 1], *b"verify  "));
    shuffled.truncate(count);
    shuffled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_draws_of_a_run_have_one_number() {
        let steps = 1 << 20;
        let draws = [
            Draw::step(steps),
            Draw::validation(0),
            Draw::validation(steps),
            Draw::FINAL,
            Draw::dataset(1 << 31),
            Draw::SIBLINGS,
            Draw::verification(0),
            Draw::verification(1 << 20),
            Draw::GENERATION,
        ];
        assert!(draws.windows(2).all(|pair| pair[0].0 < pair[1].0), "{draws:?}");
        assert_eq!(Draw::FIRST, Draw::step(0));
    }

    /// What was chosen before is chosen by every later version: seeds stand in published provenance.
    #[test]
    fn choices_stay_what_they_were() {
        let shuffled = |shuffle: &dyn Fn(&mut [usize])| {
            let mut rows: Vec<usize> = (0..8).collect();
            shuffle(&mut rows);
            rows
        };
        let choices = [
            shuffled(&|rows| shuffle_epoch(rows, 7, Draw::validation(3), 1)),
            shuffled(&|rows| shuffle_prompts(rows, 7)),
            shuffled(&|rows| shuffle_rows(rows, 4)),
            some_rows(&shuffled(&|_| ()), 3, 4),
            choose_prompts(20, 5, 7, Draw::FINAL),
            choose_prompts(3, 5, 7, Draw::FINAL),
            choose_classes(&[0.5, 0.0, 0.5], 8, 7, Draw::FINAL),
        ];
        let weights = [direction(6, 2), subset(6, 3, 5)];
        let known = "[[1, 3, 5, 4, 0, 7, 2, 6], [2, 3, 0, 5, 4, 7, 1, 6], [0, 7, 3, 2, 6, 4, 1, 5], [3, 5, 6], \
                     [2, 19, 17, 8, 5], [0, 0, 2, 1, 0], [2, 2, 2, 0, 0, 2, 2, 2]] \
                     [[1.0, 1.0, -1.0, -1.0, 1.0, -1.0], [1.0, 1.0, 0.0, 0.0, 0.0, 1.0]]";
        assert_eq!(format!("{choices:?} {weights:?}"), known);
    }
}
