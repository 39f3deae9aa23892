//! `/v1/datasets/{dataset}/versions/{reference}/rows`: the rows of a version, searched and sorted; and their
//! rewards at a glance.

use std::sync::Arc;

use axum::extract::State;
use dpg_api::{Bin, RewardSummary, Row, RowPage, RowRecord};
use dpg_dataset::Split;
use dpg_registry::{Order, Rows, StoredRow, Version, Wanted};
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    api::Api,
    auth::Reader,
    datasets::resolve,
    extract::{Json, Path, Query},
    problem::Refusal,
    wire,
};

const MOST: usize = 500;
const LONGEST_SEARCH: usize = 200;

pub(crate) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(rewards))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct RowsQuery {
    /// `train` or `validation`. Default `train`.
    split: Option<String>,
    /// Only rows whose texts hold this, in any case.
    #[serde(default)]
    search: String,
    /// `row`, `reward`, `-reward` (the largest first), `length` or `-length`. Default `row`.
    order: Option<String>,
    /// Rows to pass over. Default 0.
    #[serde(default)]
    offset: usize,
    /// Rows at most, 1 to 500. Default 50.
    limit: Option<usize>,
}

/// List rows of a version.
#[utoipa::path(
    get, path = "/v1/datasets/{dataset}/versions/{reference}/rows", tag = "datasets", operation_id = "list_rows",
    security(("token" = ["read"])),
    params(
        ("dataset" = String, Path, description = "Its name"),
        ("reference" = String, Path, description = "`latest`, a number, or a tag"), RowsQuery
    ),
    responses((status = 200, body = RowPage), (status = "default", body = dpg_api::ProblemDetails, description = "Refused"))
)]
async fn list(
    Reader(caller): Reader,
    State(api): State<Api>,
    Path((dataset, reference)): Path<(String, String)>,
    Query(query): Query<RowsQuery>,
) -> Result<Json<RowPage>, Refusal> {
    let version = resolve(&api, &caller, &dataset, &reference).await?;
    let invalid = |detail: String, hint: &str| Refusal::new(dpg_api::Code::InvalidQuery, detail).hint(hint);
    let split = match query.split.as_deref() {
        None | Some("train") => Split::Train,
        Some("validation") => Split::Validation,
        Some(other) => {
            return Err(invalid(format!("there is no split `{other}`"), "`train` or `validation`"));
        }
    };
    let order = match query.order.as_deref() {
        None | Some("row") => Order::Row,
        Some("reward") => Order::Reward,
        Some("-reward") => Order::RewardDown,
        Some("length") => Order::Length,
        Some("-length") => Order::LengthDown,
        Some(other) => {
            let hint = "`row`, `reward`, `-reward`, `length` or `-length`";
            return Err(invalid(format!("rows have no order `{other}`"), hint));
        }
    };
    if query.search.len() > LONGEST_SEARCH {
        return Err(invalid("the search is too long".into(), "search for at most 200 bytes"));
    }
    let rows = rows(&api, &version, split).await?;
    let total = rows.rewards().len() as u64;
    let limit = query.limit.unwrap_or(50).clamp(1, MOST);
    let wanted = Wanted { search: query.search, order, offset: query.offset, limit };
    let (found, matching) = rows.list(wanted).await?;
    Ok(Json(RowPage { total, matching: matching as u64, rows: found.into_iter().map(row).collect() }))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct RewardsQuery {
    /// Bars of each histogram, 2 to 200. Default 40.
    bins: Option<usize>,
}

/// Show the rewards and lengths of a version's training rows as histograms.
#[utoipa::path(
    get, path = "/v1/datasets/{dataset}/versions/{reference}/rewards", tag = "datasets", operation_id = "show_rewards",
    security(("token" = ["read"])),
    params(
        ("dataset" = String, Path, description = "Its name"),
        ("reference" = String, Path, description = "`latest`, a number, or a tag"), RewardsQuery
    ),
    responses((status = 200, body = RewardSummary), (status = "default", body = dpg_api::ProblemDetails, description = "Refused"))
)]
async fn rewards(
    Reader(caller): Reader,
    State(api): State<Api>,
    Path((dataset, reference)): Path<(String, String)>,
    Query(query): Query<RewardsQuery>,
) -> Result<Json<RewardSummary>, Refusal> {
    let version = resolve(&api, &caller, &dataset, &reference).await?;
    let rows = rows(&api, &version, Split::Train).await?;
    let most = query.bins.unwrap_or(40).clamp(2, 200);
    let lengths: Vec<f64> = rows.lengths().iter().map(|length| *length as f64).collect();
    Ok(Json(RewardSummary {
        statistics: wire::statistics(&rows.statistics()),
        rewards: histogram(rows.rewards(), most, false),
        lengths: histogram(&lengths, most, true),
    }))
}

