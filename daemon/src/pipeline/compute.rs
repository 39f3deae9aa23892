//! Numeric work on a thread of its own. A panic in it is an error with its message.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use anyhow::Context;
use tokio::sync::oneshot;

/// A computation panicked.
#[derive(Debug)]
pub(crate) struct Panicked(String);

impl Panicked {
    /// What a panic said.
    pub(crate) fn new(payload: &(dyn Any + Send)) -> Self {
        let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
        Self(text.unwrap_or_else(|| "it did not say why".into()))
    }
}

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the program panicked: {}", self.0)
    }
}

impl std::error::Error for Panicked {}

/// Runs `work` on a new thread. If the future is dropped the thread goes on; the end of the program
/// does not wait for it.
pub(crate) async fn compute<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let (send, receive) = oneshot::channel();
    let thread = move || {
        // nobody may be left to hear it
        let _ = send.send(catch_unwind(AssertUnwindSafe(work)));
    };
    thread::Builder::new().name("run".into()).spawn(thread).context("cannot start a thread")?;
    match receive.await.context("the run's thread ended without an answer")? {
        Ok(result) => result,
        Err(payload) => Err(Panicked::new(payload.as_ref()).into()),
    }
}
