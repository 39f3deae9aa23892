//! What there is to say of a run's dataset before anybody trains on it: rows that repeat others or say
//! nothing, prompts that asked nothing, and a metric that did not move or got worse.
//!
//! Such a version is published all the same: `publish_if` is for those who want it withheld. But it says
//! so: in the run's result, in the job's, and on its card.

use std::collections::HashSet;

use dpg_dataset::{Example, Row};
use dpg_engine::{History, Outcome, Prompt};
use serde::Serialize;

use crate::pipeline::figures::{PHI, figures};

/// What was counted and found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Quality {
    /// Rows.
    pub(crate) rows: usize,
    /// Rows with the content of an earlier one.
    pub(crate) duplicates: usize,
    /// Rows in which the generator wrote nothing.
    pub(crate) empty: usize,
    /// Drawn examples without any text, which are not among the rows.
    pub(crate) left_out: usize,
    /// What is wrong, in words.
    pub(crate) warnings: Vec<String>,
}

impl Quality {
    /// Looks at what a run ended with, and at its prompts as they are in their template.
    pub(crate) fn of(outcome: &Outcome, training: &[Prompt], template: &str) -> Self {
        let mut quality = Self::counted(&outcome.rows);
        quality.left_out = outcome.left_out;
        quality.warnings.extend(metric(&outcome.history));
        let texts: Vec<_> = training.iter().map(|prompt| prompt.text.as_str()).collect();
        quality.warnings.extend(prompts(&texts, template));
        let Self { rows, duplicates, empty, left_out, .. } = quality;
        let mut many = |count: usize, what: &str| {
            if 2 * count > rows + left_out {
                quality.warnings.push(format!("{count} of {} {what}", rows + left_out));
            }
        };
        many(duplicates, "rows repeat earlier ones: the generator may have collapsed");
        many(empty + left_out, "examples are empty: the generator mostly ends before it begins");
        quality
    }

    fn counted(rows: &[Row]) -> Self {
        let mut seen = HashSet::new();
        let duplicates = rows.iter().filter(|row| !seen.insert(row.example.content_sha256())).count();
        let empty = rows.iter().filter(|row| says_nothing(&row.example)).count();
        Self { rows: rows.len(), duplicates, empty, ..Self::default() }
    }

    /// The counts in words.
    pub(crate) fn counts(&self) -> String {
        let left_out = match self.left_out {
            0 => String::new(),
            count => format!("; {count} more were drawn without any text and left out"),
        };
        format!("{} rows, {} duplicates, {} empty{left_out}", self.rows, self.duplicates, self.empty)
    }
}

fn says_nothing(example: &Example) -> bool {
    match example {
        Example::Text(text) => text.trim().is_empty(),
        Example::PromptCompletion { completion, .. } => completion.trim().is_empty(),
        Example::Messages(conversation) => {
            let content = conversation.turns.last().and_then(|turn| turn.get("content"));
            content.is_none_or(|content| content.as_str().is_some_and(|text| text.trim().is_empty()))
        }
    }
}

/// What is wrong with prompts, as they are in their template.
fn prompts(texts: &[&str], template: &str) -> Option<String> {
    let blank = template.replace("{text}", "");
    let (all, empty) = (texts.len(), texts.iter().filter(|text| text.trim() == blank.trim()).count());
    if all < 2 {
        return None;
    }
    if 2 * empty > all {
        return Some(format!(
            "{empty} of {all} prompts have no text of their own: the generator was asked nothing; check `generator.prompts`"
        ));
    }
    let same = texts.iter().all(|text| *text == texts[0]);
    same.then(|| format!("all {all} prompts are the same; check `generator.prompts`"))
}

/// What is wrong with where the metric went.
fn metric(history: &History) -> Option<String> {
    let figures = figures(history);
    let phi = figures.iter().find(|figure| figure.name == PHI)?;
    let (before, after) = (phi.before, phi.after);
    if history.validations.len() < 2 {
        return None;
    }
    if after < before {
        return Some(format!(
            "Phi on validation is {after}, worse than the untrained generator's {before}: this data moves the metric the \
             wrong way"
        ));
    }
    // equal to the last digit is what a generator that did not change gives
    (after <= before).then(|| format!("Phi on validation is {after} before and after: the run moved nothing"))
}

#[cfg(test)]
mod tests {
    use dpg_engine::ValidationRecord;
    use dpg_metagrad::Score;

    use super::*;

    fn row(completion: &str) -> Row {
        Row {
            example: Example::PromptCompletion { prompt: "p".into(), completion: completion.into() },
            reward: 0.0,
            group_id: 0,
            step: 0,
            advantage: 0.0,
            logprob: Some(0.0),
            n_tokens: Some(0),
            arm: None,
            prompt: "p".into(),
            seed: 0,
        }
    }

    #[test]
    fn duplicates_and_empty_rows_are_counted() {
        let quality = Quality::counted(&["a", "b", "a", " ", "", "a"].map(row));
        assert_eq!((quality.rows, quality.duplicates, quality.empty), (6, 2, 2));
        assert_eq!(quality.counts(), "6 rows, 2 duplicates, 2 empty");
        let quality = Quality { left_out: 3, ..quality };
        assert!(quality.counts().ends_with("; 3 more were drawn without any text and left out"));
    }

    #[test]
    fn prompts_that_ask_nothing_are_found() {
        let ask = |texts: &[&str]| prompts(texts, "Say: {text}\n").unwrap_or_default();
        assert!(ask(&["Say: \n", "Say: \n", "Say: a\n"]).starts_with("2 of 3 prompts have no text"));
        assert!(ask(&["Say: a\n", "Say: a\n"]).starts_with("all 2 prompts are the same"));
        assert_eq!(ask(&["Say: a\n", "Say: \n"]), "");
        assert_eq!(ask(&["Say: \n"]), "", "a generator without prompts has one");
    }

    #[test]
    fn a_metric_that_did_not_rise_is_told() {
        let history = |phis: &[f64]| {
            let record = |(step, &value): (usize, &f64)| ValidationRecord {
                step,
                score: Score { value, proxies: vec![] },
                outputs: vec![],
                greedy: String::new(),
                samples: vec![],
                decoded: vec![],
            };
            History { validations: phis.iter().enumerate().map(record).collect(), ..History::default() }
        };
        assert_eq!(metric(&history(&[-2.0, -1.0])), None);
        assert!(metric(&history(&[-1.0, -0.5, -2.0])).unwrap().contains("worse than"));
        assert!(metric(&history(&[-1.0, -0.5, -1.0])).unwrap().contains("moved nothing"));
        assert_eq!(metric(&history(&[-1.0])), None);
    }
}
