//! Rows of lengths of which there are enough.

use dpg_spec::{LengthClass, SharesOf};

use super::{Candidate, Gate, Gates};
use crate::Error;

/// Adds what holds so many rows to the shares of classes of lengths.
pub(crate) fn quotas(gates: &mut Gates, classes: &[LengthClass], shares: &[f64], of: SharesOf, rows: usize) {
    gates.push("in no class of `output.length`", Box::new(Known(classes.to_vec())));
    let counts = match of {
        SharesOf::Rows => Counts::Rows { most: apportioned(shares, rows), kept: vec![0; shares.len()] },
        SharesOf::Tokens => Counts::Tokens { shares: shares.to_vec(), kept: vec![0.0; shares.len()] },
    };
    let quota = Quota { classes: classes.to_vec(), counts };
    gates.push("over the share of its class of `output.length`", Box::new(quota));
}

/// Lengths that are in a class.
struct Known(Vec<LengthClass>);

impl Gate for Known {
    fn passes(&mut self, row: &Candidate) -> Result<bool, Error> {
        Ok(self.0.iter().any(|class| row.measure.is_in(class)))
    }
}

struct Quota {
    classes: Vec<LengthClass>,
    counts: Counts,
}

enum Counts {
    /// How many rows there may be, and are.
    Rows { most: Vec<usize>, kept: Vec<usize> },
    /// How many tokens there are of each class: one that is ahead of its share waits for the others.
    Tokens { shares: Vec<f64>, kept: Vec<f64> },
}

impl Gate for Quota {
    fn passes(&mut self, row: &Candidate) -> Result<bool, Error> {
        let Some(class) = row.measure.class(&self.classes) else { return Ok(false) };
        Ok(match &self.counts {
            Counts::Rows { most, kept } => kept[class] < most[class],
            Counts::Tokens { shares, kept } => kept[class] <= shares[class] * kept.iter().sum::<f64>(),
        })
    }

    fn keep(&mut self, row: &Candidate) {
        let Some(class) = row.measure.class(&self.classes) else { return };
        match &mut self.counts {
            Counts::Rows { kept, .. } => kept[class] += 1,
            Counts::Tokens { kept, .. } => kept[class] += row.measure.tokens as f64,
        }
    }
}

/// So many rows in these shares, the largest remainders rounded up.
fn apportioned(shares: &[f64], rows: usize) -> Vec<usize> {
    let exact: Vec<f64> = shares.iter().map(|share| share * rows as f64).collect();
    let mut counts: Vec<usize> = exact.iter().map(|rows| rows.floor() as usize).collect();
    let mut order: Vec<usize> = (0..shares.len()).collect();
    order.sort_by(|a, b| exact[*b].fract().total_cmp(&exact[*a].fract()));
    let missing = rows.saturating_sub(counts.iter().sum());
    for class in order.into_iter().cycle().take(missing) {
        counts[class] += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_rows_are_apportioned() {
        assert_eq!(apportioned(&[0.5, 0.25, 0.25], 10), [5, 3, 2]);
        assert_eq!(apportioned(&[1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0], 100), [34, 33, 33]);
        assert_eq!(apportioned(&[1.0], 7), [7]);
    }
}
