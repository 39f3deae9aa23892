//! What metrics name besides the target: texts, questions, models and vectors, as the target reads them.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::Tensor;
use dpg_dataset::Example;
use dpg_metagrad::metrics::{Question, Sources};
use dpg_models::{CausalLm, Model, Tokenizer, architecture, load_vector, weights};
use dpg_spec::{Choice, HeldOut, LossOn, VectorFile};

use crate::{
    Error,
    encode::{Encoding, encode},
    held_out::HeldOutTexts,
};

/// Sources of the metrics of a target.
pub(crate) struct MetricSources<'a> {
    pub(crate) model: &'a Model,
    /// The texts of the metric's files.
    pub(crate) texts: &'a HeldOutTexts,
    /// Tokens that an example may have where a metric does not say.
    pub(crate) sequence_length: usize,
}

impl Sources<Error> for MetricSources<'_> {
    fn folder(&self) -> &Path {
        &self.model.folder
    }

    fn held_out(&self, held_out: &HeldOut) -> Result<Vec<dpg_models::Example>, Error> {
        self.texts.encode(held_out, self.model, self.sequence_length)
    }

    fn completion(&self, prompt: &str, completion: &str) -> Result<dpg_models::Example, Error> {
        // what is longer than the model reads is refused by the metric
        let encoding =
            Encoding { sequence_length: usize::MAX, loss_on: LossOn::Completion, append_eos: false };
        let example = Example::PromptCompletion { prompt: prompt.into(), completion: completion.into() };
        Ok(encode(self.model, &example, encoding)?.0)
    }

    fn questions(&self, choice: &Choice) -> Result<Vec<Question>, Error> {
        let path = Path::new(&choice.data.path);
        let question = |(row, question): (usize, &dpg_dataset::Question)| {
            let options = question.options.iter().map(|option| self.completion(&question.prompt, option));
            let options = options.collect::<Result<_, Error>>();
            let options = options.map_err(|error| Error::in_row(row)(error).in_file(path))?;
            Ok(Question { options, characters: question.characters.clone(), right: question.right })
        };
        (1..).zip(self.texts.questions(choice)).map(question).collect()
    }

    fn model(&self, folder: &str) -> Result<(Arc<dyn CausalLm>, Tensor<1>), Error> {
        let folder = Path::new(folder);
        let lm: Arc<dyn CausalLm> = architecture(folder)?.into();
        let target = self.model;
        if folder.join("tokenizer.json").exists() {
            let tokenizer = Tokenizer::load(folder)?;
            let known = |id: &u32| tokenizer.token(*id) == target.tokenizer.token(*id);
            if let Some(id) = (0..target.lm.vocab_size() as u32).find(|id| !known(id)) {
                let reason = format!(
                    "token {id} of `{}` is another one in the target; name a model with the target's tokenizer",
                    folder.display()
                );
                return Err(Error::setting("metric", reason));
            }
        }
        let theta = &target.theta;
        let theta = weights::load_tensor(folder, lm.layout(), theta.dtype(), &theta.device())?;
        Ok((lm, theta))
    }

    fn vector(&self, vector: &VectorFile) -> Result<Vec<f64>, Error> {
        Ok(load_vector(Path::new(&vector.path), &vector.tensor)?)
    }
}
