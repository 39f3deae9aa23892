//! What is measured, and on what: a GPT-2 of a given shape with random weights, and random texts.

mod measure;
mod shape;

pub use measure::{Measured, measure, median, seconds};
pub use shape::Shape;
