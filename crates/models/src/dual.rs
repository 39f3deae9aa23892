//! Dual numbers over tensors: a value and its directional derivative, carried together.
//!
//! A model is written once over [`Dual`]. Leaves without a tangent make it a plain forward pass
//! that costs nothing extra; leaves with a tangent `u` make the same code return the Jacobian-vector
//! product along `u`. Both parts may be tracked by autodiff, so that one ordinary backward pass of
//! a tangent is a Hessian-vector product (forward over reverse).

use burn::tensor::{Int, Tensor};

use crate::composed::{self, dot};
use crate::fused::{
    self, Activation, ActivationDual, Attention, AttentionDual, Gated, GatedDual, Linear, LinearDual, Norm,
    NormDual, Normalise, Rotation, Rows, Softmax, SoftmaxTangent,
};
use crate::matmul::{MatmulPrecision, matmul};

/// A tensor and its tangent; `None` is a tangent of zero that is never computed with.
#[derive(Clone, Debug)]
pub struct Dual<const D: usize> {
    /// The value.
    pub primal: Tensor<D>,
    /// Its derivative along the direction of the leaves' tangents.
    pub tangent: Option<Tensor<D>>,
}

impl<const D: usize> From<Tensor<D>> for Dual<D> {
    fn from(primal: Tensor<D>) -> Self {
        Self { primal, tangent: None }
    }
}

impl<const D: usize> From<[Tensor<D>; 1]> for Dual<D> {
    fn from([primal]: [Tensor<D>; 1]) -> Self {
        primal.into()
    }
}

impl<const D: usize> From<[Tensor<D>; 2]> for Dual<D> {
    fn from([primal, tangent]: [Tensor<D>; 2]) -> Self {
        Self::new(primal, Some(tangent))
    }
}

impl<const D: usize> Dual<D> {
    /// A value with a tangent.
    pub fn new(primal: Tensor<D>, tangent: Option<Tensor<D>>) -> Self {
        Self { primal, tangent }
    }

    /// The tangent, of zeros if there is none.
    pub(crate) fn tangent_or_zero(&self) -> Tensor<D> {
        self.tangent.clone().unwrap_or_else(|| self.primal.zeros_like())
    }

    /// The same linear map of the value and of its tangent.
    pub fn linear_map<const E: usize>(self, map: impl Fn(Tensor<D>) -> Tensor<E>) -> Dual<E> {
        Dual { primal: map(self.primal), tangent: self.tangent.map(map) }
    }

    /// An elementwise function from its value and its derivative, the latter asked for only if needed.
    fn elementwise(
        self,
        value: impl FnOnce(Tensor<D>) -> Tensor<D>,
        derivative: impl FnOnce(Tensor<D>) -> Tensor<D>,
    ) -> Self {
        match self.tangent {
            None => value(self.primal).into(),
            Some(tangent) => {
                let slope = derivative(self.primal.clone());
                Self::new(value(self.primal), Some(slope * tangent))
            }
        }
    }

    /// Shape of the value.
    pub fn dims(&self) -> [usize; D] {
        self.primal.dims()
    }

    /// `self * factor`.
    pub fn scale(self, factor: f64) -> Self {
        self.linear_map(|x| x.mul_scalar(factor))
    }

    /// `self + constant`, broadcast.
    pub fn add_constant(self, constant: Tensor<D>) -> Self {
        Self::new(self.primal + constant, self.tangent)
    }

    /// Another shape of the same elements.
    pub fn reshape<const E: usize>(self, shape: [usize; E]) -> Dual<E> {
        self.linear_map(|x| x.reshape(shape))
    }

    /// Two dimensions exchanged.
    pub fn swap_dims(self, a: usize, b: usize) -> Self {
        self.linear_map(|x| x.swap_dims(a, b))
    }

    /// The elements `start..end` of a dimension.
    pub fn narrow(self, dim: usize, start: usize, len: usize) -> Self {
        self.linear_map(|x| x.narrow(dim, start, len))
    }

