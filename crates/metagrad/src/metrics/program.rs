//! A running program that is asked and answers in lines of JSON, on its standard input and output.
//!
//! It has a process group of its own and few environment variables. When it is dropped, or this process is gone,
//! however that ended, the whole group is killed and its folder removed.

use std::{
    collections::VecDeque,
    ffi::OsStr,
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serde::{Serialize, de::DeserializeOwned};

use super::Context;
use crate::{Error, ProgramFailure};

const SHELL: &str = "/bin/sh";
/// Most bytes of an answer.
const ANSWER_BYTES: u64 = 1 << 20;
/// Lines of standard error that are kept, and most bytes of one.
const SAID: usize = 20;
const SAID_BYTES: u64 = 2000;
/// How often somebody who waits for an answer asks whether to go on.
const LOOK: Duration = Duration::from_millis(250);
/// Time that a program has to be gone once its output has ended, and its last words to arrive.
const LEAVE: Duration = Duration::from_secs(2);

/// Variables that a program gets if they are set. Whatever else it needs stands in its command: `NAME=value program`.
const VARIABLES: [&str; 20] = [
    "PATH",
    "HOME",
    "USER",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "XLA_FLAGS",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];
/// And those that begin so.
const FAMILIES: [&str; 6] = ["LC_", "PYTHON", "CUDA_", "NVIDIA_", "JAX_", "TORCH"];

/// A program that runs.
pub struct Program {
    name: String,
    /// Lines for its standard input.
    questions: Sender<String>,
    /// Lines of its standard output, until that ends.
    answers: Receiver<io::Result<Vec<u8>>>,
    /// The last lines of its standard error.
    said: Arc<Mutex<VecDeque<String>>>,
    listener: JoinHandle<()>,
    guard: Guard,
    child: Child,
}

impl Program {
    /// Starts a command of the shell; `name` is what people call it, and `folder` has its files.
    pub fn start(name: &str, command: &str, folder: &Path) -> Result<Self, Error> {
        Self::spawn(name, command, folder).map_err(|error| failed(name, ProgramFailure::Start(error)))
    }

    fn spawn(name: &str, command: &str, folder: &Path) -> io::Result<Self> {
        let mut child = shell(command)
            .envs(std::env::vars_os().filter(|(variable, _)| is_handed_on(variable)))
            .stderr(Stdio::piped())
            .spawn()?;
        let guard = match Guard::over(child.id(), folder) {
            Ok(guard) => guard,
            Err(error) => {
                let _ = child.kill().and_then(|()| child.wait());
                return Err(error);
            }
        };
        let (mut input, output) = (pipe(child.stdin.take())?, pipe(child.stdout.take())?);
        let mut errors = BufReader::new(pipe(child.stderr.take())?);
        let (questions, asked) = channel::<String>();
        // a program that does not read holds up nobody but this thread
        thread::spawn(move || {
            for question in asked {
                if input.write_all(question.as_bytes()).and_then(|()| input.flush()).is_err() {
                    break;
                }
            }
        });
        let (answer, answers) = channel();
        thread::spawn(move || {
            let mut output = BufReader::new(output);
            while let Some(line) = dpg_files::line(&mut output, ANSWER_BYTES).transpose() {
                let last = line.is_err();
                if answer.send(line).is_err() || last {
                    break;
                }
            }
        });
        let said = Arc::new(Mutex::new(VecDeque::new()));
        let hears = Arc::clone(&said);
        let listener = thread::spawn(move || {
            let mut line = vec![];
            while errors.by_ref().take(SAID_BYTES).read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                let mut said = hears.lock().unwrap_or_else(PoisonError::into_inner);
                said.push_back(String::from_utf8_lossy(&line).trim_end().to_owned());
                if said.len() > SAID {
                    said.pop_front();
                }
                line.clear();
            }
        });
        Ok(Self { name: name.into(), questions, answers, said, listener, guard, child })
    }

    /// Asks, and waits for the answer. After an error nothing more may be asked.
    pub fn ask<A: DeserializeOwned>(
        &mut self,
        question: &impl Serialize,
        seconds: u64,
        context: Context,
    ) -> Result<A, Error> {
        let line = serde_json::to_string(question)
            .map_err(|error| self.answered(format!("it cannot be asked: {error}")))?;
        // one that is gone is found out below
        let _ = self.questions.send(format!("{line}\n"));
        let (asked, limit) = (Instant::now(), Duration::from_secs(seconds));
        let line = loop {
            context.go_on()?;
            match self.answers.recv_timeout(LOOK.min(limit.saturating_sub(asked.elapsed()))) {
                Ok(line) => break line,
                Err(RecvTimeoutError::Disconnected) => return Err(self.ended()),
                Err(RecvTimeoutError::Timeout) if asked.elapsed() >= limit => {
                    let said = self.last_words();
                    return Err(failed(&self.name, ProgramFailure::Silent { seconds, said }));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        };
        let line = line.map_err(|error| self.answered(format!("its answer cannot be read: {error}")))?;
        serde_json::from_slice(&line).map_err(|error| {
            let line: String = String::from_utf8_lossy(&line).chars().take(200).collect();
            let hint = if line.contains("NaN") || line.contains("Infinity") {
                ", a number that is not finite"
            } else {
                "; lines of its standard output are for answers alone"
            };
            self.answered(format!("it answered `{line}`, which is not an answer ({error}){hint}"))
        })
    }

    /// What is wrong with an answer, as an error. It ends the program.
    pub(super) fn answered(&mut self, reason: String) -> Error {
        let said = self.last_words();
        failed(&self.name, ProgramFailure::Answer { reason, said })
    }

    /// How a program ended whose output has.
    fn ended(&mut self) -> Error {
        let closed = Instant::now();
        while closed.elapsed() < LEAVE && matches!(self.child.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(10));
        }
        let said = self.last_words();
        let failure = match self.child.wait() {
            Ok(status) => ProgramFailure::Ended { status, said },
            Err(error) => ProgramFailure::Start(error),
        };
        failed(&self.name, failure)
    }

    /// Ends it, and gives what was on its standard error last.
    fn last_words(&mut self) -> Vec<String> {
        self.guard.fire();
        let gone = Instant::now();
        // somebody who left the group may hold the pipe for long
        while gone.elapsed() < LEAVE && !self.listener.is_finished() {
            thread::sleep(Duration::from_millis(10));
        }
        self.said.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.guard.fire();
        // the guard may have been killed by somebody; a process that is gone is an error of no interest
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn failed(program: &str, source: ProgramFailure) -> Error {
    Error::Program { program: program.into(), source }
}

/// A shell that kills a process group and removes its folder when its input ends: when it is told to, or when this
/// process is gone.
struct Guard(Child);

impl Guard {
    fn over(group: u32, folder: &Path) -> io::Result<Self> {
        let mut guard = shell("read -r _; kill -s KILL -- \"-$1\"; rm -rf -- \"$2\"");
        guard.arg(SHELL).arg(group.to_string()).arg(folder);
        Ok(Self(guard.stderr(Stdio::null()).spawn()?))
    }

    fn fire(&mut self) {
        drop(self.0.stdin.take());
        // the group is gone as far as it can be
        let _ = self.0.wait();
    }
}

/// A shell with no environment, which no signal of a terminal reaches.
fn shell(command: &str) -> Command {
    let mut shell = Command::new(SHELL);
    shell.arg("-c").arg(command).env_clear().process_group(0);
    shell.stdin(Stdio::piped()).stdout(Stdio::piped());
    shell
}

fn pipe<P>(pipe: Option<P>) -> io::Result<P> {
    pipe.ok_or_else(|| io::Error::other("the process has no pipe"))
}

fn is_handed_on(variable: &OsStr) -> bool {
    let Some(name) = variable.to_str() else { return false };
    VARIABLES.contains(&name) || FAMILIES.iter().any(|family| name.starts_with(family))
}
