//! Gradients cut to a largest norm M, as `torch.nn.utils.clip_grad_norm_` does: with n = ||g||,
//!
//! ```text
//! g' = c g        c = min(1, M / (n + 1e-6))
//! ```

use burn::tensor::Tensor;
use dpg_models::can_sweep;

/// What PyTorch adds to the norm.
const EPS: f64 = 1e-6;

/// A gradient was cut: by how much.
#[derive(Clone, Copy, Debug)]
pub struct Clip {
    /// n, before.
    norm: f64,
    /// M.
    largest: f64,
}

/// The gradient `g [n]` cut to norm `largest`, and how, if that changes it.
pub fn clip(g: Tensor<1>, largest: f64) -> (Tensor<1>, Option<Clip>) {
    let clip = Clip { norm: dot(&g, &g).sqrt(), largest };
    // a norm that is not finite is the step's to tell
    if clip.norm.is_finite() && clip.factor() < 1.0 { (g * clip.factor(), Some(clip)) } else { (g, None) }
}

impl Clip {
    /// c.
    fn factor(self) -> f64 {
        self.largest / (self.norm + EPS)
    }

    /// `dPhi/dg [n]` of u = dPhi/dg' and the cut gradient g', all `[n]`: `c u - g' <g', u> / (M n)`, because
    /// dc/dg = -c^2 g / (M n) = -c g' / (M n).
    #[must_use]
    pub fn back(self, u: Tensor<1>, cut: Tensor<1>) -> Tensor<1> {
        let along = dot(&cut, &u) / (self.largest * self.norm);
        u * self.factor() - cut * along
    }
}

/// `<a, b>`; in double precision on the CPU, since many small products lose digits in single.
fn dot(a: &Tensor<1>, b: &Tensor<1>) -> f64 {
    const CHUNK: usize = 1 << 16;
    if !can_sweep(a) {
        return (a.clone() * b.clone()).sum().into_scalar::<f64>();
    }
    let n = a.dims()[0];
    let of_chunk = |first: usize| {
        let [a, b] = [a, b].map(|v| v.clone().slice(first..(first + CHUNK).min(n)).to_data_as::<f64>());
        a.iter::<f64>().zip(b.iter::<f64>()).map(|(a, b)| a * b).sum::<f64>()
    };
    (0..n).step_by(CHUNK).map(of_chunk).sum()
}

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, Device};

    use super::*;

    fn tensor(values: &[f64]) -> Tensor<1> {
        Tensor::from_data(values, (&Device::flex(), DType::F64))
    }

    fn values(tensor: &Tensor<1>) -> Vec<f64> {
        tensor.to_data().iter::<f64>().collect()
    }

    #[test]
    fn a_gradient_is_cut_as_pytorch_cuts_it() {
        // clip_grad_norm_ of torch 2 in float64
        let (cut, clip) = clip(tensor(&[3.0, -4.0, 12.0]), 2.0);
        assert!(clip.is_some());
        for (ours, theirs) in
            values(&cut).into_iter().zip([0.46153842603550577, -0.615384568047341, 1.846153704142023])
        {
            assert!((ours / theirs - 1.0).abs() < 1e-14, "{ours}, {theirs}");
        }
        assert!(super::clip(tensor(&[3.0, -4.0, 12.0]), 14.0).1.is_none());
    }

    #[test]
    fn its_adjoint_equals_finite_differences() {
        const H: f64 = 1e-6;
        let (g, u) = ([0.3, -0.4, 1.2, 0.0], [1.0, 0.5, -2.0, 3.0]);
        let product = |g: &[f64]| -> f64 {
            values(&clip(tensor(g), 0.7).0).iter().zip(u).map(|(cut, u)| cut * u).sum()
        };
        let (cut, clip) = clip(tensor(&g), 0.7);
        for (i, exact) in values(&clip.unwrap().back(tensor(&u), cut)).into_iter().enumerate() {
            let moved = |change: f64| {
                let mut g = g;
                g[i] += change;
                product(&g)
            };
            let difference = (moved(H) - moved(-H)) / (2.0 * H);
            assert!((exact - difference).abs() < 1e-9, "{i}: {exact}, {difference}");
        }
    }

    #[test]
    fn many_small_numbers_add_up_in_single_precision() {
        let g = Tensor::<1>::full([3_000_000], 1e-3, (&Device::flex(), DType::F32));
        assert!((dot(&g, &g) / 3.0 - 1.0).abs() < 1e-6);
    }
}
