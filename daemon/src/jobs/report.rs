//! What a run tells, written to its job and to the metrics: at most once a second, in order.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use dpg_api::Pattern;
use dpg_engine::{Event, StepRecord, ValidationRecord};
use dpg_metagrad::metrics::Decoded;
use dpg_models::device::Usage;
use dpg_queue::{Error, Lease, Queue};
use metrics::{gauge, histogram};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;
use tracing::warn;

use crate::{jobs::labels, pipeline::device::usage};

/// Time between two writes.
const PERIOD: Duration = Duration::from_secs(1);

/// What a run tells.
struct Told {
    at: Instant,
    event: Event,
    /// Of a step: how much of each GPU is in use.
    gpus: Vec<(String, Usage)>,
}

/// The end of a run's line that listens.
pub(crate) struct Reporter {
    queue: Queue,
    lease: Lease,
    dataset: String,
    told: UnboundedReceiver<Told>,
    /// Where the run began in this attempt, and when its newest step ended.
    first: usize,
    started: Instant,
    last: Instant,
    steps: usize,
    /// Steps that are not in an event yet.
    unwritten: Vec<Value>,
    events: VecDeque<(&'static str, Value)>,
    progress: Option<Value>,
}

impl Reporter {
    /// A report of a job, and what the run tells it by.
    pub(crate) fn new(
        queue: Queue,
        lease: Lease,
        dataset: &str,
        devices: &str,
    ) -> (impl FnMut(&Event) + Send + use<>, Self) {
        let (tell, told): (UnboundedSender<Told>, _) = unbounded_channel();
        let devices = devices.to_owned();
        let now = Instant::now();
        let report = Self {
            queue,
            lease,
            dataset: labels::dataset(dataset),
            told,
            first: 0,
            started: now,
            last: now,
            steps: 0,
            unwritten: vec![],
            events: VecDeque::new(),
            progress: None,
        };
        let tell = move |event: &Event| {
            // asked on the run's thread: a device may answer when it has done what came before
            let gpus = if let Event::Step(_) = event { usage(&devices) } else { vec![] };
            // a run that nobody listens to goes on
            drop(tell.send(Told { at: Instant::now(), event: event.clone(), gpus }));
        };
        (tell, report)
    }

    /// Writes what is told until the run has ended.
    pub(crate) async fn keep(&mut self) {
        let mut ended = false;
        while !ended {
            ended = timeout(PERIOD, self.listen()).await.is_ok();
            self.group();
            if let Err(error) = self.write().await {
                if let Error::LeaseLost { .. } = error {
                    self.events.clear();
                    self.progress = None;
                } else {
                    // it stays for the next time
                    let error = anyhow::Error::from(error);
                    warn!(job = %self.lease.job, "cannot write the job's history: {error:#}");
                }
            }
        }
    }

    /// Hears what is told, to the end.
    async fn listen(&mut self) {
        while let Some(told) = self.told.recv().await {
            self.hear(&told);
        }
    }

    async fn write(&mut self) -> Result<(), Error> {
        while let Some((kind, detail)) = self.events.front() {
            self.queue.event(&self.lease, kind, detail.clone()).await?;
            self.events.pop_front();
        }
        if let Some(progress) = &self.progress {
            self.queue.progress(&self.lease, progress.clone()).await?;
            self.progress = None;
        }
        Ok(())
    }

    fn hear(&mut self, told: &Told) {
        let Told { at, event, gpus } = told;
        let at = *at;
        match event {
            Event::Started { step, steps } => {
                (self.first, self.steps, self.started, self.last) = (*step, *steps, at, at);
                let kind = if *step == 0 { "started" } else { "resumed" };
                self.events.push_back((kind, json!({ "step": step, "steps": steps })));
                self.progress = Some(json!({ "stage": "training", "step": step, "steps": steps }));
            }
            Event::Signal(signal) => {
                let mut detail = json!(signal);
                detail["advice"] = json!(signal.advice());
                self.events.push_back(("signal", detail));
            }
            Event::Step(record) => self.step(at, record, gpus),
            Event::Validation(record) => {
                self.group();
                self.events.push_back(("validation", validation(record)));
            }
            Event::Spent { step } => {
                self.group();
                self.events.push_back(("budget_spent", json!({ "step": step })));
            }
            Event::Drawing { examples } => {
                self.group();
                self.stage("drawing", json!({ "examples": examples }));
            }
            Event::Refused { drawn, kept, refused } => {
                let detail = json!({ "drawn": drawn, "kept": kept, "refused": refused });
                self.events.push_back(("refused", detail));
            }
            Event::Verifying { orders } => self.stage("verifying", json!({ "orders": orders })),
        }
    }

