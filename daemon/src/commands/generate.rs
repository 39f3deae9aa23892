//! `dpg generate`: more examples from a generator that was published with its dataset.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use burn::tensor::{DType, Device};
use clap::Args;
use dpg_dataset::{Config, Example, Split, read_texts};
use dpg_engine::{Draw, Problem, Writer};
use dpg_hub::{Options, Uri};
use dpg_registry::Local;
use dpg_spec::{Format, Length, LocalGenerator, Prompts, Spec};
use serde_json::{Value, json};

use crate::commands::Programs;
use crate::commands::connect::Place;
use crate::commands::fetch::{Copy, copy};
use crate::pipeline::compute::compute;
use crate::pipeline::device;
use crate::pipeline::resolve::resolve;
use crate::settings::data_dir::DataDir;
use crate::terminal::console;
use crate::terminal::output::Output;
use crate::terminal::progress::Watch;
use crate::terminal::stop::Stop;

/// What `dpg generate` draws.
#[derive(Debug, Args)]
pub(crate) struct GenerateArguments {
    /// `NAME` or `NAME@VERSION` of a dataset published with its generator, its fetched folder, or the folder
    /// of a model.
    generator: String,
    /// Examples to draw, the prompts in turn.
    #[arg(long, default_value_t = 16)]
    examples: usize,
    /// Seed of the draw; another one draws other examples.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// JSONL or Parquet file of prompts [default: the dataset's].
    #[arg(long)]
    prompts: Option<String>,
    /// The prompts' column.
    #[arg(long, default_value = "text", requires = "prompts")]
    column: String,
    /// Prompt text around `{text}`, or `chat` [default: the dataset's, or `{text}`].
    #[arg(long)]
    template: Option<String>,
    /// Sampling temperature, 0 for the most likely tokens [default: the dataset's, or 1].
    #[arg(long)]
    temperature: Option<f64>,
    /// Most new tokens [default: the dataset's, or 128].
    #[arg(long)]
    max_new_tokens: Option<usize>,
    /// Score the examples with the dataset's metric and recipe.
    #[arg(long)]
    score: bool,
    /// What to compute on.
    #[arg(long, env = "DPG_DEVICE", default_value = "cpu", help = device::help("What to compute on"))]
    device: String,
    /// JSONL file for the examples [default: standard output].
    #[arg(long)]
    out: Option<PathBuf>,
    /// Replace a file that is there.
    #[arg(long)]
    overwrite: bool,
    /// The store, a folder or `s3://bucket/prefix` [default: the daemon at `--url`, else the store of the
    /// data folder's daemon, else the settings', else the data folder].
    #[arg(long, env = "DPG_STORE")]
    store: Option<String>,
    #[command(flatten)]
    programs: Programs,
}

/// Draws examples and writes them as JSONL.
pub(crate) async fn generate(
    data: &DataDir,
    daemon: &Place,
    arguments: GenerateArguments,
) -> anyhow::Result<()> {
    let devices = dpg_models::device::parse(&arguments.device)?;
    let place = tempfile::tempdir().context("cannot make a temporary folder")?;
    let folder = if Path::new(&arguments.generator).is_dir() {
        PathBuf::from(&arguments.generator)
    } else {
        let folder = place.path().join("dataset");
        let to = Copy { dataset: &arguments.generator, folder: &folder, overwrite: false };
        copy(data, daemon, arguments.store.as_deref(), to).await?;
        folder
    };
    let hub = data.hub()?;
    let (model, mut spec) = open(&folder, &arguments, &hub).await?;
    let settings = settings(&arguments, &model, spec.as_ref(), &hub).await?;
    if arguments.score && spec.is_none() {
        bail!("--score takes a dataset: a model's folder does not name a metric");
    }
    if let Some(spec) = spec.as_mut().filter(|_| arguments.score) {
        arguments.programs.give(spec, data)?;
    }
    let GenerateArguments { examples, seed, score, out, overwrite, .. } = arguments;
    let length = spec.as_ref().and_then(|spec| lengths(spec, &settings, &folder).transpose()).transpose()?;
    let prompts = settings.prompts.iter().map(|prompts| PathBuf::from(&prompts.path));
    let inputs: Vec<_> = prompts.chain([folder, model.clone()]).collect();
    let output = out.map(|path| Output::new(&path, "--out", &inputs, overwrite, |_| false)).transpose()?;
    let stop = Stop::listen()?;
    let state = place.path().to_owned();
    let rows = compute(move || {
        let watch = Watch::new(stop);
        let writer = Writer::exported(&settings, length.as_ref(), &model, &devices)?;
        draw(&writer, spec.as_ref(), (examples, seed, score), &devices, &state, &watch)
    })
    .await?;
    drop(place);
    let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
    match output {
        Some(output) => output.write(|file| Ok(file.write_all(text.as_bytes())?)),
        None => Ok(console::document(text.trim_end())?),
    }
}

