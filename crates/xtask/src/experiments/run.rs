//! One run of an arm: the engine's, with a record beside its state from which it goes on when killed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use burn::tensor::{DType, Device};
use dpg_engine::{Error, Event, History, Outcome, Problem, Run, STATE_FILE};
use dpg_spec::Spec;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::embedded;

const RECORD: &str = "record.json";

/// What is known of a run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Record {
    /// What it ran on.
    pub(crate) machine: String,
    /// True if there is nothing to go on with: it came to its end, or to an error of its own.
    pub(crate) ended: bool,
    /// Why it stopped early.
    pub(crate) error: Option<String>,
    /// Seconds of work when this many updates were made, validation included.
    pub(crate) seconds: BTreeMap<usize, f64>,
    /// Its steps and validations.
    pub(crate) history: History,
}

impl Record {
    /// The record in a run's folder, if it was ever started.
    pub(crate) fn load(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(RECORD);
        match fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text)
                .map(Some)
                .with_context(|| format!("`{}` is damaged; delete its folder", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read `{}`", path.display())),
        }
    }

    /// Replaces the record such that a kill leaves the old one or the new.
    fn save(&self, folder: &Path) -> Result<()> {
        let (path, temporary) = (folder.join(RECORD), folder.join("record.tmp"));
        fs::write(&temporary, serde_json::to_string(self)?)
            .and_then(|()| fs::rename(&temporary, &path))
            .with_context(|| format!("cannot write `{}`", path.display()))
    }

    /// Seconds of work up to when `step` updates were made.
    pub(crate) fn seconds_at(&self, step: usize) -> f64 {
        self.seconds.range(..=step).next_back().map_or(0.0, |(_, seconds)| *seconds)
    }

    /// Updates made.
    pub(crate) fn step(&self) -> usize {
        self.history.steps.last().map_or(0, |record| record.step + 1)
    }

    /// Of `all` steps, those still to be made.
    pub(crate) fn steps_left(&self, all: usize) -> usize {
        if self.ended { 0 } else { all - self.step() }
    }

    fn note(&mut self, event: &Event, seconds: f64) {
        // after a kill a validation may come again
        let step = match event {
            Event::Step(record) => {
                self.history.steps.retain(|known| known.step < record.step);
                self.history.steps.push(record.clone());
                record.step + 1
            }
            Event::Validation(record) => {
                self.history.validations.retain(|known| known.step < record.step);
                self.history.validations.push(record.clone());
                record.step
            }
            _ => return,
        };
        self.seconds.insert(step, seconds);
    }
}

/// Runs a spec to its end, or on from where `folder` stands. `tell` hears what happens. An error of the
/// run itself is a result; another one, as of a file that is missing, is tried anew the next time.
pub(crate) fn perform(
    spec: &Spec,
    folder: &Path,
    (devices, machine): (&[Device], &str),
    tell: &mut dyn FnMut(&Event),
) -> Result<Record> {
    let mut record = Record::load(folder)?.unwrap_or_default();
    if record.ended {
        return Ok(record);
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
    fs::write(folder.join("spec.toml"), spec.to_toml()?)?;
    record.machine = machine.into();
    record.error = None;
    let (before, started) = (record.seconds_at(usize::MAX), Instant::now());
    let mut saved = Ok(());
    let outcome = optimise(&local(spec), devices, folder, &mut |event| {
        record.note(event, before + started.elapsed().as_secs_f64());
        if saved.is_ok() {
            saved = record.save(folder);
        }
        tell(event);
    });
    saved?;
    match outcome {
        Ok(outcome) => {
            for picture in outcome.pictures {
                fs::write(folder.join(picture.name + ".png"), picture.png)?;
            }
            record.history = outcome.history;
            record.ended = true;
        }
        Err(error) => {
            record.ended = matches!(error, Error::Policy { .. } | Error::Metagrad(_));
            record.error = Some(format!("{:#}", anyhow::Error::from(error)));
        }
    }
    record.save(folder)?;
    if record.ended {
        // as large as three generators, and of no more use
        fs::remove_file(folder.join(STATE_FILE)).ok();
    }
    Ok(record)
}

fn optimise(
    spec: &Spec,
    devices: &[Device],
    folder: &Path,
    tell: &mut dyn FnMut(&Event),
) -> Result<Outcome, Error> {
    let mut problem = Problem::load(spec, DType::F32, devices, &|| false)?;
    Run { problem: &mut problem, folder, stop: &|| false }.run(tell)
}

/// The spec with `embedded:NAME` as paths of this repository.
pub(crate) fn local(spec: &Spec) -> Spec {
    let mut spec = spec.clone();
    for location in spec.locations() {
        if let Some(name) = location.uri.strip_prefix("embedded:") {
            *location.uri = embedded::folder().join(name).to_string_lossy().into_owned();
        }
    }
    spec
}

/// Tells specs apart by what they say and by the bytes of what they name.
pub(crate) fn fingerprint(spec: &Spec) -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(spec.sha256());
    for location in local(spec).locations() {
        let path = PathBuf::from(&*location.uri);
        let mut files = if path.is_dir() {
            fs::read_dir(&path)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?
        } else {
            vec![path]
        };
        files.sort();
        for file in files {
            let bytes = fs::read(&file).with_context(|| format!("cannot read `{}`", file.display()))?;
            hash.update(Sha256::digest(bytes));
        }
    }
    Ok(hex::encode(&hash.finalize()[..6]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiments::specs;

    #[test]
    fn what_a_spec_says_and_names_makes_its_fingerprint() {
        let mut spec = specs().unwrap().remove(0);
        let folder = std::env::temp_dir().join(format!("fingerprint-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("weights"), "a").unwrap();
        spec.target.model = folder.to_string_lossy().into_owned();
        let first = fingerprint(&spec).unwrap();
        assert_eq!(fingerprint(&spec).unwrap(), first);
        fs::write(folder.join("weights"), "b").unwrap();
        let second = fingerprint(&spec).unwrap();
        assert_ne!(second, first);
        spec.seed += 1;
        assert_ne!(fingerprint(&spec).unwrap(), second);
        fs::remove_dir_all(folder).unwrap();
        assert!(fingerprint(&spec).is_err());
    }

    #[test]
    fn a_record_knows_how_long_a_step_took_to_reach() {
        let record = Record { seconds: BTreeMap::from([(0, 1.0), (3, 7.0)]), ..Record::default() };
        assert_eq!([0, 2, 3, 9].map(|step| record.seconds_at(step)), [1.0, 1.0, 7.0, 7.0]);
    }
}
