//! Whether a failed attempt is worth another, for the errors of all crates.

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
        return error.is_transient();
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

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

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
    fn a_program_that_something_else_ended_is_asked_again() {
        use dpg_metagrad::{Error, ProgramFailure as Failure};
        let said = || vec!["a line".to_owned()];
        let ended = |status: i32| Failure::Ended { status: ExitStatus::from_raw(status), said: said() };
        for (source, permanent) in [
            // by signal 9, by the same inside of a shell, and by itself
            (ended(9), false),
            (ended((128 + 9) << 8), false),
            (ended(1 << 8), true),
            (Failure::Silent { seconds: 1, said: said() }, false),
            (Failure::Answer { reason: "it answered nonsense".into(), said: said() }, true),
            (Failure::Start(io(io::ErrorKind::NotFound)), true),
            (Failure::Start(io(io::ErrorKind::WouldBlock)), false),
        ] {
            let error = anyhow!(dpg_engine::Error::from(Error::Program { program: "a".into(), source }));
            let text = format!("{error:#}");
            assert_eq!(is_permanent(error), permanent, "{text}");
        }
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
