//! One file a command, with its arguments.

pub(crate) mod activity;
pub(crate) mod audit;
pub(crate) mod bench;
pub(crate) mod config;
pub(crate) mod conformance;
pub(crate) mod connect;
pub(crate) mod datasets;
pub(crate) mod deliveries;
pub(crate) mod direction;
pub(crate) mod doctor;
pub(crate) mod fetch;
pub(crate) mod generate;
pub(crate) mod init;
pub(crate) mod jobs;
pub(crate) mod logs;
pub(crate) mod metric;
pub(crate) mod plan;
pub(crate) mod queue;
pub(crate) mod run;
pub(crate) mod schedules;
pub(crate) mod score;
pub(crate) mod self_check;
pub(crate) mod serve;
pub(crate) mod shell;
pub(crate) mod submit;
pub(crate) mod tokens;
pub(crate) mod top;
pub(crate) mod verify;
pub(crate) mod version;
pub(crate) mod work;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::Args;
use dpg_spec::{Spec, check_program};
use serde_json::Value;
use tempfile::NamedTempFile;

use crate::jobs::submission;
use crate::settings::allow;
use crate::settings::config::Config;
use crate::settings::data_dir::DataDir;
use crate::terminal::console;

/// Prints a result as JSON, or as text. The command goes on even if nobody reads it.
fn show(json: bool, value: &Value, text: impl FnOnce() -> String) {
    // `main` tells of it in the end
    let _ = if json { console::document(format_args!("{value:#}")) } else { console::line(text()) };
}

/// Reads a spec from a file, or from standard input if that is `-`, with the commands of its programs.
fn load_spec(path: &Path, programs: &Programs, data: &DataDir) -> anyhow::Result<Spec> {
    let mut spec = if path == Path::new("-") {
        submission::parse(&standard_input()?).context("the spec on standard input is not usable")?
    } else {
        Spec::load(path)?
    };
    programs.give(&mut spec, data)?;
    Ok(spec)
}

/// The programs of the metric `external`.
#[derive(Debug, Default, Args)]
pub(crate) struct Programs {
    /// The command of a program that the metric names, for the shell; repeat it for more. `[allow.programs]` of the
    /// settings has the others.
    #[arg(long = "program", value_name = "NAME=COMMAND", value_parser = program)]
    programs: Vec<(String, String)>,
}

impl Programs {
    /// One program with its command.
    fn one(name: String, command: String) -> Self {
        Self { programs: vec![(name, command)] }
    }

    /// The values of `--program` that say the same.
    fn flags(&self) -> Vec<String> {
        self.programs.iter().map(|(name, command)| format!("{name}={command}")).collect()
    }

    /// Gives each program that a spec names its command: that of the command line, or else of the settings.
    fn give(&self, spec: &mut Spec, data: &DataDir) -> anyhow::Result<()> {
        let mut known: BTreeMap<_, _> = self.programs.iter().cloned().collect();
        if spec.programs().iter().any(|program| !known.contains_key(program.name)) {
            let settings = Config::in_force(data)?.allow.programs;
            known = settings.into_iter().chain(known).collect();
        }
        allow::commands(spec, &known).map_err(|fault| anyhow!("`{}`: {}", fault.path, fault.message))
    }
}

/// Reads `NAME=COMMAND`.
fn program(text: &str) -> Result<(String, String), String> {
    let (name, command) = text.split_once('=').ok_or("expected NAME=COMMAND")?;
    check_program(name, command)?;
    Ok((name.into(), command.into()))
}

/// All of standard input, as text.
fn standard_input() -> anyhow::Result<String> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).context("cannot read the spec from standard input")?;
    Ok(text)
}

/// A file of a command line, or standard input as a file if that is `-`.
struct Input {
    path: PathBuf,
    _temporary: Option<NamedTempFile>,
}

impl Input {
    fn open(path: &Path) -> anyhow::Result<Self> {
        if path != Path::new("-") {
            return Ok(Self { path: path.into(), _temporary: None });
        }
        let mut file = NamedTempFile::new().context("cannot make a temporary file")?;
        std::io::copy(&mut std::io::stdin().lock(), &mut file).context("cannot read standard input")?;
        Ok(Self { path: file.path().into(), _temporary: Some(file) })
    }
}

/// Refuses to read two things from the one standard input.
fn check_standard_input(paths: &[&Path]) -> anyhow::Result<()> {
    let dashes = paths.iter().filter(|path| **path == Path::new("-")).count();
    anyhow::ensure!(
        dashes < 2,
        "`-` stands for standard input, which can be read once; name a file for the other"
    );
    Ok(())
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
