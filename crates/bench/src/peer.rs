//! The JAX peers (`peers/jax_peer.py`), run by a Python beside this program.

use std::io::{BufRead, BufReader, Error, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

use crate::Shape;

/// The JAX peers, a process that is asked for one run at a time.
pub(crate) struct Jax {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// Its device and version.
    pub(crate) about: Value,
}

impl Jax {
    /// Starts and compiles.
    pub(crate) fn start(shape: &Shape, python: &str) -> Result<Self, Error> {
        let mut process = Command::new(python)
            .args(["-c", include_str!("../peers/jax_peer.py")])
            .arg(serde_json::to_string(shape)?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = process.stdin.take().expect("its input is a pipe");
        let output = BufReader::new(process.stdout.take().expect("its output is a pipe"));
        let mut jax = Self { process, input, output, about: Value::Null };
        jax.about = serde_json::from_str(&jax.line()?)?;
        Ok(jax)
    }

    /// Seconds of one run of a kind (`plain`, `best`, `naive`).
    pub(crate) fn seconds(&mut self, kind: &str, steps: usize) -> Result<f64, Error> {
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

impl Drop for Jax {
    fn drop(&mut self) {
        // it holds nothing that is worth saving
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
