//! Rows that a program does not take.

use std::fs;
use std::path::PathBuf;

use dpg_metagrad::{Context, Program};
use dpg_spec::Checker;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Around, Candidate, Gate};
use crate::{Error, Stop};

#[derive(Serialize)]
struct Question<'a> {
    parameters: &'a Map<String, Value>,
    prompt: &'a str,
    text: &'a str,
}

#[derive(Deserialize)]
struct Answer {
    valid: bool,
}

pub(super) struct Running<'a> {
    program: Program,
    settings: Checker,
    scratch: PathBuf,
    stop: Stop<'a>,
}

/// Starts the program.
pub(super) fn open<'a>(settings: &Checker, around: Around<'a>) -> Result<Running<'a>, Error> {
    let name = &settings.program;
    let command = settings.command.as_ref().ok_or_else(|| {
        let reason = format!(
            "there is no program `{name}` here; give its command: `--program {name}=COMMAND`, or `{name} = \"COMMAND\"` \
             below `[allow.programs]` in the settings"
        );
        Error::setting("output.gates", reason)
    })?;
    // its own, which is removed with it
    let folder = around.scratch.join(format!("gate-{name}"));
    fs::create_dir_all(&folder).map_err(Error::state(&folder))?;
    let program = Program::start(name, command, &folder)?;
    Ok(Running { program, settings: settings.clone(), scratch: around.scratch.into(), stop: around.stop })
}

impl Gate for Running<'_> {
    fn passes(&mut self, row: &Candidate) -> Result<bool, Error> {
        let Checker { parameters, timeout_seconds, .. } = &self.settings;
        let question = Question { parameters, prompt: row.prompt, text: row.text };
        let context = Context { scratch: &self.scratch, stop: self.stop };
        let answer: Answer = self.program.ask(&question, *timeout_seconds, context)?;
        Ok(answer.valid)
    }
}
