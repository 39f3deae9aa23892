//! What there is to tell of how long the rows of a dataset are.

use dpg_dataset::markdown::escaped;
use dpg_engine::{LengthRecord, Lengths};

/// More rows than this that ended at the largest length are a warning.
const AT_LIMIT: f64 = 0.05;

/// For the dataset's card.
pub(crate) fn markdown(lengths: &Lengths) -> String {
    let mut text = String::new();
    if !lengths.classes.is_empty() {
        text += "| class | wanted | reached | rows | mean tokens | mean reward, in sd from the mean |\n\
                 |---|--:|--:|--:|--:|--:|\n";
        for LengthRecord { name, wanted, share, rows, tokens, reward } in &lengths.classes {
            let told = |value: &Option<f64>, digits: usize| {
                value.map_or(String::new(), |value| format!("{value:.digits$}"))
            };
            text += &format!(
                "| {} | {wanted:.3} | {share:.3} | {rows} | {} | {} |\n",
                escaped(name),
                told(tokens, 1),
                told(reward, 3)
            );
        }
        text += "\n";
    }
    let quantile = |(quantile, tokens, wanted): &(u8, usize, Option<usize>)| {
        let wanted = wanted.map_or(String::new(), |wanted| format!(" (wanted {wanted})"));
        format!("p{quantile} {tokens}{wanted}")
    };
    let quantiles: Vec<_> = lengths.quantiles.iter().map(quantile).collect();
    text += &format!(
        "Tokens of what was written, by the target's tokenizer: {}. {:.1}% of the rows ended at the largest length.\n",
        quantiles.join(", "),
        100.0 * lengths.at_limit
    );
    if lengths.siblings > 0 {
        text += &format!("\n{} rows are short siblings of the long rows before them.\n", lengths.siblings);
    }
    text
}

/// What is wrong with them.
pub(crate) fn warning(lengths: &Lengths) -> Option<String> {
    (lengths.at_limit > AT_LIMIT).then(|| {
        format!(
            "{:.0}% of the rows ended at the largest length, and may be cut in the middle: raise the generator's limit or ask \
             for less",
            100.0 * lengths.at_limit
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_wanted_stands_beside_what_was_reached() {
        let record = LengthRecord {
            name: "a|b".into(),
            wanted: 0.5,
            share: 0.25,
            rows: 3,
            tokens: Some(12.0),
            reward: None,
        };
        let lengths = Lengths {
            classes: vec![record],
            quantiles: vec![(10, 4, None), (50, 9, Some(8))],
            at_limit: 0.06,
            siblings: 2,
        };
        let text = markdown(&lengths);
        assert!(text.contains("| a\\|b | 0.500 | 0.250 | 3 | 12.0 |  |"), "{text}");
        assert!(text.contains("p10 4, p50 9 (wanted 8). 6.0% of the rows"), "{text}");
        assert!(text.contains("\n2 rows are short siblings"), "{text}");
        assert!(warning(&lengths).is_some_and(|warning| warning.starts_with("6% of")));
        assert_eq!(warning(&Lengths { at_limit: 0.05, ..lengths }), None);
    }
}