    /// Elements picked along a dimension.
    pub fn select(self, dim: usize, indices: Tensor<1, Int>) -> Self {
        self.linear_map(|x| x.select(dim, indices.clone()))
    }

    /// Matrix product, batched over leading dimensions, which are the same for both.
    pub fn matmul(self, other: Self, precision: MatmulPrecision) -> Self {
        let matmul = |a: Tensor<D>, b: Tensor<D>| matmul(a, b, precision);
        let tangent = match (self.tangent, other.tangent) {
            (None, None) => None,
            (Some(left), None) => Some(matmul(left, other.primal.clone())),
            (None, Some(right)) => Some(matmul(self.primal.clone(), right)),
            (Some(left), Some(right)) => {
                Some(matmul(left, other.primal.clone()) + matmul(self.primal.clone(), right))
            }
        };
        Self::new(matmul(self.primal, other.primal), tangent)
    }

    /// `silu(self) other`, where `silu(x) = x sigmoid(x)`.
    pub(crate) fn silu_times(&self, other: &Self) -> Self {
        let kernel = Gated(Activation::Silu);
        let (a, b) = (&self.primal, &other.primal);
        if self.tangent.is_none() && other.tangent.is_none() {
            return composed::run(Rows(kernel), [a, b]).into();
        }
        let [da, db] = [self, other].map(Self::tangent_or_zero);
        composed::run(Rows(GatedDual(kernel)), [a, b, &da, &db]).into()
    }

    /// GPT-2's `gelu_new`: `0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`, through the identity
    /// `0.5 (1 + tanh(z)) = sigmoid(2 z)`.
    pub fn gelu_new(self) -> Self {
        let kernel = Activation::GeluNew;
        match &self.tangent {
            None => composed::run(Rows(kernel), [&self.primal]).into(),
            Some(tangent) => composed::run(Rows(ActivationDual(kernel)), [&self.primal, tangent]).into(),
        }
    }

    /// `x / sqrt(mean(x^2) + epsilon)` along the last dimension, or of `x - mean(x)` if `centred`; times the row `weight`, plus
    /// the row `bias`.
    pub(crate) fn norm(self, centred: bool, epsilon: f64, weight: Self, bias: Option<Self>) -> Self {
        let kernel = Normalise { centred, epsilon };
        let (x, w, b) = (&self.primal, &weight.primal, bias.as_ref().map(|bias| &bias.primal));
        let db = bias.as_ref().and_then(|bias| bias.tangent.as_ref());
        if self.tangent.is_none() && weight.tangent.is_none() && db.is_none() {
            return match b {
                None => composed::run(Norm(kernel), [x, w]).into(),
                Some(b) => composed::run(Norm(kernel), [x, w, b]).into(),
            };
        }
        let (dx, dw) = (&self.tangent_or_zero(), &weight.tangent_or_zero());
        let kernel = NormDual(kernel);
        match (b, db) {
            (None, _) => composed::run(kernel, [x, dx, w, dw]).into(),
            (Some(b), None) => composed::run(kernel, [x, dx, w, dw, b]).into(),
            (Some(b), Some(db)) => composed::run(kernel, [x, dx, w, dw, b, db]).into(),
        }
    }

    /// Natural logarithm.
    pub fn ln(self) -> Self {
        self.elementwise(Tensor::log, Tensor::recip)
    }

    /// Softmax of `scale * self` along the last dimension. With `causal`, the dimension before holds
    /// that many queries, and query `q` sees the keys `..= q` alone.
    pub fn softmax(self, scale: f64, causal: Option<usize>) -> Self {
        let kernel = Softmax { scale, causal };
        if let Some([value]) = fused::apply(kernel, [&self.primal]) {
            let tangent = self.tangent.map(|tangent| {
                let tangent = fused::apply(SoftmaxTangent(kernel), [&value, &tangent]);
                let [tangent] = tangent.expect("the value was on the CPU");
                tangent
            });
            return Self::new(value, tangent);
        }
        let value = composed::softmax(self.primal, scale, causal);
        let tangent = self.tangent.map(|tangent| {
            let tangent = tangent * scale;
            value.clone() * (tangent.clone() - dot(&value, &tangent))
        });
        Self::new(value, tangent)
    }

