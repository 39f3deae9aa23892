//! The classes of a generator's prompts: those of a column, or by the target's loss on an answer to each.

use std::{collections::BTreeSet, path::Path};

use dpg_dataset::{Example, read_texts};
use dpg_generator::Prompt;
use dpg_metagrad::{Context, Metric, metrics::HeldOutLoss};
use dpg_spec::{Length, LossOn, PromptClasses, Prompts};

use crate::{
    Error, Stop, Target,
    encode::{Encoding, encode},
};

/// Most classes that shares are learnt of.
const MOST_CLASSES: usize = 256;

/// The class of each prompt, if the settings say what classes are. Those by losses are known with the target alone.
pub(crate) fn classes(
    file: &Prompts,
    prompts: &[Prompt],
    target: Option<(&Target, Stop)>,
) -> Result<Option<Vec<String>>, Error> {
    let Some(settings) = &file.classes else { return Ok(None) };
    let path = Path::new(&file.path);
    let classes = match (&settings.column, &settings.reference, target) {
        (Some(column), ..) => read_texts(path, column, None)?,
        (None, Some(reference), Some((target, stop))) => {
            let answers = read_texts(path, reference, None)?;
            bins(&losses(target, path, prompts, answers, stop)?, settings.bins)
        }
        _ => return Ok(None),
    };
    if settings.learn {
        let count = names(&classes).len();
        if !(2..=MOST_CLASSES).contains(&count) {
            let reason =
                format!("`{}` has {count} classes of prompts, expected 2 to {MOST_CLASSES}", file.path);
            return Err(Error::setting("generator.prompts.classes", reason));
        }
    }
    Ok(Some(classes))
}

/// The names of classes, each once.
pub(crate) fn names(classes: &[String]) -> Vec<String> {
    classes.iter().collect::<BTreeSet<_>>().into_iter().cloned().collect()
}

/// Whether each class of prompts has a mix of lengths, if one has, and each mix its prompts.
pub(crate) fn check_mixes(length: Option<&Length>, names: &[String]) -> Result<(), Error> {
    let Some(length) = length.filter(|length| length.is_by_prompts()) else { return Ok(()) };
    let mixes = length.by_prompts();
    let listed = || names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let named = |name: &String| mixes.iter().any(|(of, _)| of.as_ref() == Some(name));
    if let Some(name) = names.iter().find(|name| !named(name)) {
        let reason = format!("there is no class of lengths for the prompts of the class `{name}`; add one");
        return Err(Error::setting("output.length.mix", reason));
    }
    let unknown = mixes.iter().filter_map(|(of, _)| of.as_ref()).find(|of| !names.contains(of));
    match unknown {
        None => Ok(()),
        Some(name) => {
            let reason = format!("no prompt is of the class `{name}`; there are {}", listed());
            Err(Error::setting("output.length.mix", reason))
        }
    }
}

/// The loss of the target, as it is, on the answer to each prompt: the mean over its tokens.
fn losses(
    target: &Target,
    path: &Path,
    prompts: &[Prompt],
    answers: Vec<String>,
    stop: Stop,
) -> Result<Vec<f64>, Error> {
    let encoding = Encoding {
        sequence_length: target.sft.sequence_length,
        loss_on: LossOn::Completion,
        append_eos: target.sft.append_eos,
    };
    let mut losses = vec![];
    for (row, (prompt, completion)) in (1..).zip(prompts.iter().zip(answers)) {
        if stop() {
            return Err(Error::Cancelled);
        }
        let example = Example::PromptCompletion { prompt: prompt.row.clone(), completion };
        let in_file = |error| Error::in_row(row)(error).in_file(path);
        let (example, _) = encode(&target.model, &example, encoding).map_err(in_file)?;
        if example.scored_len() == 0 {
            let reason = format!(
                "row {row} of `{}` has no token of an answer within {} tokens; fill it in, or raise \
                 `target.sft.sequence_length`",
                path.display(),
                encoding.sequence_length
            );
            return Err(Error::setting("generator.prompts.classes.reference", reason));
        }
        // the loss makes no files
        let context = Context { scratch: Path::new(""), stop };
        let loss = HeldOutLoss::new(&target.model.lm, vec![example], 1)?;
        losses.push(-loss.score(&target.model.theta, context)?.finite()?.value);
    }
    Ok(losses)
}

/// In which of so many classes of equal size each loss is.
fn bins(losses: &[f64], bins: usize) -> Vec<String> {
    let mut order: Vec<usize> = (0..losses.len()).collect();
    order.sort_by(|a, b| losses[*a].total_cmp(&losses[*b]));
    let mut classes = vec![String::new(); losses.len()];
    for (rank, row) in order.into_iter().enumerate() {
        classes[row] = PromptClasses::bin(rank * bins / losses.len());
    }
    classes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_make_classes_of_equal_size() {
        let classes = bins(&[3.0, 1.0, 2.0, 0.5, 9.0, 4.0], 3);
        assert_eq!(classes, ["loss 2", "loss 1", "loss 2", "loss 1", "loss 3", "loss 3"]);
        assert_eq!(names(&classes), ["loss 1", "loss 2", "loss 3"]);
    }
}
