//! `/v1/jobs`: submit, look, cancel, retry.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use chrono::{DateTime, Utc};
use dpg_api::{Code, EventList, Job, JobDetail, JobPage, SetPriority, SubmitJob, Submitted};
use dpg_queue::{Filter, NewJob, State as JobState};
use serde::Deserialize;
use serde_json::Value;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    api::Api,
    auth::{Caller, Reader, Submitter},
    call,
    extract::{Json, Path, Query, check_name},
    problem::Refusal,
    wire,
};
use crate::jobs::{submission, trace};

const MAX_PAGE: u32 = 500;

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(submit, list))
        .routes(routes!(show))
        .routes(routes!(events))
        .routes(routes!(cancel))
        .routes(routes!(retry))
        .routes(routes!(prioritize))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct SubmitQuery {
    /// Higher goes first; for specs sent as they are.
    #[serde(default)]
    priority: i64,
}

/// Submit a spec.
///
/// The body is a `SubmitJob` as JSON, or a TOML spec as it is with `content-type: application/toml`.
/// Of submissions with one `Idempotency-Key`, the first makes a job and the others get it while it
/// is queued or running.
#[utoipa::path(
    post, path = "/v1/jobs", tag = "jobs", operation_id = "submit_job", security(("token" = ["submit"])),
    params(SubmitQuery, ("idempotency-key" = Option<String>, Header, description = "At most one live job has it")),
    request_body(content((SubmitJob = "application/json"), (String = "application/toml"))),
    responses(
        (status = 201, body = Submitted, description = "A new job"),
        (status = 200, body = Submitted, description = "The live job that has the key"),
        (status = "default", body = dpg_api::ProblemDetails, description = "Refused")
    )
)]
async fn submit(
    Submitter(caller): Submitter,
    State(api): State<Api>,
    Query(query): Query<SubmitQuery>,
    request: Request,
) -> Result<impl IntoResponse, Refusal> {
    let key = idempotency_key(request.headers())?;
    let (text, priority) = read_submission(request, &api, query.priority).await?;
    let job = job_of(&api, &text).await?;
    call::about(&job.name);
    caller.check(&job.name)?;
    let job = NewJob { key, priority, ..job };
    let submitted = api.services.queue.submit_for(&job, caller.token().id).await?;
    // the key may be another dataset's
    caller.check(&submitted.job.name)?;
    let status = if submitted.created { StatusCode::CREATED } else { StatusCode::OK };
    let location = [(header::LOCATION, format!("/v1/jobs/{}", submitted.job.id))];
    Ok((status, location, Json(Submitted { job: wire::job(submitted.job), created: submitted.created })))
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    match value.to_str() {
        Ok(key) if (1..=255).contains(&key.len()) => Ok(Some(key.into())),
        _ => Err(Refusal::new(Code::InvalidKey, "the idempotency key is empty, too long, or not plain text")),
    }
}

/// The spec's text and the priority, from a body of either kind.
pub(crate) async fn read_submission(
    request: Request,
    api: &Api,
    priority: i64,
) -> Result<(String, i64), Refusal> {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("");
    let kind = kind.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    if kind == "application/json" {
        let Json(body) = Json::<SubmitJob>::from_request(request, api).await?;
        return Ok((spec_text(body.spec)?, body.priority));
    }
    if kind != "application/toml" {
        return Err(Refusal::new(Code::UnsupportedMediaType, "the body is of no kind that is read here").hint(
            "send `content-type: application/toml` with a spec, or `application/json` with `{\"spec\": ...}`",
        ));
    }
    let bytes =
        Bytes::from_request(request, api).await.map_err(|error| Refusal::of_status(error.status()))?;
    let text = String::from_utf8(bytes.into()).map_err(|_| {
        Refusal::new(Code::MalformedBody, "the body is not UTF-8").hint("send the spec as UTF-8")
    })?;
    Ok((text, priority))
}

/// The job that a spec's text asks for.
pub(crate) async fn job_of(api: &Api, text: &str) -> Result<NewJob, Refusal> {
    let job =
        submission::job(&api.services, text).await.map_err(|error| Refusal::internal(error.as_ref()))?;
    job.map_err(Refusal::invalid_spec)
}

/// A spec in a JSON body: its text, or the spec itself. Indented, deep values would grow a hundredfold.
pub(crate) fn spec_text(spec: Value) -> Result<String, Refusal> {
    match spec {
        Value::String(text) => Ok(text),
        Value::Object(_) => {
            let text = spec.to_string();
            Ok(if text.len() <= dpg_spec::TEXT_BYTES / 16 { format!("{spec:#}") } else { text })
        }
        _ => Err(Refusal::new(Code::InvalidBody, "`spec` is neither a text nor an object")
            .hint("give the spec as a JSON object, or its TOML as a string")),
    }
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    /// Only those in this state: `queued`, `running`, `succeeded`, `failed` or `cancelled`.
    #[param(value_type = Option<String>)]
    state: Option<JobState>,
    /// Only those of this dataset.
    name: Option<String>,
    /// Only those submitted at this time or later.
    since: Option<DateTime<Utc>>,
    /// Only those of the schedule with this id.
    schedule: Option<Uuid>,
    /// Where the page starts: the `next` of the page before.
    cursor: Option<Uuid>,
    /// Jobs on a page, 1 to 500. Default 50.
    limit: Option<u32>,
}

