//! `dpg run`: resolve, run, publish.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use dpg_engine::{ArmRecord, STATE_FILE};
use dpg_registry::{Error, Registry, Version};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::commands::{Programs, load_spec, show};
use crate::pipeline::figures::figures;
use crate::pipeline::make::{Made, Work, make, publish};
use crate::pipeline::resolve::{Resolved, resolve};
use crate::pipeline::teacher::{self, Teaching};
use crate::pipeline::verification::check_passed;
use crate::pipeline::{board, device};
use crate::settings::config::Config;
use crate::settings::data_dir::DataDir;
use crate::settings::resident;
use crate::settings::teachers::connect;
use crate::terminal::stop::Stop;
use crate::terminal::{self, plot, progress::Progress};

/// What `dpg run` runs.
#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    /// The target spec, TOML or JSON; `-` reads it from standard input.
    spec: PathBuf,
    /// Make another version of what has been made and published already.
    #[arg(long)]
    again: bool,
    /// What to compute on.
    #[arg(long, env = "DPG_DEVICE", default_value = "cpu", help = device::help("What to compute on"))]
    device: String,
    #[command(flatten)]
    programs: Programs,
}

/// Makes and publishes the dataset of a spec; what has been published already is made `again` only if told.
pub(crate) async fn run(data: &DataDir, arguments: RunArguments, as_json: bool) -> anyhow::Result<()> {
    let RunArguments { spec: path, again, device, programs } = arguments;
    let devices = dpg_models::device::parse(&device)?;
    let mut resolved = resolve(load_spec(&path, &programs, data)?, &data.hub()?).await?;
    let name = resolved.spec.name.clone();
    let registry = data.registry(&resident::store(data, None)?)?;
    let folder = data.run_dir(&resolved.spec)?;
    connect(&mut resolved.local, &Config::in_force(data)?.teachers, Some(&folder.path))?;
    let (ended, inputs) = (data.ended_run(&resolved.spec), inputs(&resolved)?);
    if !again && let Some(mut earlier) = Ended::find(&ended, &inputs, &registry).await? {
        std::fs::remove_dir_all(&folder.path)?;
        earlier.result["again"] = json!(false);
        show(as_json, &earlier.result, || {
            let version = &earlier.result["dataset"].as_str().unwrap_or_default();
            format!(
                "{version} was made from this spec, and neither the spec nor its models and data have changed since; \
                 nothing was done\nmake another version of it: dpg run --again {}\nfetch it: dpg fetch {version} FOLDER",
                path.display()
            )
        });
        return Ok(());
    }
    let stop = Stop::listen()?;
    let stopping = stop.clone();
    let work = Work { resolved, devices, folder: folder.path.clone(), job: folder.job.clone(), fence: 0 };
    let mut progress = Progress::new();
    let board_folder = data.board(&name, &folder.job);
    let made = async {
        let tell = board::writing(&board_folder, move |event| progress.tell(event));
        let made = make(work, tell, move || stopping.is_set()).await?;
        let version = publish(&registry, &made).await?;
        anyhow::Ok((version, made))
    };
    let (version, made) = made.await.with_context(|| {
        let what = if stop.is_set() { "was stopped" } else { "failed" };
        // before its first step a run has nothing to go on from
        let next = if folder.path.join(STATE_FILE).exists() {
            format!("; `dpg run {}` goes on from its last step", path.display())
        } else {
            String::new()
        };
        format!("the run of `{name}` {what}{next}")
    })?;
    let result = result(&version, &made);
    std::fs::remove_dir_all(&folder.path)?;
    Ended { inputs, job: version.job.clone(), result: result.clone() }.write(&ended)?;
    show(as_json, &result, || text(&version, &made));
    check_passed(&version)
}

/// A run that has ended, noted so that the same is not made twice.
#[derive(Serialize, Deserialize)]
struct Ended {
    /// Hash of all that the spec names.
    inputs: String,
    job: String,
    result: Value,
}

impl Ended {
    /// The run in `file`, if it was of the same inputs and its version still stands.
    async fn find(file: &Path, inputs: &str, registry: &Registry) -> anyhow::Result<Option<Self>> {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let Some(ended) = serde_json::from_str(&text).ok().filter(|ended: &Self| ended.inputs == inputs)
        else {
            return Ok(None);
        };
        let name = ended.result["dataset"].as_str().and_then(|dataset| dataset.split('@').next());
        let dataset = match registry.dataset(name.unwrap_or_default()).await {
            Err(Error::NoDataset { .. }) => return Ok(None),
            dataset => dataset?,
        };
        let stands = |version: &Version| version.job == ended.job && version.withdrawn.is_none();
        Ok(dataset.versions.iter().any(stands).then_some(ended))
    }

