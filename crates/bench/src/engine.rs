//! The engine's parts at a shape, each run once and timed.

use std::time::Instant;

use burn::tensor::{Device, Distribution, Tensor};
use dpg_metagrad::{Sft, Storage, metagradient, metrics::WeightNorm};
use dpg_models::{
    CausalLm, Completion, Dual, Example, MatmulPrecision, Params, Predictions, Sampling,
    device::{KernelTime, backend_of},
    log_probs_at, places, sample,
};
use dpg_optim::State;
use dpg_policy::{Policy, Rollout, update};
use dpg_spec as spec;

use crate::Shape;

/// Rollouts of a prompt.
pub(crate) const GROUP: usize = 4;

/// A model of a shape with what its runs need. Every method does one run and returns its seconds.
pub struct Engine {
    shape: Shape,
    device: Device,
    lm: Box<dyn CausalLm>,
    theta: Tensor<1>,
    direction: Tensor<1>,
    examples: Vec<Example>,
    recipe: spec::Sft,
}

impl Engine {
    /// Random weights and texts.
    ///
    /// # Panics
    /// If the shape makes no model.
    pub fn new(shape: Shape, device: &Device) -> Self {
        let lm = shape.model();
        let theta = shape.weights(lm.as_ref(), device);
        Self {
            shape,
            device: device.clone(),
            direction: theta.clone() * 0.01,
            theta,
            lm,
            examples: shape.examples(shape.batch),
            recipe: spec::Sft::default(),
        }
    }

    /// What is measured.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The matrix products of one forward pass alone.
    pub fn products(&self) -> f64 {
        let mut total = 0.0;
        for (count, [m, k, n]) in self.shape.products() {
            // the many products of attention are one batched product
            let layers = self.shape.layers;
            let (repeats, batch) = if count > layers { (layers, count / layers) } else { (count, 1) };
            // a GPU that multiplies equal numbers draws less power, and is faster than it will be
            let random = |size| Tensor::<3>::random(size, Distribution::Default, &self.device);
            let (a, b) = (random([batch, m, k]), random([batch, k, n]));
            for _ in 0..repeats {
                let (a, b) = (Dual::from(a.clone()), Dual::from(b.clone()));
                total += self.seconds(|| drop(a.matmul(b, MatmulPrecision::F32)));
            }
        }
        total
    }

    /// A forward pass in dual numbers.
    pub fn dual_forward(&self) -> f64 {
        let layout = self.lm.layout();
        self.seconds(|| {
            let params = Params::new(layout, &self.theta).with_tangent(layout, &self.direction);
            let places = places(&self.examples);
            let log_probs = log_probs_at(self.lm.as_ref(), &params, &self.examples, &places);
            drop(log_probs.tangent.expect("the leaves have tangents").to_data());
        })
    }

    /// The same with the backward pass of its tangents: rewards and Hessian-vector product.
    pub fn fused_pass(&self) -> f64 {
        let layout = self.lm.layout();
        self.seconds(|| {
            let params = Params::tracked(layout, &self.theta).with_tangent(layout, &self.direction);
            let places = places(&self.examples);
            let mean = vec![1.0 / places.len() as f64; places.len()];
            let predictions = Predictions::at(self.lm.as_ref(), &params, &self.examples, &places);
            let (_, mean) = predictions.weighed(&mean);
            drop(params.gradient(mean.backward()).to_data());
        })
    }

    /// Plain fine-tuning of `steps` steps.
    ///
    /// # Panics
    /// If the engine refuses the run.
    pub fn plain(&self, steps: usize) -> f64 {
        self.with_run(steps, |sft| self.seconds(|| drop(sft.train().expect("plain fine-tuning").to_data())))
    }

    /// A whole metagradient run of `steps` steps, for the norm of the head.
    ///
    /// # Panics
    /// If the engine refuses the run.
    pub fn metagradient(&self, steps: usize) -> f64 {
        self.metagradient_within(steps, |sft| Storage::fitting(sft, &std::env::temp_dir()))
    }

    /// The same with its states kept in another way.
    ///
    /// # Panics
    /// If the engine refuses the run.
    pub fn metagradient_within(&self, steps: usize, storage: impl Fn(&Sft) -> Storage) -> f64 {
        let head = spec::WeightNorm { parameter: spec::Parameters::One(spec::NamedParameter::lm_head()) };
        let metric = WeightNorm::new(&head, self.lm.as_ref(), &self.theta).expect("the model has a head");
        self.with_run(steps, |sft| {
            let storage = storage(&sft);
            self.seconds(|| drop(metagradient(sft, &metric, &storage).expect("a metagradient run")))
        })
    }

