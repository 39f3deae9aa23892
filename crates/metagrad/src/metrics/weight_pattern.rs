//! A bitmap in the signs of a weight change (paper, section 4):
//! `Phi = -mean softplus(-k S (W - W0))` over a patch, S = +1 where the bitmap is set and -1
//! elsewhere. It is read back as sign(W - W0).

use std::sync::Arc;

use burn::tensor::{IndexingUpdateOp, Int, Tensor};
use dpg_models::{CausalLm, zeros_like};
use dpg_spec as spec;

use super::picture::{canvas, png};
use super::{Bitmap, Context, Decoded, Making, Matrix, Metric, Picture, Score, decode};
use crate::Error;

/// The proxy that says how much of the soft-plus's curve the pixels reach: `strength` times their median change.
pub const EFFECTIVE_STRENGTH: &str = "effective_strength";

/// The metric `weight_pattern`.
#[derive(Clone)]
pub struct WeightPattern {
    bitmap: Bitmap,
    /// The text in it, if it is a QR code.
    text: Option<String>,
    strength: f64,
    /// Places of the patch in the flat vector, row by row.
    places: Vec<i64>,
    /// W0 on the patch.
    initial: Vec<f64>,
}

impl WeightPattern {
    /// The pattern on a model whose initial weights, its own and all of them, are `theta [n]`.
    pub fn new(settings: &spec::WeightPattern, lm: &dyn CausalLm, theta: &Tensor<1>) -> Result<Self, Error> {
        let bitmap = Bitmap::from_spec(&settings.pattern)?;
        let matrix = Matrix::find(lm, &settings.parameter)?;
        let (bottom, right) = (settings.rows + bitmap.rows, settings.columns + bitmap.columns);
        if bottom > matrix.rows || right > matrix.columns {
            return Err(Error::Metric {
                field: "pattern",
                reason: format!(
                    "its {} x {} pixels at rows = {}, columns = {} end at [{bottom}, {right}], outside `{}` of shape \
                     [{}, {}]; choose a smaller picture or offset",
                    bitmap.rows,
                    bitmap.columns,
                    settings.rows,
                    settings.columns,
                    settings.parameter.0,
                    matrix.rows,
                    matrix.columns
                ),
            });
        }
        let places = (0..bitmap.rows)
            .flat_map(|row| {
                (0..bitmap.columns).map(move |column| (settings.rows + row, settings.columns + column))
            })
            .map(|(row, column)| matrix.place(row, column) as i64)
            .collect();
        let text = match &settings.pattern {
            spec::Bitmap::Qr { qr } => Some(qr.clone()),
            spec::Bitmap::Named(_) | spec::Bitmap::Image { .. } => None,
        };
        let mut this = Self { bitmap, text, strength: settings.strength, places, initial: vec![] };
        this.initial = this.patch(theta);
        Ok(this)
    }

    fn index(&self, theta: &Tensor<1>) -> Tensor<1, Int> {
        Tensor::from_data(self.places.as_slice(), &theta.device())
    }

    fn patch(&self, theta: &Tensor<1>) -> Vec<f64> {
        theta.clone().select(0, self.index(theta)).to_data_as::<f64>().iter().collect()
    }

    fn changes(&self, theta: &Tensor<1>) -> Vec<f64> {
        self.patch(theta).iter().zip(&self.initial).map(|(now, before)| now - before).collect()
    }

