//! The inner run: what is fine-tuned, and one pass over a batch each way.

use std::sync::Arc;

use burn::tensor::{Device, Tensor};
use dpg_models::{CausalLm, Example, LeafGradients, Params, Trace, check_tokens, device};
use dpg_optim::{Clip, Optimizer, Run, State};
use dpg_spec::Loss;

use crate::{
    Error,
    loss::{Scored, labels},
};

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
    /// The recipe: optimizer, schedule, loss. The batches are made already.
    pub recipe: &'a dpg_spec::Sft,
    /// Examples that pass through the model together; bounds memory, and changes rewards by rounding alone.
    pub microbatch: usize,
    /// What shares the examples of every batch, at least one; the vectors of the run lie where `theta`
    /// does. More of them change rewards by rounding alone.
    pub devices: &'a [Device],
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
            check_tokens(self.lm, &example.tokens, || format!("example {index}"))?;
        }
        let (run, steps) = (self.run(), self.batches.len());
        if steps > 0 && (0..steps).all(|step| run.rate(step) == 0.0) {
            return Err(Error::NoRate { steps });
        }
        Ok(())
    }

    /// Plain fine-tuning: theta_T.
    pub fn train(&self) -> Result<Tensor<1>, Error> {
        self.check()?;
        let mut state = State::new(self.theta.clone());
        for step in 0..self.batches.len() {
            let g = self.gradient(step, &state.theta)?.flat;
            state = self.optimizer().step(&self.run(), step, state, &g);
        }
        Ok(state.theta)
    }

    pub(crate) fn optimizer(&self) -> &dyn Optimizer {
        dpg_optim::of(&self.recipe.optimizer)
    }

    pub(crate) fn run(&self) -> Run<'_> {
        Run::of(self.recipe, self.lm.layout(), self.batches.len())
    }

    /// `g_t = grad sum_i w_i share(l_i)` at `theta`, `[n]`, cut to the recipe's largest norm; without what
    /// comes back to the padding row of the embedding from its lookups, if the model has one.
    pub(crate) fn gradient(&self, step: usize, theta: &Tensor<1>) -> Result<Gradient, Error> {
        self.gradient_and(step, theta, false)
    }

    /// The same, and what [`traced_tangents`](Self::traced_tangents) are made of, if asked for.
    pub(crate) fn gradient_and(
        &self,
        step: usize,
        theta: &Tensor<1>,
        with_traces: bool,
    ) -> Result<Gradient, Error> {
        let sums = self.over_batch(step, [theta], |indices, [theta]| {
            let (trace, shares) = (Arc::new(Trace::default()), self.shares(step, indices));
            let params = Params::trained(self.lm.layout(), theta);
            let params = if with_traces { params.traced(&trace) } else { params };
            let scored = Scored::new(self.lm, &params, &self.pick(indices));
            let total = params.leaf_gradients(scored.weighed_loss(&shares).backward());
            let traces = if with_traces { vec![Traced { trace, scored, shares }] } else { vec![] };
            Sums { total: Some(total), traces, ..Sums::default() }
        })?;
        let flat = sums.total.expect("a batch has at least one example").flat(theta);
        let largest = self.recipe.max_grad_norm;
        let (flat, clip) = if largest > 0.0 { dpg_optim::clip(flat, largest) } else { (flat, None) };
        Ok(Gradient { flat, clip, traces: sums.traces })
    }

    /// Whether the walk back may have its derivatives from traces of the way there: if the run is one step whose batch
    /// passes at once, so that they take the memory of one pass, and none of its examples counts nothing.
    pub(crate) fn is_traceable(&self) -> bool {
        let [batch] = self.batches else { return false };
        self.takes_at_once(batch.len())
            && batch.iter().all(|&example| self.weights.get(example) != Some(&0.0))
    }

    /// Whether so many examples pass through the model together, on each device its share.
    pub fn takes_at_once(&self, examples: usize) -> bool {
        examples.div_ceil(self.devices.len()) <= self.microbatch
    }

    /// `s_i`, of the passes that left `traces`.
    pub(crate) fn traced_tangents(
        &self,
        traces: &[Traced],
        theta: &Tensor<1>,
        u: &Tensor<1>,
    ) -> Result<Vec<f64>, Error> {
        self.stop_if_cancelled()?;
        let layout = self.lm.layout();
        let parts = device::map(self.devices, traces, |device, traces| {
            let [theta, u] = [theta, u].map(|vector| vector.clone().to_device(device));
            let params = Params::new(layout, &theta).with_tangent(layout, &u);
            traces.iter().flat_map(|traced| traced.tangents(self.lm, &params)).collect::<Vec<_>>()
        });
        Ok(parts.concat())
    }

    /// What each token of the batch's examples has of `s_i = <grad l_i(theta), u>`, in the order of the batch, and the
    /// Hessian-vector product `H u` of the batch's loss, if asked for and not zero.
    ///
    /// One dual forward pass gives all s_i; one ordinary backward pass of their weighted mean gives
    /// H u, because grad <grad L, u> = H u. Where a padding row makes g something else than grad L, these
    /// are <g_i, u> and grad <g, u>.
    pub(crate) fn tangents(
        &self,
        step: usize,
        theta: &Tensor<1>,
        u: &Tensor<1>,
        with_curvature: bool,
    ) -> Result<(Vec<Vec<f64>>, Option<LeafGradients>), Error> {
        let layout = self.lm.layout();
        let sums = self.over_batch(step, [theta, u], |indices, [theta, u]| {
            let params =
                if with_curvature { Params::tracked(layout, theta) } else { Params::new(layout, theta) };
            let params = params.with_tangent(layout, u);
            let scored = Scored::new(self.lm, &params, &self.pick(indices));
            let (each, mean) = if with_curvature {
                scored.weighed_tangents(&self.shares(step, indices))
            } else {
                (scored.tangents(), None)
            };
            let total = mean.map(|mean| params.leaf_gradients(mean.backward()));
            Sums { each, total, ..Sums::default() }
        })?;
        Ok((sums.each, sums.total))
    }

    /// Passes over the microbatches of a batch, which the devices share, with `vectors` `[n]` where the
    /// pass runs. Sums are taken in the order of the batch on each device, and then in theirs: the same
    /// to the last bit for a given number of devices.
    fn over_batch<const N: usize>(
        &self,
        step: usize,
        vectors: [&Tensor<1>; N],
        pass: impl Fn(&[usize], [&Tensor<1>; N]) -> Sums + Sync,
    ) -> Result<Sums, Error> {
        let parts = device::map(self.devices, &self.batches[step], |device, part| {
            let vectors = vectors.map(|vector| vector.clone().to_device(device));
            part.chunks(self.microbatch).try_fold(Sums::default(), |sums, indices| {
                self.stop_if_cancelled()?;
                Ok::<_, Error>(sums.and(pass(indices, vectors.each_ref())))
            })
        });
        parts.into_iter().try_fold(Sums::default(), |sums, part| {
            let part = part?;
            let total = part.total.map(|total| total.to_device(&self.theta.device()));
            Ok(sums.and(Sums { total, ..part }))
        })
    }

    fn pick(&self, indices: &[usize]) -> Vec<&Example> {
        indices.iter().map(|&index| &self.examples[index]).collect()
    }

    /// What part of an example's number the batch's mean has: that over `|B|`, or, for the mean over tokens,
    /// times the example's scored ones and over the batch's labels.
    pub(crate) fn share(&self, step: usize) -> impl Fn(usize, f64) -> f64 {
        let (batch, examples) = (&self.batches[step], self.examples);
        let all: usize = match self.recipe.loss {
            Loss::ExampleMean => batch.len(),
            Loss::TokenMean => batch.iter().map(|&index| labels(&examples[index], self.recipe.packing)).sum(),
        };
        let loss = self.recipe.loss;
        move |index, of| match loss {
            Loss::ExampleMean => of / all as f64,
            Loss::TokenMean => of * examples[index].scored_len() as f64 / all as f64,
        }
    }

    /// What each example of a microbatch counts for in the batch's loss.
    fn shares(&self, step: usize, indices: &[usize]) -> Vec<f64> {
        let share = self.share(step);
        indices.iter().map(|&index| share(index, self.weights[index])).collect()
    }

    fn stop_if_cancelled(&self) -> Result<(), Error> {
        if (self.cancelled)() { Err(Error::Cancelled) } else { Ok(()) }
    }
}

