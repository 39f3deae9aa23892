//! The emulated machine: the program with all backends, and the fake driver that it is run beside.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Instant, SystemTime};

use anyhow::{Context, Result, bail};

use super::counts::{Bound, Counts};
use crate::gpu::{Build, build};

/// A program and where its driver is.
pub(super) struct Machine {
    dpg: PathBuf,
    /// The fake driver with its compilers.
    folder: PathBuf,
    /// Kernels that were compiled before are not of this program.
    started: SystemTime,
}

impl Machine {
    /// Builds what is missing.
    pub(super) fn new(root: &Path, binary: Option<&Path>) -> Result<Self> {
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        let dpg = if let Some(binary) = binary {
            binary.canonicalize().with_context(|| format!("no `{}`", binary.display()))?
        } else {
            // builds for tests put theirs in its place
            let kept = target.join("gpu/dpg");
            fs::create_dir_all(target.join("gpu"))?;
            fs::copy(build(root, &target, Build::EMULATED)?, &kept)?;
            kept
        };
        let folder = target.join("fakecuda");
        let setup = root.join("tests/fakecuda/setup.sh");
        let status = Command::new("bash").arg(setup).arg(&folder).status().context("cannot run bash")?;
        if !status.success() {
            bail!("the fake driver could not be made; the message is above");
        }
        Ok(Self { dpg, folder, started: SystemTime::now() })
    }

    /// Runs `dpg` beside the fake driver, or fails with what it said.
    pub(super) fn dpg(&self, title: &str, variables: &[(&str, &str)], arguments: &[&str]) -> Result<()> {
        let dpg = self.dpg.to_str().context("the program's path is not text")?;
        self.run(title, variables, &[&[dpg], arguments].concat())
    }

    /// Tries the emulation's own instructions.
    pub(super) fn instructions(&self, root: &Path) -> Result<()> {
        let test = root.join("tests/fakecuda/test.py");
        let test = test.to_str().context("the checkout's path is not text")?;
        self.run("the fake driver: instructions", &[], &["python3", test])
    }

    /// Runs `dpg`, which has to fail, and to say that.
    pub(super) fn fails(
        &self,
        title: &str,
        variables: &[(&str, &str)],
        arguments: &[&str],
        words: &str,
    ) -> Result<()> {
        match self.dpg(title, variables, arguments) {
            Ok(()) => bail!("{title}: expected a failure"),
            Err(error) if error.to_string().contains(words) => Ok(()),
            Err(error) => Err(error.context(format!("expected to be told `{words}`"))),
        }
    }

    fn run(&self, title: &str, variables: &[(&str, &str)], command_line: &[&str]) -> Result<()> {
        println!("{title}");
        let (start, data) = (Instant::now(), tempfile::tempdir()?);
        let mut command = Command::new("bash");
        command.args(["-c", r#". "$0" && exec "$@""#]).arg(self.folder.join("env")).args(command_line);
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        command.env("FAKECUDA_THREADS", threads.to_string()).env("DPG_DATA_DIR", data.path());
        command.envs(variables.iter().copied());
        let output = command.stdin(Stdio::null()).output().context("cannot run bash")?;
        if !output.status.success() {
            let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
            let command_line = command_line.join(" ");
            bail!("`{command_line}` failed, emulated: {}\n{}{}", output.status, said[0], said[1]);
        }
        println!("    {:.0} s", start.elapsed().as_secs_f64());
        Ok(())
    }

    /// Compiles all kernels of a metagradient run and counts what it does; nothing is computed.
    pub(super) fn count(&self, bound: &Bound) -> Result<Counts> {
        let path = self.folder.join("counts.json");
        let path = path.to_str().context("the target folder's path is not text")?;
        let variables = [("FAKECUDA_MODE", "null"), ("FAKECUDA_REPORT", path)];
        let steps = bound.steps.to_string();
        let arguments = ["bench", "--device", "cuda:0", "--shape", bound.shape, "--steps", &steps];
        self.dpg(&format!("CUDA: counts of `{}`, T = {steps}", bound.shape), &variables, &arguments)?;
        serde_json::from_slice(&fs::read(path)?).context("the fake driver's report is not of this version")
    }

    /// Assembles every kernel that was compiled, each for the card that it is for, and those for the oldest for the
    /// newest as well; how many there are.
    pub(super) fn assemble(&self) -> Result<usize> {
        let mut kernels: Vec<PathBuf> = vec![];
        for entry in fs::read_dir(self.folder.join("kernels"))? {
            let entry = entry?;
            let path = entry.path();
            let is_ptx = path.extension().is_some_and(|extension| extension == "ptx");
            if is_ptx && entry.metadata()?.modified()? >= self.started {
                kernels.push(path);
            }
        }
        let refused = Mutex::new(vec![]);
        let refuse =
            &|error: anyhow::Error| refused.lock().expect("no thread panics").push(format!("{error:#}"));
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            for part in kernels.chunks(kernels.len().div_ceil(threads).max(1)) {
                scope.spawn(move || {
                    part.iter().filter_map(|kernel| self.assemble_one(kernel).err()).for_each(refuse);
                });
            }
        });
        let refused = refused.into_inner().expect("no thread panics");
        if !refused.is_empty() {
            bail!("ptxas refused {} of {} kernels:\n{}", refused.len(), kernels.len(), refused.join("\n"));
        }
        Ok(kernels.len())
    }

    fn assemble_one(&self, kernel: &Path) -> Result<()> {
        let text = fs::read_to_string(kernel)?;
        let target =
            text.lines().find_map(|line| line.strip_prefix(".target ")).context("PTX has a target")?;
        let target = target.split([',', ' ']).next().unwrap_or(target);
        let targets = if target == "sm_80" { vec![target, "sm_120"] } else { vec![target] };
        for target in targets {
            // what was taken before is taken again
            let taken = kernel.with_extension(target);
            if taken.exists() {
                continue;
            }
            let mut command = Command::new(self.folder.join("bin/ptxas"));
            command.arg(format!("-arch={target}")).arg(kernel).args(["-o", "/dev/null"]);
            let output = command.output().context("cannot run ptxas")?;
            if !output.status.success() {
                bail!("`{}` for {target}: {}", kernel.display(), String::from_utf8_lossy(&output.stderr));
            }
            fs::write(taken, "")?;
        }
        Ok(())
    }
}
