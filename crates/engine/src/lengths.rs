//! How long rows are, in tokens of the target's tokenizer, and how that goes with their rewards.

use dpg_generator::{About, Completion};
use dpg_metagrad::metrics::Picture;
use dpg_models::Model;
use dpg_policy::mean_and_deviation;
use dpg_spec::{Length, LengthClass, SharesOf};
use serde::{Deserialize, Serialize};

use crate::{
    Error, History,
    chart::{Panel, chart},
};

/// Quantiles that are told of a dataset, in hundredths.
const TOLD: [u8; 3] = [10, 50, 90];

/// A class of lengths in some rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LengthRecord {
    /// Its name.
    pub name: String,
    /// The share that it should have.
    pub wanted: f64,
    /// The share that it has, of rows or of tokens as the spec says.
    pub share: f64,
    /// Its rows.
    pub rows: usize,
    /// Their mean tokens, if there are any.
    pub tokens: Option<f64>,
    /// Their mean reward, in standard deviations from the mean of all rows.
    pub reward: Option<f64>,
}

/// How long the rows of a dataset are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lengths {
    /// The classes; none if the spec has none.
    pub classes: Vec<LengthRecord>,
    /// Quantiles in hundredths: the tokens there, and how many there should be if the spec says that.
    pub quantiles: Vec<(u8, usize, Option<usize>)>,
    /// The share of rows that ended at the largest length rather than by themselves.
    pub at_limit: f64,
    /// Rows that are short siblings of long ones.
    pub siblings: usize,
}

/// What is looked at of a row.
#[derive(Clone, Copy)]
pub(crate) struct Measure<'a> {
    /// Tokens of what was written.
    pub(crate) tokens: usize,
    /// The class of its prompt, if prompts have classes.
    pub(crate) prompts: Option<&'a str>,
}

impl Measure<'_> {
    /// Whether the row is in a class of lengths.
    pub(crate) fn is_in(self, class: &LengthClass) -> bool {
        class.has(self.tokens, self.prompts)
    }

    /// Which of some classes of lengths the row is in.
    pub(crate) fn class(self, classes: &[LengthClass]) -> Option<usize> {
        classes.iter().position(|class| self.is_in(class))
    }
}

/// Tokens of what was written.
pub(crate) fn tokens(model: &Model, text: &str) -> Result<usize, Error> {
    Ok(model.tokenizer.encode(text)?.len())
}

/// The shares that classes should have: those that the generator has learnt, if it learns them.
pub(crate) fn wanted(length: &Length, about: &About) -> Vec<f64> {
    if length.learn {
        about.arms.iter().map(|chance| chance.probability).collect()
    } else {
        length.classes().iter().map(|class| class.share.unwrap_or_default()).collect()
    }
}

/// The classes in rows with these rewards.
pub(crate) fn records(
    length: &Length,
    wanted: &[f64],
    rows: &[Measure],
    rewards: &[f64],
) -> Vec<LengthRecord> {
    let (mean, deviation) = mean_and_deviation(rewards);
    let classes = length.classes();
    let shares = shares(&classes, length.of, rows);
    let record = |((class, share), wanted): ((&LengthClass, f64), &f64)| {
        let rows = rows.iter().zip(rewards).filter(|(row, _)| row.is_in(class));
        let (tokens, rewards): (Vec<f64>, Vec<f64>) =
            rows.map(|(row, reward)| (row.tokens as f64, (reward - mean) / deviation)).unzip();
        let mean = |values: &[f64]| (!values.is_empty()).then(|| mean_and_deviation(values).0);
        LengthRecord {
            name: class.name.clone(),
            wanted: *wanted,
            share,
            rows: tokens.len(),
            tokens: mean(&tokens),
            reward: mean(&rewards).filter(|reward| reward.is_finite()),
        }
    };
    classes.iter().zip(shares).zip(wanted).map(record).collect()
}

/// The share that each class has among the rows that it is for.
fn shares(classes: &[LengthClass], of: SharesOf, rows: &[Measure]) -> Vec<f64> {
    let counted = |row: &Measure| if of == SharesOf::Rows { 1.0 } else { row.tokens as f64 };
    let share = |class: &LengthClass| {
        let all: f64 = rows.iter().filter(|row| class.is_for(row.prompts)).map(counted).sum();
        rows.iter().filter(|row| row.is_in(class)).map(counted).sum::<f64>() / all.max(1.0)
    };
    classes.iter().map(share).collect()
}

/// What each rollout loses for its length, as parts of `output.length.advantage`.
///
/// Where classes are told, that is how far a rollout is outside of the one that it was asked for. Where none is, it is
/// p_c - s_c for a class c with the share p_c of the step that should have s_c: minus the derivative of
/// -|p - s|^2 / 2 with respect to p_c, so that policy gradients descend the distance of the shares.
pub(crate) fn losses(length: &Length, rows: &[Measure], completions: &[Completion]) -> Vec<f64> {
    let classes = length.classes();
    if length.is_told() {
        let asked = completions
            .iter()
            .map(|completion| completion.asked.as_ref().and_then(|asked| classes.get(asked.arm)));
        return asked
            .zip(rows)
            .map(|(class, row)| class.map_or(0.0, |class| class.distance(row.tokens)))
            .collect();
    }
    let shares = shares(&classes, length.of, rows);
    let loss = |row: &Measure| {
        // what is in no class has a share of none
        row.class(&classes).map_or(1.0, |class| shares[class] - classes[class].share.unwrap_or_default())
    };
    rows.iter().map(loss).collect()
}

