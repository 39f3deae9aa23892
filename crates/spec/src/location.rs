//! What a spec names besides itself: models, data, pictures and programs, each with its key.

use crate::{NamedProgram, Spec};

/// A place that a spec names.
#[derive(Debug)]
pub struct Location<'a> {
    /// The key it stands at, as in `generator.prompts.path`.
    pub key: String,
    /// What is there.
    pub kind: LocationKind,
    /// A path or URI, as written.
    pub uri: &'a mut String,
}

/// What is at a location.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocationKind {
    /// A model's folder.
    Model,
    /// A file of texts.
    Data,
    /// A picture, always a local file.
    Picture,
}

impl Spec {
    /// Every location in the spec, in the order of its keys, to be read or replaced.
    pub fn locations(&mut self) -> Vec<Location<'_>> {
        let mut found = vec![Location {
            key: "target.model".into(),
            kind: LocationKind::Model,
            uri: &mut self.target.model,
        }];
        if let Some(generator) = &mut self.generator {
            found.extend(generator.locations_below("generator"));
        }
        found.extend(self.metric.locations_below("metric"));
        found
    }

    /// Every program that the metric and the gates name, to be read or given its command.
    pub fn programs(&mut self) -> Vec<NamedProgram<'_>> {
        let gates = self.output.gates.iter_mut().enumerate();
        let of_gates =
            gates.filter_map(|(place, gate)| gate.program_below(&format!("output.gates[{place}]")));
        self.metric.programs_below("metric").into_iter().chain(of_gates).collect()
    }
}
