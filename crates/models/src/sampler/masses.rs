//! What tokens are drawn from, where it lies on a device: sums are read from there, and few numbers more.

use burn::tensor::Tensor;

use crate::{constant, params::indices};

/// Tokens whose masses are summed together.
pub(super) const PART: usize = 64;

/// `exp((x - largest) / temperature)` of rows of logits x, by parts of [`PART`] tokens: `[rows, parts, PART]`.
pub(super) struct Masses(Tensor<3>);

impl Masses {
    /// Of logits `[rows, vocab]`, to each of which a number is `added` first.
    pub(super) fn new(logits: Tensor<2>, added: Vec<f64>, temperature: f64) -> Self {
        let [rows, vocab] = logits.dims();
        let parts = vocab.div_ceil(PART);
        let added: Tensor<2> = constant(added, [1, vocab], &logits);
        let logits = logits + added;
        let largest = logits.clone().max_dim(1);
        let masses = ((logits - largest) * temperature.recip()).exp();
        let rest = parts * PART - vocab;
        let masses = if rest == 0 {
            masses
        } else {
            let none = Tensor::zeros([rows, rest], (&masses.device(), masses.dtype()));
            Tensor::cat(vec![masses, none], 1)
        };
        Self(masses.reshape([rows, parts, PART]))
    }

    /// Some of the rows, in a new order.
    pub(super) fn select(self, rows: &[usize]) -> Self {
        let rows = indices(rows, &self.0.device());
        Self(self.0.select(0, rows))
    }

    /// The mass of each part, row after row.
    pub(super) fn sums(&self) -> Vec<f64> {
        self.0.clone().sum_dim(2).into_data().iter::<f64>().collect()
    }

    /// The masses of one part of each row.
    pub(super) fn of(&self, parts: &[usize]) -> Vec<f32> {
        let [rows, count, _] = self.0.dims();
        let places: Vec<usize> = parts.iter().enumerate().map(|(row, part)| row * count + part).collect();
        let all = self.0.clone().reshape([rows * count, PART]);
        let chosen = all.select(0, indices(&places, &self.0.device()));
        chosen.into_data().iter::<f32>().collect()
    }
}
