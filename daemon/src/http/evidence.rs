//! `/v1/datasets/{dataset}/versions/{reference}/evidence`: what a version was made from, what was found when it was
//! tried out, and who signed it.

use axum::extract::State;
use dpg_api::{Evidence, Report};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    api::Api,
    auth::Reader,
    datasets::resolve,
    extract::{Json, Path},
    problem::Refusal,
    wire,
};

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(show))
}

/// Show a version's provenance and verifications, and who signed them.
#[utoipa::path(
    get, path = "/v1/datasets/{dataset}/versions/{reference}/evidence", tag = "datasets", operation_id = "show_evidence",
    security(("token" = ["read"])),
    params(
        ("dataset" = String, Path, description = "Its name"),
        ("reference" = String, Path, description = "`latest`, a number, or a tag")
    ),
    responses((status = 200, body = Evidence), (status = "default", body = dpg_api::ProblemDetails, description = "Refused"))
)]
async fn show(
    Reader(caller): Reader,
    State(api): State<Api>,
    Path((dataset, reference)): Path<(String, String)>,
) -> Result<Json<Evidence>, Refusal> {
    let version = resolve(&api, &caller, &dataset, &reference).await?;
    let registry = &api.services.registry;
    let (signer, doubt) = match registry.verify_signature(&version, None).await {
        Ok(signer) => (Some(signer), None),
        Err(error) if error.is_transient() => return Err(error.into()),
        Err(error) => (None, Some(error.to_string())),
    };
    // one that cannot be read is doubted above
    let provenance = registry.provenance(&version).await.ok();
    let mut reports = vec![];
    for attestation in &version.attestations {
        let report = registry.report(&version, attestation).await.ok();
        reports.push(Report { attestation: wire::attestation(attestation), report });
    }
    Ok(Json(Evidence { signer, doubt, provenance, reports }))
}
