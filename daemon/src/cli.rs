//! The commands.

use std::net::SocketAddr;
use std::path::PathBuf;

use benches::Shape;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::commands::{config::ConfigAction, datasets::DatasetsArguments, queue::QueueCommand};

/// A help text, with how devices are named.
fn devices(what: &str) -> String {
    format!("{what}: {}", dpg_models::device::help())
}

/// The same for one device.
fn device(what: &str) -> String {
    format!("{what}: {}", dpg_models::device::help_one())
}

/// Makes synthetic fine-tuning datasets that move a differentiable metric of a target model.
#[derive(Debug, Parser)]
#[command(name = "dpg", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// Folder for the registry, runs and downloads [default: `dpg` in the user's data directory].
    #[arg(long, global = true, env = "DPG_DATA_DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// The daemon [default: the data folder's own, running or not]. Its token is `DPG_TOKEN`, or the
    /// data folder's `admin.token` for a daemon on this machine.
    #[arg(long, global = true, env = "DPG_URL")]
    pub(crate) url: Option<String>,
    /// Print the result as JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make the dataset that a spec describes and publish it. Started again after a stop, it goes on; once it
    /// has published, the same spec with the same models and data has nothing more to do.
    Run {
        /// The target spec, TOML or JSON; `-` reads it from standard input.
        spec: PathBuf,
        /// Make another version of what has been made and published already.
        #[arg(long)]
        again: bool,
        /// What to compute on.
        #[arg(long, env = "DPG_DEVICE", default_value = "cpu", help = devices("What to compute on"))]
        device: String,
    },
    /// Check a spec and say what a run would do; start nothing.
    Plan {
        /// The target spec; `-` reads it from standard input.
        spec: PathBuf,
        /// Optimise the weights of one step's examples themselves for so many rounds: what a generator
        /// that writes the same texts could reach at best. A round takes as long as scoring a step.
        #[arg(long, value_name = "ROUNDS")]
        reweigh: Option<usize>,
        /// What to compute on.
        #[arg(long, env = "DPG_DEVICE", default_value = "cpu", help = devices("What to compute on"))]
        device: String,
    },
    /// Rewards of an existing dataset: what each example does to the metric.
    Score(ScoreArguments),
    /// Compare rewards with finite differences, with leaving examples out, and with training on random
    /// subsets, in f64.
    Audit(AuditArguments),
    /// Fine-tune fresh targets on a published dataset and on controls, compare, and record the result.
    Verify(VerifyArguments),
    /// Draw fresh examples from a generator that was published with its dataset, or from any model folder.
    Generate(GenerateArguments),
    /// Run the daemon: work on the queue and answer the HTTP API.
    Serve(ServeArguments),
    /// One worker of a daemon, which starts it.
    #[command(hide = true)]
    Worker,
    /// Jobs, schedules and tokens of a daemon.
    #[command(flatten)]
    Queue(QueueCommand),
    /// List the published datasets, or the versions of one; tag, compare, check and clean them.
    Datasets(DatasetsArguments),
    /// Copy a published dataset to a folder, every hash checked.
    Fetch {
        /// `NAME` or `NAME@VERSION`: `spanish`, `spanish@v3`, `spanish@latest`, `spanish@TAG`.
        dataset: String,
        /// The folder: new, empty, or holding a version that was fetched before, which is replaced.
        folder: PathBuf,
        /// Replace files, too, that were changed since they were fetched.
        #[arg(long)]
        overwrite: bool,
        /// The store, a folder or `s3://bucket/prefix` [default: the daemon at `--url`, else the store of the
        /// data folder's daemon, else the settings', else the data folder].
        #[arg(long, env = "DPG_STORE")]
        store: Option<String>,
    },
    /// Try everything that the daemon needs, and say what to do about what does not work.
    Doctor(ServeArguments),
    /// Check a settings file, or print the settings in force.
    Config {
        /// What to do.
        #[command(subcommand)]
        action: ConfigAction,
    },
    /// Compare rewards computed on a device with the same in f64 on the CPU, for every optimizer and metric.
    Conformance {
        /// The device.
        #[arg(long, env = "DPG_DEVICE", default_value = "cpu", help = devices("The device"))]
        device: String,
    },
    /// Measure fine-tuning, metagradients, sampling and updates on a device, beside JAX if there is one.
    Bench {
        /// The device.
        #[arg(long, env = "DPG_DEVICE", default_value = "cpu", help = device("The device"))]
        device: String,
        /// smallest, tiny, small or medium.
        #[arg(long, default_value = "small", value_parser = Shape::parse)]
        shape: Shape,
        /// Rounds, of which the median counts.
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// A Python with JAX.
        #[arg(long, default_value = "python3", env = "DPG_BENCH_PYTHON")]
        python: String,
    },
    /// Print the completions for a shell: `source <(dpg completions bash)`.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Print the manual page, or write all of them to a folder.
    Man {
        /// The folder.
        folder: Option<PathBuf>,
    },
}

/// Settings of `dpg serve`; they override the file's.
#[derive(Debug, Args)]
pub(crate) struct ServeArguments {
    /// The settings [default: `dpg.toml` in the data folder, if it is there].
    #[arg(long, env = "DPG_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Address of the HTTP API.
    #[arg(long, env = "DPG_LISTEN")]
    pub(crate) listen: Option<SocketAddr>,
    /// The queue: `sqlite:PATH` or `postgres://...`.
    #[arg(long, env = "DPG_DATABASE", hide_env_values = true)]
    pub(crate) database: Option<String>,
    /// Where datasets go: a folder or `s3://bucket/prefix`.
    #[arg(long, env = "DPG_STORE")]
    pub(crate) store: Option<String>,
    /// What jobs are computed on.
    #[arg(long, env = "DPG_DEVICE", help = devices("What jobs are computed on"))]
    pub(crate) device: Option<String>,
}

