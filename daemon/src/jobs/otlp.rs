//! A collector of OpenTelemetry, which traces and metrics are sent to: OTLP over HTTP in protobuf, by the variables that
//! OpenTelemetry's own libraries read. It is written by hand, since a trace here is made of a job's record in the queue:
//! it spans processes, machines and restarts, which a library's spans do not.

use std::time::Duration;

use anyhow::{Context, bail};
use backon::{ExponentialBuilder, Retryable};
use chrono::{DateTime, Utc};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Url, redirect};

use crate::pipeline::protobuf::{Field, encode};

const TIMEOUT: Duration = Duration::from_secs(10);

/// Where traces and metrics go: `none` for nowhere.
pub(crate) const TRACES: &str = "OTEL_TRACES_EXPORTER";
pub(crate) const METRICS: &str = "OTEL_METRICS_EXPORTER";

/// A collector.
#[derive(Clone)]
pub(crate) struct Collector {
    client: Client,
    endpoint: Url,
    headers: HeaderMap,
    service: String,
}

/// What a span or a point is told by.
pub(crate) type Attributes = Vec<(String, Value)>;

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Text(String),
    Integer(i64),
    Number(f64),
}

impl Collector {
    /// The one at `OTEL_EXPORTER_OTLP_ENDPOINT`, if that is set, and unless the variable of what is sent, such as
    /// `OTEL_TRACES_EXPORTER`, is `none`.
    pub(crate) fn from_env(exporter: &str) -> anyhow::Result<Option<Self>> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        Self::from_variables(exporter, variable)
    }

    fn from_variables(
        exporter: &str,
        variable: impl Fn(&str) -> Option<String>,
    ) -> anyhow::Result<Option<Self>> {
        if variable(exporter).is_some_and(|name| name == "none") {
            return Ok(None);
        }
        let Some(endpoint) = variable("OTEL_EXPORTER_OTLP_ENDPOINT") else { return Ok(None) };
        let endpoint = Url::parse(&endpoint).ok().filter(|url| ["http", "https"].contains(&url.scheme()));
        let endpoint = endpoint
            .context("`OTEL_EXPORTER_OTLP_ENDPOINT` is not an address, as in `http://127.0.0.1:4318`")?;
        if let Some(protocol) = variable("OTEL_EXPORTER_OTLP_PROTOCOL").filter(|name| name != "http/protobuf")
        {
            bail!(
                "`OTEL_EXPORTER_OTLP_PROTOCOL` is `{protocol}`, and dpg speaks `http/protobuf`, mostly at port 4318"
            );
        }
        let mut headers = HeaderMap::new();
        for pair in variable("OTEL_EXPORTER_OTLP_HEADERS").iter().flat_map(|headers| headers.split(',')) {
            let header = pair.split_once('=').and_then(|(name, value)| {
                let value = value.trim().replace("%20", " ");
                Some((HeaderName::try_from(name.trim()).ok()?, HeaderValue::try_from(value).ok()?))
            });
            // it may be a secret
            let (name, value) =
                header.context("`OTEL_EXPORTER_OTLP_HEADERS` is not `name=value,name=value`")?;
            headers.insert(name, value);
        }
        let client = Client::builder().redirect(redirect::Policy::none()).timeout(TIMEOUT).build()?;
        let service = variable("OTEL_SERVICE_NAME").unwrap_or_else(|| "dpg".into());
        Ok(Some(Self { client, endpoint, headers, service }))
    }

    /// Sends spans of traces.
    pub(crate) async fn traces(&self, spans: Vec<Field>) -> anyhow::Result<()> {
        self.send("v1/traces", spans).await
    }

    /// Sends metrics.
    pub(crate) async fn metrics(&self, metrics: Vec<Field>) -> anyhow::Result<()> {
        self.send("v1/metrics", metrics).await
    }

    /// Both requests have one form: a resource with a scope with the things.
    async fn send(&self, path: &str, things: Vec<Field>) -> anyhow::Result<()> {
        let mut url = self.endpoint.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path.split('/'));
        }
        let version = env!("CARGO_PKG_VERSION");
        let about = [("service.name", self.service.as_str()), ("service.version", version)];
        let about = about.map(|(name, value)| (name.to_owned(), Value::Text(value.to_owned())));
        let resource = Field::message(&attributes(1, &about));
        let mut scope = vec![(1, Field::message(&[(1, Field::text("dpg")), (2, Field::text(version))]))];
        scope.extend(things.into_iter().map(|thing| (2, thing)));
        let body = encode(&[(1, Field::message(&[(1, resource), (2, Field::message(&scope))]))]);
        let call = || async {
            let request = self.client.post(url.clone()).headers(self.headers.clone());
            let request = request.header("content-type", "application/x-protobuf").body(body.clone());
            let status = request.send().await.map_err(reqwest::Error::without_url)?.status();
            if !status.is_success() {
                bail!("`{path}` was answered with {status}");
            }
            Ok(())
        };
        call.retry(ExponentialBuilder::default().with_max_times(2)).await
    }
}

/// Attributes as a field `number` of a message.
pub(crate) fn attributes(number: u32, attributes: &[(String, Value)]) -> Vec<(u32, Field)> {
    let attribute = |(name, value): &(String, Value)| {
        let value = match value {
            Value::Text(text) => (1, Field::text(text)),
            Value::Integer(integer) => (3, Field::Varint(*integer as u64)),
            Value::Number(value) => (4, Field::Double(*value)),
        };
        (number, Field::message(&[(1, Field::text(name)), (2, Field::message(&[value]))]))
    };
    attributes.iter().map(attribute).collect()
}

/// A time as OpenTelemetry has it: nanoseconds since 1970.
pub(crate) fn nanoseconds(time: DateTime<Utc>) -> Field {
    Field::Fixed(u64::try_from(time.timestamp_nanos_opt().unwrap_or_default()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collector(variables: &[(&str, &str)]) -> anyhow::Result<Option<Collector>> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        Collector::from_variables(TRACES, |name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_variables_of_opentelemetry_are_read() {
        assert!(collector(&[("OTEL_SERVICE_NAME", "a")]).unwrap().is_none());
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318/otlp");
        let headers = ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Basic%20abc=, x-scope=1");
        let found = collector(&[endpoint, headers]).unwrap().unwrap();
        assert_eq!(
            (found.service.as_str(), &found.headers["authorization"]),
            ("dpg", &"Basic abc=".parse().unwrap())
        );
        assert_eq!(found.headers["x-scope"], "1");
        assert!(collector(&[endpoint, (TRACES, "none")]).unwrap().is_none());
        for (wrong, reason) in [
            (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "127.0.0.1:4318")][..], "not an address"),
            (&[endpoint, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")], "speaks `http/protobuf`"),
            (&[endpoint, ("OTEL_EXPORTER_OTLP_HEADERS", "secret")], "not `name=value,name=value`"),
        ] {
            let error = collector(wrong).err().unwrap().to_string();
            assert!(error.contains(reason) && !error.contains("secret"), "{error}");
        }
    }
}
