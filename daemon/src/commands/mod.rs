//! One file a command.

pub(crate) mod activity;
pub(crate) mod audit;
pub(crate) mod bench;
pub(crate) mod config;
pub(crate) mod conformance;
pub(crate) mod datasets;
pub(crate) mod doctor;
pub(crate) mod generate;
pub(crate) mod jobs;
pub(crate) mod logs;
pub(crate) mod plan;
pub(crate) mod queue;
pub(crate) mod run;
pub(crate) mod schedules;
pub(crate) mod score;
pub(crate) mod shell;
pub(crate) mod submit;
pub(crate) mod tokens;
pub(crate) mod verify;

use std::time::Duration;

use serde_json::Value;

use crate::terminal;

/// Prints a result as JSON, or as text.
fn show(json: bool, value: &Value, text: impl FnOnce() -> String) {
    if json {
        println!("{}", terminal::json(&format!("{value:#}")));
    } else {
        println!("{}", terminal::text(&text()));
    }
}

/// Reads `90`, `90s`, `15m`, `12h` or `30d`.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => 0,
    };
    let seconds = digits.parse::<u32>().ok().map(|count| u64::from(count) * unit);
    seconds.filter(|_| unit > 0).map(Duration::from_secs).ok_or_else(|| {
        format!("`{text}` is not a duration; expected a number with `s`, `m`, `h` or `d`, as in `30d`")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, seconds) in [("90", 90), ("90s", 90), ("15m", 900), ("12h", 43_200), ("30d", 2_592_000)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)));
        }
        for text in ["", "m", "1w", "-1s", "1.5h", "1 s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