    /// Steps of the run whose kernels are measured: the last one, and one with a fused pass.
    pub const KERNEL_STEPS: usize = 2;

    /// The kernels of a metagradient run, the longest first; none where kernels are not launched.
    pub fn kernels(&self) -> Vec<KernelTime> {
        let mut run = || {
            self.metagradient(Self::KERNEL_STEPS);
        };
        backend_of(&self.device).kernels(&mut run).unwrap_or_default()
    }

    fn with_run(&self, steps: usize, work: impl FnOnce(Sft) -> f64) -> f64 {
        let examples = self.shape.examples(steps * self.shape.batch);
        let order: Vec<usize> = (0..examples.len()).collect();
        let batches: Vec<Vec<usize>> = order.chunks(self.shape.batch).map(<[usize]>::to_vec).collect();
        let weights = vec![1.0; examples.len()];
        work(Sft {
            lm: self.lm.as_ref(),
            theta: &self.theta,
            examples: &examples,
            weights: &weights,
            batches: &batches,
            recipe: &self.recipe,
            microbatch: self.shape.batch,
            devices: std::slice::from_ref(&self.device),
            cancelled: &|| false,
        })
    }

    /// Tokens drawn for each row.
    fn sampled_tokens(&self) -> usize {
        self.shape.sequence / 2
    }

    /// Tokens that [`sampling`](Self::sampling) draws.
    pub(crate) fn sampling_tokens(&self) -> f64 {
        (self.shape.sampled_rows() * self.sampled_tokens()) as f64
    }

    /// Samples half a sequence for every row, after prompts of the other half, which so many rows in turn
    /// have in common.
    pub fn sampling(&self, group: usize) -> f64 {
        self.seconds(|| drop(self.sample(self.shape.sampled_rows(), group)))
    }

    /// A step of DPG on one batch: rollouts in groups of 4, their metagradients at T = 1, the update.
    pub fn step(&self) -> f64 {
        self.seconds(|| drop(self.sample(self.shape.batch, GROUP)))
            + self.metagradient(1)
            + self.policy_update()
    }

    /// Forward passes over a batch that its products amount to: fine-tuning 3, the way back, the update with its KL term 4,
    /// and of the rollouts a quarter of the prompts' half and the drawn half.
    pub(crate) fn step_passes(shape: &Shape) -> f64 {
        3.0 + shape.traced_passes() + 4.0 + 0.5 / GROUP as f64 + 0.5
    }

    fn settings(&self) -> Sampling {
        Sampling {
            temperature: 1.0,
            min_new_tokens: 0,
            max_new_tokens: self.sampled_tokens(),
            stop: vec![],
            never: vec![],
            seed: 0,
            step: 0,
            batch: 1024,
            devices: vec![self.device.clone()],
        }
    }

    fn sample(&self, rows: usize, group: usize) -> Vec<(Vec<u32>, Completion)> {
        let prompt = self.shape.sequence - self.sampled_tokens();
        let texts = self.shape.examples(rows.div_ceil(group));
        let prompts: Vec<Vec<u32>> =
            (0..rows).map(|row| texts[row / group].tokens[..prompt].to_vec()).collect();
        let drawn =
            sample(self.lm.as_ref(), &self.theta, &prompts, &self.settings()).expect("the prompts fit");
        prompts.into_iter().zip(drawn).collect()
    }

    /// One update of the policy, with a KL term, on rollouts of a batch.
    ///
    /// # Panics
    /// If the update fails.
    pub fn policy_update(&self) -> f64 {
        let advantage = |i: usize| if i.is_multiple_of(2) { 1.0 } else { -1.0 };
        let drawn = self.sample(self.shape.batch, GROUP).into_iter().enumerate();
        let rollouts: Vec<Rollout> = drawn
            .map(|(i, (prompt, completion))| Rollout { prompt, completion, advantage: advantage(i) })
            .collect();
        let settings = spec::Policy { kl: 0.05, ..spec::Policy::default() };
        let lm = self.lm.as_ref();
        let policy = Policy {
            lm,
            initial: &self.theta,
            settings: &settings,
            microbatch: self.shape.batch,
            devices: std::slice::from_ref(&self.device),
        };
        let state = State::new(self.theta.clone());
        self.seconds(|| drop(update(&policy, state, 0, &rollouts, &self.settings()).expect("an update")))
    }

    /// Seconds that some work takes, until the device has done all of it.
    fn seconds(&self, work: impl FnOnce()) -> f64 {
        // nothing from before is counted
        self.wait();
        let start = Instant::now();
        work();
        self.wait();
        start.elapsed().as_secs_f64()
    }

    fn wait(&self) {
        self.device.sync().expect("the device works");
    }
}
