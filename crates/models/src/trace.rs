//! What a pass and its gradients leave, so that derivatives along a direction need no second pass.
//!
//! Let y = f(x, w) be a use of parameters w, and g what came back to y. By the chain rule the derivative of a row's loss
//! along the tangents w' of the parameters is the sum over all uses of
//!
//! ```text
//! <g, df/dw w'>
//! ```
//!
//! over the row's part of y. That is one product for a linear layer, for which a pass in dual numbers takes three. What it
//! costs is memory: x and g of every use stay.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use burn::tensor::Tensor;

use crate::{Params, composed};

/// The uses of parameters in a pass over rows.
#[derive(Default)]
pub struct Trace {
    uses: Mutex<Vec<Use>>,
}

/// A use of parameters, whose y is `[row, .., n]`.
struct Use {
    /// `df/dw w'` of parameters with tangents w', `[.., n]`; none if those are zero.
    along: Box<Along>,
    /// What came back to y, `[.., n]`.
    gradient: Slot,
}

type Along = dyn Fn(&Params) -> Option<Tensor<2>> + Send + Sync;
type Slot = Arc<Mutex<Option<Tensor<2>>>>;

impl Trace {
    /// Notes that `y` was made of parameters, and how it moves `along` their tangents; returns it.
    pub(crate) fn note<const D: usize>(
        &self,
        y: Tensor<D>,
        along: impl Fn(&Params) -> Option<Tensor<D>> + Send + Sync + 'static,
    ) -> Tensor<D> {
        let gradient = Slot::default();
        let along = Box::new(move |params: &Params| along(params).map(by_rows));
        locked(&self.uses).push(Use { along, gradient: gradient.clone() });
        composed::watch(y, move |g| *locked(&gradient) = Some(by_rows(g)))
    }

    /// The derivative of the objective whose gradients were taken along the tangents of `params`, as parts of each of the
    /// `rows` that passed.
    ///
    /// What the pass makes of the head's logits is not in it.
    pub fn tangents(&self, params: &Params, rows: usize) -> Vec<f64> {
        let parts: Vec<Tensor<2>> = locked(&self.uses)
            .iter()
            .filter_map(|Use { along, gradient }| {
                let (g, y) = (locked(gradient).clone()?, along(params)?);
                Some(composed::dot(&g, &y).reshape([rows as i32, -1]).sum_dim(1))
            })
            .collect();
        let mut tangents = vec![0.0; rows];
        if !parts.is_empty() {
            // one read from the device
            let parts = Tensor::cat(parts, 1).to_data_as::<f64>();
            let of_row = parts.iter::<f64>().collect::<Vec<_>>();
            for (tangent, parts) in tangents.iter_mut().zip(of_row.chunks(of_row.len() / rows)) {
                *tangent = parts.iter().sum();
            }
        }
        tangents
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace").field("uses", &locked(&self.uses).len()).finish()
    }
}

/// `[.., n]` as a matrix.
fn by_rows<const D: usize>(x: Tensor<D>) -> Tensor<2> {
    let n = x.dims()[D - 1];
    x.reshape([-1, n as i32])
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // what is noted is whole whenever a panic comes
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
