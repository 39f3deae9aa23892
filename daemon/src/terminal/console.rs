//! Standard output and standard error: every word for people goes through here.
//!
//! A reader that goes away early (`dpg list | head -1`) ends a command quietly, and a full disk under
//! standard output is an error. `println!` would panic at both, so the program does without it.

use std::error::Error;
use std::fmt::{self, Display};
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;
use std::sync::OnceLock;

use crate::terminal;

/// What a shell says of a program that SIGPIPE ended.
const BROKEN_PIPE: u8 = 128 + 13;

/// Why standard output takes no more. There is one for the whole process, as there is one output.
static CLOSED: OnceLock<Closed> = OnceLock::new();

/// How much a command says beside its result. There is one for the whole process, as there is one standard error.
static VOICE: OnceLock<Voice> = OnceLock::new();

/// How much a command says beside its result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Voice {
    /// Warnings and errors.
    Quiet,
    /// How far it is.
    #[default]
    Plain,
    /// All figures of each step, and the log.
    Verbose,
}

impl Voice {
    /// The flag that asks for it, for processes that this one starts.
    pub(crate) fn flag(self) -> Option<&'static str> {
        match self {
            Self::Quiet => Some("--quiet"),
            Self::Plain => None,
            Self::Verbose => Some("--verbose"),
        }
    }
}

/// Sets how much the process says, once, at its start.
pub(crate) fn speak(voice: Voice) {
    VOICE.get_or_init(|| voice);
}

/// How much the process says.
pub(crate) fn voice() -> Voice {
    VOICE.get().copied().unwrap_or_default()
}

/// Standard output takes no more.
#[derive(Clone, Debug)]
pub(crate) struct Closed {
    kind: ErrorKind,
    cause: String,
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot write to standard output: {}", self.cause)
    }
}

impl Error for Closed {}

/// Writes a line to standard output. A command that has more to do than to print may go on after an
/// error: [`exit_code`] tells of it in the end.
pub(crate) fn line(text: impl Display) -> Result<(), Closed> {
    text_as_it_is(&(terminal::text(&text.to_string()) + "\n"))
}

/// Writes a JSON document to standard output.
pub(crate) fn document(json: impl Display) -> Result<(), Closed> {
    text_as_it_is(&(terminal::json(&json.to_string()) + "\n"))
}

/// Writes text to standard output without a line's end.
pub(crate) fn text_as_it_is(text: &str) -> Result<(), Closed> {
    if let Some(closed) = CLOSED.get() {
        return Err(closed.clone());
    }
    let mut output = io::stdout().lock();
    let written = output.write_all(text.as_bytes()).and_then(|()| output.flush());
    written.map_err(|error| {
        let closed = Closed { kind: error.kind(), cause: error.to_string() };
        CLOSED.get_or_init(|| closed).clone()
    })
}

/// Writes a line to standard error, if anybody is there to read it.
pub(crate) fn note(text: impl Display) {
    // whom could it be told?
    let _ = writeln!(io::stderr(), "{}", terminal::text(&text.to_string()));
}

/// Says on standard error how far a command is, unless it is to be quiet.
pub(crate) fn tell(text: impl Display) {
    if voice() != Voice::Quiet {
        note(text);
    }
}

/// How the program ends that was called wrongly, or asked for help.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    match error.print() {
        Ok(()) => u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from),
        Err(closed) if closed.kind() == ErrorKind::BrokenPipe => BROKEN_PIPE.into(),
        Err(closed) => {
            note(format_args!("error: cannot write to standard output: {closed}"));
            ExitCode::FAILURE
        }
    }
}

/// How the program ends whose command ended like this, after a word on standard error if that is called for.
pub(crate) fn exit_code(ended: anyhow::Result<()>) -> ExitCode {
    let closed = CLOSED.get();
    match (ended, closed) {
        (Err(error), _) if error.downcast_ref::<Closed>().is_none() => {
            note(format_args!("error: {}", crate::terminal::told::told(&error)));
            ExitCode::FAILURE
        }
        (_, None) => ExitCode::SUCCESS,
        (_, Some(closed)) if closed.kind == ErrorKind::BrokenPipe => BROKEN_PIPE.into(),
        (_, Some(closed)) => {
            note(format_args!("error: {closed}"));
            ExitCode::FAILURE
        }
    }
}
