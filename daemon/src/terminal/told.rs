//! How an error is told to people, for the errors of all crates.

use std::error::Error as StdError;

use dpg_spec::Hint;

/// An error with its causes, each said once: libraries repeat theirs.
pub(crate) fn told(error: &anyhow::Error) -> String {
    let mut text = causes(error);
    if let Some(hint) = hint(error) {
        text = text + "; " + &hint;
    }
    COMMANDS.iter().fold(text, |text, (route, command)| text.replace(route, command))
}

/// An error with its causes, without what to do about it.
pub(crate) fn causes(error: &anyhow::Error) -> String {
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
    text
}

/// What to do about an error, if one of its causes knows: the outermost that does.
pub(crate) fn hint(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|cause| {
        let queue = cause.downcast_ref::<dpg_queue::Error>().and_then(Hint::hint);
        queue.or_else(|| cause.downcast_ref::<dpg_registry::Error>().and_then(Hint::hint))
    })
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
    use std::io;

    use anyhow::anyhow;

    use super::*;

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
        let full = dpg_registry::Error::DiskFull {
            path: "six/log".into(),
            place: "the store".into(),
            source: Box::new(io::Error::from_raw_os_error(28)),
        };
        assert_eq!(
            told(&anyhow!(full).context("cannot publish")),
            "cannot publish: no space left for `six/log` in the store: No space left on device (os error 28); \
             nothing was published or replaced: free some space and repeat"
        );
        let missing = anyhow!("there is no job `a`\nhint: `GET /v1/jobs` lists those there are");
        assert_eq!(told(&missing), "there is no job `a`\nhint: `dpg list` lists those there are");
    }
}
