//! Rotary positions: the pairs `(x_i, x_{i + dim/2})` of a head turned by angles of its position.

use burn::tensor::Tensor;

use super::{Composed, compose};
use crate::{backend::rotated, params::untracked};

/// Heads `[batch, seq, heads, dim]` turned by angles whose cosines and sines are `[1 or batch, seq, 1, dim / 2]`.
pub(crate) fn turned(x: Tensor<4>, angles: &[Tensor<4>; 2]) -> Tensor<4> {
    let [cos, sin] = angles.each_ref().map(untracked);
    let [x] = compose(Turn { cos, sin }, [x]);
    x
}

#[derive(Clone, Debug)]
struct Turn {
    cos: Tensor<4>,
    sin: Tensor<4>,
}

impl Turn {
    fn turn(&self, x: Tensor<4>, is_back: bool) -> Tensor<4> {
        rotated(&x, [&self.cos, &self.sin], is_back).unwrap_or_else(|| {
            let half = self.cos.dims()[3];
            let (a, b) = (x.clone().narrow(3, 0, half), x.narrow(3, half, half));
            let (cos, sin) = (self.cos.clone(), self.sin.clone() * if is_back { -1.0 } else { 1.0 });
            let first = a.clone() * cos.clone() - b.clone() * sin.clone();
            Tensor::cat(vec![first, b * cos + a * sin], 3)
        })
    }
}

impl Composed<4, 1> for Turn {
    const READS_INPUTS: bool = false;

    fn value(&self, [x]: [Tensor<4>; 1]) -> [Tensor<4>; 1] {
        [self.turn(x, false)]
    }

    fn gradients(&self, _: [bool; 1], _: [Tensor<4>; 1], [g]: [Tensor<4>; 1]) -> [Option<Tensor<4>>; 1] {
        [Some(self.turn(g, true))]
    }
}
