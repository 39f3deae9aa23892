//! Rotary position embedding, in the half-split form of the Hugging Face checkpoints.

use burn::tensor::Tensor;

use crate::{Dual, Params, context::Context};

/// How rotary frequencies are stretched beyond the context they were first trained for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// All positions divided by a factor.
    Linear {
        /// The factor.
        factor: f64,
    },
    /// Llama 3.1: low frequencies divided by a factor, high ones kept, those between blended.
    Llama3 {
        /// The factor.
        factor: f64,
        /// Wavelengths above `original_context / low_frequency_factor` are stretched in full.
        low_frequency_factor: f64,
        /// Wavelengths below `original_context / high_frequency_factor` are kept.
        high_frequency_factor: f64,
        /// Context before the stretching.
        original_context: f64,
    },
}

/// Inverse frequencies of a head's `dim / 2` rotations, in f64.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rope {
    frequencies: Vec<f64>,
}

impl Rope {
    pub(crate) fn new(dim: usize, theta: f64, scaling: RopeScaling) -> Self {
        let frequencies = (0..dim / 2).map(|i| scaled(theta.powf(-((2 * i) as f64) / dim as f64), scaling));
        Self { frequencies: frequencies.collect() }
    }

    /// Cosines and sines of a block's positions, `[rows, 1, seq, dim / 2]` each.
    pub(crate) fn tables(&self, params: &Params, context: &Context) -> (Tensor<4>, Tensor<4>) {
        let seq = context.positions.len() / context.rows;
        let shape = [context.rows, 1, seq, self.frequencies.len()];
        let table = |f: fn(f64) -> f64| {
            let angles = context.positions.iter().flat_map(|&position| {
                self.frequencies.iter().map(move |frequency| position as f64 * frequency)
            });
            params.constant(angles.map(f).collect(), shape)
        };
        (table(f64::cos), table(f64::sin))
    }
}

/// Rotates `x [batch, heads, seq, dim]`.
pub(crate) fn rotate(x: Dual<4>, (cos, sin): &(Tensor<4>, Tensor<4>)) -> Dual<4> {
    let half = x.dims()[3] / 2;
    x.linear_map(|x| {
        let (a, b) = (x.clone().narrow(3, 0, half), x.narrow(3, half, half));
        let first = a.clone() * cos.clone() - b.clone() * sin.clone();
        let second = b * cos.clone() + a * sin.clone();
        Tensor::cat(vec![first, second], 3)
    })
}

fn scaled(frequency: f64, scaling: RopeScaling) -> f64 {
    match scaling {
        RopeScaling::None => frequency,
        RopeScaling::Linear { factor } => frequency / factor,
        RopeScaling::Llama3 { factor, low_frequency_factor, high_frequency_factor, original_context } => {
            let wavelength = 2.0 * std::f64::consts::PI / frequency;
            if wavelength < original_context / high_frequency_factor {
                frequency
            } else if wavelength > original_context / low_frequency_factor {
                frequency / factor
            } else {
                let share = (original_context / wavelength - low_frequency_factor)
                    / (high_frequency_factor - low_frequency_factor);
                (1.0 - share) * frequency / factor + share * frequency
            }
        }
    }
}
