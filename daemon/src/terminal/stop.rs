//! Ctrl-C and SIGTERM as a flag that long work asks for.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::terminal::console::note;

/// Set by the first signal; a second one ends the process at once.
#[derive(Clone)]
pub(crate) struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Starts listening.
    pub(crate) fn listen() -> anyhow::Result<Self> {
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let (set, stop) = watch::channel(false);
        tokio::spawn(async move {
            loop {
                tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
                if set.send_replace(true) {
                    std::process::exit(130);
                }
                note("stopping after this step; once more to stop at once");
            }
        });
        Ok(Self(stop))
    }

    /// Set by a sender instead of signals, which are heard and pass.
    pub(crate) fn by(stop: watch::Receiver<bool>) -> anyhow::Result<Self> {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        for kind in kinds {
            let mut heard = signal(kind)?;
            tokio::spawn(async move { while heard.recv().await.is_some() {} });
        }
        Ok(Self(stop))
    }

    pub(crate) fn is_set(&self) -> bool {
        *self.0.borrow()
    }

    /// Ready as soon as it is set.
    pub(crate) async fn wait(&self) {
        // the sender goes only with the whole runtime
        let _ = self.0.clone().wait_for(|set| *set).await;
    }
}
