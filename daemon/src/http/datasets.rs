//! `/v1/datasets`: versions, tags and files.

use axum::extract::State;
use axum::http::{HeaderMap, Method};
use axum::response::Response;
use dpg_api::{CreateAttestation, DatasetDetail, DatasetList, DatasetVersion, PutTag, VersionDetail, Yank};
use dpg_registry::Version;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    api::Api,
    auth::{Admin, Caller, Reader, Submitter},
    download,
    extract::{Json, Path, Query, check_name},
    problem::Refusal,
    wire,
};

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show))
        .routes(routes!(put_tag))
        .routes(routes!(version))
        .routes(routes!(file))
        .routes(routes!(yank))
        .routes(routes!(attest))
}

/// List datasets, by name.
#[utoipa::path(
    get, path = "/v1/datasets", tag = "datasets", operation_id = "list_datasets", security(("token" = ["read"])),
    responses((status = 200, body = DatasetList), (status = "default", body = dpg_api::ProblemDetails, description = "Refused"))
)]
async fn list(Reader(caller): Reader, State(api): State<Api>) -> Result<Json<DatasetList>, Refusal> {
    let datasets = api.services.registry.datasets().await?;
    let seen = datasets.iter().filter(|dataset| caller.sees(&dataset.name));
    Ok(Json(DatasetList { datasets: seen.map(wire::dataset).collect() }))
}

/// Show a dataset with its versions and tags.
#[utoipa::path(
    get, path = "/v1/datasets/{dataset}", tag = "datasets", operation_id = "show_dataset", security(("token" = ["read"])),
    params(("dataset" = String, Path, description = "Its name")),
    responses((status = 200, body = DatasetDetail), (status = "default", body = dpg_api::ProblemDetails, description = "Refused"))
)]
async fn show(
    Reader(caller): Reader,
    State(api): State<Api>,
    Path(dataset): Path<String>,
) -> Result<Json<DatasetDetail>, Refusal> {
    caller.check(&dataset)?;
    detail(&api, &dataset).await
}

/// Point a tag at a version.
#[utoipa::path(
    put, path = "/v1/datasets/{dataset}/tags/{tag}", tag = "datasets", operation_id = "put_tag", security(("token" = ["admin"])),
    params(("dataset" = String, Path, description = "Its name"), ("tag" = String, Path, description = "The tag")),
    responses((status = 200, body = DatasetDetail), (status = "default", body = dpg_api::ProblemDetails, description = "Refused"))
)]
async fn put_tag(
    Admin(caller): Admin,
    State(api): State<Api>,
    Path((dataset, tag)): Path<(String, String)>,
    Json(body): Json<PutTag>,
) -> Result<Json<DatasetDetail>, Refusal> {
    check_name("dataset", &dataset)?;
    caller.check(&dataset)?;
    api.services.registry.tag(&dataset, &tag, body.version).await?;
    detail(&api, &dataset).await
}

/// Show the version that `latest`, `v3`, `3` or a tag names, with its files.
#[utoipa::path(
    get, path = "/v1/datasets/{dataset}/versions/{reference}", tag = "datasets", operation_id = "show_version",
    security(("token" = ["read"])),
    params(
        ("dataset" = String, Path, description = "Its name"),
        ("reference" = String, Path, description = "`latest`, a number, or a tag")
    ),
    responses((status = 200, body = VersionDetail), (status = "default", body = dpg_api::ProblemDetails, description = "Refused"))
)]
async fn version(
    Reader(caller): Reader,
    State(api): State<Api>,
    Path((dataset, reference)): Path<(String, String)>,
) -> Result<Json<VersionDetail>, Refusal> {
    let version = resolve(&api, &caller, &dataset, &reference).await?;
    let files = api.services.registry.files(&version).await?.into_iter().map(wire::file).collect();
    Ok(Json(VersionDetail { version: wire::version(&version), files }))
}

