//! The inner run: what is fine-tuned, and one pass over a batch each way.

use burn::tensor::Tensor;
use dpg_models::{CausalLm, Example, Params};

use crate::{Error, Optimizer, State, loss::example_losses};

/// A fine-tuning run A(D) with one weight per example.
#[derive(Clone, Copy)]
pub struct Sft<'a> {
    /// The target model.
    pub lm: &'a dyn CausalLm,
    /// Its weights at the start, theta_0 `[n]`.
    pub theta: &'a Tensor<1>,
    /// The dataset.
    pub examples: &'a [Example],
    /// Weights w_i of the examples, at which the derivative is taken; normally all 1.
    pub weights: &'a [f64],
    /// Examples of every optimizer step.
    pub batches: &'a [Vec<usize>],
    /// The optimizer.
    pub optimizer: &'a dyn Optimizer,
    /// Examples that pass through the model together; bounds memory, changes nothing else.
    pub microbatch: usize,
    /// Asked before every pass; true stops the run with [`Error::Cancelled`].
    pub cancelled: &'a (dyn Fn() -> bool + Sync),
}

impl Sft<'_> {
    /// Refuses what has no meaning before any time is spent on it.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.examples.is_empty() {
            return Err(Error::NoExamples);
        }
        assert_eq!(self.weights.len(), self.examples.len(), "one weight per example");
        assert!(self.microbatch > 0, "a microbatch has at least one example");
        for (index, example) in self.examples.iter().enumerate() {
            if example.scored_len() == 0 {
                return Err(Error::NothingScored { index });
            }
            let (length, limit) = (example.tokens.len(), self.lm.context());
            if length > limit {
                let what = format!("example {index}");
                return Err(dpg_models::Error::TooLong { what, length, limit }.into());
            }
        }
        Ok(())
    }

    /// Plain fine-tuning: theta_T.
    pub fn train(&self) -> Result<Tensor<1>, Error> {
        self.check()?;
        let mut state = State::new(self.theta.clone(), self.optimizer);
        for step in 0..self.batches.len() {
            let g = self.gradient(step, &state.theta)?;
            state = self.optimizer.step(step, &state, &g);
        }
        Ok(state.theta)
    }

    /// `g_t = grad (1/|B|) sum_i w_i l_i` at `theta`, `[n]`.
    pub(crate) fn gradient(&self, step: usize, theta: &Tensor<1>) -> Result<Tensor<1>, Error> {
        let mut total: Option<Tensor<1>> = None;
        for indices in self.microbatches(step) {
            self.stop_if_cancelled()?;
            let params = Params::tracked(self.lm.layout(), theta);
            let losses = example_losses(self.lm, &params, &self.pick(indices)).primal;
            let loss = (losses * self.shares(step, indices, &params)).sum();
            add(&mut total, params.gradient(&loss.backward()));
        }
        Ok(total.expect("a batch has at least one example"))
    }

    /// Directional derivatives `s_i = <grad l_i(theta), u>` of the batch's examples, in its order,
    /// and the Hessian-vector product `H u` of the batch's loss, if asked for.
    ///
    /// One dual forward pass gives all s_i; one ordinary backward pass of their weighted mean gives
    /// H u, because grad <grad L, u> = H u.
    pub(crate) fn tangents(
        &self,
        step: usize,
        theta: &Tensor<1>,
        u: &Tensor<1>,
        with_curvature: bool,
    ) -> Result<(Vec<f64>, Option<Tensor<1>>), Error> {
        let layout = self.lm.layout();
        let mut all = Vec::with_capacity(self.batches[step].len());
        let mut curvature: Option<Tensor<1>> = None;
        for indices in self.microbatches(step) {
            self.stop_if_cancelled()?;
            let params =
                if with_curvature { Params::tracked(layout, theta) } else { Params::new(layout, theta) };
            let params = params.with_tangent(layout, u);
            let losses = example_losses(self.lm, &params, &self.pick(indices));
            let Some(tangents) = losses.tangent else {
                // u is zero where the losses look
                all.extend(indices.iter().map(|_| 0.0));
                if with_curvature {
                    add(&mut curvature, theta.zeros_like());
                }
                continue;
            };
            all.extend(tangents.clone().inner().to_data_as::<f64>().iter::<f64>());
            if with_curvature {
                let mean = (tangents * self.shares(step, indices, &params)).sum();
                add(&mut curvature, params.gradient(&mean.backward()));
            }
        }
        Ok((all, curvature))
    }

    fn microbatches(&self, step: usize) -> std::slice::Chunks<'_, usize> {
        self.batches[step].chunks(self.microbatch)
    }

    fn pick(&self, indices: &[usize]) -> Vec<&Example> {
        indices.iter().map(|&index| &self.examples[index]).collect()
    }

    /// `w_i / |B|` of a microbatch.
    fn shares(&self, step: usize, indices: &[usize], params: &Params) -> Tensor<1> {
        let batch = self.batches[step].len() as f64;
        let shares = indices.iter().map(|&index| self.weights[index] / batch).collect();
        params.constant(shares, [indices.len()])
    }

    fn stop_if_cancelled(&self) -> Result<(), Error> {
        if (self.cancelled)() { Err(Error::Cancelled) } else { Ok(()) }
    }
}

fn add(total: &mut Option<Tensor<1>>, part: Tensor<1>) {
    *total = Some(match total.take() {
        None => part,
        Some(sum) => sum + part,
    });
}
