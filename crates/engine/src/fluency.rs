//! Whether generations are such text as the metric's held-out examples are, by a language model that
//! takes no part in the run.

use std::path::Path;

use burn::tensor::{DType, Device};
use dpg_dataset::Example;
use dpg_metagrad::{Context, Metric, metrics::HeldOutLoss};
use dpg_models::Model;
use dpg_spec::LossOn;

use crate::{
    Error,
    encode::{Encoding, encode},
};

/// Texts that pass through the model together.
const TOGETHER: usize = 32;

/// A language model and its loss on real text.
pub struct Fluency {
    model: Model,
    real: f64,
}

impl Fluency {
    /// Loads the model in `folder` and measures `real` text, of which there is some.
    pub(crate) fn load(folder: &Path, real: &[String], device: &Device) -> Result<Self, Error> {
        let mut this = Self { model: Model::load(folder, DType::F32, device)?, real: 1.0 };
        this.real = this.relative_loss(real)?.expect("text in a language has tokens");
        Ok(this)
    }

    /// The mean loss of texts, each per token with the end of text, over that of the real ones; nothing if
    /// all are empty.
    pub(crate) fn relative_loss(&self, texts: &[String]) -> Result<Option<f64>, Error> {
        let Model { lm, tokenizer, theta, .. } = &self.model;
        let encoding = Encoding {
            sequence_length: lm.context(),
            loss_on: LossOn::All,
            append_eos: tokenizer.eos().is_some(),
        };
        // of an empty text the end of text would be all
        let texts = texts.iter().filter(|text| !text.is_empty());
        let encoded = texts.map(|text| Ok(encode(&self.model, &Example::Text(text.clone()), encoding)?.0));
        let mut examples = encoded.collect::<Result<Vec<_>, Error>>()?;
        examples.retain(|example| example.scored_len() > 0);
        if examples.is_empty() {
            return Ok(None);
        }
        let context = Context { scratch: Path::new(""), stop: &|| false };
        let score = HeldOutLoss::new(lm, examples, TOGETHER)?.score(theta, context)?;
        Ok(Some(-score.value / self.real))
    }
}
