//! `/v1/jobs/{job}/series`: the curves of a run, from its job's events.

use std::collections::BTreeMap;

use axum::extract::State;
use dpg_api::{Event, Series, Validation};
use serde::Deserialize;
use serde_json::Value;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    api::Api,
    auth::Reader,
    extract::{Json, Path, Query},
    jobs,
    problem::Refusal,
};

const BATCH: u32 = 500;
/// The curves, and where a step's record has their values.
const CURVES: [(&str, &str); 10] = [
    ("phi", "/phi"),
    ("reward_mean", "/reward_mean"),
    ("reward_std", "/reward_std"),
    ("entropy", "/entropy"),
    ("kl", "/kl"),
    ("clip_fraction", "/clip_fraction"),
    ("length", "/length"),
    ("seconds", "/seconds"),
    ("tokens", "/account/total/completion_tokens"),
    ("money", "/account/total/money"),
];

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(series))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct SeriesQuery {
    /// Steps at most, 2 to 10000: of more, some at even distances and the last. Default 1000.
    points: Option<usize>,
}

/// Show what a job's steps and validations measured.
#[utoipa::path(
    get, path = "/v1/jobs/{job}/series", tag = "jobs", operation_id = "job_series", security(("token" = ["read"])),
    params(("job" = String, Path, description = "Id or name"), SeriesQuery),
    responses((status = 200, body = Series), (status = "default", body = dpg_api::ProblemDetails, description = "Refused"))
)]
async fn series(
    Reader(caller): Reader,
    State(api): State<Api>,
    Path(job): Path<String>,
    Query(query): Query<SeriesQuery>,
) -> Result<Json<Series>, Refusal> {
    let job = jobs::find(&api, &caller, &job).await?;
    let mut history = History::default();
    loop {
        let events = api.services.queue.events(job.id, history.last_event, BATCH).await?;
        if events.is_empty() {
            break;
        }
        for event in &events {
            history.add(event);
        }
    }
    Ok(Json(history.series(query.points.unwrap_or(1000).clamp(2, 10_000))))
}

/// What events tell of a run. A run that goes on from an older state makes steps again.
#[derive(Default)]
struct History {
    steps: BTreeMap<u64, Vec<Option<f64>>>,
    validations: BTreeMap<u64, Validation>,
    last_event: i64,
}

impl History {
    fn add(&mut self, event: &Event) {
        self.last_event = event.seq;
        let detail = &event.detail;
        match event.kind.as_str() {
            "started" | "resumed" => {
                let step = detail["step"].as_u64().unwrap_or_default();
                self.steps.retain(|made, _| *made <= step);
                self.validations.retain(|made, _| *made <= step);
            }
            "steps" => {
                for record in detail["records"].as_array().into_iter().flatten() {
                    let values = CURVES.map(|(_, place)| record.pointer(place).and_then(Value::as_f64));
                    let step = record["step"].as_u64().unwrap_or_default();
                    self.steps.insert(step, values.into());
                }
            }
            "validation" => {
                // an older program may have told it otherwise
                if let Ok(validation) = serde_json::from_value::<Validation>(detail.clone()) {
                    self.validations.insert(validation.step, validation);
                }
            }
            _ => {}
        }
    }

    fn series(self, points: usize) -> Series {
        let steps_made = self.steps.len();
        let apart = steps_made.div_ceil(points).max(1);
        let is_kept = |place: usize| place.is_multiple_of(apart) || place + 1 == steps_made;
        let kept = self.steps.into_iter().enumerate().filter(|(place, _)| is_kept(*place));
        let (step, values): (Vec<u64>, Vec<_>) = kept.map(|(_, step)| step).unzip();
        let curve = |place: usize| values.iter().map(|values| values[place]).collect::<Vec<_>>();
        let curves = CURVES.iter().enumerate().map(|(place, (name, _))| ((*name).to_owned(), curve(place)));
        let measured = curves.filter(|(_, values)| values.iter().any(Option::is_some));
        Series {
            step,
            curves: measured.collect(),
            steps_made: steps_made as u64,
            validations: self.validations.into_values().collect(),
            last_event: self.last_event,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn steps_that_are_made_again_count_once() {
        let mut history = History::default();
        let mut add = |seq, kind: &str, detail: Value| {
            history.add(&Event { seq, at: chrono::Utc::now(), kind: kind.into(), detail });
        };
        let steps = |steps: std::ops::RangeInclusive<u64>, phi: f64| {
            let records: Vec<_> = steps.map(|step| json!({ "step": step, "phi": phi, "kl": null })).collect();
            json!({ "records": records })
        };
        add(1, "started", json!({ "step": 0 }));
        add(2, "validation", json!({ "step": 0, "phi": 0.5, "proxies": { "right": 1.0 }, "samples": ["a"] }));
        add(3, "steps", steps(1..=6, 1.0));
        add(4, "validation", json!({ "step": 6, "phi": null }));
        add(5, "resumed", json!({ "step": 4 }));
        add(6, "steps", steps(5..=9, 2.0));
        let series = history.series(4);
        assert_eq!((series.step, series.steps_made, series.last_event), (vec![1, 4, 7, 9], 9, 6));
        assert_eq!(series.curves["phi"], [1.0, 1.0, 2.0, 2.0].map(Some));
        assert!(!series.curves.contains_key("kl"));
        assert_eq!(series.validations.len(), 1);
        assert_eq!(series.validations[0].proxies, json!({ "right": 1.0 }));
    }
}
