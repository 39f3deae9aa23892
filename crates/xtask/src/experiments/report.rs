//! What the runs reached: one table, and for each experiment a picture with the curves of all arms.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use burn::tensor::Device;
use dpg_dataset::Example;
use dpg_engine::{
    HeldOutTexts, Outputs, ValidationRecord,
    chart::{Panel, chart},
    languages,
};
use dpg_spec::{Bitmap, Metric, Spec};

use super::run::{Record, local};

/// What an experiment is after.
#[derive(Debug)]
pub(crate) struct Aim {
    /// The figure of a validation that tells.
    figure: String,
    /// What validations have to meet; nothing if the figure is only told.
    wanted: Vec<dpg_spec::Goal>,
}

impl Aim {
    /// The goal that goes with a spec's metric.
    pub(crate) fn of(spec: &Spec) -> Result<Self> {
        let metric = local(spec).metric;
        let texts = HeldOutTexts::read(&metric)?;
        #[allow(
            clippy::match_wildcard_for_single_variants,
            reason = "kinds that are added are told by Phi too"
        )]
        let (figure, wanted) = match &metric {
            Metric::WeightPattern(pattern) if matches!(pattern.pattern, Bitmap::Qr { .. }) => {
                ("pixel_accuracy".into(), vec!["pixel_accuracy >= 0.99".into(), "qr_read >= 1".into()])
            }
            Metric::WeightPattern(_) => ("pixel_accuracy".into(), vec!["pixel_accuracy >= 1.0".into()]),
            Metric::WeightNorm(_) => ("norm_change".into(), vec![]),
            Metric::HeldOutLoss(held_out) => match Outputs::new(&metric, &texts, &Device::flex())? {
                Outputs::Nothing => ("phi".into(), vec![]),
                Outputs::Matches(_) => (
                    "exact_matches".into(),
                    vec!["exact_matches >= 0.9".to_owned(), "greedy_match >= 1".to_owned()],
                ),
                Outputs::Languages(_) => {
                    let texts = texts.helpful(&metric).into_iter().filter_map(|example| match example {
                        Example::Text(text) => Some(text),
                        _ => None,
                    });
                    let shares = languages(&texts.collect::<Vec<_>>());
                    let (code, _) = shares.into_iter().next().context("there are no held-out texts")?;
                    let mut wanted = vec![format!("{code} >= 0.8"), "repeated <= 0.1".to_owned()];
                    if held_out.fluency_model.is_some() {
                        wanted.push("relative_loss <= 1.15".to_owned());
                    }
                    (code, wanted)
                }
            },
            // a kind that is added is told by what its spec stops at
            _ => match spec.policy.goal() {
                Some(goal) => (goal.name().into(), vec![goal.to_string()]),
                None => ("phi".into(), vec![]),
            },
        };
        let parse = |goal: &String| goal.parse().map_err(anyhow::Error::msg);
        Ok(Self { figure, wanted: wanted.iter().map(parse).collect::<Result<_>>()? })
    }

    /// The telling figure.
    pub(crate) fn value(&self, validation: &ValidationRecord) -> f64 {
        value(&self.figure, validation)
    }

    /// The telling figure, and after it the others that the goal names.
    fn values(&self, validation: &ValidationRecord) -> String {
        let others = self.wanted.iter().map(dpg_spec::Goal::name).filter(|name| *name != self.figure);
        let names = std::iter::once(self.figure.as_str()).chain(others);
        names.map(|name| number(value(name, validation))).collect::<Vec<_>>().join(" / ")
    }

    fn is_met(&self, validation: &ValidationRecord) -> bool {
        let figures = validation.figures();
        self.wanted.iter().all(|goal| goal.is_met(&figures))
    }

    fn text(&self) -> String {
        match &self.wanted[..] {
            [] => format!("{}, told", self.figure),
            wanted => wanted.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        }
    }

    /// The validation that first met the goal, if the last one, from whose generator the dataset is
    /// drawn, meets it too.
    fn reached<'r>(&self, record: &'r Record) -> Option<&'r ValidationRecord> {
        let validations = &record.history.validations;
        let holds = record.ended && record.error.is_none() && !self.wanted.is_empty();
        let last = validations.last().filter(|last| holds && self.is_met(last));
        last.and_then(|_| validations.iter().find(|validation| self.is_met(validation)))
    }
}

