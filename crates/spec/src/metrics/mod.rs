//! The metrics, a file each: settings, what they name, rules between them, an example. `dpg-metagrad` has a
//! file of the same name with the value and its gradient.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Fault, Location, NAME, schema, syntax::member};

/// Calls `$then!` with every metric: its file, here and in `dpg-metagrad`, its kind, and its settings.
#[macro_export]
macro_rules! metrics {
    ($then:ident) => {
        $then! {
            weight_pattern: WeightPattern(WeightPattern),
            weight_norm: WeightNorm(WeightNorm),
            held_out_loss: HeldOutLoss(HeldOut),
            preference: Preference(Preference),
            choice: Choice(Choice),
            token_probability: TokenProbability(TokenProbability),
            output_entropy: OutputEntropy(OutputEntropy),
            divergence: Divergence(Divergence),
            distance: Distance(Distance),
            activation: Activation(Activation),
            sum: Sum(Sum),
            guard: Guard(Guard),
        }
    };
}

/// Sets off a name from the sentence around it.
pub type Code<'a> = &'a dyn Fn(&str) -> String;

/// What a metric's settings say of themselves. Keys are those below the metric's own, as in `data.path`.
pub trait MetricSettings {
    /// What is measured, in words that end a sentence.
    fn described(&self, code: Code) -> String;

    /// What it names, to be read or replaced.
    fn locations(&mut self) -> Vec<Location<'_>> {
        vec![]
    }

    /// What is wrong with settings each of which is in order.
    fn faults(&self) -> Vec<Fault> {
        vec![]
    }

    /// The files of examples that it is a function of.
    fn held_out(&self) -> Vec<HeldOutData> {
        vec![]
    }

    /// Those of them that raise it where a target is trained on them.
    fn helpful(&self) -> Vec<HeldOutData> {
        self.held_out()
    }

    /// The questions that it asks, as its own settings.
    fn questions(&self) -> Option<&Choice> {
        None
    }

    /// The layer whose hidden states it reads, at its key `layer`.
    fn layer(&self) -> Option<usize> {
        None
    }

    /// The language model that tells how fluent generations are, as written.
    fn fluency_model(&self) -> Option<&str> {
        None
    }

    /// What validations tell of generations, if they are compared with its held-out examples.
    fn proxies(&self) -> Option<Proxies> {
        None
    }

    /// The metrics that it is made of.
    fn parts(&self) -> Vec<Part<'_>> {
        vec![]
    }
}

/// A metric inside of another.
#[derive(Debug)]
pub struct Part<'a> {
    /// Its key.
    pub key: String,
    /// What it counts for: where that is not above 0, whatever raises it does not raise the whole.
    pub weight: f64,
    /// The metric.
    pub metric: &'a Metric,
}

macro_rules! declare {
    ($($file:ident: $kind:ident($settings:ident),)*) => {
        $(mod $file; pub use $file::*;)*

        /// A differentiable metric Phi of the fine-tuned target, higher is better.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(tag = "kind", rename_all = "snake_case")]
        #[expect(missing_docs, reason = "the settings say what each is, in the schema as well")]
        pub enum Metric {
            $($kind($settings),)*
        }

        impl Metric {
            /// What is common to the settings of all kinds.
            pub fn settings(&self) -> &dyn MetricSettings {
                match self {
                    $(Self::$kind(settings) => settings,)*
                }
            }

            fn settings_mut(&mut self) -> &mut dyn MetricSettings {
                match self {
                    $(Self::$kind(settings) => settings,)*
                }
            }
        }
    };
}

metrics!(declare);

impl Metric {
    /// What it names, by keys below `path`.
    pub(crate) fn locations_below(&mut self, path: &str) -> Vec<Location<'_>> {
        let mut found = self.settings_mut().locations();
        for location in &mut found {
            location.key = member(path, &location.key);
        }
        found
    }

    /// What is wrong with its settings, by keys below `path`.
    pub(crate) fn faults_below(&self, path: &str) -> Vec<Fault> {
        let below = |fault: Fault| Fault { path: member(path, &fault.path), ..fault };
        self.settings().faults().into_iter().map(below).collect()
    }

    /// The files of examples of the metric and of its parts.
    pub fn held_out(&self) -> Vec<HeldOutData> {
        let settings = self.settings();
        let of_parts = settings.parts().into_iter().flat_map(|part| part.metric.held_out());
        settings.held_out().into_iter().chain(of_parts).collect()
    }

    /// Those of them that raise the metric where a target is trained on them: not those of a term whose weight
    /// is negative.
    pub fn helpful(&self) -> Vec<HeldOutData> {
        let settings = self.settings();
        let parts = settings.parts().into_iter().filter(|part| part.weight > 0.0);
        settings.helpful().into_iter().chain(parts.flat_map(|part| part.metric.helpful())).collect()
    }

    /// The questions of the metric and of its parts.
    pub fn questions(&self) -> Vec<&Choice> {
        let settings = self.settings();
        let of_parts = settings.parts().into_iter().flat_map(|part| part.metric.questions());
        settings.questions().into_iter().chain(of_parts).collect()
    }

    /// The layers whose hidden states the metric and its parts read, by their keys in the spec.
    pub fn layers(&self) -> Vec<(String, usize)> {
        self.layers_below("metric")
    }

    fn layers_below(&self, path: &str) -> Vec<(String, usize)> {
        let settings = self.settings();
        let own = settings.layer().map(|layer| (member(path, "layer"), layer));
        let of_part = |part: Part| part.metric.layers_below(&member(path, &part.key));
        own.into_iter().chain(settings.parts().into_iter().flat_map(of_part)).collect()
    }

    /// One of every kind: the example that its documentation gives.
    pub fn examples() -> Vec<Self> {
        schema::examples("Metric", "metric")
    }

    /// The first fluency model that the metric or one of its parts names.
    pub fn fluency_model(&self) -> Option<&str> {
        let settings = self.settings();
        let of_parts = || settings.parts().into_iter().find_map(|part| part.metric.fluency_model());
        settings.fluency_model().or_else(of_parts)
    }

    /// What validations tell of generations: what the metric or the first of its terms that says anything says.
    pub fn proxies(&self) -> Option<Proxies> {
        let settings = self.settings();
        let of_parts = || settings.parts().into_iter().find_map(|part| part.metric.proxies());
        settings.proxies().or_else(of_parts)
    }
}

/// A parameter by its Hugging Face name, or `lm_head`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct NamedParameter(#[schemars(length(min = 1, max = NAME))] pub String);

impl NamedParameter {
    /// The language-model head.
    pub fn lm_head() -> Self {
        Self("lm_head".into())
    }
}
