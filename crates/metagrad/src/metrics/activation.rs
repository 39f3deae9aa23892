//! Where hidden states lie: `Phi = mean <h, d> / ||d||`, or `Phi = -mean ||h - v||^2`, h a layer's states at some
//! tokens of a text.

use std::{ops::Range, sync::Arc};

use burn::tensor::Tensor;
use dpg_models::{CausalLm, Dual, Example, MatmulPrecision, Params, Tokens, width};
use dpg_spec::{self as spec, ActivationMeasure, Positions};

use super::{
    Making, Metric,
    rows::{OfRows, Read, Rows},
};
use crate::Error;

/// What the metric `activation` makes of a text.
pub struct Activation {
    layer: usize,
    at: Positions,
    measure: ActivationMeasure,
    /// The direction, of length 1, or the point.
    vector: Vec<f64>,
    /// The mean of the untrained target's numbers.
    initial: f64,
}

/// Reads the texts and the vector, and measures the untrained target.
pub(super) fn make<E: From<Error>>(
    settings: &spec::Activation,
    making: &Making<E>,
) -> Result<Arc<dyn Metric>, E> {
    let refuse = |field, reason: String| E::from(Error::Metric { field, reason });
    let (lm, spec::VectorFile { path, tensor }) = (making.lm.as_ref(), &settings.vector);
    if settings.layer > lm.layers() {
        let reason =
            format!("the target has {} layers, so that {} is the last one", lm.layers(), lm.layers());
        return Err(refuse("layer", reason));
    }
    let mut vector = making.sources.vector(&settings.vector)?;
    let width = width(lm);
    if vector.len() != width {
        let found = vector.len();
        let reason = format!(
            "`{tensor}` of `{path}` has {found} numbers, and the target's hidden states have {width}"
        );
        return Err(refuse("vector", reason));
    }
    if settings.measure == ActivationMeasure::Projection {
        let length = vector.iter().map(|x| x * x).sum::<f64>().sqrt();
        if length == 0.0 {
            return Err(refuse("vector", format!("`{tensor}` of `{path}` is 0 and has no direction")));
        }
        for x in &mut vector {
            *x /= length;
        }
    }
    let texts = making.held_out(&settings.data)?;
    let rows = texts.into_iter().map(|text| vec![text]).collect();
    let rows = Rows::new(making.lm, rows, making.microbatch, "data")?;
    let rows = if settings.at == Positions::Completion { rows.scored("data")? } else { rows };
    let &spec::Activation { layer, at, measure, .. } = settings;
    let mut kind = Activation { layer, at, measure, vector, initial: 0.0 };
    let params = Params::new(lm.layout(), making.theta);
    let read = |(range, texts): (_, Vec<&Example>)| kind.read(lm, &params, range, &texts).numbers();
    let numbers: Vec<f64> = rows.chunks().flat_map(read).collect();
    kind.initial = kind.told(numbers.iter().sum::<f64>() / numbers.len() as f64);
    Ok(Arc::new(rows.measured(kind)))
}

/// Hidden states of texts after so many layers, `[texts, longest, hidden]`.
fn states(lm: &dyn CausalLm, params: &Params, layer: usize, texts: &[&Example]) -> Tensor<3> {
    lm.hidden_after(layer, params, &Tokens::right_padded(texts), None).primal
}

/// What each token of texts counts for, `[texts.len(), longest]`: those that count share 1 evenly.
fn shares(params: &Params, at: Positions, texts: &[&Example]) -> Tensor<2> {
    let longest = texts.iter().map(|text| text.tokens.len()).max().unwrap_or(0);
    let mut shares = vec![0.0; texts.len() * longest];
    for (text, of_text) in texts.iter().zip(shares.chunks_mut(longest)) {
        let last = text.tokens.len() - 1;
        let counted: Vec<usize> = match at {
            Positions::All => (0..=last).collect(),
            Positions::Completion => (0..=last).filter(|&token| text.scored[token]).collect(),
            Positions::Last => vec![last],
        };
        for &token in &counted {
            of_text[token] = 1.0 / counted.len() as f64;
        }
    }
    params.constant(shares, [texts.len(), longest])
}

/// The mean over texts of the mean hidden state at their tokens, `[hidden]`.
pub fn mean_state(
    lm: &dyn CausalLm,
    theta: &Tensor<1>,
    (layer, at): (usize, Positions),
    texts: &[Example],
    microbatch: usize,
) -> Vec<f64> {
    let params = Params::new(lm.layout(), theta);
    let mut sum: Option<Tensor<1>> = None;
    for chunk in texts.chunks(microbatch) {
        let chunk: Vec<&Example> = chunk.iter().collect();
        let states = states(lm, &params, layer, &chunk);
        let [rows, columns, width] = states.dims();
        let shares = shares(&params, at, &chunk).reshape([rows, columns, 1]);
        let part = (states * shares).reshape([rows * columns, width]).sum_dim(0).reshape([width]);
        sum = Some(match sum {
            Some(sum) => sum + part,
            None => part,
        });
    }
    let count = texts.len() as f64;
    sum.map_or(vec![], |sum| sum.to_data_as::<f64>().iter::<f64>().map(|x| x / count).collect())
}

impl Activation {
    /// What people read of a mean of numbers.
    fn told(&self, mean: f64) -> f64 {
        match self.measure {
            ActivationMeasure::Projection => mean,
            ActivationMeasure::SquaredDistance => mean.sqrt(),
        }
    }
}

impl OfRows for Activation {
    /// Projections, or squared distances.
    fn read(&self, lm: &dyn CausalLm, params: &Params, _: Range<usize>, texts: &[&Example]) -> Read {
        let states = states(lm, params, self.layer, texts);
        let [rows, columns, width] = states.dims();
        let states = states.reshape([rows * columns, width]);
        let each = match self.measure {
            ActivationMeasure::Projection => {
                let direction: Dual<2> = params.constant(self.vector.clone(), [width, 1]).into();
                Dual::from(states).matmul(direction, MatmulPrecision::F32).primal
            }
            ActivationMeasure::SquaredDistance => {
                let left = states - params.constant(self.vector.clone(), [1, width]);
                (left.clone() * left).sum_dim(1)
            }
        };
        let each = each.reshape([rows, columns]) * shares(params, self.at, texts);
        Read::tensor(each.sum_dim(1).reshape([rows]))
    }

    fn value(&self, _: usize, numbers: &[f64]) -> (f64, Vec<f64>) {
        match self.measure {
            ActivationMeasure::Projection => (numbers[0], vec![1.0]),
            ActivationMeasure::SquaredDistance => (-numbers[0], vec![-1.0]),
        }
    }

    fn proxies(&self, value: f64, _: &[(usize, Vec<f64>)]) -> Vec<(String, f64)> {
        let (name, told) = match self.measure {
            ActivationMeasure::Projection => ("projection", value),
            ActivationMeasure::SquaredDistance => ("distance", self.told(-value)),
        };
        vec![(name.into(), told), ("change".into(), told - self.initial)]
    }
}
