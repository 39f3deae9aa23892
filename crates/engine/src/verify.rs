//! Whether a published dataset does to a fresh target what it was made for, beside controls.
//!
//! Every arm fine-tunes the target anew with the spec's recipe, under several data orders.

use std::{collections::HashMap, path::Path};

use dpg_dataset::Example;
use dpg_metagrad::{Score, metrics::Decoded};
use serde::{Deserialize, Serialize};

use crate::{Draw, Error, Outputs, Problem, Scorer, Stop, randomness, rewards::text};

/// A dataset as it was published.
#[derive(Clone, Debug, Default)]
pub struct Published {
    /// The rows.
    pub examples: Vec<Example>,
    /// Their rewards.
    pub rewards: Vec<f64>,
    /// What the generator was asked for each of them.
    pub prompts: Vec<String>,
}

/// The dataset and its controls.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Verification {
    /// The target as it is.
    pub nothing: Arm,
    /// The dataset as published.
    pub dataset: Arm,
    /// What the untrained generator writes on the same prompts, drawn anew for every data order.
    pub untrained_generator: Arm,
    /// The tenth of the dataset with the largest rewards.
    pub best_tenth: Arm,
    /// As many rows at random, others for every data order.
    pub random_tenth: Arm,
    /// The tenth with the smallest rewards.
    pub worst_tenth: Arm,
    /// All rows but the best tenth, which stands in its batches with weight 0: the rest is as it was.
    pub without_best: Arm,
    /// All rows but a random tenth, another for every data order.
    pub without_random: Arm,
    /// All rows but the worst tenth.
    pub without_worst: Arm,
    /// The dataset under the recipe without `eps_root`, which the AdamW that users have does not know; `None` where
    /// the recipe has none itself.
    #[serde(default)]
    pub without_eps_root: Option<Arm>,
    /// Whether the best and the worst tenth are the same texts, so that rewards cannot tell them apart.
    pub all_alike: bool,
    /// What the dataset drew into the target, for each pattern of the metric under each data order.
    #[serde(skip)]
    pub decoded: Vec<Decoded>,
    /// What a QR reader made of it where the metric draws QR codes, beside what it should read.
    pub read: Vec<(Option<String>, String)>,
}

/// What one dataset reaches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Arm {
    /// Examples.
    pub rows: usize,
    /// Phi, one a data order.
    pub phi: Vec<f64>,
    /// Mean of Phi.
    pub mean: f64,
    /// Half the width of its 95% confidence interval (Student's t).
    pub margin: f64,
    /// The figures that people read instead of Phi: the metric's, and those of the rows.
    pub proxies: Vec<Estimate>,
}

/// A figure over data orders.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// What it is.
    pub name: String,
    /// Its mean.
    pub mean: f64,
    /// Half the width of its 95% confidence interval (Student's t).
    pub margin: f64,
}

impl Arm {
    fn new(rows: usize, measured: &[(Score, Vec<(String, f64)>)]) -> Self {
        let phi: Vec<f64> = measured.iter().map(|(score, _)| score.value).collect();
        let figures = |(score, outputs): &(Score, Vec<(String, f64)>)| {
            score.proxies.iter().chain(outputs).cloned().collect::<Vec<_>>()
        };
        let figures: Vec<_> = measured.iter().map(figures).collect();
        let mut names: Vec<String> = vec![];
        for (name, _) in figures.iter().flatten() {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        let estimate = |name: String| {
            let of_one = |figures: &Vec<(String, f64)>| {
                // a language that no row is in is not named
                figures.iter().find(|(other, _)| *other == name).map_or(0.0, |(_, value)| *value)
            };
            let (mean, margin) = interval(&figures.iter().map(of_one).collect::<Vec<_>>());
            Estimate { name, mean, margin }
        };
        let (mean, margin) = interval(&phi);
        Self { rows, phi, mean, margin, proxies: names.into_iter().map(estimate).collect() }
    }
}

impl Verification {
    /// The arms with their names.
    pub fn arms(&self) -> Vec<(&'static str, &Arm)> {
        let mut arms = vec![
            ("nothing", &self.nothing),
            ("the dataset", &self.dataset),
            ("the untrained generator's", &self.untrained_generator),
            ("its best tenth by reward", &self.best_tenth),
            ("a random tenth", &self.random_tenth),
            ("its worst tenth", &self.worst_tenth),
            ("all but the best tenth", &self.without_best),
            ("all but a random tenth", &self.without_random),
            ("all but the worst tenth", &self.without_worst),
        ];
        arms.extend(self.without_eps_root.iter().map(|arm| ("the dataset, eps_root 0", arm)));
        arms
    }

    /// Data orders of each arm.
    pub fn orders(&self) -> usize {
        self.dataset.phi.len()
    }