/// Withdraw a version: `latest` passes over it; its files stay.
#[utoipa::path(
    post, path = "/v1/datasets/{dataset}/versions/{reference}/yank", tag = "datasets", operation_id = "yank_version",
    security(("token" = ["admin"])),
    params(
        ("dataset" = String, Path, description = "Its name"),
        ("reference" = String, Path, description = "A number or a tag")
    ),
    responses((status = 200, body = DatasetDetail), (status = "default", body = dpg_api::ProblemDetails, description = "Refused"))
)]
async fn yank(
    Admin(caller): Admin,
    State(api): State<Api>,
    Path((dataset, reference)): Path<(String, String)>,
    Json(body): Json<Yank>,
) -> Result<Json<DatasetDetail>, Refusal> {
    let version = resolve(&api, &caller, &dataset, &reference).await?;
    api.services.registry.yank(&dataset, version.number, &body.reason).await?;
    detail(&api, &dataset).await
}

/// Append a signed record of a verification, as `dpg verify` makes it.
#[utoipa::path(
    post, path = "/v1/datasets/{dataset}/versions/{reference}/attestations", tag = "datasets",
    operation_id = "attest_version", security(("token" = ["submit"])),
    params(
        ("dataset" = String, Path, description = "Its name"),
        ("reference" = String, Path, description = "A number or a tag")
    ),
    responses((status = 200, body = DatasetVersion), (status = "default", body = dpg_api::ProblemDetails, description = "Refused"))
)]
async fn attest(
    Submitter(caller): Submitter,
    State(api): State<Api>,
    Path((dataset, reference)): Path<(String, String)>,
    Json(body): Json<CreateAttestation>,
) -> Result<Json<DatasetVersion>, Refusal> {
    let version = resolve(&api, &caller, &dataset, &reference).await?;
    let version = api.services.registry.record(&version, body.record).await?;
    Ok(Json(wire::version(&version)))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct FileQuery {
    /// Whether the answer may be a redirect to the object store, if that is S3. Default false: the store
    /// may be out of the caller's reach.
    redirect: Option<bool>,
}

/// Download a file of a version, whole or a range of its bytes.
///
/// With `redirect=true` the answer is a redirect to a signed address that is good for an hour, on S3.
#[utoipa::path(
    get, path = "/v1/datasets/{dataset}/versions/{reference}/files/{*path}", tag = "datasets",
    operation_id = "download_file", security(("token" = ["read"])),
    params(
        ("dataset" = String, Path, description = "Its name"),
        ("reference" = String, Path, description = "`latest`, a number, or a tag"),
        ("path" = String, Path, description = "The file's path, as the version lists it"),
        ("range" = Option<String>, Header, description = "`bytes=FROM-TO`"), FileQuery
    ),
    responses(
        (status = 200, body = Vec<u8>, content_type = "application/octet-stream", description = "The file"),
        (status = 206, body = Vec<u8>, content_type = "application/octet-stream", description = "The range"),
        (status = 307, description = "Where the file is"),
        (status = "default", body = dpg_api::ProblemDetails, description = "Refused")
    )
)]
async fn file(
    Reader(caller): Reader,
    State(api): State<Api>,
    Path((dataset, reference, path)): Path<(String, String, String)>,
    Query(query): Query<FileQuery>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let version = resolve(&api, &caller, &dataset, &reference).await?;
    let files = api.services.registry.files(&version).await?;
    // only the manifest and what it lists is served, so no path leads out of the version
    let Some(file) = files.into_iter().find(|file| file.path == path) else {
        let hint = format!("`GET /v1/datasets/{dataset}/versions/{reference}` lists its files");
        return Err(Refusal::not_found(format!("{version} has no such file"), hint));
    };
    let object = api.services.registry.object(&version, &file);
    match &api.signer {
        Some(signer) if query.redirect == Some(true) => {
            download::redirect(signer.as_ref(), &method, &object).await
        }
        _ => download::send(&api.services.store, &object, &file, &method, &headers).await,
    }
}

async fn detail(api: &Api, dataset: &str) -> Result<Json<DatasetDetail>, Refusal> {
    check_name("dataset", dataset)?;
    Ok(Json(wire::dataset_detail(&api.services.registry.dataset(dataset).await?)))
}

/// The version that a reference names, if the caller's token is for the dataset.
pub(crate) async fn resolve(
    api: &Api,
    caller: &Caller,
    dataset: &str,
    reference: &str,
) -> Result<Version, Refusal> {
    check_name("dataset", dataset)?;
    caller.check(dataset)?;
    check_name("version", reference)?;
    Ok(api.services.registry.resolve(dataset, reference).await?)
}
