//! Text that others wrote, fit to be shown: what would move a terminal's cursor, colour it, set its title
//! or turn the direction of text is shown as its code instead.
//!
//! All commands print through [`text`] and [`json`], and the log through [`LogWriter`], so that no
//! description, name or error can draw over what stands beside it or forge a line of the log.

pub(crate) mod console;
pub(crate) mod output;
pub(crate) mod plot;
pub(crate) mod progress;
pub(crate) mod stop;
pub(crate) mod told;

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use ::console::Term;

/// Columns where nobody says how many there are.
const COLUMNS: usize = 80;

/// The width of the terminal that `stream` is, or 80 columns.
pub(crate) fn columns(stream: &Term) -> usize {
    stream.size_checked().map_or(COLUMNS, |(_, columns)| usize::from(columns).max(20))
}

/// Whether standard output shows colours: it is a terminal that does, and `NO_COLOR` does not ask for none.
pub(crate) fn coloured() -> bool {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let plain = std::env::var_os("TERM").is_some_and(|terminal| terminal == "dumb");
    io::stdout().is_terminal() && !unwanted && !plain
}

/// The first of these parts that fit into a line of `columns`, two spaces apart. A long part may be followed by a
/// short one that still fits.
pub(crate) fn fitted(parts: &[String], columns: usize) -> String {
    let mut line = String::new();
    for part in parts {
        let gap = if line.is_empty() { "" } else { "  " };
        if line.chars().count() + gap.len() + part.chars().count() <= columns {
            line = line + gap + part;
        }
    }
    line
}

/// Seconds for people: `45 s`, `12 min`, `3.5 h`, `2.1 d`.
pub(crate) fn span(seconds: f64) -> String {
    match seconds {
        ..90.0 => format!("{seconds:.0} s"),
        ..5400.0 => format!("{:.0} min", seconds / 60.0),
        ..172_800.0 => format!("{:.1} h", seconds / 3600.0),
        _ => format!("{:.1} d", seconds / 86_400.0),
    }
}

/// Whether a terminal would act on a character rather than show it.
fn acts(c: char) -> bool {
    // bidirectional controls, invisible marks, and separators of lines that are not `\n`
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Lines of text for a terminal.
pub(crate) fn text(text: &str) -> String {
    escaped(text, |c| acts(c) && c != '\n' && c != '\t')
}

/// Text for one line of a terminal.
pub(crate) fn line(text: &str) -> String {
    escaped(text, acts)
}

fn escaped(text: &str, is_escaped: impl Fn(char) -> bool) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_escaped(c) { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

/// A JSON document for a terminal; it means the same.
pub(crate) fn json(document: &str) -> String {
    let mut shown = String::with_capacity(document.len());
    for c in document.chars() {
        if acts(c) && c != '\n' {
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(shown, "\\u{unit:04x}").expect("a string takes any text");
            }
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Standard error for the log: what is written at once is one line.
pub(crate) struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let entry = String::from_utf8_lossy(bytes);
        let entry = line(entry.strip_suffix('\n').unwrap_or(&entry));
        io::stderr().write_all(format!("{entry}\n").as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_takes_what_fits() {
        let parts = ["step 1/9", "Phi -2.30636", "entropy 2.31", "KL 0"].map(String::from);
        assert_eq!(fitted(&parts, 80), "step 1/9  Phi -2.30636  entropy 2.31  KL 0");
        assert_eq!(fitted(&parts, 30), "step 1/9  Phi -2.30636  KL 0");
        assert_eq!(fitted(&parts, 3), "");
    }

    #[test]
    fn spans_have_a_unit_of_their_size() {
        for (seconds, text) in
            [(0.4, "0 s"), (89.0, "89 s"), (720.0, "12 min"), (12_600.0, "3.5 h"), (180_000.0, "2.1 d")]
        {
            assert_eq!(span(seconds), text);
        }
    }

    #[test]
    fn nothing_acts_on_the_terminal() {
        let hostile =
            "a\u{1b}[2J\u{1b}]0;title\u{7}b\r\u{9b}31m\u{202e}evil\u{2066}\u{feff}\u{e0041}\u{7f}\nä→日";
        for shown in [text(hostile), line(hostile), json(hostile)] {
            assert!(!shown.chars().any(|c| acts(c) && c != '\n'), "{shown:?}");
            assert!(shown.ends_with("ä→日"), "{shown}");
        }
        assert_eq!(text("a\n\tb"), "a\n\tb");
        assert_eq!(line("a\nb\t"), "a\\nb\\t");
        let value = serde_json::Value::from(hostile);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json(&value.to_string())).unwrap(), value);
    }
}
