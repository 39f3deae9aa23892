//! `/v1/overview`: the queue, who works on it, and what ended last; once, or as server-sent events.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::State;
use dpg_api::{Job, JobCounts, Machine, Overview};
use dpg_queue::{Filter, Queue, State as JobState};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    api::Api,
    auth::{Caller, Reader},
    extract::Json,
    problem::Refusal,
    stream::{Followed, Messages, message, stream},
    wire,
};

/// Jobs of a state that are shown.
const LIVE: u32 = 50;
const ENDED: u32 = 20;
/// Between two looks at the queue.
const LOOK: Duration = Duration::from_secs(1);

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(show)).routes(routes!(live))
}

/// Show the queue, who works on it, and what ended last.
#[utoipa::path(
    get, path = "/v1/overview", tag = "jobs", operation_id = "show_overview", security(("token" = ["read"])),
    responses((status = 200, body = Overview), (status = "default", body = dpg_api::ProblemDetails, description = "Refused"))
)]
async fn show(Reader(caller): Reader, State(api): State<Api>) -> Result<Json<Overview>, Refusal> {
    Ok(Json(look(&api.services.queue, &caller).await?))
}

/// Follow the overview, as server-sent events.
///
/// Each message is a whole overview, sent when something about it has changed, so that a client that was cut off
/// misses nothing. It counts among the jobs that a token follows.
#[utoipa::path(
    get, path = "/v1/overview/live", tag = "jobs", operation_id = "follow_overview", security(("token" = ["read"])),
    responses(
        (status = 200, body = String, content_type = "text/event-stream", description = "`overview` messages"),
        (status = "default", body = dpg_api::ProblemDetails, description = "Refused")
    )
)]
async fn live(Reader(caller): Reader, State(api): State<Api>) -> Result<Followed, Refusal> {
    let (queue, follower) = (api.services.queue.clone(), caller.clone());
    stream(&api, &caller, 4, move |messages| tell(queue, follower, messages))
}

async fn tell(queue: Queue, caller: Caller, messages: Messages) -> Result<(), dpg_queue::Error> {
    let mut told = None;
    loop {
        // who may not look any more sees nothing more
        queue.check_token(caller.token().id).await?;
        let overview = look(&queue, &caller).await?;
        if told.as_ref() != Some(&overview) {
            let _ = messages.send(Ok(message("overview", &overview))).await;
            told = Some(overview);
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn look(queue: &Queue, caller: &Caller) -> Result<Overview, dpg_queue::Error> {
    let jobs = async |state, most| {
        let filter = Filter { state: Some(state), ..Filter::default() };
        let jobs = queue.list(&filter, None, most).await?.jobs;
        let seen = jobs.into_iter().filter(|job| caller.sees(&job.name)).map(wire::job);
        Ok::<Vec<Job>, dpg_queue::Error>(seen.collect())
    };
    let counts = queue.counts().await?;
    let count = |count: i64| u64::try_from(count).unwrap_or_default();
    let counts = JobCounts {
        queued: count(counts.queued),
        running: count(counts.running),
        succeeded: count(counts.succeeded),
        failed: count(counts.failed),
        cancelled: count(counts.cancelled),
    };
    let (running, queued) = (jobs(JobState::Running, LIVE).await?, jobs(JobState::Queued, LIVE).await?);
    let mut ended = vec![];
    for state in [JobState::Succeeded, JobState::Failed, JobState::Cancelled] {
        ended.extend(jobs(state, ENDED).await?);
    }
    ended.sort_by_key(|job| std::cmp::Reverse(job.finished));
    ended.truncate(ENDED as usize);
    let machines = machines(running.iter().chain(&ended));
    Ok(Overview { counts, running, queued, ended, machines })
}

/// The machines of some jobs' workers, which are called `HOST-PROCESS-SLOT`.
fn machines<'a>(jobs: impl Iterator<Item = &'a Job>) -> Vec<Machine> {
    let mut machines = BTreeMap::new();
    for job in jobs {
        let Some(name) = job.worker.as_deref().and_then(|worker| worker.rsplitn(3, '-').nth(2)) else {
            continue;
        };
        let new = || Machine { name: name.to_owned(), running: 0, seen: job.updated };
        let machine = machines.entry(name.to_owned()).or_insert_with(new);
        machine.running += u64::from(job.state == JobState::Running);
        machine.seen = machine.seen.max(job.updated);
    }
    machines.into_values().collect()
}
