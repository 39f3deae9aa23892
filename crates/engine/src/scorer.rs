//! Fine-tuning fresh targets on examples, and measuring them.

use std::path::Path;

use burn::tensor::Tensor;
use dpg_dataset::Example;
use dpg_metagrad::{
    Context, Metric, Score, Sft, Storage, metagradient_by_token, metagradient_showing, metagradients,
};

use crate::{Draw, Error, Stop, Target};

/// Fine-tunes targets on examples and measures them. Its other methods stand beside what they find:
/// [`audit`](Scorer::audit), [`signal`](Scorer::signal), [`reweigh`](Scorer::reweigh).
#[derive(Clone, Copy)]
pub struct Scorer<'a> {
    /// What is fine-tuned.
    pub target: &'a Target,
    /// What it is measured by.
    pub metric: &'a dyn Metric,
    /// A folder for files, which is there: of states that memory cannot hold, and of the metric.
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
        let (rewards, score) = self.walk(examples, draw, |sft, storage| {
            let found = metagradient_showing(sft, self.metric, storage, show)?;
            Ok((found.rewards, found.score))
        })?;
        Ok(Scored { rewards, score })
    }

    /// The same with a reward for each token of the examples, as the target reads them: what its prediction has of
    /// the example's reward.
    pub fn score_tokens(
        &self,
        examples: &[Example],
        draw: Draw,
        show: impl FnOnce(&Tensor<1>),
    ) -> Result<(Scored, Vec<Vec<f64>>), Error> {
        let (found, score) = self.walk(examples, draw, |sft, storage| {
            let (found, tokens) = metagradient_by_token(sft, self.metric, storage, show)?;
            Ok((found.rewards.into_iter().zip(tokens).collect(), found.score))
        })?;
        let (rewards, mut tokens): (Vec<f64>, Vec<Vec<f64>>) = found.into_iter().unzip();
        // an example without a scored token was left out
        for (of_example, example) in tokens.iter_mut().zip(self.target.encode(examples)?) {
            of_example.resize(example.tokens.len(), 0.0);
        }
        Ok((Scored { rewards, score }, tokens))
    }

    /// Rewards of examples by each row of the metric's data alone: a list for each example, their mean its reward.
    /// Every row takes a walk back.
    ///
    /// # Errors
    /// [`Error::Setting`] if the metric is not a mean over rows.
    pub fn query_rewards(&self, examples: &[Example], draw: Draw) -> Result<Vec<Vec<f64>>, Error> {
        let rows = self.metric.rows();
        if rows.is_empty() {
            let reason =
                "is not a mean over rows of data, so that there are no rewards by row; name one of texts";
            return Err(Error::setting("metric", reason));
        }
        let (mut rewards, ()) = self.walk(examples, draw, |sft, storage| {
            let found = metagradients(sft, &rows, storage)?;
            let of = |example: usize| found.iter().map(|of_row| of_row.rewards[example]).collect();
            Ok(((0..sft.examples.len()).map(of).collect::<Vec<Vec<f64>>>(), ()))
        })?;
        // an example without a scored token was left out
        for of_example in &mut rewards {
            of_example.resize(rows.len(), 0.0);
        }
        Ok(rewards)
    }

    /// What a run over examples and the walk back give for each of them; nothing for one without a scored token.
    fn walk<T: Clone + Default, S>(
        &self,
        examples: &[Example],
        draw: Draw,
        walk: impl FnOnce(Sft, &Storage) -> Result<(Vec<T>, S), dpg_metagrad::Error>,
    ) -> Result<(Vec<T>, S), Error> {
        let (encoded, places) = self.trainable(examples)?;
        let batches = self.target.batches(&encoded, draw);
        let weights = vec![1.0; encoded.len()];
        let sft = self.target.sft(&encoded, &weights, &batches, self.stop);
        let (found, beside) = walk(sft, &Storage::fitting(&sft, self.scratch))?;
        let mut all = vec![T::default(); examples.len()];
        for (place, of_example) in places.into_iter().zip(found) {
            all[place] = of_example;
        }
        Ok((all, beside))
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
        let batches = self.target.batches(&encoded, draw);
        let weights: Vec<f64> = places.into_iter().map(|place| weights[place]).collect();
        let theta = self.target.sft(&encoded, &weights, &batches, self.stop).train()?;
        Ok((self.metric.score(&theta, self.context())?.finite()?, theta))
    }

    /// What the metric has while it measures.
    pub(crate) fn context(&self) -> Context<'_> {
        Context { scratch: self.scratch, stop: self.stop }
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