/// List jobs, newest first.
#[utoipa::path(
    get, path = "/v1/jobs", tag = "jobs", operation_id = "list_jobs", security(("token" = ["read"])),
    params(ListQuery),
    responses((status = 200, body = JobPage), (status = "default", body = dpg_api::ProblemDetails, description = "Refused"))
)]
async fn list(
    Reader(caller): Reader,
    State(api): State<Api>,
    Query(query): Query<ListQuery>,
) -> Result<Json<JobPage>, Refusal> {
    if let Some(name) = &query.name {
        check_name("dataset", name)?;
    }
    let ListQuery { state, name, since, schedule, .. } = query;
    let filter = Filter { state, name, since, schedule, ..Filter::default() };
    let limit = query.limit.unwrap_or(50).clamp(1, MAX_PAGE);
    let mut page = api.services.queue.list(&filter, query.cursor, limit).await?;
    page.jobs.retain(|job| caller.sees(&job.name));
    let jobs = page.jobs.into_iter().map(wire::job).collect();
    Ok(Json(JobPage { jobs, next: page.next }))
}

/// Show a job with its spec, by its id or the newest of its name.
#[utoipa::path(
    get, path = "/v1/jobs/{job}", tag = "jobs", operation_id = "show_job", security(("token" = ["read"])),
    params(("job" = String, Path, description = "Id or name")),
    responses((status = 200, body = JobDetail), (status = "default", body = dpg_api::ProblemDetails, description = "Refused"))
)]
async fn show(
    Reader(caller): Reader,
    State(api): State<Api>,
    Path(job): Path<String>,
) -> Result<Json<JobDetail>, Refusal> {
    Ok(Json(wire::job_detail(find(&api, &caller, &job).await?)))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct EventsQuery {
    /// Only those with a higher number. Default 0.
    #[serde(default)]
    after: i64,
    /// Events at most, 1 to 500. Default 500.
    limit: Option<u32>,
}

/// List a job's events, oldest first.
#[utoipa::path(
    get, path = "/v1/jobs/{job}/events", tag = "jobs", operation_id = "job_events", security(("token" = ["read"])),
    params(("job" = String, Path, description = "Id or name"), EventsQuery),
    responses((status = 200, body = EventList), (status = "default", body = dpg_api::ProblemDetails, description = "Refused"))
)]
async fn events(
    Reader(caller): Reader,
    State(api): State<Api>,
    Path(job): Path<String>,
    Query(query): Query<EventsQuery>,
) -> Result<Json<EventList>, Refusal> {
    let job = find(&api, &caller, &job).await?;
    let limit = query.limit.unwrap_or(MAX_PAGE).clamp(1, MAX_PAGE);
    let events = api.services.queue.events(job.id, query.after, limit).await?;
    Ok(Json(EventList { events }))
}

/// Cancel a job: at once if it is queued, at its next step if it runs.
#[utoipa::path(
    post, path = "/v1/jobs/{job}/cancel", tag = "jobs", operation_id = "cancel_job", security(("token" = ["submit"])),
    params(("job" = String, Path, description = "Id or name")),
    responses((status = 200, body = Job), (status = "default", body = dpg_api::ProblemDetails, description = "Refused"))
)]
async fn cancel(
    Submitter(caller): Submitter,
    State(api): State<Api>,
    Path(job): Path<String>,
) -> Result<Json<Job>, Refusal> {
    let job = find(&api, &caller, &job).await?;
    call::about(&job.name);
    let queue = api.services.queue.clone();
    let job = queue.cancel(job.id).await?;
    if job.state.has_ended() {
        // no worker had it, who would send its trace
        let job = job.clone();
        tokio::spawn(async move { trace::ended(&queue, &job).await });
    }
    Ok(Json(wire::job(job)))
}

/// Queue a failed or cancelled job again, or a waiting one at once.
#[utoipa::path(
    post, path = "/v1/jobs/{job}/retry", tag = "jobs", operation_id = "retry_job", security(("token" = ["submit"])),
    params(("job" = String, Path, description = "Id or name")),
    responses((status = 200, body = Job), (status = "default", body = dpg_api::ProblemDetails, description = "Refused"))
)]
async fn retry(
    Submitter(caller): Submitter,
    State(api): State<Api>,
    Path(job): Path<String>,
) -> Result<Json<Job>, Refusal> {
    let job = find(&api, &caller, &job).await?;
    call::about(&job.name);
    Ok(Json(wire::job(api.services.queue.retry_within_quota(job.id).await?)))
}

/// Give a job that waits another place in the queue.
#[utoipa::path(
    put, path = "/v1/jobs/{job}/priority", tag = "jobs", operation_id = "prioritize_job", security(("token" = ["submit"])),
    params(("job" = String, Path, description = "Id or name")),
    responses((status = 200, body = Job), (status = "default", body = dpg_api::ProblemDetails, description = "Refused"))
)]
async fn prioritize(
    Submitter(caller): Submitter,
    State(api): State<Api>,
    Path(job): Path<String>,
    Json(body): Json<SetPriority>,
) -> Result<Json<Job>, Refusal> {
    let job = find(&api, &caller, &job).await?;
    call::about(format!("{} {}", job.name, body.priority));
    Ok(Json(wire::job(api.services.queue.prioritize(job.id, body.priority).await?)))
}

/// The job with this id, or the newest of this name. One of a dataset that the caller's token is not for
/// is not there.
pub(crate) async fn find(api: &Api, caller: &Caller, job: &str) -> Result<dpg_queue::Job, Refusal> {
    check_name("job", job)?;
    let found = api.services.queue.find(job).await?;
    if caller.sees(&found.name) {
        return Ok(found);
    }
    Err(dpg_queue::Error::NotFound { what: "job", id: job.to_owned() }.into())
}