    /// Heads `[batch, seq, heads, dim]` rotated on the CPU; see [`Rotation`].
    pub(crate) fn rotated(&self, rotation: &Rotation) -> Option<Self> {
        let rotate = |x: &Tensor<D>| fused::apply(rotation.clone(), [x]).map(|[x]| x);
        let tangent = match &self.tangent {
            None => None,
            Some(tangent) => Some(rotate(tangent)?),
        };
        Some(Self::new(rotate(&self.primal)?, tangent))
    }
}

impl<const D: usize> std::ops::Add for Dual<D> {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let tangent = match (self.tangent, other.tangent) {
            (None, None) => None,
            // a broadcast operand must not leave the other's tangent too small
            (Some(only), None) | (None, Some(only)) => Some(expand_to(only, &self.primal, &other.primal)),
            (Some(left), Some(right)) => Some(left + right),
        };
        Self::new(self.primal + other.primal, tangent)
    }
}

impl<const D: usize> std::ops::Sub for Dual<D> {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self + other.scale(-1.0)
    }
}

impl Dual<2> {
    /// `self weight (+ bias)` of `self [rows, in]`, `weight [in, out]` and `bias [1, out]`.
    pub(crate) fn linear(self, weight: Self, bias: Option<Self>, precision: MatmulPrecision) -> Self {
        let linear = Linear { precision };
        let plain = |x: &Tensor<2>, w: &Tensor<2>, bias: Option<&Tensor<2>>| -> Tensor<2> {
            let [y] = match bias {
                None => composed::run(linear, [x, w]),
                Some(bias) => composed::run(linear, [x, w, bias]),
            };
            y
        };
        let (x, w, b) = (&self.primal, &weight.primal, bias.as_ref().map(|bias| &bias.primal));
        let db = bias.as_ref().and_then(|bias| bias.tangent.as_ref());
        let tangent = match (&self.tangent, &weight.tangent) {
            (Some(dx), Some(dw)) => {
                let linear = LinearDual(linear);
                return match (b, db) {
                    (None, _) => composed::run(linear, [x, dx, w, dw]).into(),
                    (Some(b), None) => composed::run(linear, [x, dx, w, dw, b]).into(),
                    (Some(b), Some(db)) => composed::run(linear, [x, dx, w, dw, b, db]).into(),
                };
            }
            (Some(dx), None) => Some(plain(dx, w, db)),
            (None, Some(dw)) => Some(plain(x, dw, db)),
            (None, None) => None,
        };
        let y = plain(x, w, b);
        let tangent = tangent.or_else(|| db.map(|db| db.clone().expand(y.dims())));
        Self::new(y, tangent)
    }
}

/// Causal attention of `[query, key, value]`, or of one tensor that holds them side by side; see
/// [`Attention`].
pub(crate) fn causal_attention(kernel: Attention, inputs: &[Dual<3>]) -> Dual<3> {
    match inputs {
        [qkv] => match &qkv.tangent {
            None => composed::run(kernel, [&qkv.primal]).into(),
            Some(tangent) => composed::run(AttentionDual(kernel), [&qkv.primal, tangent]).into(),
        },
        [q, k, v] => {
            let parts = [q, k, v].map(|part| &part.primal);
            if [q, k, v].into_iter().all(|part| part.tangent.is_none()) {
                return composed::run(kernel, parts).into();
            }
            let ([q, k, v], [dq, dk, dv]) = (parts, [q, k, v].map(Dual::tangent_or_zero));
            composed::run(AttentionDual(kernel), [q, k, v, &dq, &dk, &dv]).into()
        }
        _ => unreachable!("attention has one input or three"),
    }
}

fn expand_to<const D: usize>(tangent: Tensor<D>, a: &Tensor<D>, b: &Tensor<D>) -> Tensor<D> {
    let (a, b) = (a.dims(), b.dims());
    let shape: [usize; D] = std::array::from_fn(|dim| a[dim].max(b[dim]));
    if tangent.dims() == shape { tangent } else { tangent.expand(shape) }
}