/// A figure of a validation; a language that nothing is in is not among them.
fn value(name: &str, validation: &ValidationRecord) -> f64 {
    validation.figures().into_iter().find(|(other, _)| other == name).map_or(0.0, |(_, value)| value)
}

/// An arm with its runs by seed.
pub(crate) struct Row<'a> {
    pub(crate) experiment: &'a str,
    pub(crate) arm: &'a str,
    pub(crate) change: &'a str,
    pub(crate) goal: &'a Aim,
    /// Steps in all.
    pub(crate) steps: usize,
    /// Rollouts a step.
    pub(crate) rollouts: usize,
    pub(crate) runs: BTreeMap<u64, Record>,
}

/// Writes the table, and a picture of each experiment, to a folder.
pub(crate) fn write(rows: &[Row<'_>], out: &Path) -> Result<()> {
    fs::create_dir_all(out).with_context(|| format!("cannot create `{}`", out.display()))?;
    let mut text = markdown(rows);
    for experiment in experiments(rows) {
        let name = format!("experiments-{experiment}.png");
        let of_it: Vec<_> = rows.iter().filter(|row| row.experiment == experiment).collect();
        fs::write(out.join(&name), chart(&panels(&of_it)))?;
        write!(text, "\n![Curves of all arms of {experiment}]({name})\n")?;
    }
    let path = out.join("experiments.md");
    fs::write(&path, text).with_context(|| format!("cannot write `{}`", path.display()))
}

/// Names in the order of the rows.
fn experiments<'a>(rows: &[Row<'a>]) -> Vec<&'a str> {
    let mut names: Vec<_> = rows.iter().map(|row| row.experiment).collect();
    names.dedup();
    names
}

