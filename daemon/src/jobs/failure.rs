//! What an error means: whether a failed attempt is worth another, and how it is said, for the errors of
//! all crates.

use std::error::Error as StdError;
use std::io;

use dpg_queue::{Failure, backoff};

use crate::pipeline::compute::Panicked;

/// What becomes of a job whose attempt number `attempts` ended with `error`.
pub(crate) fn failure(error: &anyhow::Error, attempts: u32) -> Failure {
    match error.chain().find_map(is_transient) {
        Some(true) => Failure::Transient { delay: backoff(attempts) },
        _ => Failure::Permanent,
    }
}

/// What one link of an error's chain says; the outermost one that knows decides.
fn is_transient(cause: &(dyn StdError + 'static)) -> Option<bool> {
    if let Some(error) = cause.downcast_ref::<dpg_hub::Error>() {
        // its cause knows more
        let local = matches!(error, dpg_hub::Error::Io { .. });
        return (!local).then(|| error.is_transient());
    }
    if let Some(error) = cause.downcast_ref::<dpg_registry::Error>() {
        let local = matches!(error, dpg_registry::Error::Local { .. });
        return (!local).then(|| error.is_transient());
    }
    if let Some(error) = cause.downcast_ref::<dpg_queue::Error>() {
        return Some(error.is_transient());
    }
    if let Some(error) = cause.downcast_ref::<dpg_engine::Error>() {
        use dpg_engine::Error::{Damaged, Metagrad, State};
        let disk =
            matches!(error, State { .. } | Damaged { .. } | Metagrad(dpg_metagrad::Error::Spill { .. }));
        return disk.then_some(true);
    }
    if let Some(cause) = cause.downcast_ref::<dpg_store::Cause>() {
        return Some(cause.is_transient());
    }
    if let Some(error) = cause.downcast_ref::<io::Error>() {
        use io::ErrorKind::{InvalidData, InvalidInput, NotFound, PermissionDenied, UnexpectedEof};
        return Some(!matches!(
            error.kind(),
            NotFound | PermissionDenied | InvalidData | InvalidInput | UnexpectedEof
        ));
    }
    cause.is::<Panicked>().then_some(true)
}

/// An error with its causes, each said once: libraries repeat theirs.
pub(crate) fn told(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        // of a library's own causes the innermost alone is about the user's world
        let request = cause.downcast_ref::<reqwest::Error>();
        let is_database = matches!(cause.downcast_ref(), Some(dpg_queue::Error::Database(_)));
        let words = match request {
            Some(error) if error.is_timeout() => "no answer in time".into(),
            Some(_) => innermost(cause).to_string(),
            None if is_database => format!("{cause}: {}", innermost(cause)),
            None => cause.to_string(),
        };
        let words = words.trim_end();
        if !text.contains(words) {
            let colon = if text.is_empty() { "" } else { ": " };
            text = text + colon + words;
        }
        if request.is_some() || is_database {
            break;
        }
    }
    COMMANDS.iter().fold(text, |text, (route, command)| text.replace(route, command))
}

fn innermost<'a>(mut error: &'a (dyn StdError + 'static)) -> &'a (dyn StdError + 'static) {
    while let Some(source) = error.source() {
        error = source;
    }
    error
}

/// What the API says to programs, and what does the same on a command line.
const COMMANDS: [(&str, &str); 8] = [
    ("`GET /v1/jobs`", "`dpg list`"),
    ("`GET /v1/schedules`", "`dpg schedule list`"),
    ("`GET /v1/tokens`", "`dpg token list`"),
    ("`GET /v1/datasets/{name}`", "`dpg datasets NAME`"),
    ("`GET /v1/datasets`", "`dpg datasets`"),
    ("the request has no token", "no token was given"),
    ("send `Authorization: Bearer TOKEN`, or set DPG_TOKEN for the command line", "set DPG_TOKEN"),
    ("; `/readyz` says when it is back", ""),
];

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};

    use super::*;

    fn is_permanent(error: anyhow::Error) -> bool {
        failure(&error, 1) == Failure::Permanent
    }

    fn io(kind: io::ErrorKind) -> io::Error {
        kind.into()
    }

    #[test]
    fn what_time_heals_is_tried_again() {
        let state = |source| dpg_engine::Error::State { path: "state".into(), source };
        for error in [
            anyhow!(io(io::ErrorKind::StorageFull)),
            anyhow!(state(io(io::ErrorKind::StorageFull))),
            anyhow!(dpg_registry::Error::Contended("a".into())).context("cannot publish"),
            anyhow!(dpg_hub::Error::Io { path: "f".into(), source: io(io::ErrorKind::ConnectionReset) }),
            anyhow!(Panicked::new(&"out of memory")),
        ] {
            let text = format!("{error:#}");
            assert!(!is_permanent(error), "{text}");
        }
    }

    #[test]
    fn a_cause_is_said_once_and_in_words_of_commands() {
        let source = || io::Error::from_raw_os_error(2);
        let file = dpg_hub::Error::Io { path: "f".into(), source: source() };
        assert_eq!(
            told(&anyhow!(file).context("`target.model`")),
            "`target.model`: cannot access `f`: No such file or directory (os error 2)"
        );
        let repeats = object_store::Error::NotFound { path: "o".into(), source: Box::new(source()) };
        let text = told(&anyhow!(repeats).context("cannot publish"));
        assert_eq!(text.matches("No such file").count(), 1, "{text}");
        let missing = anyhow!("there is no job `a`\nhint: `GET /v1/jobs` lists those there are");
        assert_eq!(told(&missing), "there is no job `a`\nhint: `dpg list` lists those there are");
    }

    #[test]
    fn what_would_fail_again_is_not() {
        let nan = dpg_metagrad::Error::NotFinite { what: "the loss", step: Some(1) };
        for error in [
            anyhow!("`target.model` may not be read"),
            anyhow!(dpg_engine::Error::from(nan)),
            anyhow!(dpg_hub::Error::NoSuchPath { path: "f".into() }).context("`target.model`"),
            anyhow!(dpg_registry::Error::Empty("a".into())),
            Err::<(), _>(io(io::ErrorKind::NotFound)).context("cannot read the file").unwrap_err(),
        ] {
            let text = format!("{error:#}");
            assert!(is_permanent(error), "{text}");
        }
    }
}
