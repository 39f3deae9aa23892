//! `/v1/schedules`: specs that are submitted again and again.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use dpg_api::{Job, PutSchedule, ScheduleDetail, ScheduleList};
use dpg_queue::NewSchedule;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    api::Api,
    auth::{Admin, Caller, Reader},
    call,
    extract::{Json, Path, check_name},
    jobs::{job_of, spec_text},
    problem::Refusal,
    wire,
};
use crate::jobs::submission;

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(put, show, delete))
        .routes(routes!(pause))
        .routes(routes!(resume))
        .routes(routes!(run))
}

/// List schedules, by name.
#[utoipa::path(
    get, path = "/v1/schedules", tag = "schedules", operation_id = "list_schedules", security(("token" = ["read"])),
    responses((status = 200, body = ScheduleList), (status = "default", body = dpg_api::ProblemDetails, description = "Refused"))
)]
async fn list(Reader(caller): Reader, State(api): State<Api>) -> Result<Json<ScheduleList>, Refusal> {
    let queue = &api.services.queue;
    let now = queue.now().await?;
    let schedules = queue.schedules().await?;
    let seen = schedules.iter().filter(|schedule| check(&caller, schedule).is_ok());
    let schedules = seen.map(|schedule| wire::schedule(schedule, now));
    Ok(Json(ScheduleList { schedules: schedules.collect::<Result<_, _>>()? }))
}

/// Make a schedule, or replace the one of this name.
#[utoipa::path(
    put, path = "/v1/schedules/{name}", tag = "schedules", operation_id = "put_schedule", security(("token" = ["admin"])),
    params(("name" = String, Path, description = "Its name")),
    responses((status = 200, body = ScheduleDetail), (status = "default", body = dpg_api::ProblemDetails, description = "Refused"))
)]
async fn put(
    Admin(caller): Admin,
    State(api): State<Api>,
    Path(name): Path<String>,
    Json(body): Json<PutSchedule>,
) -> Result<Json<ScheduleDetail>, Refusal> {
    check_name("schedule", &name)?;
    let spec = spec_text(body.spec)?;
    let job = job_of(&api, &spec).await?;
    call::about(&job.name);
    caller.check(&job.name)?;
    // nor replace a schedule that is not the caller's
    match api.services.queue.schedule(&name).await {
        Ok(replaced) => check(&caller, &replaced)?,
        Err(dpg_queue::Error::NotFound { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let schedule = NewSchedule {
        name,
        cron: body.cron,
        time_zone: body.time_zone,
        spec,
        overlap: body.overlap,
        catchup: body.catchup,
        jitter: Duration::from_secs(body.jitter_seconds.into()),
        priority: body.priority,
        max_attempts: job.max_attempts,
    };
    detail(&api, api.services.queue.put_schedule(&schedule).await?).await
}

/// Show a schedule with its spec and its next five times.
#[utoipa::path(
    get, path = "/v1/schedules/{name}", tag = "schedules", operation_id = "show_schedule", security(("token" = ["read"])),
    params(("name" = String, Path, description = "Its name")),
    responses((status = 200, body = ScheduleDetail), (status = "default", body = dpg_api::ProblemDetails, description = "Refused"))
)]
async fn show(
    Reader(caller): Reader,
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Json<ScheduleDetail>, Refusal> {
    check_name("schedule", &name)?;
    detail(&api, find(&api, &caller, &name).await?).await
}

/// Delete a schedule; its jobs are left alone.
#[utoipa::path(
    delete, path = "/v1/schedules/{name}", tag = "schedules", operation_id = "delete_schedule", security(("token" = ["admin"])),
    params(("name" = String, Path, description = "Its name")),
    responses((status = 204, description = "Deleted"), (status = "default", body = dpg_api::ProblemDetails, description = "Refused"))
)]
async fn delete(
    Admin(caller): Admin,
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<StatusCode, Refusal> {
    check_name("schedule", &name)?;
    find(&api, &caller, &name).await?;
    api.services.queue.delete_schedule(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Stop a schedule until it is resumed; its jobs are left alone.
#[utoipa::path(
    post, path = "/v1/schedules/{name}/pause", tag = "schedules", operation_id = "pause_schedule", security(("token" = ["admin"])),
    params(("name" = String, Path, description = "Its name")),
    responses((status = 200, body = ScheduleDetail), (status = "default", body = dpg_api::ProblemDetails, description = "Refused"))
)]
async fn pause(
    Admin(caller): Admin,
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Json<ScheduleDetail>, Refusal> {
    check_name("schedule", &name)?;
    find(&api, &caller, &name).await?;
    detail(&api, api.services.queue.pause_schedule(&name).await?).await
}

/// Let a paused schedule go on; times that fell into the pause are not made up for.
#[utoipa::path(
    post, path = "/v1/schedules/{name}/resume", tag = "schedules", operation_id = "resume_schedule", security(("token" = ["admin"])),
    params(("name" = String, Path, description = "Its name")),
    responses((status = 200, body = ScheduleDetail), (status = "default", body = dpg_api::ProblemDetails, description = "Refused"))
)]
async fn resume(
    Admin(caller): Admin,
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Json<ScheduleDetail>, Refusal> {
    check_name("schedule", &name)?;
    find(&api, &caller, &name).await?;
    detail(&api, api.services.queue.resume_schedule(&name).await?).await
}

/// Submit a schedule's job at once, paused or not.
#[utoipa::path(
    post, path = "/v1/schedules/{name}/run", tag = "schedules", operation_id = "run_schedule", security(("token" = ["admin"])),
    params(("name" = String, Path, description = "Its name")),
    responses((status = 200, body = Job), (status = "default", body = dpg_api::ProblemDetails, description = "Refused"))
)]
async fn run(
    Admin(caller): Admin,
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Json<Job>, Refusal> {
    check_name("schedule", &name)?;
    let schedule = find(&api, &caller, &name).await?;
    // the settings may have changed since the schedule was made
    let job = job_of(&api, &schedule.spec).await?;
    Ok(Json(wire::job(api.services.queue.run_schedule(&schedule, &job).await?)))
}

/// The schedule, if the caller's token is for its dataset.
async fn find(api: &Api, caller: &Caller, name: &str) -> Result<dpg_queue::Schedule, Refusal> {
    let schedule = api.services.queue.schedule(name).await?;
    check(caller, &schedule)?;
    Ok(schedule)
}

fn check(caller: &Caller, schedule: &dpg_queue::Schedule) -> Result<(), Refusal> {
    if caller.token().is_for_all() {
        return Ok(());
    }
    match submission::parse(&schedule.spec) {
        Ok(spec) => caller.check(&spec.name),
        // of no dataset that could be told
        Err(_) => caller.check_all(),
    }
}

async fn detail(api: &Api, schedule: dpg_queue::Schedule) -> Result<Json<ScheduleDetail>, Refusal> {
    let now = api.services.queue.now().await?;
    Ok(Json(wire::schedule_detail(&schedule, now)?))
}
