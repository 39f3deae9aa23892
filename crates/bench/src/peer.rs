//! The peers, a script for each family of models, run by a Python beside this program.

use std::io::{BufRead, BufReader, Error, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

use crate::{Family, Shape};

const JAX: &str = include_str!("../peers/jax_peer.py");
const TORCH: &str = include_str!("../peers/torch_peer.py");
const LLAMA_CPP: &str = include_str!("../peers/llama_cpp_peer.py");

/// A process that is asked for one run at a time.
pub(crate) struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// Its device and version.
    pub(crate) about: Value,
}

impl Process {
    /// Names of those that there are for a shape, and their scripts.
    pub(crate) fn scripts(shape: &Shape) -> &'static [(&'static str, &'static str)] {
        match shape.family {
            Family::Gpt2 => &[("JAX", JAX)],
            Family::Llama { .. } => &[("PyTorch", TORCH), ("JAX", JAX), ("llama.cpp", LLAMA_CPP)],
        }
    }

    /// Starts and compiles.
    pub(crate) fn start(shape: &Shape, python: &str, script: &str) -> Result<Self, Error> {
        let mut child = Command::new(python)
            .args(["-c", script])
            .arg(serde_json::to_string(shape)?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = child.stdin.take().expect("its input is a pipe");
        let output = BufReader::new(child.stdout.take().expect("its output is a pipe"));
        let mut peer = Self { child, input, output, about: Value::Null };
        peer.about = serde_json::from_str(&peer.line()?)?;
        Ok(peer)
    }

    /// Whether it has runs of a kind.
    pub(crate) fn has(&self, kind: &str) -> bool {
        self.about["kinds"].as_array().is_some_and(|kinds| kinds.iter().any(|other| other == kind))
    }

    /// Seconds of one run of a kind; an error for one that it has not.
    pub(crate) fn seconds(&mut self, kind: &str, steps: usize) -> Result<f64, Error> {
        if !self.has(kind) {
            return Err(Error::other("it has no such runs"));
        }
        writeln!(self.input, "{kind} {steps}")?;
        self.line()?.trim().parse().map_err(Error::other)
    }

    fn line(&mut self) -> Result<String, Error> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            return Err(Error::other("it ended; its message is above"));
        }
        Ok(line)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // it holds nothing that is worth saving
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
