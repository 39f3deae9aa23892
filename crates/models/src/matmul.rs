//! Matrix products at a stated precision.
//!
//! Left alone, burn multiplies f32 matrices on tensor cores and rounds them to TF32 without saying so.
//! A backend launches the products here, and those of their gradients, with the precision that was asked
//! for; where it has no products of its own (the CPU) one below f32 is imitated by rounding the operands,
//! to measure what it costs.

use burn::tensor::{Device, Tensor};

use crate::{
    Error,
    backend::product,
    composed,
    device::{backend_of, backends},
};

/// What products of f32 matrices round their operands to. Sums are taken in f32 always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MatmulPrecision {
    /// Nothing: 24 bits of mantissa.
    #[default]
    F32,
    /// TF32, 11 bits, on tensor cores.
    Tf32,
    /// bfloat16, 8 bits, on tensor cores.
    Bf16,
}

impl MatmulPrecision {
    /// Refuses a precision that a device does not have.
    ///
    /// # Errors
    /// The device's backend would imitate it.
    pub fn check(self, device: &Device) -> Result<(), Error> {
        let backend = backend_of(device);
        if backend.precisions().contains(&self) {
            return Ok(());
        }
        let having = backends().iter().find(|backend| backend.precisions().contains(&self));
        Err(Error::Precision {
            name: self.name(),
            title: backend.title(),
            instead: having
                .map_or(String::new(), |having| format!(", or choose `--device {}`", having.device_name(0))),
        })
    }

    /// Its name in specs.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
        }
    }

    /// `x` as products at this precision read it.
    fn round<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        // Veltkamp's splitting leaves 24 - 13 = 11 bits of mantissa, and 24 - 16 = 8
        let split = match self {
            Self::F32 => return x,
            Self::Tf32 => 8193.0,
            Self::Bf16 => 65537.0,
        };
        let scaled = x.clone() * split;
        scaled.clone() - (scaled - x)
    }
}

/// `a b`, batched over leading dimensions, which are the same for both. Tracked if an operand is, and the
/// products of its gradients have the same precision.
pub(crate) fn matmul<const D: usize>(a: Tensor<D>, b: Tensor<D>, precision: MatmulPrecision) -> Tensor<D> {
    if a.is_autodiff() || b.is_autodiff() {
        return composed::matmul(a, b, precision);
    }
    let own = product(&a, &b, &mut None, precision);
    own.unwrap_or_else(|| precision.round(a).matmul(precision.round(b)))
}

/// `a b + c` of untracked tensors, c of the product's shape or, for matrices, a row for all of its rows.
pub(crate) fn matmul_plus<const D: usize>(
    a: Tensor<D>,
    b: Tensor<D>,
    c: Tensor<D>,
    precision: MatmulPrecision,
) -> Tensor<D> {
    let mut plus = Some(c);
    let own = product(&a, &b, &mut plus, precision);
    own.unwrap_or_else(|| {
        let product = precision.round(a).matmul(precision.round(b));
        plus.into_iter().fold(product, |product, c| product + c)
    })
}
