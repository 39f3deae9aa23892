//! axum's extractors with refusals of this API, and the checks of names.

use axum::extract::{FromRequest, FromRequestParts};
use axum::response::{IntoResponse, Response};
use dpg_api::Code;

use super::problem::Refusal;

/// A JSON body.
#[derive(FromRequest)]
#[from_request(via(axum::Json), rejection(Refusal))]
pub(crate) struct Json<T>(pub(crate) T);

impl<T: serde::Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

/// The parameters after `?`.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(Refusal))]
pub(crate) struct Query<T>(pub(crate) T);

/// The parameters in the path.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(Refusal))]
pub(crate) struct Path<T>(pub(crate) T);

/// Refuses what cannot be the name or id of anything: 1 to 128 letters, digits, `.`, `_` and `-`,
/// beginning with a letter or digit.
pub(crate) fn check_name(what: &str, name: &str) -> Result<(), Refusal> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if (1..=128).contains(&name.len())
        && name.chars().all(allowed)
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
    {
        return Ok(());
    }
    let detail = format!("`{}` cannot be the name of a {what}", name.escape_debug());
    Err(Refusal::new(Code::InvalidName, detail))
}
