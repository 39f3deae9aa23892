//! A goal: a figure, a comparison, and a number, as in `pixel_accuracy >= 1.0`.

use std::fmt;
use std::str::FromStr;

/// A figure that a run may reach.
#[derive(Clone, Debug, PartialEq)]
pub struct Goal {
    name: String,
    comparison: Comparison,
    bound: f64,
}

/// The comparisons, longer signs before their beginnings.
const COMPARISONS: [(&str, Comparison); 4] = [
    (">=", Comparison::AtLeast),
    ("<=", Comparison::AtMost),
    (">", Comparison::Above),
    ("<", Comparison::Below),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    AtLeast,
    AtMost,
    Above,
    Below,
}

impl Goal {
    /// The figure's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the figure of this name is among `figures` and where it should be.
    pub fn is_met(&self, figures: &[(String, f64)]) -> bool {
        figures.iter().any(|(name, value)| {
            *name == self.name
                && match self.comparison {
                    Comparison::AtLeast => *value >= self.bound,
                    Comparison::AtMost => *value <= self.bound,
                    Comparison::Above => *value > self.bound,
                    Comparison::Below => *value < self.bound,
                }
        })
    }
}

impl FromStr for Goal {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("`{text}` is not a goal; expected one like `pixel_accuracy >= 1.0`");
        let split = COMPARISONS.iter().find_map(|(sign, comparison)| {
            let (name, bound) = text.split_once(sign)?;
            Some((name.trim(), *comparison, bound.trim()))
        });
        let (name, comparison, bound) = split.ok_or_else(expected)?;
        let bound = bound.parse().map_err(|_| expected())?;
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return Err(expected());
        }
        Ok(Self { name: name.into(), comparison, bound })
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = COMPARISONS.iter().find(|(_, comparison)| *comparison == self.comparison);
        write!(f, "{} {} {}", self.name, sign.map_or("", |(sign, _)| sign), self.bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_read_compared_and_written_back() {
        let figures = [("spa".to_owned(), 0.9), ("phi".to_owned(), -2.0)];
        for (goal, met) in [
            ("spa >= 0.9", true),
            ("spa>0.9", false),
            ("phi <= -2", true),
            ("phi < -2", false),
            ("fra >= 0", false),
        ] {
            let goal: Goal = goal.parse().unwrap();
            assert_eq!(goal.is_met(&figures), met, "{goal}");
            assert_eq!(goal.to_string().parse::<Goal>().unwrap(), goal);
        }
        for wrong in ["spa", "spa = 1", "spa >= much", ">= 1", "s p >= 1"] {
            assert!(wrong.parse::<Goal>().unwrap_err().contains("pixel_accuracy >= 1.0"), "{wrong}");
        }
    }
}
