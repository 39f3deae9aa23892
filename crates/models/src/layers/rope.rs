//! Rotary position embedding, in the half-split form of the Hugging Face checkpoints.

use std::{cell::OnceCell, sync::Arc};

use burn::tensor::Tensor;

use crate::{Dual, Params, composed::turned, context::Context, fused::Rotation};

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

    /// The rotation of a block's positions.
    pub(crate) fn tables(&self, context: &Context) -> Tables {
        let table = |f: fn(f64) -> f64| -> Arc<[f64]> {
            let angles = context.positions.iter().flat_map(|&position| {
                self.frequencies.iter().map(move |frequency| position as f64 * frequency)
            });
            angles.map(f).collect()
        };
        let tensors = OnceCell::new();
        Tables { rows: context.rows, cos: table(f64::cos), sin: table(f64::sin), tensors }
    }
}

/// Cosines and sines of a block's positions, `[rows, seq, dim / 2]` each.
#[derive(Debug)]
pub(crate) struct Tables {
    rows: usize,
    cos: Arc<[f64]>,
    sin: Arc<[f64]>,
    /// Both, `[rows, seq, 1, dim / 2]`, where the pass needs them.
    tensors: OnceCell<[Tensor<4>; 2]>,
}

/// Rotates `x [batch, seq, heads, dim]`.
pub(crate) fn rotate(params: &Params, x: Dual<4>, tables: &Tables) -> Dual<4> {
    let [_, seq, heads, dim] = x.dims();
    let rotation = Rotation { heads, cos: tables.cos.clone(), sin: tables.sin.clone() };
    if let Some(rotated) = x.rotated(&rotation) {
        return rotated;
    }
    let tensor = |values: &[f64]| params.constant(values.to_vec(), [tables.rows, seq, 1, dim / 2]);
    let tensors = tables.tensors.get_or_init(|| [tensor(&tables.cos), tensor(&tables.sin)]);
    x.linear_map(|x| turned(x, tensors))
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
