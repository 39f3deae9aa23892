//! `dpg direction`: a direction among a model's hidden states, for the metric `activation`.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use burn::tensor::DType;
use clap::{Args, ValueEnum};
use dpg_dataset::{Columns, read_examples};
use dpg_models::{Model, vector_file};
use dpg_spec::Positions;
use serde_json::json;

use crate::commands::show;
use crate::pipeline::compute::compute;
use crate::pipeline::device;
use crate::pipeline::resolve::locate;
use crate::settings::data_dir::DataDir;
use crate::terminal::output::Output;

/// What `dpg direction` reads and writes.
#[derive(Debug, Args)]
pub(crate) struct DirectionArguments {
    /// The model, written as `target.model` is.
    model: String,
    /// Texts that the direction leads away from: JSON or Parquet with `prompt` and `completion`, `messages`, or `text`.
    #[arg(long, value_name = "FILE")]
    from: String,
    /// Texts that it leads to.
    #[arg(long, value_name = "FILE")]
    to: String,
    /// Which hidden states, as transformers numbers them: 0 for the embeddings, then those after each layer.
    #[arg(long)]
    layer: usize,
    /// The tokens whose states count.
    #[arg(long, value_enum, default_value_t = At::All)]
    at: At,
    /// What to compute on.
    #[arg(long, env = "DPG_DEVICE", default_value = "cpu", help = device::help("What to compute on"))]
    device: String,
    /// The safetensors file to write, with one tensor, `direction`.
    #[arg(long)]
    out: PathBuf,
    /// Replace a file that is there.
    #[arg(long)]
    overwrite: bool,
}

/// The tokens of a text whose states count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum At {
    /// All.
    All,
    /// Those of the completion or of the assistant's turns; in plain text, all but the first.
    Completion,
    /// The last one.
    Last,
}

impl From<At> for Positions {
    fn from(at: At) -> Self {
        match at {
            At::All => Self::All,
            At::Completion => Self::Completion,
            At::Last => Self::Last,
        }
    }
}

/// Writes the difference of the mean hidden states on two sets of texts.
pub(crate) async fn direction(
    data: &DataDir,
    arguments: DirectionArguments,
    as_json: bool,
) -> anyhow::Result<()> {
    let DirectionArguments { mut model, mut from, mut to, layer, at, device, out, overwrite } = arguments;
    let devices = dpg_models::device::parse(&device)?;
    let hub = data.hub()?;
    let (number, named) = (layer.to_string(), [model.clone(), from.clone(), to.clone()]);
    for (key, location) in [("MODEL", &mut model), ("--from", &mut from), ("--to", &mut to)] {
        locate(key, location, &hub).await?;
    }
    let inputs = [&model, &from, &to].map(PathBuf::from);
    let output = Output::new(&out, "--out", &inputs, overwrite, |_| false)?;
    let vector = compute(move || {
        let model = Model::load(Path::new(&model), DType::F32, &devices[0])?;
        let read = |path: &str| {
            let path = Path::new(path);
            read_examples(path, &Columns::detect(path)?, None)
        };
        let (from, to) = (read(&from)?, read(&to)?);
        let vector = dpg_engine::direction(&model, layer, at.into(), [&from, &to])?;
        let [model, from, to] = named.each_ref().map(String::as_str);
        let about = [("model", model), ("layer", number.as_str()), ("from", from), ("to", to)];
        let bytes = vector_file("direction", &vector, &about);
        output.write(|file| file.write_all(&bytes).context("cannot write the direction"))?;
        Ok(vector)
    })
    .await?;
    let length = vector.iter().map(|x| x * x).sum::<f64>().sqrt();
    let value = json!({ "numbers": vector.len(), "length": length, "out": out });
    show(as_json, &value, || {
        format!("{} numbers, length {length:.4}, written to {}", vector.len(), out.display())
    });
    Ok(())
}
