//! Rows of several examples, as TRL's `packing = True` makes them: best fit decreasing.
//!
//! Examples of a row do not see each other: TRL gives each positions of its own. So a row is one more way to
//! choose what a step is made of, and nothing of a pass changes.

use std::collections::{BTreeMap, VecDeque};

/// Examples that TRL packs at a time: `datasets.Dataset.map` hands it so many.
const TOGETHER: usize = 1000;

/// The examples of every row, of the lengths of all in tokens. None is longer than a row.
pub fn pack(lengths: &[usize], row: usize) -> Vec<Vec<usize>> {
    (0..lengths.len()).step_by(TOGETHER).flat_map(|first| pack_together(lengths, first, row)).collect()
}

fn pack_together(lengths: &[usize], first: usize, row: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (first..lengths.len().min(first + TOGETHER)).collect();
    order.sort_by_key(|&example| std::cmp::Reverse(lengths[example]));
    let mut rows: Vec<Vec<usize>> = vec![];
    // rows by the room that is left, those that have had it longest first
    let mut open: BTreeMap<usize, VecDeque<usize>> = BTreeMap::new();
    for example in order {
        let length = lengths[example];
        let fitting = open.range_mut(length..).find_map(|(&room, rows)| Some((room, rows.pop_front()?)));
        let (room, place) = fitting.unwrap_or_else(|| {
            rows.push(vec![]);
            (row, rows.len() - 1)
        });
        rows[place].push(example);
        open.entry(room.saturating_sub(length)).or_default().push_back(place);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `trl.pack_dataset(dataset, 8, "bfd")` of TRL 1.16 on sequences of these lengths.
    #[test]
    fn rows_are_those_of_trl() {
        let lengths = [3, 8, 2, 5, 5, 1, 4, 4, 3, 2, 7, 1, 6, 2];
        let expected: [&[usize]; 7] = [&[1], &[10, 5], &[12, 2], &[3, 0], &[4, 8], &[6, 7], &[9, 13, 11]];
        assert_eq!(pack(&lengths, 8), expected);
        assert_eq!(pack(&[], 8), Vec::<Vec<usize>>::new());
    }

    #[test]
    fn a_thousand_are_packed_at_a_time() {
        let rows = pack(&[4; 1001], 8);
        assert_eq!(
            (rows.len(), rows[499].as_slice(), rows[500].as_slice()),
            (501, &[998, 999][..], &[1000][..])
        );
    }
}
