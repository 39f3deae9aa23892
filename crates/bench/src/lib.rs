//! What is measured, and on what: a model of a given shape with random weights, and random texts.

mod engine;
mod measure;
mod peer;
mod report;
mod shape;

pub use engine::Engine;
pub use measure::{Parts, Peer, Run, Sampled, measure_parts, measure_run, measure_sampling, peak_memory};
pub use report::Report;
pub use shape::{Family, Shape};
