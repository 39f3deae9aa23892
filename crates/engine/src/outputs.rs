//! What people read off generations, beside the metric.

use std::collections::BTreeSet;
use std::path::Path;

use burn::tensor::Device;
use dpg_spec::{Metric, Proxies};

use crate::{Error, HeldOutTexts, fluency::Fluency, language, rewards::text};

/// What there is to tell of generations, by what the metric asks for.
pub enum Outputs {
    /// A metric of weights: nothing.
    Nothing,
    /// The shares of languages, and how fluent they are if the metric names a model that tells.
    Languages(Option<Box<Fluency>>),
    /// How near they are to the held-out texts.
    Matches(Vec<String>),
}

impl Outputs {
    /// What a spec's metric asks for; `held_out` are the texts of its files, which are local.
    pub fn new(metric: &Metric, held_out: &HeldOutTexts, device: &Device) -> Result<Self, Error> {
        let texts: Vec<String> = held_out.helpful(metric).iter().map(text).collect();
        Ok(match metric.proxies().unwrap_or_default() {
            _ if texts.is_empty() => Self::Nothing,
            Proxies::Languages => {
                let model = metric.fluency_model();
                let load = |folder| Fluency::load(Path::new(folder), &texts, device).map(Box::new);
                Self::Languages(model.map(load).transpose()?)
            }
            Proxies::Matches => Self::Matches(texts),
        })
    }

    /// The [`figures`](Self::figures) of generations, and whether the greedy one equals a held-out text
    /// (`greedy_match`, 1 or 0).
    pub fn of_validation(
        &self,
        generations: &[String],
        greedy: &String,
    ) -> Result<Vec<(String, f64)>, Error> {
        let mut figures = self.figures(generations)?;
        if let Self::Matches(texts) = self {
            figures.push(("greedy_match".into(), f64::from(u8::from(texts.contains(greedy)))));
        }
        Ok(figures)
    }

    /// Names and values: the share of generations that repeat another (`repeated`), their `relative_loss`
    /// under the fluency model, and shares of languages by their ISO 639-3 codes, most frequent first; or
    /// the share of generations that equal a held-out text (`exact_matches`) and the share of characters
    /// that are in their place of the nearest one (`character_matches`).
    pub fn figures(&self, generations: &[String]) -> Result<Vec<(String, f64)>, Error> {
        let mean = |of: &dyn Fn(&String) -> f64| {
            generations.iter().map(of).sum::<f64>() / generations.len().max(1) as f64
        };
        Ok(match self {
            Self::Nothing => vec![],
            Self::Languages(fluency) => {
                let distinct = generations.iter().collect::<BTreeSet<_>>().len();
                let repeated = 1.0 - distinct as f64 / generations.len().max(1) as f64;
                let mut figures = vec![("repeated".into(), repeated)];
                if let Some(fluency) = fluency {
                    let loss = fluency.relative_loss(generations)?;
                    figures.extend(loss.map(|loss| ("relative_loss".into(), loss)));
                }
                figures.extend(language::languages(generations));
                figures
            }
            Self::Matches(texts) => {
                let equal = |text: &String| if texts.contains(text) { 1.0 } else { 0.0 };
                let nearest =
                    |text: &String| texts.iter().map(|other| in_place(text, other)).fold(0.0, f64::max);
                vec![("exact_matches".into(), mean(&equal)), ("character_matches".into(), mean(&nearest))]
            }
        })
    }
}

/// Share of characters of the longer text that are the same at the same place of the other.
fn in_place(a: &str, b: &str) -> f64 {
    let same = a.chars().zip(b.chars()).filter(|(a, b)| a == b).count();
    same as f64 / a.chars().count().max(b.chars().count()).max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_are_counted_in_place() {
        let matches = Outputs::Matches(vec!["abcd".into(), "wxyz".into()]);
        let figures = matches.figures(&["abcd".into(), "wxaz".into(), "ab".into(), "bcda".into()]).unwrap();
        assert_eq!(figures[0], ("exact_matches".into(), 0.25));
        assert_eq!(figures[1], ("character_matches".into(), (1.0 + 0.75 + 0.5 + 0.0) / 4.0));
    }
}
