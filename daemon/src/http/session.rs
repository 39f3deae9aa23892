//! `/v1/session`: who the caller is, and the cookie that signs the page in.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use dpg_api::Token;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{api::Api, auth, credential, extract::Json, problem::Refusal, wire};
use crate::settings::config::Config;

/// Days until a browser forgets a sign-in; a token that ends before ends it.
const DAYS: u32 = 30;

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(show, sign_in, sign_out))
}

/// Show the caller's token.
#[utoipa::path(
    get, path = "/v1/session", tag = "session", operation_id = "show_session", security(("token" = [])),
    responses((status = 200, body = Token), (status = "default", body = dpg_api::ProblemDetails, description = "Refused"))
)]
async fn show(State(api): State<Api>, headers: HeaderMap) -> Result<Json<Token>, Refusal> {
    Ok(Json(wire::token(auth::identify(&api, &headers).await?)))
}

/// Sign a browser in: its token goes into a cookie that no script can read.
///
/// A request with the cookie counts as one with the token if it comes from the daemon's own page: what changes
/// something has to have the header `x-dpg-page`.
#[utoipa::path(
    post, path = "/v1/session", tag = "session", operation_id = "sign_in", security(("token" = [])),
    responses(
        (status = 200, body = Token, headers(("set-cookie" = String, description = "The token, `HttpOnly; SameSite=Strict`"))),
        (status = "default", body = dpg_api::ProblemDetails, description = "Refused")
    )
)]
async fn sign_in(State(api): State<Api>, headers: HeaderMap) -> Result<impl IntoResponse, Refusal> {
    let token = auth::identify(&api, &headers).await?;
    let secret = credential::secret(&headers).unwrap_or_default();
    let cookie = cookie(&headers, &api.services.config, secret, DAYS * 24 * 60 * 60);
    Ok(([(header::SET_COOKIE, cookie)], Json(wire::token(token))))
}

/// Sign a browser out.
#[utoipa::path(
    delete, path = "/v1/session", tag = "session", operation_id = "sign_out", security(("token" = [])),
    responses(
        (status = 204, description = "The cookie is gone"),
        (status = "default", body = dpg_api::ProblemDetails, description = "Refused")
    )
)]
async fn sign_out(State(api): State<Api>, headers: HeaderMap) -> Result<impl IntoResponse, Refusal> {
    auth::identify(&api, &headers).await?;
    let cookie = cookie(&headers, &api.services.config, "", 0);
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]))
}

fn cookie(headers: &HeaderMap, config: &Config, secret: &str, seconds: u32) -> String {
    let is_secure = config.tls.is_some() || config.public_url.starts_with("https:");
    let secure = if is_secure { "; Secure" } else { "" };
    let name = credential::cookie(headers);
    format!("{name}={secret}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}")
}
