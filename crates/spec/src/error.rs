//! What can be wrong with a spec.

use std::path::PathBuf;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be read.
    #[error("cannot read spec `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file's name does not say what it is written in.
    #[error("cannot tell the syntax of spec `{}`: its name should end in `.toml` or `.json`", path.display())]
    Extension {
        /// The file.
        path: PathBuf,
    },
    /// Something is wrong inside a file.
    #[error("spec `{}` is not usable", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: Box<Error>,
    },
    /// The text is not TOML.
    #[error("not valid TOML")]
    Toml(#[source] toml::de::Error),
    /// The text is not JSON.
    #[error("not valid JSON")]
    Json(#[source] serde_json::Error),
    /// The text is larger than any spec.
    #[error("the spec has {found} {what}, more than the limit of {limit}")]
    Limit {
        /// What it has too much of.
        what: &'static str,
        /// How much of it.
        found: usize,
        /// The most that is read.
        limit: usize,
    },
    /// Keys or values are not what a spec has: at least one, and of many the first, with a last one
    /// without a path that says how many more there are.
    #[error("{}", listed(.0))]
    Invalid(Vec<Fault>),
    /// There is no `[generator]` section where one is needed.
    #[error(
        "the spec has no `[generator]` section: `run` and `plan` need one to draw examples \
         (`score` and `audit --data` do not)"
    )]
    MissingGenerator,
    /// The spec holds a value that TOML cannot say.
    #[error("cannot write the spec as TOML")]
    Write(#[source] toml::ser::Error),
}

/// One thing that is wrong with a spec.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{}{message}{}", at(*line), named(path), explained(about.as_deref()))]
pub struct Fault {
    /// The key, from the top: `metric.terms[0].weight`. Empty for the spec as a whole.
    pub path: String,
    /// Its line in the text, from 1, where known: that of the enclosing table if the key is absent.
    pub line: Option<usize>,
    /// What was found and what was expected.
    pub message: String,
    /// What the key is for.
    pub about: Option<String>,
}

impl Fault {
    pub(crate) fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), line: None, message: message.into(), about: None }
    }
}

fn at(line: Option<usize>) -> String {
    line.map_or_else(String::new, |line| format!("line {line}, "))
}

fn named(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!("`{path}`: ") }
}

fn explained(about: Option<&str>) -> String {
    about.map_or_else(String::new, |about| format!("\n    {about}"))
}

fn listed(faults: &[Fault]) -> String {
    let count = match faults {
        [_] => "1 problem".into(),
        [.., last] if last.path.is_empty() => format!("more than {} problems", faults.len() - 1),
        _ => format!("{} problems", faults.len()),
    };
    faults.iter().fold(count, |text, fault| format!("{text}\n  {fault}"))
}
