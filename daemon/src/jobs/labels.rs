//! Names of datasets as labels of metrics: those of the first few, and `other`. Whoever may submit makes
//! up names, and each label stays in memory.

use std::collections::HashSet;
use std::sync::{LazyLock, Mutex, PoisonError};

/// Datasets with a label of their own.
const MOST: usize = 100;

static LABELS: LazyLock<Mutex<HashSet<String>>> = LazyLock::new(Mutex::default);

/// The label of a dataset.
pub(crate) fn dataset(name: &str) -> String {
    let mut known = LABELS.lock().unwrap_or_else(PoisonError::into_inner);
    if !known.contains(name) {
        if known.len() >= MOST {
            return "other".into();
        }
        known.insert(name.to_owned());
    }
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_names_are_one_label() {
        let labels: HashSet<String> = (0..10 * MOST).map(|number| dataset(&format!("d{number}"))).collect();
        assert!(labels.contains("other") && labels.len() <= MOST + 1, "{}", labels.len());
    }
}
