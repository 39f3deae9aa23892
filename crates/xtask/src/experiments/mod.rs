//! `cargo xtask experiments`: the paper's experiments with its ablations and baselines, over seeds.
//!
//! Every spec in config/specs/ is an experiment, [`mod@arms`] derives its arms, and [`mod@run`] runs each with
//! each seed in a folder of its own, named by what the run depends on: killed and started again the
//! sweep goes on, and what has ended is not repeated unless the spec or a file it names has changed.
//! (A change of the engine is not seen: delete the folder.) After every run [`mod@report`] writes the table
//! and the pictures anew from all that is there.

mod arms;
mod report;
mod run;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use dpg_engine::Event;
use dpg_spec::Spec;

use arms::{Arm, arms};
use report::{Aim, Row};
use run::{Record, fingerprint, perform};

/// What to run.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Run only these: experiments, `sixseven`, and single arms, `sixseven/sgd`.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Seeds of each arm, from 0.
    #[arg(long, default_value_t = 3)]
    seeds: u64,
    /// Folder of the report [default: benches/reports].
    #[arg(long)]
    out: Option<PathBuf>,
    /// Folder of the runs, which go on from there [default: target/experiments].
    #[arg(long)]
    work: Option<PathBuf>,
    /// `cpu`, `cuda:N`, `wgpu:N`, or a list of them.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Print what would be run.
    #[arg(long)]
    list: bool,
}

/// An arm of an experiment and where its runs are.
struct Entry {
    experiment: String,
    arm: Arm,
    folder: PathBuf,
}

impl Entry {
    fn name(&self) -> String {
        format!("{}/{}", self.experiment, self.arm.name)
    }

    fn is_asked_for(&self, only: &[String]) -> bool {
        only.is_empty() || only.iter().any(|name| *name == self.experiment || *name == self.name())
    }

    fn seed(&self, seed: u64) -> PathBuf {
        self.folder.join(format!("seed-{seed}"))
    }

    fn rollouts(&self) -> usize {
        self.arm.spec.policy.prompts_per_step * self.arm.spec.policy.group_size
    }

    /// Tokens that the target may read of a step's rollouts, to compare the work of steps with.
    fn step_tokens(&self) -> f64 {
        (self.rollouts() * self.arm.spec.target.sft.sequence_length) as f64
    }
}

pub(crate) fn experiments(arguments: &Arguments) -> Result<()> {
    let work = arguments.work.clone().unwrap_or_else(|| root().join("target/experiments"));
    let out = arguments.out.clone().unwrap_or_else(|| root().join("benches/reports"));
    let mut goals = BTreeMap::new();
    let mut entries = vec![];
    for spec in specs()? {
        goals.insert(spec.name.clone(), Aim::of(&spec)?);
        for arm in arms(&spec) {
            arm.spec.validate().with_context(|| format!("arm `{}` of `{}`", arm.name, spec.name))?;
            let folder = format!("{}/{}-{}", spec.name, arm.name, fingerprint(&arm.spec)?);
            entries.push(Entry { experiment: spec.name.clone(), arm, folder: work.join(folder) });
        }
    }
    for name in &arguments.only {
        if !entries.iter().any(|entry| entry.is_asked_for(std::slice::from_ref(name))) {
            let known: Vec<_> = entries.iter().map(Entry::name).collect();
            bail!("there is no `{name}`; there are: {}", known.join(", "));
        }
    }
    let asked_for: Vec<&Entry> = entries.iter().filter(|entry| entry.is_asked_for(&arguments.only)).collect();
    // every arm has a result before any has two
    let seeds = (0..arguments.seeds).flat_map(|seed| asked_for.iter().map(move |entry| (*entry, seed)));
    let plan: Vec<(&Entry, u64)> = seeds.collect();
    if arguments.list {
        return list(&asked_for, arguments.seeds);
    }
    let devices = dpg_models::device::parse(&arguments.device)?;
    let machine = machine(&arguments.device);
    let mut sweep = Sweep::new(&plan)?;
    for (number, &(entry, seed)) in plan.iter().enumerate() {
        let folder = entry.seed(seed);
        if Record::load(&folder)?.is_some_and(|record| record.ended) {
            continue;
        }
        let title = format!("[{} of {}] {} seed {seed}", number + 1, plan.len(), entry.name());
        let spec = Spec { seed, ..entry.arm.spec.clone() };
        let goal = &goals[&entry.experiment];
        let tell = &mut |event: &Event| sweep.tell(&title, entry, goal, event);
        let record = perform(&spec, &folder, (&devices, &machine), tell)
            .with_context(|| format!("{} seed {seed}", entry.name()))?;
        sweep.end_run();
        match &record.error {
            Some(error) => eprintln!("{title}: {error}"),
            None => eprintln!("{title}: done in {:.1} minutes", record.seconds_at(usize::MAX) / 60.0),
        }
        report::write(&rows(&entries, &goals)?, &out)?;
    }
    report::write(&rows(&entries, &goals)?, &out)?;
    println!("{}", out.join("experiments.md").display());
    Ok(())
}

