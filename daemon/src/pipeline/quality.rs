//! What there is to say of a run's dataset before anybody trains on it: rows that repeat others or say
//! nothing, prompts that asked nothing, and a metric that did not move or got worse.
//!
//! Such a version is published all the same: `publish_if` is for those who want it withheld. But it says
//! so: in the run's result, in the job's, and on its card.

use std::collections::{BTreeMap, HashSet};

use dpg_dataset::{Example, Row};
use dpg_engine::{History, Lengths, Outcome, Prompt};
use serde::Serialize;

use crate::pipeline::{
    figures::{PHI, figures},
    lengths,
};

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
    /// Rows with a copy of what the metric holds out, if it holds out texts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) copies: Option<usize>,
    /// Drawn rows that gates and quotas refused, if there are any gates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) refused: Option<Refused>,
    /// How long the rows are, if the spec says how long they should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) lengths: Option<Lengths>,
    /// What is wrong, in words.
    pub(crate) warnings: Vec<String>,
}

/// What gates and quotas refused.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Refused {
    /// All rows that were drawn.
    pub(crate) drawn: usize,
    /// Those that were refused, by what was wrong with them.
    pub(crate) reasons: BTreeMap<String, usize>,
}

impl Quality {
    /// Looks at what a run ended with, and at its prompts as they are in their template.
    pub(crate) fn of(outcome: &Outcome, wanted: usize, training: &[Prompt], template: &str) -> Self {
        let mut quality = Self::counted(&outcome.rows);
        quality.left_out = outcome.left_out;
        quality.copies = outcome.copies;
        let refused = outcome.refused.clone();
        quality.refused = refused.map(|(reasons, drawn)| Refused { drawn, reasons });
        quality.lengths.clone_from(&outcome.lengths);
        quality.warnings.extend(quality.lengths.as_ref().and_then(lengths::warning));
        quality.warnings.extend(quality.too_few(wanted));
        quality.warnings.extend(quality.copied());
        quality.warnings.extend(metric(&outcome.history));
        let texts: Vec<_> = training.iter().map(|prompt| prompt.text.as_str()).collect();
        quality.warnings.extend(prompts(&texts, template));
        let &Self { rows, duplicates, empty, left_out, .. } = &quality;
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

    /// What is wrong if `wanted` rows were to be published and gates left fewer.
    fn too_few(&self, wanted: usize) -> Option<String> {
        let rows = self.rows;
        (self.refused.is_some() && rows < wanted).then(|| {
            format!(
                "{rows} of {wanted} rows passed the gates and quotas of `output` before `output.draws` or the budget was spent"
            )
        })
    }

    /// What is wrong if rows copy the test.
    fn copied(&self) -> Option<String> {
        let copies = self.copies.filter(|copies| *copies > 0)?;
        Some(format!(
            "{copies} of {} rows copy what the metric holds out: Phi may tell what was copied, and not what was learnt; the \
             gate `held_out_overlap` refuses such rows",
            self.rows
        ))
    }

    /// The counts in words.
    pub(crate) fn counts(&self) -> String {
        let left_out = match self.left_out {
            0 => String::new(),
            count => format!("; {count} more were drawn without any text and left out"),
        };
        let copies =
            self.copies.map_or(String::new(), |copies| format!(", {copies} copies of held-out text"));
        let refused = self.refused.as_ref().map_or(String::new(), |Refused { drawn, reasons }| {
            let reasons: Vec<_> = reasons.iter().map(|(reason, rows)| format!("{rows} {reason}")).collect();
            let reasons = if reasons.is_empty() { "none".into() } else { reasons.join(", ") };
            format!("; of {drawn} drawn rows were refused: {reasons}")
        });
        format!(
            "{} rows, {} duplicates, {} empty{copies}{left_out}{refused}",
            self.rows, self.duplicates, self.empty
        )
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
        let refused = Refused { drawn: 9, reasons: [("not in `spa`".to_owned(), 3)].into() };
        let quality =
            Quality { refused: Some(refused), copies: Some(2), ..Quality::counted(&["a", "b"].map(row)) };
        assert_eq!(
            quality.counts(),
            "2 rows, 0 duplicates, 0 empty, 2 copies of held-out text; of 9 drawn rows were refused: 3 not in `spa`"
        );
        assert!(quality.copied().unwrap().starts_with("2 of 2 rows copy"));
        assert!(quality.too_few(3).unwrap().starts_with("2 of 3 rows passed"));
        assert_eq!(quality.too_few(2), None);
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