/// What `dpg score` reads and writes.
#[derive(Debug, Args)]
pub(crate) struct ScoreArguments {
    /// The target spec; `[target]` and `[metric]` are enough. `-` reads it from standard input.
    pub(crate) spec: PathBuf,
    /// The dataset: JSON or Parquet with `prompt` and `completion` (of text or turns), `messages`, or `text`.
    /// `-` reads it from standard input.
    #[arg(long)]
    pub(crate) data: PathBuf,
    /// What to compute on.
    #[arg(long, env = "DPG_DEVICE", default_value = "cpu", help = devices("What to compute on"))]
    pub(crate) device: String,
    /// Floating-point type of the computation.
    #[arg(long, value_enum, default_value_t = Dtype::F32)]
    pub(crate) dtype: Dtype,
    /// Where the rows go with their rewards and all their columns: JSONL if it ends in `.jsonl` or `.ndjson`,
    /// else Parquet. A column `reward` or `example_id` of the dataset becomes `input_reward` or
    /// `input_example_id`.
    #[arg(long)]
    pub(crate) out: PathBuf,
    /// Replace files that are there and that `dpg score` did not write.
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Folder for PNGs of a `weight_pattern`: the target, what was decoded, and the margins.
    #[arg(long)]
    pub(crate) pictures: Option<PathBuf>,
}

/// What `dpg audit` compares.
#[derive(Debug, Args)]
pub(crate) struct AuditArguments {
    /// The target spec; `-` reads it from standard input.
    pub(crate) spec: PathBuf,
    /// The dataset, JSONL or Parquet; `-` reads it from standard input; without it the untrained generator writes one.
    #[arg(long)]
    pub(crate) data: Option<PathBuf>,
    /// Its first rows alone [default: all].
    #[arg(long)]
    pub(crate) rows: Option<usize>,
    /// Examples that are compared one by one.
    #[arg(long, default_value_t = 16)]
    pub(crate) examples: usize,
    /// Random subsets of each size for the linear datamodelling score.
    #[arg(long, default_value_t = 32)]
    pub(crate) subsets: usize,
    /// Sizes of subsets, as shares of the rows.
    #[arg(long, default_values_t = [0.9, 0.5], value_delimiter = ',')]
    pub(crate) shares: Vec<f64>,
}

/// What `dpg verify` verifies.
#[derive(Debug, Args)]
pub(crate) struct VerifyArguments {
    /// `NAME` or `NAME@VERSION`.
    pub(crate) dataset: String,
    /// Data orders that each is fine-tuned under, at least 2.
    #[arg(long, default_value_t = 5)]
    pub(crate) seeds: usize,
    /// What to compute on.
    #[arg(long, env = "DPG_DEVICE", default_value = "cpu", help = devices("What to compute on"))]
    pub(crate) device: String,
    /// Folder for PNGs of what a `weight_pattern` drew [default: in the data folder's `pictures`].
    #[arg(long)]
    pub(crate) pictures: Option<PathBuf>,
    /// Replace pictures that are in the folder that `--pictures` names.
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Append no signed record to the registry.
    #[arg(long)]
    pub(crate) no_record: bool,
    /// The store, a folder or `s3://bucket/prefix` [default: the daemon at `--url`, else the store of the
    /// data folder's daemon, else the settings', else the data folder].
    #[arg(long, env = "DPG_STORE")]
    pub(crate) store: Option<String>,
}

/// What `dpg generate` draws.
#[derive(Debug, Args)]
pub(crate) struct GenerateArguments {
    /// `NAME` or `NAME@VERSION` of a dataset published with its generator, its fetched folder, or the folder
    /// of a model.
    pub(crate) generator: String,
    /// Examples to draw, the prompts in turn.
    #[arg(long, default_value_t = 16)]
    pub(crate) examples: usize,
    /// Other examples for another seed.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// JSONL or Parquet file of prompts [default: the dataset's].
    #[arg(long)]
    pub(crate) prompts: Option<String>,
    /// The prompts' column.
    #[arg(long, default_value = "text", requires = "prompts")]
    pub(crate) column: String,
    /// Prompt text around `{text}`, or `chat` [default: the dataset's, or `{text}`].
    #[arg(long)]
    pub(crate) template: Option<String>,
    /// Sampling temperature, 0 for the most likely tokens [default: the dataset's, or 1].
    #[arg(long)]
    pub(crate) temperature: Option<f64>,
    /// Most new tokens [default: the dataset's, or 128].
    #[arg(long)]
    pub(crate) max_new_tokens: Option<usize>,
    /// Score the examples with the dataset's metric and recipe.
    #[arg(long)]
    pub(crate) score: bool,
    /// JSONL file for the examples [default: standard output].
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
    /// Replace a file that is there.
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// The store, a folder or `s3://bucket/prefix` [default: the daemon at `--url`, else the store of the
    /// data folder's daemon, else the settings', else the data folder].
    #[arg(long, env = "DPG_STORE")]
    pub(crate) store: Option<String>,
}

/// Floating-point types of a computation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Dtype {
    /// Single precision.
    F32,
    /// Double precision.
    F64,
}

impl From<Dtype> for burn::tensor::DType {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => Self::F32,
            Dtype::F64 => Self::F64,
        }
    }
}
