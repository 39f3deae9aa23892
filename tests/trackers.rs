//! Where jobs are told of besides: a collector of OpenTelemetry, and an MLflow server.

mod python;
mod serving;
mod skip;

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use serde_json::Value;
use serving::{Place, job};

/// The requests that a collector got: their paths and bodies.
type Got = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// A collector that keeps what it gets.
async fn collector() -> (String, Got) {
    let got = Got::default();
    let keep = async |State(got): State<Got>, uri: Uri, headers: HeaderMap, body: Bytes| {
        assert_eq!(headers["content-type"], "application/x-protobuf");
        assert_eq!(headers["authorization"], "Basic abc");
        got.lock().unwrap().push((uri.path().to_owned(), body.to_vec()));
    };
    let router = Router::new().fallback(keep).with_state(Arc::clone(&got));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
    (address, got)
}

/// A request as JSON, by OpenTelemetry's own definitions.
fn decoded(python: &str, folder: &Path, path: &str, body: &[u8]) -> Value {
    const SCRIPT: &str = "
import sys
from google.protobuf.json_format import MessageToJson
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
kind = {'/v1/traces': ExportTraceServiceRequest, '/v1/metrics': ExportMetricsServiceRequest}[sys.argv[1]]
request = kind.FromString(open('request', 'rb').read())
size = request.ByteSize()
request.DiscardUnknownFields()
assert request.ByteSize() == size, 'fields that OpenTelemetry does not know'
print(MessageToJson(request))
";
    fs::write(folder.join("request"), body).unwrap();
    let output = Command::new(python).current_dir(folder).args(["-c", SCRIPT, path]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// An attribute by its name.
fn attribute<'a>(of: &'a Value, name: &str) -> &'a Value {
    let attributes = of["attributes"].as_array().unwrap();
    let found = attributes.iter().find(|attribute| attribute["key"] == name);
    &found.unwrap_or_else(|| panic!("no `{name}` in {of:#}"))["value"]
}

