//! A call while it is answered: whose it is and what it is about. `guard.rs` writes a line for each call of a
//! token that is not only a look.

use std::cell::RefCell;
use std::future::Future;

use axum::http::StatusCode;
use dpg_queue::{NewDeed, Token};
use uuid::Uuid;

use super::{api::Api, doorman::Peer};
use crate::terminal;

/// Of an object's name this much is kept.
const LONGEST: usize = 300;

tokio::task_local! {
    static CALL: RefCell<Call>;
}

/// What is known of a call while it is answered.
#[derive(Default)]
pub(crate) struct Call {
    token: Option<(Uuid, String)>,
    about: Option<String>,
}

/// Runs a call and gives what became known of it.
pub(crate) async fn observed<T>(call: impl Future<Output = T>) -> (T, Call) {
    CALL.scope(RefCell::default(), async {
        let answer = call.await;
        (answer, CALL.with(RefCell::take))
    })
    .await
}

/// Says whose call this is.
pub(crate) fn identify(token: &Token) {
    let _ = CALL.try_with(|call| call.borrow_mut().token = Some((token.id, token.name.clone())));
}

/// Says what a call is about that its address does not name.
pub(crate) fn about(object: impl Into<String>) {
    let _ = CALL.try_with(|call| call.borrow_mut().about = Some(object.into()));
}

impl Call {
    /// Writes the call down, if somebody known made it.
    pub(crate) async fn note(self, api: &Api, action: String, path: &str, peer: Peer, status: StatusCode) {
        let Some((token, name)) = self.token else { return };
        let object = self.about.map_or_else(|| path.to_owned(), |about| format!("{path} {about}"));
        let object = terminal::line(&object.chars().take(LONGEST).collect::<String>());
        let (status, address) = (status.as_u16(), peer.0.to_string());
        let deed = NewDeed { token, name, action, object, status, address };
        if let Err(error) = api.services.queue.note(deed).await {
            tracing::error!(cause = %anyhow::Error::from(error), "cannot write who did what");
        }
    }
}
