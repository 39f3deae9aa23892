//! `cargo xtask gpu`: a folder to be copied to a machine with a GPU, with a script that measures there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Most bytes of the folder.
const LIMIT: u64 = 60_000_000;

/// What to make.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The folder.
    #[arg(long)]
    out: PathBuf,
    /// Take this program instead of building one with CUDA.
    #[arg(long)]
    binary: Option<PathBuf>,
}

pub(crate) fn gpu(arguments: &Arguments) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    let binary = match &arguments.binary {
        Some(binary) => binary.clone(),
        None => build(&root, &root.join("target/cuda"), Build::RELEASE)?,
    };
    let out = &arguments.out;
    fs::create_dir_all(out).with_context(|| format!("cannot create `{}`", out.display()))?;
    let files = ["run.sh", "short.toml"];
    for file in files {
        fs::copy(root.join("deploy/cuda").join(file), out.join(file))
            .with_context(|| format!("cannot copy `{file}`"))?;
    }
    // the models, prompts and held-out texts are in the program
    let packed = fs::File::create(out.join("dpg.gz"))?;
    let status = Command::new("gzip").args(["-9", "-c"]).arg(&binary).stdout(packed).status();
    if !status.context("cannot run `gzip`")?.success() {
        bail!("`gzip` could not pack `{}`", binary.display());
    }
    let mut size = 0;
    for file in files.into_iter().chain(["dpg.gz"]) {
        let bytes = fs::metadata(out.join(file))?.len();
        println!("{:>9.1} kB  {file}", bytes as f64 / 1e3);
        size += bytes;
    }
    println!("{:>9.1} kB  in `{}`; there: sh run.sh", size as f64 / 1e3, out.display());
    if size >= LIMIT {
        bail!("the folder has {size} bytes, and {LIMIT} is the limit");
    }
    Ok(())
}

/// What `dpg` is built with.
pub(crate) struct Build {
    arguments: &'static [&'static str],
    /// Its folder below the target folder.
    folder: &'static str,
}

impl Build {
    /// With CUDA, stripped.
    const RELEASE: Self = Self { arguments: &["--release", "--features", "dpg/cuda"], folder: "release" };
    /// With all backends, beside what tests have built, most of which it takes.
    pub(crate) const EMULATED: Self =
        Self { arguments: &["--features", "dpg/cuda,dpg/wgpu"], folder: "debug" };
}

/// Builds `dpg` in a folder.
pub(crate) fn build(root: &Path, target: &Path, build: Build) -> Result<PathBuf> {
    let _lock = Kept::new(root.join("Cargo.lock"))?;
    // where cargo did not start this, the one of the path, which chooses the toolchain
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // what `cargo run` tells of this program is news to build scripts, which would run again
    for (name, _) in std::env::vars_os() {
        let told = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|prefix| told.starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    let status = command
        .args(["build", "--bin", "dpg", "--config", "deploy/cuda/config.toml"])
        .args(build.arguments)
        .arg("--target-dir")
        .arg(target)
        .current_dir(root)
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("the build with GPUs failed; its message is above");
    }
    Ok(target.join(build.folder).join("dpg"))
}

/// A file that is put back as it was.
struct Kept {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Kept {
    fn new(path: PathBuf) -> Result<Self> {
        let bytes = fs::read(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
        Ok(Self { path, bytes })
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Err(error) = fs::write(&self.path, &self.bytes) {
            eprintln!("cannot put `{}` back: {error}", self.path.display());
        }
    }
}
