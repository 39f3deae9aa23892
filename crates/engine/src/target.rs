//! The target model and the recipe that it is fine-tuned with.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::{DType, Device};
use dpg_metagrad::{Metric, Sft, metrics, pack};
use dpg_models::{Example, MatmulPrecision, Model, activations, make_room_for, together};
use dpg_spec::Spec;

use crate::{
    Draw, Error, Stop,
    encode::{Encoding, encode},
    held_out::HeldOutTexts,
    randomness,
    sources::MetricSources,
};

/// The target and what it is fine-tuned with.
pub struct Target {
    /// The model.
    pub model: Arc<Model>,
    /// The recipe.
    pub sft: dpg_spec::Sft,
    seed: u64,
    devices: Vec<Device>,
}

impl Target {
    /// Loads the target of a spec whose model is a local folder, with products of a precision, for one device or
    /// several that share its runs.
    pub fn load(
        spec: &Spec,
        dtype: DType,
        devices: &[Device],
        precision: MatmulPrecision,
    ) -> Result<Self, Error> {
        let first = devices.first().expect("a run has a device");
        let folder = Path::new(&spec.target.model);
        let mut model = match &spec.target.lora {
            None => Model::load(folder, dtype, first)?,
            Some(lora) => Model::load_adapted(folder, lora, spec.seed, dtype, devices, None)?,
        };
        model.set_precision(precision);
        let sft = spec.target.sft.clone();
        if sft.sequence_length > model.lm.context() {
            let reason = format!(
                "{} is over the context of `{}`, {} tokens; lower it",
                sft.sequence_length,
                spec.target.model,
                model.lm.context()
            );
            return Err(Error::setting("target.sft.sequence_length", reason));
        }
        Ok(Self { model: Arc::new(model), sft, seed: spec.seed, devices: devices.to_vec() })
    }

    /// The same model with the recipe of another spec.
    #[must_use]
    pub fn with_recipe(&self, spec: &Spec) -> Self {
        let (model, devices) = (self.model.clone(), self.devices.clone());
        Self { model, sft: spec.target.sft.clone(), seed: spec.seed, devices }
    }

    /// What this target is measured by; `texts` are those of the metric's files.
    pub fn metric(&self, metric: &dpg_spec::Metric, texts: &HeldOutTexts) -> Result<Arc<dyn Metric>, Error> {
        let Model { lm, theta, .. } = self.model.as_ref();
        let (model, sequence_length) = (self.model.as_ref(), self.sft.sequence_length);
        let sources = MetricSources { model, texts, sequence_length };
        metrics::from_spec(metric, lm, theta, self.microbatch(), &sources)
    }

    /// Tokens of training examples, cut to the recipe's length; one may have no scored token.
    pub fn encode(&self, examples: &[dpg_dataset::Example]) -> Result<Vec<Example>, Error> {
        let encoding = Encoding {
            sequence_length: self.sft.sequence_length,
            loss_on: self.sft.loss_on,
            append_eos: self.sft.append_eos,
        };
        let encode =
            |(row, example)| Ok(encode(&self.model, example, encoding).map_err(Error::in_row(row))?.0);
        (1..).zip(examples).map(encode).collect()
    }

    /// The batches of a fine-tuning run over `examples`, in the order of a draw.
    pub fn batches(&self, examples: &[Example], draw: Draw) -> Vec<Vec<usize>> {
        let rows: Vec<Vec<usize>> = if self.sft.packing {
            let lengths: Vec<usize> = examples.iter().map(|example| example.tokens.len()).collect();
            pack(&lengths, self.sft.sequence_length)
        } else {
            (0..examples.len()).map(|example| vec![example]).collect()
        };
        let mut batches = vec![];
        for epoch in 0..self.sft.epochs {
            let mut order: Vec<usize> = (0..rows.len()).collect();
            if self.sft.shuffle {
                randomness::shuffle_epoch(&mut order, self.seed, draw, epoch);
            }
            let batch = |places: &[usize]| places.iter().flat_map(|&row| rows[row].iter().copied()).collect();
            batches.extend(order.chunks(self.sft.batch_size).map(batch));
        }
        batches
    }

    /// A fine-tuning run from the target's own weights.
    pub fn sft<'a>(
        &'a self,
        examples: &'a [Example],
        weights: &'a [f64],
        batches: &'a [Vec<usize>],
        stop: Stop<'a>,
    ) -> Sft<'a> {
        Sft {
            lm: self.model.lm.as_ref(),
            theta: &self.model.theta,
            examples,
            weights,
            batches,
            recipe: &self.sft,
            microbatch: self.microbatch(),
            devices: &self.devices,
            cancelled: stop,
        }
    }

    /// Passes over microbatches that fine-tuning on `examples` examples takes, before each of which a run
    /// asks whether it is to stop; scoring takes about twice as many, and packed examples fewer.
    pub fn passes(&self, examples: usize) -> usize {
        let of_device = |batch: usize| batch.div_ceil(self.devices.len()).div_ceil(self.microbatch());
        let of_batch = |batch: usize| of_device(batch) * self.devices.len().min(batch);
        let (full, rest) = (examples / self.sft.batch_size, examples % self.sft.batch_size);
        self.sft.epochs * (full * of_batch(self.sft.batch_size) + of_batch(rest))
    }

    /// After work of another kind: gives back what that has left, before the vectors of an inner run come on top of it.
    pub(crate) fn make_room(&self) {
        let theta = &self.model.theta;
        make_room_for(theta.dims()[0] * theta.dtype().size());
    }

    fn microbatch(&self) -> usize {
        let length = self.sft.sequence_length;
        together(activations(self.model.lm.as_ref()) * length, length)
    }
}
