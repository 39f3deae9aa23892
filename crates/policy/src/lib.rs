//! Training the generator: GRPO (Shao et al., 2024) with a reward per rollout.
//!
//! Rewards become advantages ([`advantages`]), and [`update`] ascends the clipped objective over one
//! pass of minibatches; [`Categorical`] does so for a choice among a few. Departure from common code: the eps of every
//! normalisation is relative to the scale of the rewards, which may be 1e-9.

mod advantage;
mod categorical;
mod error;
mod objective;
mod update;

pub use advantage::{advantages, mean_and_deviation};
pub use categorical::{Categorical, choice_at};
pub use error::Error;
pub use objective::Rollout;
pub use update::{Policy, UpdateStats, update};