/// The generator's folder, and the dataset's spec if it belongs to one; its locations are local.
async fn open(
    folder: &Path,
    arguments: &GenerateArguments,
    hub: &Options,
) -> anyhow::Result<(PathBuf, Option<Spec>)> {
    if folder.join("config.json").exists() {
        return Ok((folder.into(), None));
    }
    let model = Local(folder).generator();
    let is_adapter = model.join("adapter_config.json").exists();
    if !is_adapter && !model.join("config.json").exists() {
        bail!(
            "`{}` was published without its generator; `export_generator = true` in `[output]` of its spec publishes \
             both",
            arguments.generator
        );
    }
    let mut spec = Spec::load(&Local(folder).spec())?;
    if let Some(generator) = &mut spec.generator {
        // the trained one stands for the model it was trained from, but adapters lie upon that
        if let Some(local) = generator.local_mut().filter(|_| !is_adapter) {
            local.model = model.to_string_lossy().into_owned();
            local.lora = None;
        }
        if arguments.prompts.is_some() {
            *generator.prompts_mut() = None;
        }
    }
    Ok((model, Some(resolve(spec, hub).await?.local)))
}

/// The dataset's settings, or the usual ones, with what the command line says.
async fn settings(
    arguments: &GenerateArguments,
    model: &Path,
    spec: Option<&Spec>,
    hub: &Options,
) -> anyhow::Result<LocalGenerator> {
    let of_dataset = spec.and_then(|spec| spec.generator.as_ref()?.local());
    let usual = || toml::from_str("model = \"\"").expect("all else has a default");
    let mut settings = of_dataset.cloned().unwrap_or_else(usual);
    // those of a mix are for all its members
    let prompts = spec.and_then(|spec| spec.generator.as_ref()?.prompts());
    settings.prompts = settings.prompts.or_else(|| prompts.cloned());
    if settings.lora.is_none() {
        settings.model = model.to_string_lossy().into_owned();
    }
    if let Some(path) = &arguments.prompts {
        let path = dpg_hub::resolve(&Uri::parse(path)?, hub).await.context("`--prompts`")?;
        settings.prompts = Some(Prompts {
            path: path.to_string_lossy().into_owned(),
            column: arguments.column.clone(),
            validation_share: 0.5,
            classes: None,
        });
    }
    if let Some(template) = &arguments.template {
        settings.template.clone_from(template);
    }
    settings.temperature = arguments.temperature.unwrap_or(settings.temperature);
    settings.max_new_tokens = arguments.max_new_tokens.unwrap_or(settings.max_new_tokens);
    settings.min_new_tokens = settings.min_new_tokens.min(settings.max_new_tokens);
    if !(settings.temperature >= 0.0 && settings.max_new_tokens > 0) {
        bail!("expected a `--temperature` of at least 0 and at least 1 of `--max-new-tokens`");
    }
    Ok(settings)
}

/// The lengths that the generator of a dataset is told, those that were learnt in the shares of the published rows. Of
/// classes by the target's loss nothing is told: what is asked now has none.
fn lengths(spec: &Spec, settings: &LocalGenerator, folder: &Path) -> anyhow::Result<Option<Length>> {
    let of_column = || settings.prompts.as_ref()?.classes.as_ref()?.column.as_ref();
    let told = spec.output.length.as_ref().filter(|length| length.is_told());
    let Some(length) = told.filter(|length| !length.is_by_prompts() || of_column().is_some()) else {
        return Ok(None);
    };
    let mut length = length.clone();
    if length.learn {
        let mut asked = vec![];
        for shard in Local(folder).shards(Config::Rewards, Split::Train)? {
            asked.extend(read_texts(&shard, "arm", None)?);
        }
        for class in &mut length.mix {
            let its = asked.iter().filter(|arm| **arm == class.name).count();
            class.share = Some(its as f64 / asked.len().max(1) as f64);
        }
        length.learn = false;
    }
    Ok(Some(length))
}

/// The rows, with their rewards if they are to be scored.
fn draw(
    writer: &Writer,
    spec: Option<&Spec>,
    (examples, seed, scored): (usize, u64, bool),
    devices: &[Device],
    folder: &Path,
    watch: &Watch,
) -> anyhow::Result<Vec<Value>> {
    let format = spec.map_or(Format::Text, |spec| spec.output.format);
    watch.begin(format!("drawing {examples} examples"), writer.generator.passes(examples));
    let drawn = writer.generate(format, examples, seed, &|| watch.pass())?;
    let mut rows: Vec<Value> = drawn.iter().map(row).collect();
    if let Some(spec) = spec.filter(|_| scored) {
        let problem = Problem::to_score(spec, DType::F32, devices)?;
        watch.begin("scoring them", 2 * problem.target.passes(drawn.len()));
        let scored = problem.scorer(folder, &|| watch.pass()).score(&drawn, Draw::FIRST)?;
        for (row, reward) in rows.iter_mut().zip(scored.rewards) {
            row["reward"] = json!(reward);
        }
    }
    Ok(rows)
}

fn row(example: &Example) -> Value {
    match example {
        Example::Text(text) => json!({ "text": text }),
        Example::PromptCompletion { prompt, completion } => {
            json!({ "prompt": prompt, "completion": completion })
        }
        Example::Messages(conversation) => conversation.columns().into(),
    }
}