    /// The dataset beats an untrained target and the untrained generator's examples, its rewards
    /// tell its better rows from its worse, and its QR codes are read.
    pub fn holds(&self) -> bool {
        self.failures().is_empty()
    }

    /// What does not hold, in words.
    pub fn failures(&self) -> Vec<String> {
        let mut failures = vec![];
        let mut require = |holds: bool, what: &str| {
            if !holds {
                failures.push(what.to_owned());
            }
        };
        require(
            self.dataset.mean - self.dataset.margin > self.nothing.mean,
            "the dataset is no better than no training",
        );
        require(
            self.dataset.mean - self.dataset.margin > self.luckiest_draw(),
            "the dataset is no better than what the untrained generator writes",
        );
        require(
            self.all_alike || self.without_worst.mean - self.without_best.mean > self.chance(),
            "leaving out the rows with the largest rewards costs no more than leaving out those with the \
             smallest",
        );
        let wrong: Vec<_> = self.read.iter().filter(|(read, text)| read.as_ref() != Some(text)).collect();
        if let Some((read, text)) = wrong.first() {
            let read = read.as_ref().map_or("nothing".into(), |read| format!("`{read}`"));
            let (wrong, all) = (wrong.len(), self.read.len());
            failures
                .push(format!("a QR reader reads {read} instead of `{text}` in {wrong} of {all} pictures"));
        }
        failures
    }

    /// What the untrained generator's examples reach at most in 39 of 40 draws: one more draw lies in the
    /// prediction interval, which is wider than the mean's.
    fn luckiest_draw(&self) -> f64 {
        let Arm { mean, margin, .. } = &self.untrained_generator;
        mean + margin * (self.orders() as f64 + 1.0).sqrt()
    }

    /// By how much leaving out one tenth differs from leaving out another by chance, at most in 39 of
    /// 40 cases: from what leaving out random ones does under the same data orders.
    fn chance(&self) -> f64 {
        let effects: Vec<f64> = self
            .without_random
            .phi
            .iter()
            .zip(&self.dataset.phi)
            .map(|(without, with)| without - with)
            .collect();
        interval(&effects).1 * (2.0 * effects.len() as f64).sqrt()
    }
}

impl Problem {
    /// Fine-tunes fresh targets on a published dataset and on controls, under `orders` data orders each. `scratch` is a
    /// folder for the metric's files.
    pub fn verify(
        &self,
        dataset: &Published,
        orders: usize,
        scratch: &Path,
        stop: Stop,
    ) -> Result<Verification, Error> {
        let Published { examples, rewards, prompts } = dataset;
        let scorer = self.scorer(scratch, stop);
        let outputs = Outputs::new(&self.spec.metric, &self.held_out, &self.devices[0])?;
        let trial = Trial { scorer, outputs: &outputs, orders: orders as u64 };
        let bare = self.spec.without_eps_root().map(|spec| self.target.with_recipe(&spec));
        let (published, decoded) = trial.arm(&|_| Ok(all(examples.clone())))?;
        let arm = |of_order: &OfOrder| Ok::<_, Error>(trial.arm(of_order)?.0);
        let mut order: Vec<usize> = (0..examples.len()).collect();
        order.sort_by(|&a, &b| rewards[b].total_cmp(&rewards[a]));
        let tenth = (examples.len() / 10).max(1);
        let (best, worst) = (&order[..tenth], &order[order.len() - tenth..]);
        let random = |data_order: u64| randomness::some_rows(&order, tenth, data_order);
        let only = |kept: &[usize]| all(kept.iter().map(|&index| examples[index].clone()).collect());
        let without = |left_out: &[usize]| {
            let mut rows = all(examples.clone());
            for &index in left_out {
                rows[index].1 = 0.0;
            }
            rows
        };
        let texts = |indices: &[usize]| {
            let mut texts: Vec<_> = indices.iter().map(|&index| text(&examples[index])).collect();
            texts.sort();
            texts
        };
        Ok(Verification {
            nothing: Arm::new(0, &[(self.metric.score(&self.target.model.theta, scorer.context())?, vec![])]),
            dataset: published,
            untrained_generator: arm(&|order| Ok(all(self.control_draw(prompts, order, stop)?)))?,
            best_tenth: arm(&|_| Ok(only(best)))?,
            random_tenth: arm(&|order| Ok(only(&random(order))))?,
            worst_tenth: arm(&|_| Ok(only(worst)))?,
            without_best: arm(&|_| Ok(without(best)))?,
            without_random: arm(&|order| Ok(without(&random(order))))?,
            without_worst: arm(&|_| Ok(without(worst)))?,
            without_eps_root: match &bare {
                None => None,
                Some(target) => {
                    let trial = Trial { scorer: Scorer { target, ..scorer }, ..trial };
                    Some(trial.arm(&|_| Ok(all(examples.clone())))?.0)
                }
            },
            all_alike: texts(best) == texts(worst),
            read: decoded.iter().filter_map(|one| Some((one.read_qr(), one.text.clone()?))).collect(),
            decoded,
        })
    }

