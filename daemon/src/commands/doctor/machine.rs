//! This machine: the data folder, the disk, secrets, models, devices.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use burn::tensor::Tensor;
use dpg_models::device::backend_of;

use super::check::Check;
use crate::pipeline::compute::compute;
use crate::settings::config::Config;
use crate::settings::data_dir::DataDir;
use crate::settings::private::open_to_others;
use crate::terminal::told::told;

const GIBIBYTE: u64 = 1 << 30;

/// Writes, syncs and removes a file.
pub(in crate::commands) fn writable(folder: &Path) -> anyhow::Result<String> {
    let file = folder.join(format!(".doctor-{}", std::process::id()));
    let write = || {
        let mut file = fs::File::create(&file)?;
        file.write_all(&[0; 4096])?;
        file.sync_all()
    };
    let written = write();
    let removed = fs::remove_file(&file);
    written.and(removed).with_context(|| format!("`{}` cannot be written to", folder.display()))?;
    Ok("can be written to".into())
}

#[cfg(unix)]
pub(in crate::commands) fn space(folder: &Path) -> Option<Check> {
    let found = rustix::fs::statvfs(folder).ok()?;
    let free = found.f_bavail * found.f_frsize;
    let detail = format!("{:.1} GiB free", free as f64 / GIBIBYTE as f64);
    let remedy = "free some space: runs keep their state and downloads in the data folder";
    Some(match free {
        0..0x400_0000 => Check::failed("disk", detail, remedy),
        0x400_0000..GIBIBYTE => Check::warning("disk", detail, remedy),
        _ => Check::ok("disk", detail),
    })
}

#[cfg(not(unix))]
pub(in crate::commands) fn space(_folder: &Path) -> Option<Check> {
    None
}

/// Files that only their owner may read. The program closes them to others when it starts, where it may.
pub(in crate::commands) fn secrets(data: &DataDir) -> Vec<Check> {
    let warning = |path: PathBuf| {
        let detail = format!("`{}` can be read by other users", path.display());
        Check::warning("secrets", detail, format!("chmod go= {}", path.display()))
    };
    open_to_others(&data.path(".")).into_iter().map(warning).collect()
}

/// The models in the program can be unpacked.
pub(in crate::commands) fn models(data: &DataDir) -> anyhow::Result<String> {
    let folder = data.hub()?.embedded;
    let names = fs::read_dir(&folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names = names.collect::<std::io::Result<Vec<_>>>()?;
    names.retain(|name| folder.join(name).join("model.safetensors").is_file());
    names.sort();
    if names.is_empty() {
        bail!("`{}` does not hold a model", folder.display());
    }
    Ok(format!("embedded: {}", names.join(", ")))
}

/// The devices compute.
pub(in crate::commands) async fn device(config: &Config) -> anyhow::Result<String> {
    let devices = dpg_models::device::parse(&config.device)?;
    let computed = compute(move || {
        let sum = |device| Tensor::<1>::ones([4], device).sum().into_scalar::<f64>();
        let about = devices.iter().filter_map(|device| backend_of(device).about(device));
        Ok((devices.iter().map(sum).collect::<Vec<_>>(), about.collect::<Vec<_>>()))
    });
    let (sums, about) = computed.await.with_context(|| format!("`{}` does not compute", config.device))?;
    if sums.iter().any(|&sum| sum != 4.0) {
        bail!("`{}` computes 1 + 1 + 1 + 1 as {sums:?}", config.device);
    }
    let remark = dpg_models::device::backend(&config.device)?.remark();
    let about: String = about.iter().map(|about| format!("; {about}")).collect();
    Ok(format!("`{}` computes: {remark}{about}", config.device))
}

/// The cache that Python shares can be written to.
pub(in crate::commands) fn hugging_face(data: &DataDir) -> Check {
    let options = match data.hub() {
        Ok(options) => options,
        Err(error) => return Check::warning("hf cache", told(&error), "see `models`"),
    };
    let cache = options.hf_cache;
    let shown = cache.display();
    let token = if options.hf_token.is_some() { "with" } else { "without" };
    let remedy = "set HF_HUB_CACHE to a folder of yours; specs with `hf:` models need it";
    // one that is not there is made with its parents
    let existing = cache.ancestors().find(|folder| folder.exists());
    match existing.context("no such drive").and_then(writable) {
        _ if options.hf_offline => Check::ok("hf cache", format!("`{shown}`, offline by HF_HUB_OFFLINE")),
        Ok(_) => Check::ok("hf cache", format!("`{shown}`, {} {token} a token", options.hf_endpoint)),
        Err(error) => Check::warning("hf cache", told(&error), remedy),
    }
}
