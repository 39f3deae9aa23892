//! `/v1/jobs/{job}/logs`: what happens to a job, as server-sent events until it ends.
//!
//! `event` messages have the event's number as their id; a client that was cut off sends the last one
//! as `Last-Event-ID` and misses nothing. `progress` messages come when the progress changed. `end`,
//! with the job, is the last. The stream ends as well when its token is revoked or expires.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{self, KeepAlive, Sse};
use dpg_api::Code;
use futures::Stream;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{self, Sender};
use tokio_stream::wrappers::ReceiverStream;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    api::Api,
    auth::Reader,
    extract::{Path, Query},
    jobs,
    problem::Refusal,
    wire,
};

/// Between two looks at the queue.
const LOOK: Duration = Duration::from_millis(500);
const BATCH: u32 = 200;

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(follow))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct LogsQuery {
    /// Only events with a higher number; `Last-Event-ID` overrides it. Default 0.
    #[serde(default)]
    after: i64,
}

/// Follow a job until it ends, as server-sent events.
#[utoipa::path(
    get, path = "/v1/jobs/{job}/logs", tag = "jobs", operation_id = "follow_job", security(("token" = ["read"])),
    params(
        ("job" = String, Path, description = "Id or name"), LogsQuery,
        ("last-event-id" = Option<i64>, Header, description = "The number of the last event that arrived")
    ),
    responses(
        (status = 200, body = String, content_type = "text/event-stream", description = "`event`, `progress` and `end` messages"),
        (status = "default", body = dpg_api::ProblemDetails, description = "Refused")
    )
)]
async fn follow(
    Reader(caller): Reader,
    State(api): State<Api>,
    Path(job): Path<String>,
    Query(query): Query<LogsQuery>,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<sse::Event, Infallible>>>, Refusal> {
    let job = jobs::find(&api, &caller, &job).await?.id;
    let token = caller.token().id;
    let Some(slot) = api.followers.take(token) else {
        let detail = format!("token `{}` follows as many jobs as it may", caller.token().name);
        return Err(Refusal::new(Code::TooManyStreams, detail));
    };
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let (sender, receiver) = mpsc::channel(16);
    tokio::spawn(async move {
        let _slot = slot;
        let mut stopping = api.stopping.clone();
        tokio::select! {
            // the follower connects again, to the next daemon
            _ = stopping.wait_for(|stop| *stop) => {}
            () = sender.closed() => {}
            told = tell(&api, token, job, last.unwrap_or(query.after), &sender) => {
                if let Err(error) = told {
                    tracing::warn!(%error, "a follower was cut off");
                }
            }
        }
    });
    let keep_alive = KeepAlive::new().interval(Duration::from_secs(10));
    Ok(Sse::new(ReceiverStream::new(receiver)).keep_alive(keep_alive))
}

async fn tell(
    api: &Api,
    token: Uuid,
    id: Uuid,
    mut last: i64,
    sender: &Sender<Result<sse::Event, Infallible>>,
) -> Result<(), dpg_queue::Error> {
    let queue = &api.services.queue;
    let mut progress = None;
    loop {
        // who may not look any more sees nothing more
        queue.check_token(token).await?;
        // the job first, so that a job that has ended has all its events
        let job = queue.job(id).await?;
        while last < job.last_event {
            let events = queue.events(id, last, BATCH).await?;
            if events.is_empty() {
                break;
            }
            for event in events {
                last = event.seq;
                let message = message("event", &event).id(last.to_string());
                let _ = sender.send(Ok(message)).await;
            }
        }
        if job.progress.is_some() && job.progress != progress {
            progress = job.progress.clone();
            let _ = sender.send(Ok(message("progress", &progress))).await;
        }
        if job.state.has_ended() {
            let _ = sender.send(Ok(message("end", &wire::job(job)))).await;
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// A message with JSON in it.
pub(crate) fn message(kind: &str, data: &impl Serialize) -> sse::Event {
    let data = serde_json::to_string(data).expect("these types have text keys and plain values only");
    sse::Event::default().event(kind).data(data)
}
