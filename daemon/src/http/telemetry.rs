//! The figures of `/metrics`, sent to a collector of OpenTelemetry from time to time.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::sleep;
use tracing::warn;

use super::operations::exposition;
use crate::jobs::otlp::{Collector, Value, attributes, nanoseconds};
use crate::pipeline::protobuf::Field;
use crate::services::Services;
use crate::terminal::told::told;

const PERIOD: Duration = Duration::from_mins(1);
/// Counters go on from the start of the process.
const CUMULATIVE: u64 = 2;

/// Sends all figures over and over, until dropped, where there is a collector.
pub(crate) async fn send(services: Services, collector: Option<Collector>) -> Infallible {
    let Some(collector) = collector else { return std::future::pending().await };
    let period = std::env::var("OTEL_METRIC_EXPORT_INTERVAL").ok().and_then(|millis| millis.parse().ok());
    let period = period.map_or(PERIOD, |millis: u64| Duration::from_millis(millis.max(100)));
    let started = Utc::now();
    loop {
        sleep(period).await;
        let sent = async {
            let text = exposition(&services).await?;
            collector.metrics(metrics(&text, started, Utc::now())).await
        };
        if let Err(error) = sent.await {
            warn!("cannot send metrics: {}", told(&error));
        }
    }
}

/// A line of Prometheus' text: a name, labels, a value.
struct Sample<'a> {
    name: &'a str,
    labels: Vec<(String, Value)>,
    value: f64,
}

/// A histogram by its labels: the bounds with how many are below each, the sum, and the count.
#[derive(Default)]
struct Histogram {
    below: Vec<(f64, u64)>,
    sum: f64,
    count: u64,
}

/// What Prometheus' text says, as OpenTelemetry has it.
fn metrics(text: &str, started: DateTime<Utc>, now: DateTime<Utc>) -> Vec<Field> {
    let mut found = vec![];
    // what is said of one metric stands together, its type first
    for block in text.split("# TYPE ").skip(1) {
        let mut lines = block.lines();
        let Some((name, kind)) = lines.next().and_then(|line| line.split_once(' ')) else { continue };
        let samples: Vec<_> = lines.filter(|line| !line.starts_with('#')).filter_map(sample).collect();
        let times = || vec![(2, nanoseconds(started)), (3, nanoseconds(now))];
        let number = |sample: &Sample| {
            let mut point = times();
            point.push((4, Field::Double(sample.value)));
            point.extend(attributes(7, &sample.labels));
            (1, Field::message(&point))
        };
        let data = match kind {
            "gauge" => (5, samples.iter().map(number).collect::<Vec<_>>()),
            "counter" => {
                let monotonic = [(2, Field::Varint(CUMULATIVE)), (3, Field::Varint(1))];
                (7, samples.iter().map(number).chain(monotonic).collect())
            }
            "histogram" => {
                let points = histograms(name, &samples).into_iter().map(|(labels, histogram)| {
                    let mut point = times();
                    point.extend(histogram.fields());
                    point.extend(attributes(9, &labels));
                    (1, Field::message(&point))
                });
                (9, points.chain([(2, Field::Varint(CUMULATIVE))]).collect())
            }
            _ => continue,
        };
        let (number, data) = data;
        found.push(Field::message(&[(1, Field::text(name)), (number, Field::message(&data))]));
    }
    found
}

/// `name{label="value",...} number`.
fn sample(line: &str) -> Option<Sample<'_>> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    let mut found = vec![];
    let mut rest = labels.trim_end_matches('}');
    while let Some((label, after)) = rest.split_once("=\"") {
        // a quote in a value has a backslash before it
        let end = after
            .match_indices('"')
            .map(|(at, _)| at)
            .find(|&at| after[..at].chars().rev().take_while(|c| *c == '\\').count() % 2 == 0)?;
        let text = after[..end].replace("\\n", "\n").replace("\\\"", "\"").replace("\\\\", "\\");
        found.push((label.trim_start_matches(',').to_owned(), Value::Text(text)));
        rest = &after[end + 1..];
    }
    Some(Sample { name, labels: found, value: value.parse().ok()? })
}

/// The histograms of one name, by their labels.
fn histograms(name: &str, samples: &[Sample]) -> Vec<(Vec<(String, Value)>, Histogram)> {
    let mut found: BTreeMap<String, (Vec<(String, Value)>, Histogram)> = BTreeMap::new();
    for Sample { name: part, labels, value } in samples {
        let (bounds, labels): (Vec<_>, Vec<_>) = labels.iter().cloned().partition(|(label, _)| label == "le");
        let (_, histogram) = found.entry(format!("{labels:?}")).or_insert((labels, Histogram::default()));
        match part.strip_prefix(name) {
            Some("_sum") => histogram.sum = *value,
            Some("_count") => histogram.count = *value as u64,
            Some("_bucket") => {
                if let Some((_, Value::Text(bound))) = bounds.first()
                    && let Ok(bound) = bound.parse::<f64>()
                    && bound.is_finite()
                {
                    histogram.below.push((bound, *value as u64));
                }
            }
            _ => {}
        }
    }
    found.into_values().collect()
}

impl Histogram {
    fn fields(&self) -> Vec<(u32, Field)> {
        let mut fields = vec![(4, Field::Fixed(self.count)), (5, Field::Double(self.sum))];
        let mut before = 0;
        // each bucket by itself, and one past the last bound
        for &(_, below) in self.below.iter().chain([&(f64::INFINITY, self.count)]) {
            fields.push((6, Field::Fixed(below.saturating_sub(before))));
            before = below;
        }
        fields.extend(self.below.iter().map(|(bound, _)| (7, Field::Double(*bound))));
        fields
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP dpg_jobs jobs in the queue by state
# TYPE dpg_jobs gauge
dpg_jobs{state=\"queued\"} 2

# TYPE dpg_step_seconds histogram
dpg_step_seconds_bucket{dataset=\"a \\\"b\\\", c\",le=\"0.5\"} 1
dpg_step_seconds_bucket{dataset=\"a \\\"b\\\", c\",le=\"1\"} 3
dpg_step_seconds_bucket{dataset=\"a \\\"b\\\", c\",le=\"+Inf\"} 4
dpg_step_seconds_sum{dataset=\"a \\\"b\\\", c\"} 7.5
dpg_step_seconds_count{dataset=\"a \\\"b\\\", c\"} 4
";

    #[test]
    fn the_text_of_prometheus_is_read() {
        let line = TEXT.lines().find(|line| line.contains("_sum")).unwrap();
        let found = sample(line).unwrap();
        let label = ("dataset".to_owned(), Value::Text("a \"b\", c".into()));
        assert_eq!(
            (found.name, found.value, found.labels),
            ("dpg_step_seconds_sum", 7.5, vec![label.clone()])
        );
        assert_eq!(sample("plain_total 3").unwrap().value, 3.0);

        let samples: Vec<_> =
            TEXT.lines().filter(|line| line.contains("dataset")).filter_map(sample).collect();
        let found = histograms("dpg_step_seconds", &samples);
        let [(labels, Histogram { below, sum, count })] = &found[..] else { panic!() };
        assert_eq!((labels, below), (&vec![label], &vec![(0.5, 1), (1.0, 3)]));
        assert_eq!((*sum, *count), (7.5, 4));
        assert_eq!(metrics(TEXT, Utc::now(), Utc::now()).len(), 2);
    }
}