/// At most so many bars of one width from the smallest value to the largest; of whole numbers whole ones.
fn histogram(values: &[f64], most: usize, whole: bool) -> Vec<Bin> {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if !(least.is_finite() && largest.is_finite()) {
        return vec![];
    }
    let span = if whole { largest - least + 1.0 } else { largest - least };
    let width = if whole { (span / most as f64).ceil() } else { span / most as f64 };
    if width <= 0.0 {
        return vec![Bin { from: least, to: largest, count: values.len() as u64 }];
    }
    let bars = if whole { (span / width).ceil() as usize } else { most };
    let mut counts = vec![0; bars];
    for value in values {
        let bar = ((value - least) / width) as usize;
        counts[bar.min(bars - 1)] += 1;
    }
    let edge = |bar: usize| if bar == bars && !whole { largest } else { least + width * bar as f64 };
    let bin = |(bar, count)| Bin { from: edge(bar), to: edge(bar + 1), count };
    counts.into_iter().enumerate().map(bin).collect()
}

/// A row as the API has it.
pub(crate) fn row(stored: StoredRow) -> Row {
    let StoredRow { row, columns: mut example, record } = stored;
    let example_id = example.remove("example_id").and_then(|id| id.as_str().map(str::to_owned));
    let reward = example.remove("reward").and_then(|reward| reward.as_f64());
    let of_record = |record: Map<String, Value>| RowRecord {
        prompt: record.get("prompt").and_then(Value::as_str).unwrap_or_default().to_owned(),
        n_tokens: record.get("n_tokens").and_then(Value::as_i64),
        logprob: record.get("logprob").and_then(Value::as_f64),
        step: record.get("step").and_then(Value::as_i64),
        advantage: record.get("advantage").and_then(Value::as_f64),
        arm: record.get("arm").and_then(Value::as_str).map(str::to_owned),
    };
    Row {
        row: row as u64,
        example_id: example_id.unwrap_or_default(),
        reward: reward.unwrap_or_default(),
        example,
        record: record.map(of_record),
    }
}

/// The rows of a split of a version.
pub(crate) async fn rows(api: &Api, version: &Version, split: Split) -> Result<Arc<Rows>, Refusal> {
    Ok(api.rows.find(&api.services.registry, version, split).await?)
}

#[cfg(test)]
mod tests {
    use super::histogram;

    #[test]
    fn every_value_is_in_one_bar() {
        let values: Vec<f64> = (0..1000).map(|i| (f64::from(i) * 0.7).sin()).collect();
        let bars = histogram(&values, 40, false);
        assert_eq!((bars.len(), bars.iter().map(|bar| bar.count).sum::<u64>()), (40, 1000));
        assert!(bars.windows(2).all(|pair| pair[0].to == pair[1].from));
        let bars = histogram(&[3.0, 3.0, 7.0, 12.0], 4, true);
        let edges: Vec<_> = bars.iter().map(|bar| (bar.from, bar.to, bar.count)).collect();
        assert_eq!(edges, [(3.0, 6.0, 2), (6.0, 9.0, 1), (9.0, 12.0, 0), (12.0, 15.0, 1)]);
        assert_eq!(histogram(&[2.0; 5], 9, false).len(), 1);
        assert_eq!(histogram(&[], 9, false), []);
    }
}
