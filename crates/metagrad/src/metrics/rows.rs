//! Metrics of texts. Their data has rows of one text or several. A number is read off each text, the numbers of a
//! row make the row's value, and the metric is the mean over rows.
//!
//! Rows pass through the model in chunks, whose memory is bounded. The derivative of the mean in each number is known
//! in closed form, so that a chunk takes one pass forwards and one back whatever is made of its numbers.

use std::{ops::Range, sync::Arc};

use burn::tensor::Tensor;
use dpg_models::{CausalLm, Example, LeafGradients, Objective, Params, check_tokens, constant, zeros_like};
use dpg_spec as spec;

use super::{Context, Metric, Score};
use crate::{
    Error,
    loss::{Divergences, Scored},
};

/// What a metric makes of its texts.
pub trait OfRows: Send + Sync + 'static {
    /// A number for each text, the texts those of `rows` in order.
    fn read(&self, lm: &dyn CausalLm, params: &Params, rows: Range<usize>, texts: &[&Example]) -> Read;

    /// What the numbers of a row make, and its derivative in each of them.
    fn value(&self, row: usize, numbers: &[f64]) -> (f64, Vec<f64>);

    /// What people read of the metric's value and of the numbers of its rows.
    fn proxies(&self, value: f64, rows: &[(usize, Vec<f64>)]) -> Vec<(String, f64)>;

    /// The same with the real numbers of `settings`, if it has any.
    fn with_numbers(&self, _settings: &spec::Metric) -> Option<Self>
    where
        Self: Sized,
    {
        None
    }
}

/// A number for each of some texts, and the way back from them.
pub struct Read {
    numbers: Vec<f64>,
    source: Source,
}

/// What numbers were read off.
enum Source {
    /// Log-probabilities, those of each text times its share.
    LogProbs(Scored, Vec<f64>),
    Divergences(Divergences),
    /// `[texts]`.
    Tensor(Tensor<1>),
}

impl Read {
    /// Log-probabilities of each text's scored tokens, those of a text times its share.
    pub(super) fn log_probs(
        lm: &dyn CausalLm,
        params: &Params,
        texts: &[&Example],
        shares: Vec<f64>,
    ) -> Self {
        let scored = Scored::new(lm, params, texts);
        Self { numbers: products(&scored.log_probs(), &shares), source: Source::LogProbs(scored, shares) }
    }

    /// Means of each text's divergences.
    pub(super) fn divergences(divergences: Divergences) -> Self {
        Self { numbers: divergences.means(), source: Source::Divergences(divergences) }
    }

    /// Numbers `[texts]`, tracked or not.
    pub(super) fn tensor(numbers: Tensor<1>) -> Self {
        let read = if numbers.is_autodiff() { numbers.clone().inner() } else { numbers.clone() };
        Self { numbers: read.to_data_as::<f64>().iter().collect(), source: Source::Tensor(numbers) }
    }

    /// The numbers alone.
    pub(super) fn numbers(self) -> Vec<f64> {
        self.numbers
    }

    /// What has `slopes` as its derivatives in the numbers.
    fn objective(self, slopes: &[f64]) -> Objective {
        match self.source {
            Source::LogProbs(scored, shares) => scored.weighed_log_probs(&products(slopes, &shares)),
            Source::Divergences(divergences) => divergences.weighed(slopes),
            Source::Tensor(numbers) => {
                let slopes = constant(slopes.to_vec(), [slopes.len()], &numbers);
                Objective::new((numbers * slopes).sum())
            }
        }
    }
}

fn products(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a * b).collect()
}

/// The texts of a metric in their rows.
#[derive(Clone)]
pub(super) struct Rows {
    pub(super) lm: Arc<dyn CausalLm>,
    texts: Arc<[Vec<Example>]>,
    /// Rows that pass through the model together.
    chunks: Vec<Range<usize>>,
}

impl Rows {
    /// Rows of texts that `field` of the metric names, which the model can read; `together` texts pass through it at once,
    /// if a row does not have more by itself.
    pub(super) fn new(
        lm: &Arc<dyn CausalLm>,
        rows: Vec<Vec<Example>>,
        together: usize,
        field: &'static str,
    ) -> Result<Self, Error> {
        if rows.is_empty() {
            let reason = "there are no held-out examples; give a file with at least one row".into();
            return Err(Error::Metric { field, reason });
        }
        for (row, texts) in (1..).zip(&rows) {
            for text in texts {
                check_tokens(lm.as_ref(), &text.tokens, || format!("held-out example {row}"))?;
                if text.tokens.is_empty() {
                    let reason = format!("held-out example {row} has no tokens; remove it");
                    return Err(Error::Metric { field, reason });
                }
            }
        }
        let chunks = chunks(&rows, together);
        Ok(Self { lm: Arc::clone(lm), texts: rows.into(), chunks })
    }

    /// Itself, if each text has a token whose prediction is scored.
    pub(super) fn scored(self, field: &'static str) -> Result<Self, Error> {
        let unscored = |texts: &Vec<Example>| texts.iter().any(|text| text.scored_len() == 0);
        match self.texts.iter().position(unscored) {
            None => Ok(self),
            Some(row) => {
                let row = row + 1;
                let reason = format!(
                    "held-out example {row} has no scored token: it needs at least two tokens, or a completion"
                );
                Err(Error::Metric { field, reason })
            }
        }
    }

