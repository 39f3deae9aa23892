//! Server-sent events for whoever follows a job or the queue.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{self, KeepAlive, KeepAliveStream, Sse};
use dpg_api::Code;
use serde::Serialize;
use tokio::sync::mpsc::{self, Sender};
use tokio_stream::wrappers::ReceiverStream;

use super::{api::Api, auth::Caller, problem::Refusal};

type Message = Result<sse::Event, Infallible>;

/// What a follower is sent its messages by.
pub(crate) type Messages = Sender<Message>;

/// What a follower is answered with.
pub(crate) type Followed = Sse<KeepAliveStream<ReceiverStream<Message>>>;

/// Sends what `tell` tells until that ends, the follower is gone, or the daemon stops: it connects again, to the next
/// one. A token follows as much at once as its limit says. At most `ahead` messages wait to be read.
pub(crate) fn stream<T>(
    api: &Api,
    caller: &Caller,
    ahead: usize,
    tell: impl FnOnce(Messages) -> T,
) -> Result<Followed, Refusal>
where
    T: Future<Output = Result<(), dpg_queue::Error>> + Send + 'static,
{
    let Some(slot) = api.followers.take(caller.token().id) else {
        let detail = format!("token `{}` follows as many jobs as it may", caller.token().name);
        return Err(Refusal::new(Code::TooManyStreams, detail));
    };
    let (sender, receiver) = mpsc::channel(ahead);
    let (told, mut stopping) = (tell(sender.clone()), api.stopping.clone());
    tokio::spawn(async move {
        let _slot = slot;
        tokio::select! {
            _ = stopping.wait_for(|stop| *stop) => {}
            () = sender.closed() => {}
            told = told => {
                if let Err(error) = told {
                    tracing::warn!(%error, "a follower was cut off");
                }
            }
        }
    });
    let keep_alive = KeepAlive::new().interval(Duration::from_secs(10));
    Ok(Sse::new(ReceiverStream::new(receiver)).keep_alive(keep_alive))
}

/// A message with JSON in it.
pub(crate) fn message(kind: &str, data: &impl Serialize) -> sse::Event {
    let data = serde_json::to_string(data).expect("these types have text keys and plain values only");
    sse::Event::default().event(kind).data(data)
}
