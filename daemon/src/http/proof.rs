//! `/v1/proof`: the daemon proves to a client that it serves its data folder, before the client sends the
//! folder's token. Both know the secret in the folder's `daemon.secret`.

use axum::extract::State;
use dpg_api::{Challenge, Code, Proof, Secret};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    api::{Api, Prover},
    extract::{Json, Query},
    problem::Refusal,
};
use crate::settings::data_dir::DataDir;
use crate::settings::private::create_private;

const FILE: &str = "daemon.secret";

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(prove))
}

/// Prove to serve the data folder whose `daemon.secret` the caller knows.
#[utoipa::path(
    get, path = "/v1/proof", tag = "operations", operation_id = "prove", security(()), params(Challenge),
    responses((status = 200, body = Proof), (status = "default", body = dpg_api::ProblemDetails, description = "Refused"))
)]
async fn prove(State(api): State<Api>, Query(challenge): Query<Challenge>) -> Result<Json<Proof>, Refusal> {
    let Some(Prover { secret, url, port }) = &api.prover else {
        return Err(Refusal::not_found("this daemon serves no data folder", "name it with --url"));
    };
    secret
        .answer(&challenge, url, *port)
        .map(Json)
        .ok_or_else(|| Refusal::new(Code::InvalidQuery, "that is not a nonce").hint("send 64 hex digits"))
}

/// The data folder's secret, if there is one.
pub(crate) fn stored_secret(data: &DataDir) -> Option<Secret> {
    let text = std::fs::read_to_string(data.path(FILE)).ok()?;
    (text.trim().len() >= 64).then(|| Secret::new(&text))
}

/// The data folder's secret, made if there is none. It lasts, so that clients follow a daemon over its
/// restarts.
pub(crate) fn ensure_secret(data: &DataDir) -> anyhow::Result<Secret> {
    let secret = format!("{}{}\n", Uuid::new_v4().simple(), Uuid::new_v4().simple());
    if let Some(secret) = stored_secret(data) {
        return Ok(secret);
    }
    create_private(&data.path(FILE), secret.as_bytes())?;
    Ok(stored_secret(data).unwrap_or_else(|| Secret::new(&secret)))
}
