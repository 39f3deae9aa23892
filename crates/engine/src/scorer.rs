//! Fine-tuning fresh targets on examples, and measuring them.

use std::path::Path;

use burn::tensor::Tensor;
use dpg_dataset::Example;
use dpg_metagrad::{Metric, Score, Storage, metagradient_showing};

use crate::{Draw, Error, Stop, Target};

/// Fine-tunes targets on examples and measures them. Its other methods stand beside what they find:
/// [`audit`](Scorer::audit), [`signal`](Scorer::signal), [`reweigh`](Scorer::reweigh).
#[derive(Clone, Copy)]
pub struct Scorer<'a> {
    /// What is fine-tuned.
    pub target: &'a Target,
    /// What it is measured by.
    pub metric: &'a dyn Metric,
    /// A folder for states that memory cannot hold, if there are any.
    pub scratch: &'a Path,
    /// Asked often; true ends what is being done.
    pub stop: Stop<'a>,
}

/// What fine-tuning on some examples does to the metric.
#[derive(Clone, Debug)]
pub struct Scored {
    /// The examples' rewards.
    pub rewards: Vec<f64>,
    /// The metric of the fine-tuned target.
    pub score: Score,
}

impl Scorer<'_> {
    /// Rewards of examples and the metric after fine-tuning on them, in the order of a draw.
    ///
    /// The target is trained on the text that would be published, tokenised anew: the ids that the
    /// generator drew need not be those a user's tokenizer makes of it. An example without a scored
    /// token (an empty text) has loss 0 for any weights, so its derivative is exactly 0.
    pub fn score(&self, examples: &[Example], draw: Draw) -> Result<Scored, Error> {
        self.score_showing(examples, draw, |_| ())
    }

    /// The same; `show` sees the fine-tuned target's weights `[n]`.
    pub fn score_showing(
        &self,
        examples: &[Example],
        draw: Draw,
        show: impl FnOnce(&Tensor<1>),
    ) -> Result<Scored, Error> {
        let (encoded, places) = self.trainable(examples)?;
        let batches = self.target.batches(&(0..encoded.len()).collect::<Vec<_>>(), draw);
        let weights = vec![1.0; encoded.len()];
        let sft = self.target.sft(&encoded, &weights, &batches, self.stop);
        let storage = Storage::fitting(&sft, self.scratch);
        let result = metagradient_showing(sft, self.metric, &storage, show)?;
        let mut rewards = vec![0.0; examples.len()];
        for (place, reward) in places.into_iter().zip(result.rewards) {
            rewards[place] = reward;
        }
        Ok(Scored { rewards, score: result.score })
    }

    /// The metric after fine-tuning on examples, without the walk back; also theta_T.
    pub fn measure(&self, examples: &[Example], draw: Draw) -> Result<(Score, Tensor<1>), Error> {
        self.measure_weighted(examples, &vec![1.0; examples.len()], draw)
    }

    /// The same with a weight for each example.
    pub fn measure_weighted(
        &self,
        examples: &[Example],
        weights: &[f64],
        draw: Draw,
    ) -> Result<(Score, Tensor<1>), Error> {
        let (encoded, places) = self.trainable(examples)?;
        let batches = self.target.batches(&(0..encoded.len()).collect::<Vec<_>>(), draw);
        let weights: Vec<f64> = places.into_iter().map(|place| weights[place]).collect();
        let theta = self.target.sft(&encoded, &weights, &batches, self.stop).train()?;
        Ok((self.metric.score(&theta)?.finite()?, theta))
    }

    /// The examples that have a scored token, and their places.
    pub(crate) fn trainable(
        &self,
        examples: &[Example],
    ) -> Result<(Vec<dpg_models::Example>, Vec<usize>), Error> {
        let encoded = self.target.encode(examples)?.into_iter().zip(0..);
        Ok(encoded.filter(|(example, _)| example.scored_len() > 0).unzip())
    }
}