    fn write(&self, file: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        std::fs::write(file, text).with_context(|| format!("cannot write `{}`", file.display()))
    }
}

/// A hash of the models and data that a spec names, and of the commands of its programs.
fn inputs(resolved: &Resolved) -> anyhow::Result<String> {
    let mut hash = Sha256::new();
    for model in &resolved.models {
        hash.update(serde_json::to_vec(&(&model.name, &model.uri, &model.digest))?);
    }
    for location in resolved.local.clone().locations() {
        let path = Path::new(location.uri.as_str());
        // of a model, the weights' hash stands above
        if path.is_file() {
            hash_file(path, &mut hash).with_context(|| format!("cannot read `{}`", path.display()))?;
        }
    }
    // what a program does is not known, but another command is another program
    for program in resolved.local.clone().programs() {
        hash.update(serde_json::to_vec(&(&program.key, &program.command))?);
    }
    Ok(hex::encode(hash.finalize()))
}

fn hash_file(path: &Path, hash: &mut Sha256) -> std::io::Result<()> {
    let mut file = BufReader::new(File::open(path)?);
    loop {
        let read = file.fill_buf()?;
        if read.is_empty() {
            return Ok(());
        }
        hash.update(read);
        let count = read.len();
        file.consume(count);
    }
}

/// A text in one line.
fn line(text: &str) -> String {
    text.trim().replace('\n', " / ")
}

fn result(version: &Version, made: &Made) -> Value {
    let history = &made.history;
    let figures = figures(history);
    let rows = figures.iter().map(|f| json!({ "name": f.name, "before": f.before, "after": f.after }));
    json!({
        "dataset": version.to_string(),
        "job": version.job,
        "rows": version.rows,
        "validation": rows.collect::<Vec<_>>(),
        "greedy": history.validations.last().map(|record| &record.greedy),
        "samples": history.validations.last().map(|record| &record.samples),
        "quality": made.quality,
        "teacher": made.teaching,
    })
}

fn text(version: &Version, made: &Made) -> String {
    let (history, quality) = (&made.history, &made.quality);
    let figures = figures(history);
    let mut text = format!(
        "published {version}: {}\n\n{:32} {:>12} {:>12}\n",
        quality.counts(),
        "on validation prompts",
        "start",
        "end"
    );
    for figure in &figures {
        text += &format!("{:32} {:>12.4} {:>12.4}\n", figure.name, figure.before, figure.after);
    }
    let greedy = history.validations.last().map_or("", |record| record.greedy.as_str());
    let points =
        history.steps.iter().map(|record| (record.step as f64, record.score.value)).collect::<Vec<_>>();
    let of_validations =
        history.validations.iter().map(|record| (record.step as f64, record.score.value)).collect::<Vec<_>>();
    for (title, points) in [("Phi by step", points), ("Phi of validations by step", of_validations)] {
        text += &plot::plot(title, &points).map(|drawn| format!("\n{drawn}")).unwrap_or_default();
    }
    text += &format!(
        "\nthe generator now writes, taking the likeliest tokens:\n  {}\nand drawing:\n",
        line(greedy)
    );
    for sample in history.validations.last().map(|record| record.samples.as_slice()).unwrap_or_default() {
        text += &format!("  {}\n", line(sample));
    }
    for decoded in history.validations.last().map(|record| record.decoded.as_slice()).unwrap_or_default() {
        let (right, all) = (decoded.right(), decoded.found.len());
        text += &format!("\nwhat it draws, {right} of {all} pixels right:\n\n");
        text += &decoded.terminal(terminal::coloured());
    }
    if let Some(Teaching { arms, account, members, .. }) = &made.teaching {
        text += "\n";
        if let Some(account) = account {
            text += &format!("asked of the teacher: {}\n", teacher::account(account));
        }
        for ArmRecord { name, probability, rows, .. } in arms {
            text += &format!("  {name:30} probability {probability:.3}, {rows} rows\n");
        }
        for (name, of_member) in members {
            text += &format!("  {name:30} {}\n", teacher::account(of_member));
        }
    }
    for warning in &quality.warnings {
        text += &format!("\nWARNING: {warning}\n");
    }
    text + &format!("\nfetch it: dpg fetch {version} FOLDER")
}
