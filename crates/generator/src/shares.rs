//! In which of a few ways each row of a draw is asked for: shares that are fixed, or learnt as the arms of a teacher are.

use dpg_models::keyed_rng;
use dpg_policy::{Categorical, choice_at};
use dpg_spec::Policy;
use rand::RngExt;
use serde_json::Value;

use crate::{Choice, Error, Saved, UpdateStats, arms};

/// The fraction of the golden ratio: its multiples, taken modulo 1, are spread more evenly than those of any other number.
const GOLDEN: f64 = 0.618_033_988_749_895;

/// The shares of a few ways.
#[derive(Clone)]
pub(crate) enum Shares {
    /// Of the rows of every draw, as nearly as they go.
    Fixed(Vec<f64>),
    /// Probabilities of each row.
    Learnt(Box<Categorical>),
}

impl Shares {
    /// Learnt ones that begin equal.
    pub(crate) fn uniform(count: usize) -> Self {
        Self::Learnt(Box::new(Categorical::uniform(count)))
    }

    /// The share of each.
    pub(crate) fn probabilities(&self) -> Vec<f64> {
        match self {
            Self::Fixed(shares) => shares.clone(),
            Self::Learnt(policy) => policy.probabilities(),
        }
    }

    /// How many numbers learning changes.
    pub(crate) fn parameters(&self) -> usize {
        match self {
            Self::Fixed(_) => 0,
            Self::Learnt(policy) => policy.probabilities().len(),
        }
    }

    /// The way of a row of a draw, whatever rows come after it; `purpose` keys what is chosen.
    pub(crate) fn pick(&self, choice: Choice, row: usize, purpose: u64) -> usize {
        match (self, choice) {
            (Self::Learnt(policy), Choice::Likeliest) => policy.likeliest(),
            (Self::Learnt(policy), Choice::Random { seed, draw }) => {
                policy.at(keyed_rng([seed, draw, row as u64, purpose]).random())
            }
            (Self::Fixed(shares), Choice::Likeliest) => {
                (0..shares.len()).rev().max_by(|a, b| shares[*a].total_cmp(&shares[*b])).unwrap_or(0)
            }
            (Self::Fixed(shares), Choice::Random { seed, draw }) => {
                let start: f64 = keyed_rng([seed, draw, 0, purpose]).random();
                let place = (start + row as f64 * GOLDEN).fract();
                choice_at(shares, place).unwrap_or(shares.len() - 1)
            }
        }
    }

    /// Makes ways with a positive advantage likelier, if they are learnt.
    pub(crate) fn learn(
        &mut self,
        draws: &[(usize, f64)],
        settings: &Policy,
    ) -> Result<Option<UpdateStats>, Error> {
        match self {
            Self::Fixed(_) => Ok(None),
            Self::Learnt(policy) => Ok(Some(policy.learn(draws, settings)?)),
        }
    }

    /// Adds what was learnt of ways of these names.
    pub(crate) fn save(&self, names: Value, prefix: &str, saved: &mut Saved) {
        if let Self::Learnt(policy) = self {
            arms::save(policy, names, prefix, saved);
        }
    }

    /// As they were saved.
    pub(crate) fn read(&self, saved: &Saved, names: &Value, prefix: &str) -> Result<Self, Error> {
        Ok(match self {
            Self::Fixed(_) => self.clone(),
            Self::Learnt(policy) => Self::Learnt(Box::new(arms::read(saved, names, prefix, policy)?)),
        })
    }

    /// The same with what was learnt alone, to start a run of its own.
    pub(crate) fn read_learnt(&self, saved: &Saved, names: &Value, prefix: &str) -> Result<Self, Error> {
        Ok(match self {
            Self::Fixed(_) => self.clone(),
            Self::Learnt(policy) => Self::Learnt(Box::new(arms::read_learnt(saved, names, prefix, policy)?)),
        })
    }
}
