//! What the precision of matrix products costs the rewards, measured against f64.

use burn::tensor::{DType, Device};
use dpg_dataset::Example;
use dpg_metagrad::Storage;
use dpg_models::MatmulPrecision;
use dpg_spec::Spec;
use serde::Serialize;

use crate::{Error, Target, score};

/// Examples that are scored for it.
const SAMPLE: usize = 32;

/// Relative l2 distance of rewards from the same in f64, by the precision of the products.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RewardErrors {
    /// f32: what rewards are computed in.
    pub f32: f64,
    /// TF32.
    pub tf32: f64,
    /// bfloat16.
    pub bf16: f64,
    /// The last two were imitated by rounding on the CPU.
    pub imitated: bool,
}

/// Scores the first of some examples on the CPU in f64 and on `device` in f32 at every precision.
pub fn reward_errors(
    spec: &Spec,
    examples: &[Example],
    device: &Device,
    cancelled: &(dyn Fn() -> bool + Sync),
) -> Result<RewardErrors, Error> {
    let examples = &examples[..examples.len().min(SAMPLE)];
    let rewards = |dtype: DType, device: &Device, precision: MatmulPrecision| {
        let mut target = Target::load(spec, dtype, device)?;
        target.model.lm.set_precision(precision);
        let metric = target.metric(spec)?;
        Ok::<_, Error>(score(&target, metric.as_ref(), examples, 0, &Storage::default(), cancelled)?.rewards)
    };
    let reference = rewards(DType::F64, &Device::flex(), MatmulPrecision::F32)?;
    let error = |precision: MatmulPrecision| {
        Ok::<_, Error>(relative_distance(&rewards(DType::F32, device, precision)?, &reference))
    };
    Ok(RewardErrors {
        f32: error(MatmulPrecision::F32)?,
        tf32: error(MatmulPrecision::Tf32)?,
        bf16: error(MatmulPrecision::Bf16)?,
        imitated: *device == Device::flex(),
    })
}

/// l2 distance of two vectors over the length of the second.
pub(crate) fn relative_distance(a: &[f64], b: &[f64]) -> f64 {
    let distance: f64 = a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum();
    let size: f64 = b.iter().map(|b| b * b).sum();
    (distance / size).sqrt()
}