impl Lengths {
    /// Of rows with these rewards, the first of which were written as `stopped` says: by themselves or to the largest length.
    pub(crate) fn of(
        (length, wanted): (&Length, &[f64]),
        (rows, rewards): (&[Measure], &[f64]),
        stopped: &[bool],
        siblings: usize,
    ) -> Self {
        let mut sorted: Vec<usize> = rows.iter().map(|row| row.tokens).collect();
        sorted.sort_unstable();
        let marks = length.marks();
        let mut told: Vec<u8> = TOLD.into_iter().chain(marks.iter().map(|(quantile, _)| *quantile)).collect();
        told.sort_unstable();
        told.dedup();
        let quantile = |quantile: u8| {
            let place = (sorted.len() * usize::from(quantile)).div_ceil(100).max(1) - 1;
            let wanted = marks.iter().find(|(other, _)| *other == quantile).map(|(_, tokens)| *tokens);
            (quantile, sorted[place], wanted)
        };
        Self {
            classes: records(length, wanted, rows, rewards),
            quantiles: told.into_iter().map(quantile).collect(),
            at_limit: stopped.iter().filter(|stopped| !**stopped).count() as f64 / stopped.len() as f64,
            siblings,
        }
    }

    /// Mean rewards by mean length, a point for each class: over all steps, and over the dataset.
    pub(crate) fn curve(&self, history: &History) -> Option<Picture> {
        let place = |class: usize| {
            let of_steps = history.steps.iter().filter_map(|step| step.lengths.get(class));
            let (mut rows, mut tokens, mut rewards) = (0, 0.0, 0.0);
            for record in of_steps {
                rows += record.rows;
                tokens += record.rows as f64 * record.tokens.unwrap_or_default();
                rewards += record.rows as f64 * record.reward.unwrap_or_default();
            }
            (rows > 0).then_some((tokens / rows as f64, rewards / rows as f64))
        };
        let of_dataset = self.classes.iter().filter_map(|class| class.tokens.zip(class.reward));
        let mut lines: Vec<(String, Vec<(f64, f64)>)> = vec![
            ("steps".into(), (0..self.classes.len()).filter_map(place).collect()),
            ("dataset".into(), of_dataset.collect()),
        ];
        for (_, points) in &mut lines {
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
        }
        lines.retain(|(_, points)| !points.is_empty());
        let panel = Panel { title: "reward, in sd".into(), across: "tokens".into(), lines };
        (!self.classes.is_empty()).then(|| Picture { name: "lengths".into(), png: chart(&[panel]) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn length(text: &str) -> Length {
        toml::from_str(text).unwrap()
    }

    fn rows(tokens: &[usize]) -> Vec<Measure<'static>> {
        tokens.iter().map(|tokens| Measure { tokens: *tokens, prompts: None }).collect()
    }

    const MIX: &str =
        "mix = [{ name = 'a', max = 9, share = 0.25 }, { name = 'b', min = 10, max = 20, share = 0.75 }]";

    #[test]
    fn classes_are_counted_in_rows_and_in_tokens() {
        let tokens = [5, 15, 5, 15, 100];
        let rewards = [1.0, 2.0, 1.0, 2.0, 1.5];
        let records = |text: &str| records(&length(text), &[0.25, 0.75], &rows(&tokens), &rewards);
        let of_rows = records(MIX);
        assert_eq!((of_rows[0].rows, of_rows[0].share, of_rows[1].share), (2, 0.4, 0.4));
        assert_eq!((of_rows[0].tokens, of_rows[1].tokens), (Some(5.0), Some(15.0)));
        assert!(of_rows[0].reward.unwrap() < -1.0 && of_rows[1].reward.unwrap() > 1.0);
        let of_tokens = records(&format!("{MIX}\nof = 'tokens'"));
        assert_eq!((of_tokens[0].share, of_tokens[1].share), (10.0 / 140.0, 30.0 / 140.0));
    }

    #[test]
    fn what_a_class_has_too_much_is_a_loss_and_what_it_lacks_a_gain() {
        let losses = losses(&length(MIX), &rows(&[5, 15, 5, 100]), &[]);
        assert_eq!(losses, [0.25, -0.5, 0.25, 1.0]);
    }

    #[test]
    fn a_class_of_prompts_has_shares_of_its_own() {
        let settings = length(
            "mix = [{ name = 'a', max = 9, share = 1.0, prompts = 'easy' }, { name = 'b', max = 9, share = 0.5, prompts = \
             'hard' }, { name = 'c', min = 10, share = 0.5, prompts = 'hard' }]",
        );
        let row = |tokens: usize, prompts: &'static str| Measure { tokens, prompts: Some(prompts) };
        let rows = [row(5, "easy"), row(50, "easy"), row(5, "hard"), row(50, "hard"), row(60, "hard")];
        let found = records(&settings, &[1.0, 0.5, 0.5], &rows, &[1.0; 5]);
        let found: Vec<_> = found.iter().map(|record| (record.rows, record.share)).collect();
        assert_eq!(found, [(1, 0.5), (1, 1.0 / 3.0), (2, 2.0 / 3.0)]);
        assert_eq!(losses(&settings, &rows, &[])[1], 1.0);
    }

    #[test]
    fn quantiles_are_those_of_the_rows() {
        let tokens: Vec<usize> = (1..=100).rev().collect();
        let settings = length("quantiles = { p25 = 20, p50 = 60 }");
        let told = Lengths::of(
            (&settings, &[0.25, 0.25, 0.5]),
            (&rows(&tokens), &vec![1.0; 100]),
            &[true, false],
            0,
        );
        assert_eq!(told.quantiles, [(10, 10, None), (25, 25, Some(20)), (50, 50, Some(60)), (90, 90, None)]);
        assert_eq!((told.at_limit, told.classes[0].rows, told.classes[0].reward), (0.5, 20, None));
    }
}