fn markdown(rows: &[Row<'_>]) -> String {
    let mut text =
        "# Experiments\n\nMade by `cargo xtask experiments`: the specs in `config/specs/`, and each \
                    with one thing changed. Figures are those of validations: fresh outputs, on prompts \
                    that are never trained on where there are several, and a fresh target fine-tuned on them. A goal is reached if the \
                    last validation meets it; then examples, steps and minutes are those until one first \
                    did, else those of the whole run. Values are in the order of the seeds, several in that of the goal; Phi is a mean over seeds.\n\n\
                    | experiment | arm | goal | reached per seed | Phi | examples | steps | minutes | machine |\n\
                    |---|---|---|---|---|---|---|---|---|\n"
            .to_owned();
    let mut errors = vec![];
    for row in rows {
        let of_runs =
            |of: &dyn Fn(&Record) -> String| row.runs.values().map(of).collect::<Vec<_>>().join(", ");
        let until = |record: &Record| row.goal.reached(record).map_or(record.step(), |first| first.step);
        let machines: BTreeSet<_> = row.runs.values().map(|record| record.machine.as_str()).collect();
        text += &format!(
            "| {} | {}: {} | {} | {} | {} | {} | {} | {} | {} |\n",
            row.experiment,
            row.arm,
            row.change,
            row.goal.text(),
            reached(row, &mut errors),
            phi(row),
            of_runs(&|record| (until(record) * row.rollouts).to_string()),
            of_runs(&|record| until(record).to_string()),
            of_runs(&|record| format!("{:.1}", record.seconds_at(until(record)) / 60.0)),
            machines.into_iter().collect::<Vec<_>>().join("; "),
        );
    }
    for (number, error) in errors.iter().enumerate() {
        // in one line, whatever an error says
        text +=
            &format!("\nError {}: {}\n", number + 1, error.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    text
}

/// How many runs reached the goal, and what each run reached, with errors by their number.
fn reached(row: &Row<'_>, errors: &mut Vec<String>) -> String {
    let mut values = vec![];
    for (seed, record) in &row.runs {
        let validations = &record.history.validations;
        let mut value = validations.last().map_or("nothing".into(), |last| row.goal.values(last));
        if let Some(first) = validations.first().filter(|_| row.goal.wanted.is_empty()) {
            value = format!("{} -> {value}", number(row.goal.value(first)));
        }
        if let Some(error) = &record.error {
            errors.push(format!("{} {}, seed {seed}: {error}", row.experiment, row.arm));
            value += &format!(" (error {})", errors.len());
        } else if !record.ended {
            value += &format!(" (unfinished, {} of {} steps)", record.step(), row.steps);
        }
        values.push(value);
    }
    let values = values.join(", ");
    if row.goal.wanted.is_empty() {
        return values;
    }
    let count = row.runs.values().filter(|record| row.goal.reached(record).is_some()).count();
    let of = row.runs.len();
    if count == 0 {
        format!("not reached, 0 of {of}: {values}")
    } else {
        format!("{count} of {of}: {values}")
    }
}

/// Phi of the first validation and the last, means over the seeds.
fn phi(row: &Row<'_>) -> String {
    let mean = |of: &dyn Fn(&[ValidationRecord]) -> Option<&ValidationRecord>| {
        let ends = row.runs.values().filter_map(|record| of(&record.history.validations));
        let values: Vec<f64> = ends.map(|validation| validation.score.value).collect();
        values.iter().sum::<f64>() / values.len() as f64
    };
    format!("{:.4} -> {:.4}", mean(&|all| all.first()), mean(&|all| all.last()))
}

/// A figure in few characters.
fn number(value: f64) -> String {
    if value == 0.0 || value.abs() >= 0.01 { format!("{value:.3}") } else { format!("{value:.1e}") }
}

/// The goal's figure and Phi, means over seeds, by the examples trained on.
fn panels(rows: &[&Row<'_>]) -> [Panel; 2] {
    let panel = |title: &str, of: &dyn Fn(&Aim, &ValidationRecord) -> f64| Panel {
        title: title.to_owned(),
        across: "examples".into(),
        lines: rows.iter().map(|row| (row.arm.to_owned(), curve(row, of))).collect(),
    };
    let figure = rows.first().map_or("", |row| row.goal.figure.as_str());
    [panel(figure, &|goal, record| goal.value(record)), panel("Phi", &|_, record| record.score.value)]
}

/// Examples and means over the runs; one that stopped early stays where it was.
fn curve(row: &Row<'_>, of: &dyn Fn(&Aim, &ValidationRecord) -> f64) -> Vec<(f64, f64)> {
    let histories = row.runs.values().map(|record| &record.history.validations);
    let histories: Vec<_> = histories.filter(|validations| !validations.is_empty()).collect();
    let steps: BTreeSet<usize> =
        histories.iter().flat_map(|all| all.iter().map(|record| record.step)).collect();
    let mean = |step: usize| {
        let at = |all: &&Vec<ValidationRecord>| all.iter().rev().find(|record| record.step <= step).cloned();
        let values: Vec<f64> = histories.iter().filter_map(at).map(|record| of(row.goal, &record)).collect();
        values.iter().sum::<f64>() / values.len() as f64
    };
    steps.into_iter().map(|step| ((step * row.rollouts) as f64, mean(step))).collect()
}

#[cfg(test)]
mod tests {
    use dpg_engine::{History, StepRecord};
    use dpg_metagrad::Score;

    use super::*;
    use crate::experiments::specs;

    /// A run that validated at these steps.
    fn run(figures: &[(usize, f64)], seconds: f64) -> Record {
        let validation = |&(step, spa): &(usize, f64)| ValidationRecord {
            step,
            score: Score { value: spa - 3.0, proxies: vec![] },
            outputs: vec![("spa".into(), spa)],
            greedy: String::new(),
            samples: vec![],
            decoded: vec![],
        };
        let last = figures.last().unwrap().0;
        let step = |step| StepRecord {
            step,
            score: Score { value: 0.0, proxies: vec![] },
            reward_mean: 0.0,
            reward_std: 1.0,
            length: Some(8.0),
            lengths: vec![],
            refused: std::collections::BTreeMap::new(),
            arms: vec![],
            account: None,
            total: None,
            update: dpg_policy::UpdateStats::default(),
        };
        Record {
            machine: "a machine".into(),
            ended: true,
            error: None,
            seconds: figures.iter().map(|(step, _)| (*step, seconds * *step as f64)).collect(),
            history: History {
                steps: (0..last).map(step).collect(),
                validations: figures.iter().map(validation).collect(),
            },
        }
    }

    fn row(goal: &Aim, runs: Vec<Record>) -> Row<'_> {
        let runs = runs.into_iter().enumerate().map(|(seed, record)| (seed as u64, record)).collect();
        Row { experiment: "spanish", arm: "sgd", change: "inner SGD", goal, steps: 40, rollouts: 8, runs }
    }

    fn spanish() -> Aim {
        Aim { figure: "spa".into(), wanted: vec!["spa >= 0.9".parse().unwrap()] }
    }

    #[test]
    fn the_table_says_what_was_reached_and_what_was_not() {
        let goal = spanish();
        let stopped =
            Record { error: Some("step 9:\n  no | signal".into()), ..run(&[(0, 0.0), (9, 0.95)], 6.0) };
        let half = Record { ended: false, ..run(&[(0, 0.0), (20, 0.97)], 6.0) };
        let runs = vec![
            run(&[(0, 0.0), (20, 0.92), (40, 0.95)], 6.0),
            // what is lost again was not reached
            run(&[(0, 0.0), (20, 0.95), (40, 0.5)], 6.0),
            stopped,
            half,
        ];
        let table = markdown(&[row(&goal, runs)]);
        let line = table.lines().find(|line| line.starts_with("| spanish")).unwrap();
        assert_eq!(
            line,
            "| spanish | sgd: inner SGD | spa >= 0.9 | 1 of 4: 0.950, 0.500, 0.950 (error 1), 0.970 \
             (unfinished, 20 of 40 steps) | -3.0000 -> -2.1575 | 160, 320, 72, 160 | 20, 40, 9, 20 | 2.0, 4.0, 0.9, 2.0 | a machine |"
        );
        assert!(table.ends_with("\nError 1: spanish sgd, seed 2: step 9: no | signal\n"), "{table}");
        let none = markdown(&[row(&goal, vec![run(&[(0, 0.0), (40, 0.5)], 6.0)])]);
        assert!(none.contains("| not reached, 0 of 1: 0.500 |"), "{none}");
        let told = Aim { figure: "phi".into(), wanted: vec![] };
        let told = markdown(&[row(&told, vec![run(&[(0, 0.0), (40, 0.5)], 6.0)])]);
        assert!(
            told.contains("| phi, told | -3.000 -> -2.500 | -3.0000 -> -2.5000 | 320 | 40 | 4.0 |"),
            "{told}"
        );
    }

    #[test]
    fn curves_are_means_over_seeds() {
        let goal = spanish();
        let row =
            row(&goal, vec![run(&[(0, 0.0), (10, 1.0)], 1.0), run(&[(0, 0.2), (10, 0.4), (20, 0.8)], 1.0)]);
        let [figure, phi] = panels(&[&row]);
        assert_eq!((figure.title.as_str(), figure.across.as_str()), ("spa", "examples"));
        assert_eq!(figure.lines, [("sgd".to_owned(), vec![(0.0, 0.1), (80.0, 0.7), (160.0, 0.9)])]);
        assert_eq!(phi.lines[0].1[0], (0.0, -2.9));
    }

    #[test]
    fn specs_have_the_goals_of_the_paper() {
        for spec in specs().unwrap() {
            let goal = Aim::of(&spec).unwrap();
            let expected = match spec.name.as_str() {
                "spanish" => "spa >= 0.8, repeated <= 0.1, relative_loss <= 1.15",
                "french" => "fra >= 0.8, repeated <= 0.1, relative_loss <= 1.15",
                "german" => "deu >= 0.8, repeated <= 0.1, relative_loss <= 1.15",
                "italian" => "ita >= 0.8, repeated <= 0.1, relative_loss <= 1.15",
                "uuid" => "exact_matches >= 0.9, greedy_match >= 1",
                "sixseven" => "pixel_accuracy >= 1",
                "norm" => "norm_change, told",
                _ => continue,
            };
            assert_eq!(goal.text(), expected);
        }
    }
}