/// The gradient of a batch.
pub(crate) struct Gradient {
    /// As the optimizer takes it, `[n]`,
    pub(crate) flat: Tensor<1>,
    /// and how it was cut before.
    pub(crate) clip: Option<Clip>,
    /// One for each device that had a part of the batch, if they were asked for.
    pub(crate) traces: Vec<Traced>,
}

/// A pass over examples whose gradients were taken.
pub(crate) struct Traced {
    trace: Arc<Trace>,
    scored: Scored,
    /// What each example counted for in the loss.
    shares: Vec<f64>,
}

impl Traced {
    /// `<grad l_i, u>` of its examples, u the tangent of `params`.
    fn tangents(&self, lm: &dyn CausalLm, params: &Params) -> Vec<f64> {
        let weighed = self.trace.tangents(params, self.shares.len());
        let of_head = self.scored.tangents_of_head(lm, params);
        let each = weighed.into_iter().zip(&self.shares).zip(of_head);
        each.map(|((weighed, share), of_head)| weighed / share + of_head).collect()
    }
}

/// What passes over examples give: numbers for each one's tokens, the sum of their gradients, and traces, if there are any.
#[derive(Default)]
struct Sums {
    each: Vec<Vec<f64>>,
    total: Option<LeafGradients>,
    traces: Vec<Traced>,
}

impl Sums {
    fn and(mut self, next: Self) -> Self {
        self.each.extend(next.each);
        self.traces.extend(next.traces);
        self.total = match (self.total, next.total) {
            (Some(sum), Some(part)) => Some(sum.and(part)),
            (sum, part) => sum.or(part),
        };
        self
    }
}