/// The experiments in the order of their names: the specs that need nobody outside of this machine.
pub(crate) fn specs() -> Result<Vec<Spec>> {
    let folder = root().join("config/specs");
    let files = fs::read_dir(&folder).with_context(|| format!("cannot read `{}`", folder.display()))?;
    let mut files = files.map(|file| Ok(file?.path())).collect::<std::io::Result<Vec<_>>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    let mut specs = files.iter().map(|file| Spec::load(file)).collect::<Result<Vec<_>, _>>()?;
    specs.retain(|spec| spec.generator.as_ref().is_none_or(|generator| generator.teachers().is_empty()));
    Ok(specs)
}

fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    std::path::absolute(&root).unwrap_or(root)
}

/// The arms with all their runs, whatever was asked for now.
fn rows<'a>(entries: &'a [Entry], goals: &'a BTreeMap<String, Aim>) -> Result<Vec<Row<'a>>> {
    let mut rows = vec![];
    for entry in entries {
        let mut runs = BTreeMap::new();
        for run in fs::read_dir(&entry.folder).into_iter().flatten() {
            let name = run?.file_name().to_string_lossy().into_owned();
            let seed = name.strip_prefix("seed-").and_then(|seed| seed.parse().ok());
            if let Some(seed) = seed
                && let Some(record) = Record::load(&entry.folder.join(&name))?
            {
                runs.insert(seed, record);
            }
        }
        if !runs.is_empty() {
            rows.push(Row {
                experiment: &entry.experiment,
                arm: entry.arm.name,
                change: &entry.arm.change,
                goal: &goals[&entry.experiment],
                steps: entry.arm.spec.policy.steps,
                rollouts: entry.rollouts(),
                runs,
            });
        }
    }
    Ok(rows)
}

fn list(entries: &[&Entry], seeds: u64) -> Result<()> {
    let (mut runs, mut examples) = (0, 0);
    for entry in entries {
        let (all, rollouts) = (entry.arm.spec.policy.steps, entry.rollouts());
        let mut left = 0;
        for seed in 0..seeds {
            let record = Record::load(&entry.seed(seed))?.unwrap_or_default();
            left += record.steps_left(all);
            runs += usize::from(!record.ended);
        }
        println!(
            "{} ({}): {seeds} seeds of at most {all} steps of {rollouts} examples, {left} steps to do",
            entry.name(),
            entry.arm.change
        );
        examples += left * rollouts;
    }
    println!("{runs} runs to do, at most {examples} examples");
    Ok(())
}

/// The processor, or the GPU's number, and the threads.
fn machine(device: &str) -> String {
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or(std::env::consts::ARCH, |(_, model)| model.trim());
    let threads = rayon::current_num_threads();
    if device == "cpu" { format!("{model}, {threads} threads") } else { format!("{device} beside {model}") }
}

/// How far a sweep is, in tokens that targets read: steps of different arms are different work.
struct Sweep {
    started: Instant,
    told: Option<Instant>,
    done: f64,
    left: f64,
    left_of_run: f64,
}

impl Sweep {
    fn new(plan: &[(&Entry, u64)]) -> Result<Self> {
        let mut left = 0.0;
        for (entry, seed) in plan {
            let record = Record::load(&entry.seed(*seed))?.unwrap_or_default();
            left += record.steps_left(entry.arm.spec.policy.steps) as f64 * entry.step_tokens();
        }
        Ok(Self { started: Instant::now(), told: None, done: 0.0, left, left_of_run: 0.0 })
    }

    fn tell(&mut self, title: &str, entry: &Entry, goal: &Aim, event: &Event) {
        const QUIET: Duration = Duration::from_secs(15);
        let steps = entry.arm.spec.policy.steps;
        let text = match event {
            Event::Started { step, .. } => {
                self.left_of_run = (steps - step) as f64 * entry.step_tokens();
                format!("from step {step} of {steps}")
            }
            Event::Step(record) => {
                self.done += entry.step_tokens();
                self.left -= entry.step_tokens();
                self.left_of_run -= entry.step_tokens();
                if self.told.is_some_and(|told| told.elapsed() < QUIET) {
                    return;
                }
                format!("step {} of {steps}, phi {:.4}", record.step + 1, record.score.value)
            }
            Event::Validation(record) => {
                format!("validation at step {} of {steps}: {:.4}", record.step, goal.value(record))
            }
            Event::Signal(_)
            | Event::Spent { .. }
            | Event::Drawing { .. }
            | Event::Refused { .. }
            | Event::Verifying { .. } => return,
        };
        self.told = Some(Instant::now());
        eprintln!("{title}: {text}{}", self.eta());
    }

    fn eta(&self) -> String {
        if self.done == 0.0 {
            return String::new();
        }
        let minutes = |left: f64| self.started.elapsed().as_secs_f64() / 60.0 * left / self.done;
        format!(
            "; at most {:.0} min left of this run, {:.0} of all",
            minutes(self.left_of_run),
            minutes(self.left)
        )
    }

    /// What a run that stopped early did not do is not left.
    fn end_run(&mut self) {
        self.left -= self.left_of_run;
        self.left_of_run = 0.0;
    }
}
