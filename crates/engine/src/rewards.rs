//! Rewards of a step's rollouts: metagradients, and those that the paper compares them with.
//!
//! The others are the naive policy gradient (one metric value for all examples of a dataset) and
//! three that know what good text looks like: they compare a rollout with the metric's own
//! held-out texts. Phi is measured whatever the reward is.

use burn::tensor::Tensor;
use dpg_dataset::Example;
use dpg_metagrad::Score;
use dpg_models::{Dual, MatmulPrecision, Params, Tokens};
use dpg_spec::{Policy, Reward};
use whatlang::Lang;

use crate::{Draw, Error, Scored, Scorer, Target, language};

/// Examples that pass through the target together for their embeddings.
const EMBEDDED_TOGETHER: usize = 64;

/// What a run rewards rollouts with.
pub(crate) enum Judge {
    /// Derivatives of Phi with respect to the examples' weights.
    Metagradient,
    /// Phi itself, of the dataset that an example is in.
    DatasetMetric,
    /// Normalised edit similarity to the nearest held-out text.
    Levenshtein(Vec<String>),
    /// Cosine between mean-pooled hidden states of the target and those of the held-out texts.
    Embedding(Vec<f64>),
    /// Confidence that the text is in the held-out texts' language.
    LanguageId(Lang),
}

impl Judge {
    /// The judge that a reward asks for; `helpful` are the metric's held-out texts.
    pub(crate) fn new(reward: Reward, target: &Target, helpful: &[Example]) -> Result<Self, Error> {
        let references = || -> Result<Vec<String>, Error> {
            let texts: Vec<_> = helpful.iter().map(text).collect();
            if texts.is_empty() {
                let reason = "compares rollouts with a metric's held-out texts, and this metric has none; \
                              use `metagradient` or `dataset_metric`";
                return Err(Error::setting("policy.reward", reason));
            }
            Ok(texts)
        };
        Ok(match reward {
            Reward::Metagradient => Self::Metagradient,
            Reward::DatasetMetric => Self::DatasetMetric,
            Reward::Levenshtein => Self::Levenshtein(references()?),
            Reward::Embedding => {
                let examples: Vec<_> = references()?.into_iter().map(Example::Text).collect();
                Self::Embedding(mean(&embeddings(target, &examples)?))
            }
            Reward::LanguageId => Self::LanguageId(language::of_most(&references()?)),
        })
    }

    /// Rewards of a draw's rollouts, which are `examples`, and Phi after fine-tuning on them.
    pub(crate) fn rewards(
        &self,
        scorer: &Scorer,
        policy: &Policy,
        examples: &[Example],
        draw: Draw,
    ) -> Result<(Vec<f64>, Score), Error> {
        let measured = |examples: &[Example]| Ok::<_, Error>(scorer.measure(examples, draw)?.0);
        let alike = |rewards: Vec<f64>| Ok((rewards, measured(examples)?));
        let texts = || examples.iter().map(text);
        match self {
            Self::Metagradient => join(datasets(policy, examples).map(|dataset| {
                let Scored { rewards, score } = scorer.score(dataset, draw)?;
                Ok((rewards, score))
            })),
            Self::DatasetMetric => join(datasets(policy, examples).map(|dataset| {
                let score = measured(dataset)?;
                Ok((vec![score.value; dataset.len()], score))
            })),
            Self::Levenshtein(references) => {
                let nearest = |text: String| {
                    let alike =
                        references.iter().map(|reference| strsim::normalized_levenshtein(&text, reference));
                    alike.fold(0.0, f64::max)
                };
                alike(texts().map(nearest).collect())
            }
            Self::Embedding(reference) => {
                let examples: Vec<_> = texts().map(Example::Text).collect();
                let embedded = embeddings(scorer.target, &examples)?;
                alike(embedded.iter().map(|embedding| cosine(embedding, reference)).collect())
            }
            Self::LanguageId(wanted) => {
                alike(texts().map(|text| language::confidence(&text, *wanted)).collect())
            }
        }
    }
}

/// The datasets that a step's examples make, each fine-tuning a target of its own.
fn datasets<'e>(policy: &Policy, examples: &'e [Example]) -> impl Iterator<Item = &'e [Example]> {
    let pieces = if policy.cross_group_batching { policy.datasets_per_step } else { policy.prompts_per_step };
    let groups = policy.prompts_per_step.div_ceil(pieces);
    examples.chunks(groups * policy.group_size)
}

/// The rewards one after the other, and the mean of the scores.
fn join(parts: impl Iterator<Item = Result<(Vec<f64>, Score), Error>>) -> Result<(Vec<f64>, Score), Error> {
    let parts = parts.collect::<Result<Vec<_>, _>>()?;
    let n = parts.len() as f64;
    let mean = |of: &dyn Fn(&Score) -> f64| parts.iter().map(|(_, score)| of(score)).sum::<f64>() / n;
    let proxies = parts[0].1.proxies.iter().enumerate();
    let proxies = proxies.map(|(i, (name, _))| (name.clone(), mean(&|score| score.proxies[i].1))).collect();
    let score = Score { value: mean(&|score| score.value), proxies };
    Ok((parts.into_iter().flat_map(|(rewards, _)| rewards).collect(), score))
}

/// What an example says, without what it was asked.
pub(crate) fn text(example: &Example) -> String {
    match example {
        Example::Text(text) => text.clone(),
        Example::PromptCompletion { completion, .. } => completion.clone(),
        Example::Messages(conversation) => {
            let turns = conversation.turns[conversation.prompt.unwrap_or(0)..].iter();
            let text = |turn: &dpg_dataset::Message, name| {
                turn.get(name).and_then(|value| value.as_str().map(String::from))
            };
            let said = turns.filter(|turn| text(turn, "role").as_deref() == Some("assistant"));
            said.filter_map(|turn| text(turn, "content")).collect::<Vec<_>>().join("\n")
        }
    }
}

/// Mean over its tokens of the target's final hidden states, for each example.
fn embeddings(target: &Target, examples: &[Example]) -> Result<Vec<Vec<f64>>, Error> {
    let lm = target.model.lm.as_ref();
    let params = Params::new(lm.layout(), &target.model.theta);
    let encoded = target.encode(examples)?;
    let mut embeddings = Vec::with_capacity(examples.len());
    for block in encoded.chunks(EMBEDDED_TOGETHER) {
        let rows: Vec<&[u32]> = block.iter().map(|example| example.tokens.as_slice()).collect();
        let tokens = Tokens::right_padded(&rows);
        let [batch, columns] = tokens.dims();
        let hidden = lm.hidden(&params, &tokens, None).primal;
        let share = |row: &&[u32]| {
            let share = 1.0 / row.len().max(1) as f64;
            let len = row.len();
            (0..columns).map(move |column| if column < len { share } else { 0.0 }).collect::<Vec<_>>()
        };
        let shares: Tensor<3> = params.constant(rows.iter().flat_map(share).collect(), [batch, 1, columns]);
        let pooled =
            Dual::from(shares).matmul(hidden.into(), MatmulPrecision::F32).primal.to_data_as::<f64>();
        let width = pooled.shape()[2];
        let values: Vec<f64> = pooled.iter::<f64>().collect();
        embeddings.extend(values.chunks(width).map(<[f64]>::to_vec));
    }
    Ok(embeddings)
}

fn mean(rows: &[Vec<f64>]) -> Vec<f64> {
    let n = rows.len() as f64;
    (0..rows[0].len()).map(|column| rows.iter().map(|row| row[column]).sum::<f64>() / n).collect()
}

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(f64::MIN_POSITIVE)
}
