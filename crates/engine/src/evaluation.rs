//! A metric of a model as it is, before any training, and where its gradient lies; and directions inside of a model.

use std::ops::Range;
use std::path::Path;

use burn::tensor::Tensor;
use dpg_dataset::Example;
use dpg_metagrad::{
    Context, Score,
    metrics::{Sources, mean_state},
};
use dpg_models::{Model, activations, together};
use dpg_spec::{LossOn, Positions};
use serde::Serialize;

use crate::{
    Error, HeldOutTexts, Problem, Stop,
    encode::{Encoding, encode},
    sources::MetricSources,
};

/// What a metric says of a model.
#[derive(Clone, Debug, Serialize)]
pub struct Evaluation {
    /// The metric and its proxies.
    pub score: Score,
    /// The l2 norm of its gradient.
    pub gradient: f64,
    /// The l2 norm of each parameter's part of it, in the order of the model.
    pub parameters: Vec<(String, f64)>,
}

impl Problem {
    /// The metric of the target as it is, or of other weights for it: those of the model in a folder. What the metric
    /// compares with stays the target.
    pub fn evaluate(&self, folder: Option<&Path>, stop: Stop) -> Result<Evaluation, Error> {
        let model = self.target.model.as_ref();
        let theta = match folder {
            None => model.theta.clone(),
            Some(folder) => {
                let texts = &HeldOutTexts::default();
                let sources =
                    MetricSources { model, texts, sequence_length: self.target.sft.sequence_length };
                let (lm, theta) = sources.model(&folder.to_string_lossy())?;
                if model.lm.layout().adapters().is_some() {
                    let reason = "the spec's target has LoRA adapters, and a folder has weights; leave `target.lora` out";
                    return Err(Error::setting("--model", reason));
                }
                if lm.layout() != model.lm.layout() {
                    let reason = format!(
                        "`{}` has other parameters than `target.model`; name a model of the same architecture and sizes",
                        folder.display()
                    );
                    return Err(Error::setting("--model", reason));
                }
                theta
            }
        };
        let scratch = std::env::temp_dir();
        let context = Context { scratch: &scratch, stop };
        let (score, gradient) = self.metric.score_and_gradient(&theta, context)?;
        let norm = |range: Range<usize>| {
            let part: Tensor<1> = gradient.clone().slice(range);
            (part.clone() * part).sum().into_scalar::<f64>().sqrt()
        };
        let layout = model.lm.layout();
        let of_param = |param: &dpg_models::Param| (param.name.clone(), norm(param.range()));
        let parameters = layout.params().iter().map(of_param).collect();
        Ok(Evaluation { score: score.finite()?, gradient: norm(0..layout.len()), parameters })
    }
}

/// The direction from one set of texts to another among a model's hidden states after so many layers: the difference of
/// their means, each text counting the same, over the tokens at `at`.
pub fn direction(
    model: &Model,
    layer: usize,
    at: Positions,
    [from, to]: [&[Example]; 2],
) -> Result<Vec<f64>, Error> {
    let lm = model.lm.as_ref();
    if layer > lm.layers() {
        return Err(Error::setting("--layer", format!("{layer} is over the model's {} layers", lm.layers())));
    }
    let encoding = Encoding { sequence_length: lm.context(), loss_on: LossOn::Completion, append_eos: false };
    let mean = |examples: &[Example]| {
        let mut texts = vec![];
        for (row, example) in (1..).zip(examples) {
            let (text, _) = encode(model, example, encoding).map_err(Error::in_row(row))?;
            let counted = if at == Positions::Completion { text.scored_len() } else { text.tokens.len() };
            if counted == 0 {
                let reason = format!("row {row} has no token whose hidden state would count; remove it");
                return Err(Error::setting("--at", reason));
            }
            texts.push(text);
        }
        let longest = texts.iter().map(|text| text.tokens.len()).max().unwrap_or(1);
        Ok(mean_state(lm, &model.theta, (layer, at), &texts, together(activations(lm) * longest, longest)))
    };
    let (from, to) = (mean(from)?, mean(to)?);
    Ok(to.iter().zip(&from).map(|(to, from)| to - from).collect())
}
