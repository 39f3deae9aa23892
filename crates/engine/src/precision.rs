//! What the precision of matrix products costs the rewards, measured against f64.

use burn::tensor::{DType, Device};
use dpg_dataset::Example;
use dpg_models::MatmulPrecision;

use crate::{Draw, Error, Problem, Scorer, Stop, Target};

/// Examples that are scored for it.
const SAMPLE: usize = 32;

impl Problem {
    /// Relative l2 distances of rewards in f32, with products of some precisions, from the same in f64.
    ///
    /// The first of the examples are scored on the CPU in f64 and on the problem's devices in f32. On the CPU
    /// precisions below f32 are imitated.
    pub fn reward_errors<const N: usize>(
        &self,
        examples: &[Example],
        precisions: [MatmulPrecision; N],
        stop: Stop,
    ) -> Result<[f64; N], Error> {
        let examples = &examples[..examples.len().min(SAMPLE)];
        let scratch = std::env::temp_dir();
        let rewards = |dtype: DType, devices: &[Device], precision: MatmulPrecision| {
            let target = Target::load(&self.spec, dtype, devices, precision)?;
            let metric = target.metric(&self.spec.metric, &self.held_out)?;
            let scorer = Scorer { target: &target, metric: metric.as_ref(), scratch: &scratch, stop };
            Ok::<_, Error>(scorer.score(examples, Draw::FIRST)?.rewards)
        };
        let reference = rewards(DType::F64, &[Device::flex()], MatmulPrecision::F32)?;
        let mut errors = [0.0; N];
        for (error, precision) in errors.iter_mut().zip(precisions) {
            *error = relative_distance(&rewards(DType::F32, &self.devices, precision)?, &reference);
        }
        Ok(errors)
    }
}

/// l2 distance of two vectors over the length of the second; 0 if both are 0.
pub(crate) fn relative_distance(a: &[f64], b: &[f64]) -> f64 {
    let distance: f64 = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum();
    let size: f64 = b.iter().map(|b| b * b).sum();
    if distance == 0.0 { 0.0 } else { (distance / size).sqrt() }
}
