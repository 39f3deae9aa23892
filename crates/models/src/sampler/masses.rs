//! What tokens are drawn from, where it lies on a device: sums are read from there, and few numbers more.

use burn::tensor::{Int, Tensor, TensorData};

use crate::constant;

/// Tokens whose masses are summed together.
pub(super) const PART: usize = 64;

/// What is added to logits of tokens that cannot be drawn.
const NEVER: f64 = -1e30;

/// `exp((x - largest) / temperature)` of rows of logits x, by parts of [`PART`] tokens: `[rows, parts, PART]`.
pub(super) struct Masses(Tensor<3>);

impl Masses {
    /// Of logits `[rows, vocab]`, 0 for the tokens that are forbidden.
    pub(super) fn new(logits: Tensor<2>, forbidden: &[u32], temperature: f64) -> Self {
        let [rows, vocab] = logits.dims();
        let parts = vocab.div_ceil(PART);
        let logits = if forbidden.is_empty() {
            logits
        } else {
            let mut added = vec![0.0; vocab];
            for &token in forbidden {
                if let Some(added) = added.get_mut(token as usize) {
                    *added = NEVER;
                }
            }
            let added: Tensor<2> = constant(added, [1, vocab], &logits);
            logits + added
        };
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
        let rows = index(rows, &self.0);
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
        let chosen = all.select(0, index(&places, &self.0));
        chosen.into_data().iter::<f32>().collect()
    }
}

fn index(places: &[usize], like: &Tensor<3>) -> Tensor<1, Int> {
    let places: Vec<i64> = places.iter().map(|&place| place as i64).collect();
    let count = places.len();
    Tensor::from_data(TensorData::new(places, [count]), &like.device())
}