    /// What the untrained generator writes when it is asked what the dataset's was asked, or prompts of its own choice if it
    /// learns which to ask.
    fn control_draw(&self, prompts: &[String], order: u64, stop: Stop) -> Result<Vec<Example>, Error> {
        let writer = self.writer()?;
        if !writer.generator.about().classes.is_empty() {
            let (groups, draw) = ((prompts.len(), 1), Draw::verification(order));
            return Ok(writer
                .draw_groups(groups, self.spec.seed, draw, stop)?
                .examples(self.spec.output.format));
        }
        let of_run = writer.training.iter().chain(&writer.validation);
        let of_run: HashMap<_, _> = of_run.map(|prompt| (prompt.text.as_str(), prompt)).collect();
        let prompt = |text: &String| match of_run.get(text.as_str()) {
            Some(prompt) => Ok((*prompt).clone()),
            None => writer.generator.prompt(text.clone()),
        };
        let prompts = prompts.iter().map(prompt).collect::<Result<_, _>>()?;
        let drawn = writer.draw(prompts, self.spec.seed, Draw::verification(order), stop)?;
        Ok(drawn.examples(self.spec.output.format))
    }
}

/// The weighted examples of a data order.
type OfOrder<'a> = dyn Fn(u64) -> Result<Vec<(Example, f64)>, Error> + 'a;

/// What all arms are tried with.
#[derive(Clone, Copy)]
struct Trial<'a> {
    scorer: Scorer<'a>,
    outputs: &'a Outputs,
    orders: u64,
}

impl Trial<'_> {
    /// Fine-tunes on the weighted examples of each data order, and reads back what they drew.
    fn arm(&self, of_order: &OfOrder) -> Result<(Arm, Vec<Decoded>), Error> {
        let (mut rows, mut measured, mut decoded) = (0, vec![], vec![]);
        for order in 0..self.orders {
            // even where a recipe keeps file order, a data order is what an arm is tried under
            let mut weighted = of_order(order)?;
            randomness::shuffle_rows(&mut weighted, order);
            let (examples, weights): (Vec<_>, Vec<_>) = weighted.into_iter().unzip();
            let (score, theta) =
                self.scorer.measure_weighted(&examples, &weights, Draw::verification(order))?;
            let counted = examples.iter().zip(&weights).filter(|(_, weight)| **weight > 0.0);
            let texts: Vec<_> = counted.map(|(example, _)| text(example)).collect();
            rows = texts.len();
            measured.push((score, self.outputs.figures(&texts)?));
            decoded.extend(self.scorer.metric.decoded(&theta));
        }
        Ok((Arm::new(rows, &measured), decoded))
    }
}

/// Examples with weight 1.
fn all(examples: Vec<Example>) -> Vec<(Example, f64)> {
    examples.into_iter().map(|example| (example, 1.0)).collect()
}

/// Mean and half the width of its 95% confidence interval.
fn interval(values: &[f64]) -> (f64, f64) {
    /// Quantiles 0.975 of Student's t for 1, 2, ... degrees of freedom.
    const T: [f64; 10] = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228];
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    if values.len() < 2 {
        return (mean, 0.0);
    }
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let t = T.get(values.len() - 2).copied().unwrap_or(2.228);
    (mean, t * (variance / n).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_that_is_not_read_fails_and_rows_that_are_alike_do_not() {
        let arm = |phi: [f64; 2]| Arm::new(10, &phi.map(|value| (Score { value, proxies: vec![] }, vec![])));
        let (better, worse) = (arm([1.0, 1.0]), arm([-1.0, -1.0]));
        let mut verification = Verification {
            nothing: worse.clone(),
            dataset: better.clone(),
            untrained_generator: worse.clone(),
            best_tenth: better.clone(),
            random_tenth: better.clone(),
            worst_tenth: better.clone(),
            without_best: better.clone(),
            without_random: better.clone(),
            without_worst: better.clone(),
            without_eps_root: None,
            all_alike: true,
            decoded: vec![],
            read: vec![(Some("dpg".into()), "dpg".into())],
        };
        assert_eq!(verification.failures(), [""; 0]);
        verification.all_alike = false;
        assert_eq!(verification.failures().len(), 1);
        verification.without_best = worse;
        assert_eq!(verification.failures(), [""; 0]);
        verification.read.push((None, "dpg".into()));
        assert_eq!(
            verification.failures(),
            ["a QR reader reads nothing instead of `dpg` in 1 of 2 pictures"]
        );
    }

    #[test]
    fn intervals_are_those_of_students_t() {
        let (mean, margin) = interval(&[1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(mean, 3.0);
        assert!((margin - 2.776 * (2.5f64 / 5.0).sqrt()).abs() < 1e-12);
    }
}
