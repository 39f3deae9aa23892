//! Causal language models, each written once over dual numbers.

mod error;
pub mod layout;

pub use error::Error;
pub use layout::{Layout, Param};
