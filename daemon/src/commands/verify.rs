//! `dpg verify`: does a published dataset do what it was made for?

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use dpg_api::DatasetVersion;
use dpg_engine::Verification;
use dpg_metagrad::metrics::film_strip;
use dpg_registry::{Local, sign_report};
use dpg_spec::Spec;
use serde_json::{Value, json};

use crate::commands::connect::Place;
use crate::commands::{
    Programs,
    fetch::{Copied, Copy, Origin, copy},
    show,
};
use crate::pipeline::compute::compute;
use crate::pipeline::device;
use crate::pipeline::resolve::resolve;
use crate::pipeline::verification;
use crate::settings::config::Config;
use crate::settings::data_dir::DataDir;
use crate::settings::teachers::connect;
use crate::terminal::output::{check_pictures, write_picture};
use crate::terminal::progress::Watch;
use crate::terminal::stop::Stop;
use crate::terminal::told::told;
use crate::terminal::{self, console::note};

/// What `dpg verify` verifies.
#[derive(Debug, Args)]
pub(crate) struct VerifyArguments {
    /// `NAME` or `NAME@VERSION`.
    dataset: String,
    /// Number of data orders under which each arm is fine-tuned, at least 2.
    #[arg(long, default_value_t = 5)]
    seeds: usize,
    /// What to compute on.
    #[arg(long, env = "DPG_DEVICE", default_value = "cpu", help = device::help("What to compute on"))]
    device: String,
    /// Folder for PNGs of what a `weight_pattern` drew [default: in the data folder's `pictures`].
    #[arg(long)]
    pictures: Option<PathBuf>,
    /// Replace pictures that are in the folder that `--pictures` names.
    #[arg(long)]
    overwrite: bool,
    /// Do not append a signed record to the registry.
    #[arg(long)]
    no_record: bool,
    /// The store, a folder or `s3://bucket/prefix` [default: the daemon at `--url`, else the store of the
    /// data folder's daemon, else the settings', else the data folder].
    #[arg(long, env = "DPG_STORE")]
    store: Option<String>,
    #[command(flatten)]
    programs: Programs,
}

/// Fetches a version, fine-tunes fresh targets on it and on controls, compares, and records what was
/// found.
pub(crate) async fn verify(
    data: &DataDir,
    daemon: &Place,
    arguments: VerifyArguments,
    as_json: bool,
) -> anyhow::Result<()> {
    let VerifyArguments { dataset, seeds, device, pictures, overwrite, no_record, store, programs } =
        arguments;
    if seeds < 2 {
        bail!("--seeds {seeds}: expected at least 2, for intervals");
    }
    if let Some(folder) = &pictures {
        check_pictures(folder, overwrite)?;
    }
    let devices = dpg_models::device::parse(&device)?;
    let place = tempfile::tempdir().context("cannot make a temporary folder")?;
    let folder = place.path().join("dataset");
    let to = Copy { dataset: &dataset, folder: &folder, overwrite: false };
    let Copied { version, origin, .. } = copy(data, daemon, store.as_deref(), to).await?;
    let mut spec = Spec::load(&Local(&folder).spec())?;
    programs.give(&mut spec, data)?;
    let mut spec = resolve(spec, &data.hub()?).await?.local;
    connect(&mut spec, &Config::in_force(data)?.teachers, None)?;
    let stop = Stop::listen()?;
    let verification = compute(move || {
        let watch = Watch::new(stop);
        let begin = |passes| watch.begin("fine-tuning fresh targets", passes);
        verification::verify(&spec, &devices, &folder, seeds, begin, &|| watch.pass())
    })
    .await?;
    let pictures = pictures.unwrap_or_else(|| data.path("pictures").join(version.to_string()));
    let drawn = draw(&verification, &pictures)?;
    let report = verification::report(&verification);
    let failures = verification.failures();
    let value = json!({ "dataset": version.to_string(), "report": report, "pictures": drawn });
    show(as_json, &value, || text(&version, &verification, &drawn));
    if !no_record {
        // it was found all the same if that fails
        if let Err(error) = record(data, origin, &version, failures.is_empty(), &report).await {
            note(format_args!("warning: cannot record this in the registry: {}", told(&error)));
        }
    }
    if failures.is_empty() { Ok(()) } else { bail!("{version} does not hold: {}", failures.join("; ")) }
}

/// Signs what was found and appends it to the registry.
async fn record(
    data: &DataDir,
    origin: Origin,
    version: &DatasetVersion,
    holds: bool,
    report: &Value,
) -> anyhow::Result<()> {
    match origin {
        Origin::Store(registry, version) => {
            registry.attest(&version, holds, report).await?;
        }
        Origin::Daemon(client) => {
            let name = version.to_string();
            let record = sign_report(&data.key_file(), &name, &version.manifest_sha256, holds, report)?;
            client.attest(&version.dataset, &format!("v{}", version.number), record).await?;
        }
    }
    Ok(())
}

/// Writes what the dataset drew under each data order, and all of it as a film strip.
fn draw(verification: &Verification, folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let Some(strip) = film_strip(&verification.decoded) else { return Ok(vec![]) };
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
    let patterns = verification.decoded.len() / verification.orders();
    let named = verification.decoded.iter().enumerate().map(|(number, decoded)| {
        (format!("{}-order-{}.png", decoded.name, number / patterns.max(1)), decoded.png())
    });
    let mut written = vec![];
    for (name, png) in named.chain([("orders.png".to_owned(), strip)]) {
        let path = folder.join(name);
        write_picture(&path, &png)?;
        written.push(path);
    }
    Ok(written)
}

fn text(version: &DatasetVersion, verification: &Verification, drawn: &[PathBuf]) -> String {
    let orders = verification.orders();
    let mut text =
        format!("{version}, fresh targets under {orders} data orders; 95% confidence intervals\n\n");
    text += &verification::table(verification);
    if let Some(first) = verification.decoded.first() {
        let (right, all) = (first.right(), first.found.len());
        text += &format!("\nwhat it drew under the first data order, {right} of {all} pixels right:\n\n");
        text += &first.terminal(terminal::coloured());
    }
    for (read, wanted) in verification.read.iter().take(1) {
        let read = read.as_ref().map_or("nothing".into(), |read| format!("`{read}`"));
        text += &format!("\na QR reader reads {read} in it as it is; it should read `{wanted}`\n");
    }
    if let Some(strip) = drawn.last() {
        text += &format!("\npictures of all data orders: {}\n", strip.display());
    }
    if verification.holds() {
        text += "\nit does what it was made for, and its rewards tell its rows apart";
    }
    text.trim_end().to_owned()
}
