//! AdamW (Loshchilov and Hutter, 2019) with `eps_root` under the root, which makes the step
//! differentiable at g = 0. With n = step + 1:
//!
//! ```text
//! m' = b1 m + (1 - b1) g         mh = m' / (1 - b1^n)
//! v' = b2 v + (1 - b2) g^2       vh = v' / (1 - b2^n)
//! r  = sqrt(vh + eps_root)       d  = r + eps
//! theta' = theta - lr (mh / d + wd theta)
//! ```

use burn::tensor::Tensor;
use dpg_models::elementwise;
use dpg_spec::AdamW;

use super::{Optimizer, State};

/// Below the root of the smallest normal f32, so that r = 0 (no gradient yet, eps_root = 0) divides
/// a zero by something.
const SMALLEST_ROOT: f64 = 1e-19;

impl Optimizer for AdamW {
    fn moments(&self) -> usize {
        2
    }

    fn step(&self, step: usize, state: &State, g: &Tensor<1>) -> State {
        let [b1, b2] = self.betas;
        let [c1, c2] = self.bias_corrections(step);
        let kept = 1.0 - self.learning_rate * self.weight_decay;
        let one_pass =
            elementwise([&state.theta, &state.moments[0], &state.moments[1], g], |[theta, m, v, g]| {
                let m = b1 * m + (1.0 - b1) * g;
                let v = b2 * v + (1.0 - b2) * g * g;
                let d = (v / c2 + self.eps_root).sqrt() + self.eps;
                [theta * kept - self.learning_rate / c1 * m / d, m, v]
            });
        if let Some([theta, m, v]) = one_pass {
            return State { theta, moments: vec![m, v] };
        }
        let m = state.moments[0].clone() * b1 + g.clone() * (1.0 - b1);
        let v = self.second_moment(state, g);
        let d = (v.clone() * (1.0 / c2) + self.eps_root).sqrt() + self.eps;
        let theta = state.theta.clone() * kept - m.clone() / d * (self.learning_rate / c1);
        State { theta, moments: vec![m, v] }
    }

    fn adjoint(&self, step: usize, before: &State, g: &Tensor<1>, adjoint: State) -> (State, Tensor<1>) {
        let [b1, b2] = self.betas;
        let [c1, c2] = self.bias_corrections(step);
        let kept = 1.0 - self.learning_rate * self.weight_decay;
        let [lambda, lambda_m, lambda_v] = [&adjoint.theta, &adjoint.moments[0], &adjoint.moments[1]];
        let [m, v] = [&before.moments[0], &before.moments[1]];
        let one_pass =
            elementwise([lambda, lambda_m, lambda_v, m, v, g], |[lambda, lambda_m, lambda_v, m, v, g]| {
                let m = b1 * m + (1.0 - b1) * g;
                let v = b2 * v + (1.0 - b2) * g * g;
                let r = (v / c2 + self.eps_root).sqrt().max(SMALLEST_ROOT);
                let d = r + self.eps;
                // theta' = .. - lr mh / d, read backwards
                let per_d = self.learning_rate / c1 * lambda / d;
                let lambda_m = lambda_m - per_d;
                let lambda_v = lambda_v + 0.5 / c2 * per_d * m / d / r;
                let u = lambda_m * (1.0 - b1) + 2.0 * (1.0 - b2) * lambda_v * g;
                [lambda * kept, lambda_m * b1, lambda_v * b2, u]
            });
        if let Some([theta, m, v, u]) = one_pass {
            return (State { theta, moments: vec![m, v] }, u);
        }
        let m = before.moments[0].clone() * b1 + g.clone() * (1.0 - b1);
        let v = self.second_moment(before, g);
        let r = (v * (1.0 / c2) + self.eps_root).sqrt().clamp_min(SMALLEST_ROOT);
        let d = r.clone() + self.eps;

        // theta' = .. - lr mh / d, read backwards
        let per_d = adjoint.theta.clone() / d.clone() * (self.learning_rate / c1);
        let [lambda_m, lambda_v] = two(adjoint.moments);
        let lambda_m = lambda_m - per_d.clone();
        let lambda_v = lambda_v + per_d * m / d / r * (0.5 / c2);

        let u = lambda_m.clone() * (1.0 - b1) + lambda_v.clone() * g.clone() * (2.0 * (1.0 - b2));
        let before = State { theta: adjoint.theta * kept, moments: vec![lambda_m * b1, lambda_v * b2] };
        (before, u)
    }
}

fn two(moments: Vec<Tensor<1>>) -> [Tensor<1>; 2] {
    moments.try_into().expect("AdamW has two moments")
}

/// The parts of a step that its adjoint repeats.
trait Parts {
    fn bias_corrections(&self, step: usize) -> [f64; 2];
    fn second_moment(&self, before: &State, g: &Tensor<1>) -> Tensor<1>;
}

impl Parts for AdamW {
    fn bias_corrections(&self, step: usize) -> [f64; 2] {
        self.betas.map(|beta| 1.0 - beta.powf(step as f64 + 1.0))
    }

    fn second_moment(&self, before: &State, g: &Tensor<1>) -> Tensor<1> {
        let b2 = self.betas[1];
        before.moments[1].clone() * b2 + g.clone() * g.clone() * (1.0 - b2)
    }
}
