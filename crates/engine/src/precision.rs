//! What the precision of matrix products costs the rewards, measured against f64.

use std::sync::Arc;

use burn::tensor::{DType, Device};
use dpg_dataset::Example;
use dpg_models::MatmulPrecision;
use dpg_spec::Spec;

use crate::{Error, Target, score};

/// Examples that are scored for it.
const SAMPLE: usize = 32;

/// Relative l2 distances of rewards in f32, with products of some precisions, from the same in f64.
///
/// The first of the examples are scored on the CPU in f64 and on `devices` in f32. On the CPU precisions
/// below f32 are imitated.
pub fn reward_errors<const N: usize>(
    spec: &Spec,
    examples: &[Example],
    devices: &[Device],
    precisions: [MatmulPrecision; N],
    cancelled: &(dyn Fn() -> bool + Sync),
) -> Result<[f64; N], Error> {
    let examples = &examples[..examples.len().min(SAMPLE)];
    let folder = std::env::temp_dir();
    let rewards = |dtype: DType, devices: &[Device], precision: MatmulPrecision| {
        let mut target = Target::load(spec, dtype, devices)?;
        let model = Arc::get_mut(&mut target.model).expect("nobody else has a model just loaded");
        model.lm.set_precision(precision);
        let metric = target.metric(spec)?;
        Ok::<_, Error>(score(&target, metric.as_ref(), examples, 0, &folder, cancelled)?.rewards)
    };
    let reference = rewards(DType::F64, &[Device::flex()], MatmulPrecision::F32)?;
    let mut errors = [0.0; N];
    for (error, precision) in errors.iter_mut().zip(precisions) {
        *error = relative_distance(&rewards(DType::F32, devices, precision)?, &reference);
    }
    Ok(errors)
}

/// l2 distance of two vectors over the length of the second; 0 if both are 0.
pub(crate) fn relative_distance(a: &[f64], b: &[f64]) -> f64 {
    let distance: f64 = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum();
    let size: f64 = b.iter().map(|b| b * b).sum();
    if distance == 0.0 { 0.0 } else { (distance / size).sqrt() }
}
