//! What refuses rows: the gates of a spec, a file each, and the quotas of its lengths.

use std::{collections::BTreeMap, path::Path};

use dpg_dataset::Example;
use dpg_spec::gates;

use crate::{Error, HeldOutTexts, Stop, lengths::Measure};

mod quotas;

/// A row that may be published.
pub(crate) struct Candidate<'a> {
    /// As it would be published.
    pub(crate) example: &'a Example,
    /// What the generator was asked.
    pub(crate) prompt: &'a str,
    /// What it wrote.
    pub(crate) text: &'a str,
    /// Tokens of that, by the target's tokenizer, and the class of the prompt.
    pub(crate) measure: Measure<'a>,
}

/// Looks at rows one after the other.
pub(crate) trait Gate {
    /// Whether a row may be published.
    fn passes(&mut self, row: &Candidate) -> Result<bool, Error>;

    /// The row that was looked at last is published.
    fn keep(&mut self, _row: &Candidate) {}
}

/// What gates look at beside rows.
#[derive(Clone, Copy)]
pub(crate) struct Around<'a> {
    /// The texts of the metric's files.
    pub(crate) held_out: &'a HeldOutTexts,
    /// A folder for files, which is there.
    pub(crate) scratch: &'a Path,
    /// Asked often; true ends what is being done.
    pub(crate) stop: Stop<'a>,
}

macro_rules! declare {
    ($($file:ident: $kind:ident($settings:ident),)*) => {
        $(mod $file;)*

        /// Opens a gate of a spec.
        fn open<'a>(gate: &dpg_spec::Gate, around: Around<'a>) -> Result<Box<dyn Gate + 'a>, Error> {
            Ok(match gate {
                $(dpg_spec::Gate::$kind(settings) => Box::new($file::open(settings, around)?),)*
            })
        }
    };
}

gates!(declare);

pub(crate) use held_out_overlap::{Copies, whole};
pub(crate) use quotas::quotas;
pub(crate) use regex::expression;

/// Rows that were refused, by the reason.
pub(crate) type Refused = BTreeMap<String, usize>;

/// All that a row has to pass.
#[derive(Default)]
pub(crate) struct Gates<'a> {
    gates: Vec<(String, Box<dyn Gate + 'a>)>,
    pub(crate) refused: Refused,
}

impl<'a> Gates<'a> {
    /// The gates of a spec, which have seen no row.
    pub(crate) fn open(gates: &[dpg_spec::Gate], around: Around<'a>) -> Result<Self, Error> {
        let code = |name: &str| format!("`{name}`");
        let gate = |gate: &dpg_spec::Gate| Ok((gate.settings().reason(&code), open(gate, around)?));
        Ok(Self { gates: gates.iter().map(gate).collect::<Result<_, Error>>()?, refused: Refused::new() })
    }

    /// One more gate, with what is wrong with a row that it refuses.
    pub(crate) fn push(&mut self, reason: &str, gate: Box<dyn Gate + 'a>) {
        self.gates.push((reason.into(), gate));
    }

    /// Whether a row passes all of them. It counts as published then, and else as refused by the first that refuses it.
    pub(crate) fn take(&mut self, row: &Candidate) -> Result<bool, Error> {
        // a row without any text has no place among texts
        let empty = matches!(row.example, Example::Text(text) if text.is_empty());
        let mut refused = empty.then(|| "empty".to_owned());
        for (reason, gate) in &mut self.gates {
            if refused.is_none() && !gate.passes(row)? {
                refused = Some(reason.clone());
            }
        }
        if let Some(reason) = refused {
            *self.refused.entry(reason).or_default() += 1;
            return Ok(false);
        }
        for (_, gate) in &mut self.gates {
            gate.keep(row);
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
