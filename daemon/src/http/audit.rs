//! `/v1/audit`: who did what. `guard.rs` writes a line for each call of a token that is not only a look.

use std::cell::RefCell;
use std::future::Future;

use axum::extract::State;
use axum::http::StatusCode;
use dpg_api::{Deed, DeedPage};
use dpg_queue::{NewDeed, Token};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::{
    Api,
    auth::Admin,
    doorman::Peer,
    extract::{Json, Query},
    problem::Refusal,
};
use crate::terminal;

/// Of an object's name this much is kept.
const LONGEST: usize = 300;

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct AuditQuery {
    /// Only lines before the one with this id: the `next` of the page before.
    before: Option<Uuid>,
    /// Lines on a page, 1 to 500. Default 100.
    limit: Option<u32>,
}

/// List who did what, newest first.
#[utoipa::path(
    get, path = "/v1/audit", tag = "tokens", operation_id = "list_deeds", security(("token" = ["admin"])),
    params(AuditQuery),
    responses((status = 200, body = DeedPage), (status = "default", body = dpg_api::Problem, description = "Refused"))
)]
async fn list(
    Admin(caller): Admin,
    State(api): State<Api>,
    Query(query): Query<AuditQuery>,
) -> Result<Json<DeedPage>, Refusal> {
    caller.check_all()?;
    let limit = query.limit.unwrap_or(100).clamp(1, 500);
    let deeds: Vec<_> =
        api.services.queue.deeds(query.before, limit).await?.into_iter().map(Deed::from).collect();
    let next = deeds.last().filter(|_| deeds.len() == limit as usize).map(|deed| deed.id);
    Ok(Json(DeedPage { deeds, next }))
}

tokio::task_local! {
    static CALL: RefCell<Call>;
}

/// What is known of a call while it is answered.
#[derive(Default)]
pub(crate) struct Call {
    token: Option<(Uuid, String)>,
    about: Option<String>,
}

/// Runs a call and gives what became known of it.
pub(crate) async fn observed<T>(call: impl Future<Output = T>) -> (T, Call) {
    CALL.scope(RefCell::default(), async {
        let answer = call.await;
        (answer, CALL.with(RefCell::take))
    })
    .await
}

/// Says whose call this is.
pub(crate) fn identify(token: &Token) {
    let _ = CALL.try_with(|call| call.borrow_mut().token = Some((token.id, token.name.clone())));
}

/// Says what a call is about that its address does not name.
pub(crate) fn about(object: impl Into<String>) {
    let _ = CALL.try_with(|call| call.borrow_mut().about = Some(object.into()));
}

impl Call {
    /// Writes the call down, if somebody known made it.
    pub(crate) async fn note(self, api: &Api, action: String, path: &str, peer: Peer, status: StatusCode) {
        let Some((token, name)) = self.token else { return };
        let object = self.about.map_or_else(|| path.to_owned(), |about| format!("{path} {about}"));
        let object = terminal::line(&object.chars().take(LONGEST).collect::<String>());
        let (status, address) = (status.as_u16(), peer.0.to_string());
        let deed = NewDeed { token, name, action, object, status, address };
        if let Err(error) = api.services.queue.note(deed).await {
            tracing::error!(cause = %anyhow::Error::from(error), "cannot write who did what");
        }
    }
}
