//! `/v1/jobs/{job}/logs`: what happens to a job, as server-sent events until it ends.
//!
//! `event` messages have the event's number as their id; a client that was cut off sends the last one
//! as `Last-Event-ID` and misses nothing. `progress` messages come when the progress changed. `end`,
//! with the job, is the last. The stream ends as well when its token is revoked or expires.

use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use dpg_queue::Queue;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    api::Api,
    auth::Reader,
    extract::{Path, Query},
    jobs,
    problem::Refusal,
    stream::{Followed, Messages, message, stream},
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
) -> Result<Followed, Refusal> {
    let job = jobs::find(&api, &caller, &job).await?.id;
    let token = caller.token().id;
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let (queue, last) = (api.services.queue.clone(), last.unwrap_or(query.after));
    stream(&api, &caller, 16, move |messages| tell(queue, token, job, last, messages))
}

async fn tell(
    queue: Queue,
    token: Uuid,
    id: Uuid,
    mut last: i64,
    messages: Messages,
) -> Result<(), dpg_queue::Error> {
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
                let _ = messages.send(Ok(message)).await;
            }
        }
        if job.progress.is_some() && job.progress != progress {
            progress = job.progress.clone();
            let _ = messages.send(Ok(message("progress", &progress))).await;
        }
        if job.state.has_ended() {
            let _ = messages.send(Ok(message("end", &wire::job(job)))).await;
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}
