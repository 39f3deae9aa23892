//! `/v1/tokens`.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use dpg_api::{CreateToken, CreatedToken, Token, TokenList};
use dpg_queue::NewToken;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    Api,
    auth::Admin,
    extract::{Json, Path, check_name},
    problem::Refusal,
};

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(create, list)).routes(routes!(revoke))
}

/// Make a token. Its secret is in the answer and nowhere else.
#[utoipa::path(
    post, path = "/v1/tokens", tag = "tokens", operation_id = "create_token", security(("token" = ["admin"])),
    responses((status = 201, body = CreatedToken), (status = "default", body = dpg_api::Problem, description = "Refused"))
)]
async fn create(
    _: Admin,
    State(api): State<Api>,
    Json(body): Json<CreateToken>,
) -> Result<impl IntoResponse, Refusal> {
    check_name("token", &body.name)?;
    let invalid = |detail: &str, hint: &str| {
        Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-value", detail, hint)
    };
    if body.scopes.is_empty() {
        return Err(invalid("the token has no scope", "give at least one of `read`, `submit`, `admin`"));
    }
    if body.expires.is_some_and(|expires| expires <= chrono::Utc::now()) {
        return Err(invalid("the token would have expired already", "give a time in the future"));
    }
    let new = NewToken { name: body.name, scopes: body.scopes, expires: body.expires };
    let (token, secret) = api.services.queue.create_token(&new).await?;
    Ok((StatusCode::CREATED, Json(CreatedToken { token: token.into(), secret })))
}

/// List tokens, oldest first, with the expired and the revoked.
#[utoipa::path(
    get, path = "/v1/tokens", tag = "tokens", operation_id = "list_tokens", security(("token" = ["admin"])),
    responses((status = 200, body = TokenList), (status = "default", body = dpg_api::Problem, description = "Refused"))
)]
async fn list(_: Admin, State(api): State<Api>) -> Result<Json<TokenList>, Refusal> {
    let tokens = api.services.queue.tokens().await?;
    Ok(Json(TokenList { tokens: tokens.into_iter().map(Token::from).collect() }))
}

/// Revoke a token, by its id or name, at once and for good.
#[utoipa::path(
    delete, path = "/v1/tokens/{token}", tag = "tokens", operation_id = "revoke_token", security(("token" = ["admin"])),
    params(("token" = String, Path, description = "Id or name")),
    responses((status = 200, body = Token), (status = "default", body = dpg_api::Problem, description = "Refused"))
)]
async fn revoke(_: Admin, State(api): State<Api>, Path(token): Path<String>) -> Result<Json<Token>, Refusal> {
    check_name("token", &token)?;
    Ok(Json(api.services.queue.revoke_token(&token).await?.into()))
}