    fn signs(&self) -> impl Iterator<Item = f64> + '_ {
        self.bitmap.pixels.iter().map(|&set| if set { 1.0 } else { -1.0 })
    }

    fn score_of(&self, changes: &[f64]) -> Score {
        let n = changes.len() as f64;
        let loss: f64 = changes.iter().zip(self.signs()).map(|(d, s)| softplus(-self.strength * s * d)).sum();
        let right = changes.iter().zip(self.signs()).filter(|(d, s)| *d * s > 0.0).count();
        let mut sizes: Vec<f64> = changes.iter().map(|d| d.abs()).collect();
        sizes.sort_by(f64::total_cmp);
        let mut proxies = vec![
            ("pixel_accuracy".into(), right as f64 / n),
            (EFFECTIVE_STRENGTH.into(), self.strength * sizes[sizes.len() / 2]),
        ];
        if let Some(reads) = self.decoded_from(changes).reads_right() {
            proxies.push(("qr_read".into(), f64::from(u8::from(reads))));
        }
        Score { value: -loss / n, proxies }
    }

    fn decoded_from(&self, changes: &[f64]) -> Decoded {
        let largest = largest(changes);
        Decoded {
            name: "decoded".into(),
            wanted: self.bitmap.clone(),
            found: decode(changes, &vec![0.0; changes.len()]),
            margins: changes.iter().map(|change| (9.0 * change.abs() / largest).round() as u8).collect(),
            text: self.text.clone(),
        }
    }

    fn picture(&self, name: &str, shade: impl Fn(usize) -> u8) -> Picture {
        Picture { name: name.into(), png: png(&canvas(&self.bitmap, |pixel| [shade(pixel); 3])) }
    }
}

/// Finds the patch and keeps its initial weights.
pub(super) fn make<E: From<Error>>(
    settings: &spec::WeightPattern,
    making: &Making<E>,
) -> Result<Arc<dyn Metric>, E> {
    making.of_weights(|theta| {
        let pattern = WeightPattern::new(settings, making.lm.as_ref(), theta)?;
        let first = pattern.places.iter().map(|&place| place as usize..place as usize + 1).take(1).collect();
        Ok((first, pattern))
    })
}

impl Metric for WeightPattern {
    fn score(&self, theta: &Tensor<1>, _context: Context) -> Result<Score, Error> {
        Ok(self.score_of(&self.changes(theta)))
    }

    fn score_and_gradient(&self, theta: &Tensor<1>, _context: Context) -> Result<(Score, Tensor<1>), Error> {
        let changes = self.changes(theta);
        let scale = self.strength / changes.len() as f64;
        let slopes: Vec<f64> = changes
            .iter()
            .zip(self.signs())
            .map(|(d, s)| scale * s * sigmoid(-self.strength * s * d))
            .collect();
        let slopes = Tensor::<1>::from_data(slopes.as_slice(), (&theta.device(), theta.dtype()));
        let gradient = zeros_like(theta).select_assign(0, self.index(theta), slopes, IndexingUpdateOp::Add);
        Ok((self.score_of(&changes), gradient))
    }

    fn with_numbers(&self, settings: &spec::Metric) -> Arc<dyn Metric> {
        let strength = match settings {
            spec::Metric::WeightPattern(settings) => settings.strength,
            _ => self.strength,
        };
        Arc::new(Self { strength, ..self.clone() })
    }

    fn decoded(&self, theta: &Tensor<1>) -> Vec<Decoded> {
        vec![self.decoded_from(&self.changes(theta))]
    }

    fn pictures(&self, theta: &Tensor<1>) -> Vec<Picture> {
        let changes = self.changes(theta);
        let largest = largest(&changes);
        let decoded = self.decoded_from(&changes);
        vec![
            self.picture("target", |i| if self.bitmap.pixels[i] { 0 } else { u8::MAX }),
            Picture { png: decoded.png(), name: decoded.name },
            // grey is unchanged, black and white the largest one
            self.picture("margins", |i| (127.5 * (1.0 - changes[i] / largest)) as u8),
        ]
    }
}

/// The size of the largest change, above 0.
fn largest(changes: &[f64]) -> f64 {
    changes.iter().fold(f64::MIN_POSITIVE, |max, change| max.max(change.abs()))
}

/// `ln(1 + e^x)` without overflow.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 { 1.0 / (1.0 + (-x).exp()) } else { x.exp() / (1.0 + x.exp()) }
}
