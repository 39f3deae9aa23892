//! `/v1/specs`: the schema of specs, specs to begin with, and what would become of one before it is submitted.

use std::process::Stdio;

use axum::extract::{Request, State};
use dpg_api::{CheckedSpec, Code, SubmitJob, Template, TemplateList};
use rust_embed::RustEmbed;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    api::Api,
    auth::{Reader, Submitter},
    extract::Json,
    jobs::{job_of, read_submission},
    problem::Refusal,
};
use crate::jobs::{submission, supervisor};

#[derive(RustEmbed)]
#[folder = "../config/specs/"]
struct Specs;

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(schema))
        .routes(routes!(templates))
        .routes(routes!(check))
        .routes(routes!(plan))
}

/// Show the JSON schema of a spec.
#[utoipa::path(
    get, path = "/v1/specs/schema", tag = "specs", operation_id = "show_schema", security(("token" = ["read"])),
    responses((status = 200, body = Value), (status = "default", body = dpg_api::ProblemDetails, description = "Refused"))
)]
async fn schema(_caller: Reader) -> Json<Value> {
    Json(dpg_spec::Spec::json_schema())
}

/// List specs to begin with.
#[utoipa::path(
    get, path = "/v1/specs/templates", tag = "specs", operation_id = "list_templates", security(("token" = ["read"])),
    responses((status = 200, body = TemplateList), (status = "default", body = dpg_api::ProblemDetails, description = "Refused"))
)]
async fn templates(_caller: Reader) -> Json<TemplateList> {
    let mut templates: Vec<_> = Specs::iter().filter_map(|file| template(&file)).collect();
    templates.sort_by(|one, other| one.name.cmp(&other.name));
    Json(TemplateList { templates })
}

fn template(file: &str) -> Option<Template> {
    let text = String::from_utf8(Specs::get(file)?.data.into_owned()).ok()?;
    // editors find the schema by it; here it leads nowhere
    let spec = text.lines().filter(|line| !line.starts_with("#:schema")).collect::<Vec<_>>().join("\n");
    let spec = format!("{}\n", spec.trim());
    let values: toml::Table = toml::from_str(&spec).ok()?;
    let description = values.get("description").and_then(toml::Value::as_str).unwrap_or_default().to_owned();
    Some(Template { name: file.trim_end_matches(".toml").to_owned(), description, spec })
}

/// Check a spec without submitting it.
#[utoipa::path(
    post, path = "/v1/specs/check", tag = "specs", operation_id = "check_spec", security(("token" = ["submit"])),
    request_body(content((SubmitJob = "application/json"), (String = "application/toml"))),
    responses((status = 200, body = CheckedSpec), (status = "default", body = dpg_api::ProblemDetails, description = "Refused"))
)]
async fn check(
    Submitter(caller): Submitter,
    State(api): State<Api>,
    request: Request,
) -> Result<Json<CheckedSpec>, Refusal> {
    let (text, _) = read_submission(request, &api, 0).await?;
    let job = job_of(&api, &text).await?;
    caller.check(&job.name)?;
    let resolved = serde_json::from_str(&job.resolved).unwrap_or_default();
    Ok(Json(CheckedSpec { name: job.name, resolved, written: submission::written(&text) }))
}

/// Plan a spec without submitting it: what a run would do and take, as `dpg plan` says.
///
/// It loads the models, in a process of its own on the daemon's machine. One plan is made at a time.
#[utoipa::path(
    post, path = "/v1/specs/plan", tag = "specs", operation_id = "plan_spec", security(("token" = ["submit"])),
    request_body(content((SubmitJob = "application/json"), (String = "application/toml"))),
    responses((status = 200, body = Value), (status = "default", body = dpg_api::ProblemDetails, description = "Refused"))
)]
async fn plan(
    Submitter(caller): Submitter,
    State(api): State<Api>,
    request: Request,
) -> Result<Json<Value>, Refusal> {
    let (text, _) = read_submission(request, &api, 0).await?;
    let job = job_of(&api, &text).await?;
    caller.check(&job.name)?;
    let Ok(_turn) = api.planner.try_acquire() else {
        return Err(Refusal::new(Code::TooManyRequests, "another plan is being made").hint("wait for it"));
    };
    let made = dpg_plan(&api, &job.spec).await.map_err(|error| Refusal::internal(error.as_ref()))?;
    made.map(Json).map_err(|said| {
        Refusal::new(Code::Refused, said)
            .hint("`dpg plan SPEC` on the daemon's machine says more, and takes its time")
    })
}

/// What `dpg plan` makes of a spec, or what it says of it. It ends with the request.
async fn dpg_plan(api: &Api, spec: &str) -> anyhow::Result<Result<Value, String>> {
    let mut child = Command::new(supervisor::program()?)
        .args(["plan", "-", "--json", "--device", &api.services.config.device, "--data-dir"])
        .arg(api.services.data.root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        // one that reads no more says why
        let _ = input.write_all(spec.as_bytes()).await;
    }
    let output = child.wait_with_output().await?;
    if output.status.success() {
        return Ok(Ok(serde_json::from_slice(&output.stdout)?));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().filter(|line| !line.trim().is_empty()).collect::<Vec<_>>();
    let last = said[said.len().saturating_sub(12)..].join("\n");
    Ok(Err(last.trim_start_matches("error: ").to_owned()))
}

#[cfg(test)]
mod tests {
    use dpg_spec::{Spec, Syntax};

    use super::*;

    #[test]
    fn every_template_is_a_spec() {
        assert!(Specs::iter().count() > 10);
        for file in Specs::iter() {
            let template = template(&file).unwrap_or_else(|| panic!("{file} is not a template"));
            assert!(!template.description.is_empty(), "{file}");
            Spec::parse(&template.spec, Syntax::Toml).unwrap_or_else(|error| panic!("{file}: {error}"));
        }
    }
}
