//! Curves in a terminal: points joined by lines of Braille dots, over the range of their values.

/// Size in characters, each of 2 by 4 dots.
const WIDTH: usize = 56;
const HEIGHT: usize = 7;

/// The curve of at least three points that differ, under its title.
pub(crate) fn plot(title: &str, points: &[(f64, f64)]) -> Option<String> {
    let points: Vec<_> = points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite()).collect();
    let (left, right) = range(points.iter().map(|point| point.0));
    let (low, high) = range(points.iter().map(|point| point.1));
    if points.len() < 3 || left == right || low == high {
        return None;
    }
    let dot = |value: f64, low: f64, high: f64, dots: usize| (value - low) / (high - low) * (dots - 1) as f64;
    let places: Vec<_> = points
        .iter()
        .map(|point| (dot(point.0, left, right, 2 * WIDTH), dot(point.1, high, low, 4 * HEIGHT)))
        .collect();
    let mut cells = [[0_u8; WIDTH]; HEIGHT];
    for pair in places.windows(2) {
        let (from, to) = (pair[0], pair[1]);
        let pieces = (to.0 - from.0).abs().max((to.1 - from.1).abs()).ceil().max(1.0) as usize;
        for piece in 0..=pieces {
            let share = piece as f64 / pieces as f64;
            let at = |from: f64, to: f64| (from + share * (to - from)).round() as usize;
            let (x, y) = (at(from.0, to.0), at(from.1, to.1));
            cells[y / 4][x / 2] |= bit(x % 2, y % 4);
        }
    }
    let (top, bottom) = (number(high), number(low));
    let margin = top.chars().count().max(bottom.chars().count());
    let mut text = format!("{:margin$}  {title}\n", "");
    for (row, cells) in cells.iter().enumerate() {
        let label = match row {
            0 => top.as_str(),
            _ if row == HEIGHT - 1 => bottom.as_str(),
            _ => "",
        };
        let drawn: String =
            cells.iter().filter_map(|&cell| char::from_u32(0x2800 + u32::from(cell))).collect();
        text += &format!("{label:>margin$} │{}\n", drawn.trim_end_matches('\u{2800}'));
    }
    let (first, last) = (number(left), number(right));
    let gap = WIDTH.saturating_sub(first.len());
    Some(text + &format!("{:margin$}  {first}{last:>gap$}\n", ""))
}

/// The dot of a Braille character, by column and row.
fn bit(column: usize, row: usize) -> u8 {
    const BITS: [[u8; 4]; 2] = [[0, 1, 2, 6], [3, 4, 5, 7]];
    1 << BITS[column][row]
}

fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
}

fn number(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e6 {
        format!("{value}")
    } else if (1e-3..1e6).contains(&value.abs()) {
        format!("{value:.5}")
    } else {
        format!("{value:.2e}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_from_corner_to_corner() {
        let points: Vec<_> = (0..=40).map(|x| (f64::from(x), f64::from(x) * 0.25)).collect();
        let drawn = plot("rising", &points).unwrap();
        let lines: Vec<&str> = drawn.lines().collect();
        assert_eq!(lines.len(), HEIGHT + 2);
        assert_eq!(lines[0], "    rising");
        assert!(lines[1].starts_with("10 │\u{2800}") && lines[1].ends_with(|c| c > '\u{2800}'), "{drawn}");
        assert_eq!(lines[1].chars().count(), 4 + WIDTH, "{drawn}");
        assert!(lines[HEIGHT].starts_with(" 0 │") && !lines[HEIGHT].starts_with(" 0 │\u{2800}"), "{drawn}");
        assert!(lines[HEIGHT + 1].starts_with("    0 ") && lines[HEIGHT + 1].ends_with(" 40"), "{drawn}");
    }

    #[test]
    fn what_has_no_shape_is_not_drawn() {
        let level = [(0.0, 1.0), (1.0, 1.0), (2.0, 1.0)];
        for points in [&[][..], &[(0.0, 1.0), (1.0, 2.0)], &level, &[(0.0, 1.0), (1.0, f64::NAN), (2.0, 2.0)]]
        {
            assert_eq!(plot("nothing", points), None);
        }
    }
}
