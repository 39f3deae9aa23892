//! The commands; the arguments of each stand in its file.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::commands::audit::AuditArguments;
use crate::commands::bench::BenchArguments;
use crate::commands::config::ConfigArguments;
use crate::commands::conformance::ConformanceArguments;
use crate::commands::datasets::DatasetsArguments;
use crate::commands::direction::DirectionArguments;
use crate::commands::fetch::FetchArguments;
use crate::commands::generate::GenerateArguments;
use crate::commands::init::InitArguments;
use crate::commands::metric::MetricArguments;
use crate::commands::plan::PlanArguments;
use crate::commands::queue::QueueCommand;
use crate::commands::run::RunArguments;
use crate::commands::score::ScoreArguments;
use crate::commands::self_check::SelfCheckArguments;
use crate::commands::shell::{CompletionsArguments, ManArguments};
use crate::commands::verify::VerifyArguments;
use crate::commands::work::WorkArguments;
use crate::settings::overrides::Overrides;
use crate::terminal::console::Voice;

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
    /// Say nothing but the result, warnings and errors.
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Say every figure of each step, and what the log has to say.
    #[arg(long, short, global = true)]
    verbose: bool,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// How much is said beside the result.
    pub(crate) fn voice(&self) -> Voice {
        match (self.quiet, self.verbose) {
            (true, _) => Voice::Quiet,
            (_, true) => Voice::Verbose,
            _ => Voice::Plain,
        }
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write a commented spec for what you want, with your model and data tried.
    Init(InitArguments),
    /// Make the dataset that a spec describes and publish it. A run that was stopped goes on when it is started
    /// again. What has been published is not made again while the spec, its models and its data are the same.
    Run(RunArguments),
    /// Check a spec and say what a run would do; start nothing.
    Plan(PlanArguments),
    /// Measure a model by a spec's metric as it is, and say where the metric's gradient lies.
    Metric(MetricArguments),
    /// Make a direction among a model's hidden states from two sets of texts, for the metric `activation`.
    Direction(DirectionArguments),
    /// Compute the reward of each example of an existing dataset: what it does to the metric.
    Score(ScoreArguments),
    /// Compare rewards with finite differences, with leaving examples out, and with training on random
    /// subsets, in f64.
    Audit(AuditArguments),
    /// Fine-tune fresh targets on a published dataset and on controls, compare, and record the result.
    Verify(VerifyArguments),
    /// Draw fresh examples from a generator that was published with its dataset, or from any model folder.
    Generate(GenerateArguments),
    /// Run the daemon: work on the queue and answer the HTTP API.
    Serve(Overrides),
    /// Work on the queue without the HTTP API, or on one of its jobs.
    Work(WorkArguments),
    /// One worker of a daemon, which starts it.
    #[command(hide = true)]
    Worker,
    /// Jobs, schedules and tokens of a daemon.
    #[command(flatten)]
    Queue(QueueCommand),
    /// List the published datasets, or the versions of one; tag, compare, check and clean them.
    Datasets(DatasetsArguments),
    /// Copy a published dataset to a folder, every hash checked.
    Fetch(FetchArguments),
    /// Check that this program works on this machine: models, arithmetic, a whole run in a folder of its own.
    SelfCheck(SelfCheckArguments),
    /// Try everything that the daemon needs, and say what to do about what does not work.
    Doctor(Overrides),
    /// Check a settings file, or print the settings in force.
    Config(ConfigArguments),
    /// Compare rewards computed on a device with the same in f64 on the CPU, for every optimizer and metric.
    Conformance(ConformanceArguments),
    /// Measure fine-tuning, metagradients, sampling and updates on a device, beside JAX if there is one.
    Bench(BenchArguments),
    /// Print the JSON schema of a spec, for editors and for programs that write specs.
    Schema,
    /// Print the completions for a shell: `source <(dpg completions bash)`.
    Completions(CompletionsArguments),
    /// Print the manual page, or write all of them to a folder.
    Man(ManArguments),
}
