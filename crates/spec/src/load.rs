//! Reading a spec, checking it, and writing it in full.

use std::io;
use std::path::{Path, absolute};

use serde::Deserialize;
use serde_json::Value;

use crate::rules::is_local;
use crate::syntax::{self, Lines};
use crate::{Error, Fault, Generator, Select, Spec, Syntax, hash, rules, schema, sft};

/// Problems that are told; whoever has more mends these first.
pub(crate) const REPORTED: usize = 20;

/// The text of a file; one in UTF-16 is named, since PowerShell writes such.
fn read_utf8(path: &Path) -> io::Result<String> {
    let bytes = dpg_files::read(path, syntax::TEXT_BYTES as u64)?;
    let wide = [b"\xFF\xFE", b"\xFE\xFF"].iter().any(|&mark| bytes.starts_with(mark));
    let reason = if wide { "it is UTF-16; write it as UTF-8" } else { "it is not UTF-8 text" };
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, reason))
}

impl Spec {
    /// Reads a spec from text. Locations in it stay as written.
    ///
    /// # Errors
    /// [`Error::Limit`] where there is more than any spec needs; [`Error::Toml`] and [`Error::Json`] where
    /// the syntax is wrong; [`Error::Invalid`] with the faults found where the content is.
    pub fn parse(text: &str, syntax: Syntax) -> Result<Self, Error> {
        // editors on Windows write a byte order mark
        let (value, lines) = syntax::read(text.trim_start_matches('\u{FEFF}'), syntax)?;
        Self::checked(&value, &lines)
    }

    /// Reads a spec from a `.toml` or `.json` file and makes the paths in it absolute, relative ones
    /// standing for files beside it.
    ///
    /// # Errors
    /// Those of [`Spec::parse`] inside [`Error::InFile`]; [`Error::Read`]; [`Error::Extension`].
    pub fn load(path: &Path) -> Result<Self, Error> {
        let syntax = match path.extension().and_then(|extension| extension.to_str()) {
            Some("toml") => Syntax::Toml,
            Some("json") => Syntax::Json,
            _ => return Err(Error::Extension { path: path.into() }),
        };
        let unreadable = |source| Error::Read { path: path.into(), source };
        let text = read_utf8(path).map_err(unreadable)?;
        let file = absolute(path).map_err(unreadable)?;
        let mut spec = Self::parse(&text, syntax)
            .map_err(|source| Error::InFile { path: path.into(), source: source.into() })?;
        spec.resolve_paths(file.parent().unwrap_or(&file));
        Ok(spec)
    }

    /// Checks a spec that was made or changed by a program as [`Spec::parse`] checks text.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the faults found.
    pub fn validate(&self) -> Result<(), Error> {
        Self::checked(&self.to_value(), &Lines::default()).map(drop)
    }

    fn checked(value: &Value, lines: &Lines) -> Result<Self, Error> {
        let invalid = |mut faults: Vec<Fault>, more: usize| {
            let more = more + faults.len().saturating_sub(REPORTED);
            faults.truncate(REPORTED);
            for fault in &mut faults {
                lines.locate(fault);
            }
            faults.sort_by_key(|fault| fault.line);
            if more > 0 {
                faults.push(Fault::new("", format!("and {more} more")));
            }
            Error::Invalid(faults)
        };
        let value = &sft::with_preset(value);
        let (faults, more) = schema::faults(value);
        if !faults.is_empty() {
            return Err(invalid(faults, more));
        }
        let spec = Self::deserialize(value.as_ref())
            .map_err(|error| invalid(vec![Fault::new("", error.to_string())], 0))?;
        let faults = rules::faults(&spec);
        if faults.is_empty() { Ok(spec) } else { Err(invalid(faults, 0)) }
    }

    /// Makes relative paths of local files and folders absolute against the folder `base`.
    /// `embedded:`, `hf:` and `s3://` locations stay.
    pub fn resolve_paths(&mut self, base: &Path) {
        for location in self.locations() {
            if is_local(location.uri) {
                let path = base.join(&*location.uri);
                *location.uri = absolute(&path).unwrap_or(path).to_string_lossy().into_owned();
            }
        }
    }

    /// The generator's section.
    ///
    /// # Errors
    /// [`Error::MissingGenerator`] if there is none.
    pub fn generator(&self) -> Result<&Generator, Error> {
        self.generator.as_ref().ok_or(Error::MissingGenerator)
    }

    /// Rollouts that are drawn for the dataset: whole groups.
    pub fn dataset_rollouts(&self) -> usize {
        self.output.examples.next_multiple_of(self.output.group_size.unwrap_or(self.policy.group_size))
    }

    /// Rows that are to be published.
    pub fn rows_wanted(&self) -> usize {
        match self.output.select {
            Select::All => self.output.examples,
            Select::TopFraction(share) => (self.output.examples as f64 * share).ceil() as usize,
        }
    }

    /// Whether target and generator are adapters of one model, whose weights neither changes.
    pub fn shares_weights(&self) -> bool {
        let of_target = (&self.target.model, self.target.lora.is_some());
        self.generator
            .as_ref()
            .and_then(Generator::local)
            .is_some_and(|generator| generator.lora.is_some() && of_target == (&generator.model, true))
    }

    /// The spec with the AdamW that users have, which knows no `eps_root`; `None` if its recipe has none itself.
    pub fn without_eps_root(&self) -> Option<Self> {
        let mut spec = self.clone();
        spec.target.sft.optimizer = spec.target.sft.optimizer.settings().without_eps_root()?;
        Some(spec)
    }

    /// The JSON schema of a spec, for editors and other tools.
    pub fn json_schema() -> Value {
        schema::SPEC.clone()
    }

    /// The spec with every default written out; [`Spec::parse`] gives it back.
    ///
    /// # Errors
    /// [`Error::Write`] if a number is too large for TOML, which a validated spec's are not.
    pub fn to_toml(&self) -> Result<String, Error> {
        toml::to_string_pretty(self).map_err(Error::Write)
    }

    /// SHA-256, in hex, of what the spec says beyond the defaults: the same for two texts that mean the
    /// same, and in later versions that know more keys. Locations count as they stand, so
    /// [`Spec::resolve_paths`] changes it.
    pub fn sha256(&self) -> String {
        hash::sha256(self)
    }

    pub(crate) fn to_value(&self) -> Value {
        serde_json::to_value(self).expect("a spec has text keys and plain values only")
    }
}