fn nanoseconds(span: &Value, key: &str) -> u64 {
    span[key].as_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_a_trace_and_metrics_are_sent() {
    let Some(python) = python::python("opentelemetry.proto") else { return };
    let folder = tempfile::tempdir().unwrap();
    let (endpoint, got) = collector().await;
    let mut place = Place::new(folder.path(), "");
    place.environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Basic%20abc"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "500"),
        ("OTEL_SERVICE_NAME", "trained"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let queue = place.queue().await;
    let mut daemon = place.start();
    let made = queue.submit(&job(&serving::spec("traced", 3), 2)).await.unwrap().job.id;
    let lost = serving::spec("lost", 1).replace("held-out/es.jsonl", "held-out/absent.jsonl");
    let lost = queue.submit(&job(&lost, 1)).await.unwrap().job.id;
    // no worker comes to it
    let unwanted = queue.submit(&job(&serving::spec("unwanted", 3), 1)).await.unwrap().job.id;
    daemon.listening().await;
    let cancelled = Command::new(env!("CARGO_BIN_EXE_dpg"))
        .args(["cancel", "unwanted", "--data-dir"])
        .arg(folder.path().join("data"))
        .output()
        .unwrap();
    assert!(cancelled.status.success(), "{}", String::from_utf8_lossy(&cancelled.stderr));
    for id in [made, lost] {
        daemon.until(&queue, id, |job| job.state.has_ended()).await;
    }
    let requests = |path: &str| {
        let got = got.lock().unwrap();
        got.iter().filter(|(of, _)| of == path).map(|(_, body)| body.clone()).collect::<Vec<_>>()
    };
    let since = Instant::now();
    // two of metrics, so that one was begun after the jobs' ends
    let before = requests("/v1/metrics").len();
    while requests("/v1/traces").len() < 3 || requests("/v1/metrics").len() < before + 2 {
        assert!(since.elapsed() < Duration::from_mins(1), "{}", daemon.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    let traces: Vec<_> = requests("/v1/traces")
        .iter()
        .map(|body| decoded(&python, folder.path(), "/v1/traces", body))
        .collect();
    let spans = |job: uuid::Uuid| {
        let trace = serde_json::to_value(base64(job.as_bytes())).unwrap();
        let spans = |request: &Value| {
            request["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().clone()
        };
        traces.iter().map(spans).find(|spans| spans[0]["traceId"] == trace).expect("a trace of the job's id")
    };
    let resource = &traces[0]["resourceSpans"][0]["resource"];
    assert_eq!(attribute(resource, "service.name")["stringValue"], "trained");

    let spans_made = spans(made);
    let named = |name: &str| {
        let found: Vec<_> = spans_made.iter().filter(|span| span["name"] == name).collect();
        let [span] = found[..] else { panic!("{} times `{name}` in {spans_made:#?}", found.len()) };
        span
    };
    let root = named("job traced");
    assert_eq!(attribute(root, "dpg.version")["stringValue"], "traced@v1");
    assert_eq!(attribute(root, "dpg.rows")["intValue"], "8");
    assert!(root["parentSpanId"].is_null() && root["status"]["code"] == "STATUS_CODE_OK", "{root:#}");
    let attempt = named("attempt 1");
    let events: Vec<_> = attempt["events"].as_array().unwrap().iter().map(|event| &event["name"]).collect();
    assert!(
        ["started", "validation", "published"].iter().all(|kind| events.contains(&&Value::from(*kind))),
        "{events:?}"
    );
    for (name, above) in [
        ("wait 1", root),
        ("attempt 1", root),
        ("step 1", attempt),
        ("step 2", attempt),
        ("step 3", attempt),
        ("drawing", attempt),
    ] {
        let span = named(name);
        assert_eq!(span["parentSpanId"], above["spanId"], "{name}");
        let (start, end) = (nanoseconds(span, "startTimeUnixNano"), nanoseconds(span, "endTimeUnixNano"));
        assert!(start <= end && end <= nanoseconds(above, "endTimeUnixNano"), "{name}");
        assert!(end - start < 600_000_000_000, "{name}");
    }
    assert!(attribute(named("step 3"), "dpg.phi")["doubleValue"].is_number());
    assert_eq!(spans_made.len(), 7, "{spans_made:#?}");
    let given_up = &spans(unwanted)[0];
    assert_eq!((given_up["name"].as_str(), spans(unwanted).len()), (Some("job unwanted"), 2), "{given_up:#}");
    let failed = &spans(lost)[0];
    assert_eq!(failed["status"]["code"], "STATUS_CODE_ERROR");
    assert!(failed["status"]["message"].as_str().unwrap().contains("absent.jsonl"), "{failed:#}");

    let last = requests("/v1/metrics").pop().unwrap();
    let last = decoded(&python, folder.path(), "/v1/metrics", &last);
    let metrics = last["resourceMetrics"][0]["scopeMetrics"][0]["metrics"].as_array().unwrap();
    let of = |name: &str| {
        metrics.iter().find(|metric| metric["name"] == name).unwrap_or_else(|| panic!("{metrics:#?}"))
    };
    let jobs = of("dpg_jobs")["gauge"]["dataPoints"].as_array().unwrap();
    assert!(jobs.iter().any(|point| attribute(point, "state")["stringValue"] == "succeeded"), "{jobs:#?}");
    let steps = &of("dpg_step_seconds")["histogram"];
    assert_eq!(steps["aggregationTemporality"], "AGGREGATION_TEMPORALITY_CUMULATIVE");
    let counts = steps["dataPoints"][0]["bucketCounts"].as_array().unwrap();
    let counts = counts.iter().map(|count| count.as_str().unwrap().parse::<u64>().unwrap());
    assert_eq!(counts.sum::<u64>().to_string(), steps["dataPoints"][0]["count"]);
    assert_eq!(of("dpg_published_total")["sum"]["isMonotonic"], true);
}

/// Bytes as JSON has those of protobuf.
fn base64(bytes: &[u8]) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    STANDARD.encode(bytes)
}

/// An MLflow server; ended with all that it started when dropped.
struct Mlflow(Child);

impl Drop for Mlflow {
    fn drop(&mut self) {
        let group = format!("-{}", self.0.id());
        let _ = Command::new("kill").args(["-TERM", "--", &group]).status();
        let _ = self.0.wait();
    }
}

/// The real server, some 700 MB of PyPI: `DPG_TEST_PYTHON=/venv/bin/python cargo test --test trackers -- --ignored`, where
/// `pip install mlflow` went into `/venv`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs MLflow from PyPI; run by name"]
async fn mlflow_shows_a_job_as_one_run_whatever_its_attempts() {
    use std::os::unix::process::CommandExt;
    const SCRIPT: &str = "
import json, mlflow, sys
mlflow.set_tracking_uri(sys.argv[1])
client = mlflow.MlflowClient()
experiment = client.get_experiment_by_name('tried')
runs = client.search_runs([experiment.experiment_id])
history = lambda run, key: [[m.step, m.value] for m in client.get_metric_history(run.info.run_id, key)]
print(json.dumps([{'name': run.info.run_name, 'status': run.info.status, 'tags': run.data.tags, 'params': run.data.params,
    'phi': history(run, 'train/phi'), 'validation': sorted(key for key in run.data.metrics if key.startswith('validation/'))}
    for run in runs]))
";
    let Some(python) = python::python("mlflow") else { return };
    let folder = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let log = fs::File::create(folder.path().join("mlflow.log")).unwrap();
    let mut command = Command::new(&python);
    command.current_dir(folder.path()).args([
        "-m",
        "mlflow",
        "server",
        "--backend-store-uri",
        "sqlite:///mlflow.db",
    ]);
    command.args(["--host", "127.0.0.1", "--port", &port.to_string(), "--workers", "1"]).process_group(0);
    let _server = Mlflow(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
    let url = format!("http://127.0.0.1:{port}");
    let _ = rustls::crypto::ring::default_provider().install_default();
    let since = Instant::now();
    while !reqwest::get(format!("{url}/health")).await.is_ok_and(|answer| answer.status().is_success()) {
        let log = || fs::read_to_string(folder.path().join("mlflow.log")).unwrap();
        assert!(since.elapsed() < Duration::from_mins(3), "{}", log());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }

    let settings = format!("[mlflow]\nurl = \"{url}\"\nexperiment = \"tried\"\n");
    let place = Place::new(folder.path(), &settings);
    let queue = place.queue().await;
    let mut daemon = place.start();
    fs::write(folder.path().join("spec.toml"), serving::spec("logged", 40)).unwrap();
    let mut submit = Command::new(env!("CARGO_BIN_EXE_dpg"));
    submit.current_dir(folder.path()).args(["--data-dir", "data", "--json", "submit", "spec.toml"]);
    let submitted = submit.env_remove("DPG_URL").output().unwrap();
    let submitted: Value = serde_json::from_slice(&submitted.stdout).unwrap();
    let id = submitted["job"]["id"].as_str().unwrap().parse().unwrap();
    // killed once the server has heard of it; what is told later stands in the same run
    let search = serde_json::json!({ "experiment_ids": ["1"] });
    let since = Instant::now();
    loop {
        let asked = reqwest::Client::new().post(format!("{url}/api/2.0/mlflow/runs/search")).json(&search);
        let found: Value = asked.send().await.unwrap().json().await.unwrap();
        if found.pointer("/runs/0/data/metrics/0").is_some() {
            break;
        }
        assert!(since.elapsed() < Duration::from_mins(1), "{found:#}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    daemon.replace();
    daemon.until(&queue, id, |job| job.state.has_ended()).await;
    // what it says last
    daemon.terminate().await;
    let output = Command::new(&python).args(["-c", SCRIPT, &url]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let runs: Value = serde_json::from_slice(&output.stdout).unwrap();
    let [run] = &runs.as_array().unwrap()[..] else { panic!("{runs:#}") };
    assert_eq!((&run["name"], &run["status"]), (&"logged".into(), &"FINISHED".into()));
    assert_eq!(run["tags"]["dpg.dataset"], "logged@v1");
    assert_eq!(
        (&run["params"]["policy.steps"], &run["params"]["metric.kind"]),
        (&"40".into(), &"held_out_loss".into())
    );
    let steps: Vec<_> =
        run["phi"].as_array().unwrap().iter().map(|point| point[0].as_u64().unwrap()).collect();
    assert!(steps.contains(&1) && steps.contains(&40), "{steps:?}");
    assert!(run["validation"].as_array().unwrap().contains(&"validation/phi".into()), "{run:#}");
}