    /// The texts of a row.
    pub(super) fn row(&self, row: usize) -> &[Example] {
        &self.texts[row]
    }

    /// The rows of each chunk and their texts.
    pub(super) fn chunks(&self) -> impl Iterator<Item = (Range<usize>, Vec<&Example>)> {
        let texts = |rows: &Range<usize>| self.texts[rows.clone()].iter().flatten().collect();
        self.chunks.iter().map(move |rows| (rows.clone(), texts(rows)))
    }

    /// The metric that something makes of them.
    pub(super) fn measured<K: OfRows>(self, kind: K) -> OverRows<K> {
        OverRows { rows: self, kind: Arc::new(kind) }
    }
}

/// Rows in order, cut where they would have more than `together` texts.
fn chunks(rows: &[Vec<Example>], together: usize) -> Vec<Range<usize>> {
    let mut chunks = vec![];
    let (mut first, mut texts) = (0, 0);
    for (row, of_row) in rows.iter().enumerate() {
        if row > first && texts + of_row.len() > together {
            chunks.push(first..row);
            (first, texts) = (row, 0);
        }
        texts += of_row.len();
    }
    chunks.push(first..rows.len());
    chunks
}

/// A metric of texts: the mean over rows of what is made of their numbers.
pub struct OverRows<K> {
    rows: Rows,
    kind: Arc<K>,
}

impl<K> Clone for OverRows<K> {
    fn clone(&self) -> Self {
        Self { rows: self.rows.clone(), kind: Arc::clone(&self.kind) }
    }
}

impl<K: OfRows> OverRows<K> {
    /// The score; of each chunk, `learn` is told the derivative of the score in its numbers.
    fn pass(
        &self,
        context: Context,
        split: impl Fn() -> Params,
        mut learn: impl FnMut(&Params, Read, &[f64]),
    ) -> Result<Score, Error> {
        let count = self.rows.chunks.iter().map(ExactSizeIterator::len).sum::<usize>() as f64;
        let (mut total, mut all) = (0.0, vec![]);
        for (rows, texts) in self.rows.chunks() {
            context.go_on()?;
            let params = split();
            let read = self.kind.read(self.rows.lm.as_ref(), &params, rows.clone(), &texts);
            let mut numbers = read.numbers.iter().copied();
            let (mut values, mut slopes) = (vec![], vec![]);
            for row in rows {
                let of_row: Vec<f64> = numbers.by_ref().take(self.rows.row(row).len()).collect();
                let (value, slope) = self.kind.value(row, &of_row);
                values.push(value);
                slopes.extend(slope.into_iter().map(|slope| slope / count));
                all.push((row, of_row));
            }
            // chunk by chunk, as gradients are summed
            total += values.iter().sum::<f64>();
            learn(&params, read, &slopes);
        }
        let value = total / count;
        Ok(Score { value, proxies: self.kind.proxies(value, &all) })
    }
}

impl<K: OfRows> Metric for OverRows<K> {
    fn score(&self, theta: &Tensor<1>, context: Context) -> Result<Score, Error> {
        self.pass(context, || Params::new(self.rows.lm.layout(), theta), |_, _, _| ())
    }

    fn score_and_gradient(&self, theta: &Tensor<1>, context: Context) -> Result<(Score, Tensor<1>), Error> {
        let mut gradient: Option<LeafGradients> = None;
        let score = self.pass(
            context,
            || Params::tracked(self.rows.lm.layout(), theta),
            |params, read, slopes| {
                let part = params.leaf_gradients(read.objective(slopes).backward());
                gradient = Some(match gradient.take() {
                    Some(sum) => sum.and(part),
                    None => part,
                });
            },
        )?;
        let gradient = gradient.map_or_else(|| zeros_like(theta), |gradient| gradient.flat(theta));
        Ok((score, gradient))
    }

    fn with_numbers(&self, settings: &spec::Metric) -> Arc<dyn Metric> {
        let kind = self.kind.with_numbers(settings).map_or_else(|| Arc::clone(&self.kind), Arc::new);
        Arc::new(Self { rows: self.rows.clone(), kind })
    }

    fn rows(&self) -> Vec<Arc<dyn Metric>> {
        let of_row = |row: usize| -> Arc<dyn Metric> {
            let rows = Rows { chunks: std::iter::once(row..row + 1).collect(), ..self.rows.clone() };
            Arc::new(Self { rows, kind: Arc::clone(&self.kind) })
        };
        self.rows.chunks.iter().cloned().flatten().map(of_row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_holds_whole_rows() {
        let text = || Example::all_scored(vec![1, 2, 3]);
        let rows: Vec<Vec<Example>> = [2, 2, 1, 5, 1].map(|texts| vec![text(); texts]).into();
        assert_eq!(chunks(&rows, 4), [0..2, 2..3, 3..4, 4..5]);
        assert_eq!(chunks(&rows, 13).len(), 1);
        assert_eq!(chunks(&rows, 1), [0..1, 1..2, 2..3, 3..4, 4..5]);
    }
}
