//! `/v1/tokens`, and the first token of a data folder.

use anyhow::Context;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use dpg_api::{Code, CreateToken, CreatedToken, Token, TokenList};
use dpg_queue::{NewToken, Scope};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    api::Api,
    auth::Admin,
    call,
    extract::{Json, Path, check_name},
    problem::Refusal,
    wire,
};
use crate::services::Services;
use crate::settings::data_dir::DataDir;
use crate::settings::private::create_private;

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(create, list)).routes(routes!(revoke))
}

/// Make a token. Its secret is in the answer and nowhere else.
#[utoipa::path(
    post, path = "/v1/tokens", tag = "tokens", operation_id = "create_token", security(("token" = ["admin"])),
    responses((status = 201, body = CreatedToken), (status = "default", body = dpg_api::ProblemDetails, description = "Refused"))
)]
async fn create(
    Admin(caller): Admin,
    State(api): State<Api>,
    Json(body): Json<CreateToken>,
) -> Result<impl IntoResponse, Refusal> {
    // who could make another token could do what that one may
    caller.check_all()?;
    check_name("token", &body.name)?;
    let scopes: Vec<_> = body.scopes.iter().map(|scope| scope.as_str()).collect();
    call::about(format!("{} {} {}", body.name, scopes.join(","), body.datasets.join(",")));
    for pattern in &body.datasets {
        check_pattern(pattern)?;
    }
    let invalid = |detail: &str, hint: &str| Refusal::new(Code::InvalidValue, detail).hint(hint);
    if body.scopes.is_empty() {
        return Err(invalid("the token has no scope", "give at least one of `read`, `submit`, `admin`"));
    }
    if body.expires.is_some_and(|expires| expires <= chrono::Utc::now()) {
        return Err(invalid("the token would have expired already", "give a time in the future"));
    }
    let CreateToken { name, scopes, expires, datasets, quota } = body;
    let new = NewToken { name, scopes, expires, datasets, quota };
    let (token, secret) = api.services.queue.create_token(&new).await?;
    Ok((StatusCode::CREATED, Json(CreatedToken { token: wire::token(token), secret })))
}

/// List tokens, oldest first, with the expired and the revoked.
#[utoipa::path(
    get, path = "/v1/tokens", tag = "tokens", operation_id = "list_tokens", security(("token" = ["admin"])),
    responses((status = 200, body = TokenList), (status = "default", body = dpg_api::ProblemDetails, description = "Refused"))
)]
async fn list(Admin(caller): Admin, State(api): State<Api>) -> Result<Json<TokenList>, Refusal> {
    caller.check_all()?;
    let tokens = api.services.queue.tokens().await?;
    Ok(Json(TokenList { tokens: tokens.into_iter().map(wire::token).collect() }))
}

/// Revoke a token, by its id or name, at once and for good.
#[utoipa::path(
    delete, path = "/v1/tokens/{token}", tag = "tokens", operation_id = "revoke_token", security(("token" = ["admin"])),
    params(("token" = String, Path, description = "Id or name")),
    responses((status = 200, body = Token), (status = "default", body = dpg_api::ProblemDetails, description = "Refused"))
)]
async fn revoke(
    Admin(caller): Admin,
    State(api): State<Api>,
    Path(token): Path<String>,
) -> Result<Json<Token>, Refusal> {
    caller.check_all()?;
    check_name("token", &token)?;
    Ok(Json(wire::token(api.services.queue.revoke_token(&token).await?)))
}

/// Refuses what is neither a dataset's name nor the beginning of one with `*`.
fn check_pattern(pattern: &str) -> Result<(), Refusal> {
    let name = pattern.strip_suffix('*').unwrap_or(pattern);
    if pattern == "*" {
        let hint = "leave `datasets` out for a token that is for all";
        return Err(Refusal::new(Code::InvalidValue, "`*` does not name a dataset").hint(hint));
    }
    check_name("dataset", name)
}

/// The admin token in the data folder's `admin.token`.
pub(crate) fn stored_admin(data: &DataDir) -> Option<String> {
    let text = std::fs::read_to_string(data.path("admin.token")).ok()?;
    Some(text.trim().to_owned()).filter(|token| !token.is_empty())
}

/// The admin token of the data folder, made if it has none that the queue knows. Whoever can read the
/// folder's files can be admin: a token that was revoked or belongs to another database is replaced.
pub(crate) async fn ensure_admin(services: &Services) -> anyhow::Result<String> {
    let path = services.data.path("admin.token");
    if let Some(token) = stored_admin(&services.data) {
        match services.queue.authenticate(&token).await {
            Ok(_) => return Ok(token),
            Err(dpg_queue::Error::TokenRefused { .. }) => std::fs::remove_file(&path)?,
            Err(error) => return Err(error).context("cannot look up the admin token"),
        }
    }
    let name = format!("admin-{}", &Uuid::new_v4().simple().to_string()[..8]);
    let new = NewToken { name, scopes: vec![Scope::Admin], ..NewToken::default() };
    let (token, secret) = services.queue.create_token(&new).await.context("cannot make the admin token")?;
    if create_private(&path, format!("{secret}\n").as_bytes())? {
        return Ok(secret);
    }
    // another process was first
    services.queue.revoke_token(&token.id.to_string()).await?;
    stored_admin(&services.data).with_context(|| format!("`{}` is empty", path.display()))
}
