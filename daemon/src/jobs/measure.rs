//! What a worker process counts and measures stands at the daemon's `/metrics`: each figure is told to the
//! daemon as it is made, and recorded there.

use std::sync::Arc;

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit, counter, gauge, histogram,
};
use serde::{Deserialize, Serialize};

use crate::jobs::child::tell;
use crate::jobs::supervisor::Told;

/// A figure with its name and labels.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Measured {
    name: String,
    labels: Vec<(String, String)>,
    figure: Figure,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
enum Figure {
    /// So many more.
    Counter(u64),
    /// So much as of now.
    Gauge(f64),
    /// One of many.
    Histogram(f64),
}

impl Measured {
    /// Records it in this process.
    pub(crate) fn record(self) {
        let Self { name, labels, figure } = self;
        match figure {
            Figure::Counter(more) => counter!(name, &labels).increment(more),
            Figure::Gauge(value) => gauge!(name, &labels).set(value),
            Figure::Histogram(value) => histogram!(name, &labels).record(value),
        }
    }
}

/// A recorder that tells every figure to the daemon.
pub(crate) struct Forward;

impl Forward {
    /// Makes it this process's recorder.
    pub(crate) fn install() {
        if metrics::set_global_recorder(Self).is_err() {
            tracing::warn!("metrics are recorded elsewhere; the daemon does not hear of them");
        }
    }
}

/// Name and labels of a figure.
struct Named(Key);

impl Named {
    fn tell(&self, figure: Figure) {
        let labels = self.0.labels().map(|label| (label.key().to_owned(), label.value().to_owned()));
        let (name, labels) = (self.0.name().to_owned(), labels.collect());
        tell(&Told::Measured(Measured { name, labels, figure }));
    }
}

impl CounterFn for Named {
    fn increment(&self, more: u64) {
        self.tell(Figure::Counter(more));
    }

    fn absolute(&self, _: u64) {
        unheard("an absolute counter");
    }
}

impl GaugeFn for Named {
    fn increment(&self, _: f64) {
        unheard("a relative gauge");
    }

    fn decrement(&self, _: f64) {
        unheard("a relative gauge");
    }

    fn set(&self, value: f64) {
        self.tell(Figure::Gauge(value));
    }
}

impl HistogramFn for Named {
    fn record(&self, value: f64) {
        self.tell(Figure::Histogram(value));
    }
}

/// No worker uses these; one that did would be missed at `/metrics`.
fn unheard(what: &str) {
    tracing::error!("the daemon does not hear of {what}");
}

impl Recorder for Forward {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(Arc::new(Named(key.clone())))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(Arc::new(Named(key.clone())))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(Arc::new(Named(key.clone())))
    }
}