    /// What comes after the last step.
    fn stage(&mut self, name: &'static str, detail: Value) {
        self.events.push_back((name, detail));
        let steps = self.steps;
        self.progress = Some(json!({ "stage": name, "step": steps, "steps": steps }));
    }

    fn step(&mut self, at: Instant, record: &StepRecord, gpus: &[(String, Usage)]) {
        let done = record.step + 1;
        let seconds = at.duration_since(self.last).as_secs_f64();
        self.last = at;
        let mean = at.duration_since(self.started).as_secs_f64() / (done - self.first).max(1) as f64;
        let dataset = || self.dataset.clone();
        gauge!("dpg_run_step", "dataset" => dataset()).set(done as f64);
        gauge!("dpg_run_phi", "dataset" => dataset()).set(record.score.value);
        gauge!("dpg_reward_std", "dataset" => dataset()).set(record.reward_std);
        histogram!("dpg_step_seconds", "dataset" => dataset()).record(seconds);
        if let Some(total) = &record.total {
            gauge!("dpg_teacher_requests", "dataset" => dataset()).set(total.requests as f64);
            let kinds = [("prompt", total.prompt_tokens), ("cached", total.cached_tokens)];
            let kinds = kinds
                .into_iter()
                .chain([("completion", total.completion_tokens), ("reasoning", total.reasoning_tokens)]);
            for (kind, tokens) in kinds {
                gauge!("dpg_teacher_tokens", "dataset" => dataset(), "kind" => kind).set(tokens as f64);
            }
            gauge!("dpg_teacher_seconds", "dataset" => dataset()).set(total.seconds);
            if let Some(money) = total.money {
                gauge!("dpg_teacher_money", "dataset" => dataset()).set(money);
            }
        }
        for (device, Usage { memory_bytes, busy }) in gpus {
            let labels = [("dataset", dataset()), ("device", device.clone())];
            gauge!("dpg_gpu_memory_bytes", &labels).set(*memory_bytes as f64);
            if let Some(busy) = busy {
                gauge!("dpg_gpu_busy_ratio", &labels).set(*busy);
            }
        }
        let mut told = json!({
            "step": done,
            "phi": record.score.value,
            "reward_mean": record.reward_mean,
            "reward_std": record.reward_std,
            "entropy": record.update.entropy,
            "kl": record.update.kl,
            "clip_fraction": record.update.clip_fraction,
            "length": record.length,
            "seconds": seconds,
        });
        if !gpus.is_empty() {
            told["gpus"] = gpus.iter().map(|(device, usage)| (device.clone(), json!(usage))).collect();
        }
        if let Some(account) = &record.account {
            told["arms"] = json!(record.arms);
            told["account"] = json!({ "step": account, "total": record.total });
        }
        self.unwritten.push(told);
        self.progress = Some(json!({
            "stage": "training",
            "step": done,
            "steps": self.steps,
            "phi": record.score.value,
            "seconds_per_step": mean,
            "eta_seconds": mean * self.steps.saturating_sub(done) as f64,
        }));
    }

    /// Makes one event of the steps since the last one.
    fn group(&mut self) {
        if !self.unwritten.is_empty() {
            let records = std::mem::take(&mut self.unwritten);
            self.events.push_back(("steps", json!({ "steps": self.steps, "records": records })));
        }
    }
}

/// A pattern that was drawn, if it is small enough for a job's history.
fn pattern(decoded: &Decoded) -> Option<Pattern> {
    const MOST: usize = 1 << 15;
    let pixels = |set: &[bool]| set.iter().map(|set| if *set { '1' } else { '0' }).collect();
    let Decoded { name, wanted, found, margins, text } = decoded;
    (found.len() <= MOST).then(|| Pattern {
        name: name.clone(),
        columns: wanted.columns,
        wanted: pixels(&wanted.pixels),
        found: pixels(found),
        margins: margins.iter().map(u8::to_string).collect(),
        text: text.clone(),
    })
}

fn validation(record: &ValidationRecord) -> Value {
    let pairs = |pairs: &[(String, f64)]| {
        Value::Object(pairs.iter().map(|(name, value)| (name.clone(), json!(value))).collect::<Map<_, _>>())
    };
    json!({
        "step": record.step,
        "phi": record.score.value,
        "proxies": pairs(&record.score.proxies),
        "outputs": pairs(&record.outputs),
        "greedy": record.greedy,
        "samples": record.samples,
        "patterns": record.decoded.iter().filter_map(pattern).collect::<Vec<_>>(),
    })
}
