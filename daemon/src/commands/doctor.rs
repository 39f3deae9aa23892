//! `dpg doctor`: what the daemon needs, tried one after the other, with a remedy for what fails.

use std::fs;
use std::io::{ErrorKind, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use burn::tensor::Tensor;
use chrono::Utc;
use dpg_api::Client;
use dpg_queue::Queue;
use dpg_registry::{open_store, probe_conditional_put};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::Serialize;
use serde_json::json;

use crate::cli::ServeArguments;
use crate::commands::{config::masked, show};
use crate::jobs::failure::told;
use crate::pipeline::compute::compute;
use crate::settings::config::{Config, Tls};
use crate::settings::data_dir::DataDir;
use crate::settings::private::open_to_others;
use crate::settings::resident::{Record, Resident, differs};

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_mins(1);
const GIBIBYTE: u64 = 1 << 30;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    /// It works, and may soon not.
    Warning,
    Failed,
}

/// One thing that was tried.
#[derive(Debug, Serialize)]
struct Check {
    #[serde(rename = "check")]
    name: &'static str,
    status: Status,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl Check {
    fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, status: Status::Ok, detail: detail.into(), remedy: None }
    }

    fn warning(name: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, status: Status::Warning, detail: detail.into(), remedy: Some(remedy.into()) }
    }

    fn failed(name: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, status: Status::Failed, detail: detail.into(), remedy: Some(remedy.into()) }
    }

    /// What a fallible check found, or that it failed.
    fn of(name: &'static str, found: anyhow::Result<String>, remedy: &str) -> Self {
        match found {
            Ok(detail) => Self::ok(name, detail),
            Err(error) => Self::failed(name, told(&error), remedy),
        }
    }

    fn line(&self) -> String {
        let status = match self.status {
            Status::Ok => "ok  ",
            Status::Warning => "warn",
            Status::Failed => "FAIL",
        };
        let remedy = self.remedy.as_ref().map(|remedy| format!("; {remedy}")).unwrap_or_default();
        format!("{status}  {:<12} {}{remedy}", self.name, self.detail.replace('\n', " "))
    }
}

/// Tries everything; an error if something does not work.
pub(crate) async fn doctor(data: &DataDir, arguments: ServeArguments, as_json: bool) -> anyhow::Result<()> {
    let config = Config::effective(data, &arguments);
    let mut checks = vec![match &config {
        Ok(_) => Check::ok("settings", "valid"),
        Err(error) => Check::failed("settings", told(error), "until then the defaults are checked"),
    }];
    let config = config.unwrap_or_else(|_| Config::default().overridden(&arguments));
    let root = data.root().to_owned();
    checks.extend(resident(data, &config).await);
    checks.push(Check::of("data folder", writable(&root), "choose another with --data-dir"));
    checks.extend(space(&root));
    checks.extend(secrets(data));
    checks.extend(queue(data, &config).await);
    checks.push(store(data, &config).await);
    checks.push(Check::of(
        "models",
        models(data),
        "free some space, or remove `embedded` in the data folder",
    ));
    checks.push(Check::of(
        "device",
        device(&config).await,
        "CUDA needs the NVIDIA driver, and NVRTC with its headers in CUDA_PATH or /usr/local/cuda",
    ));
    checks.push(hugging_face(data));
    checks.push(listen(&config));
    if let Some(tls) = &config.tls {
        checks.push(Check::of(
            "tls",
            certificate(tls),
            "give PEM files of one certificate and its key in [tls]",
        ));
    }
    checks.extend(webhooks(&config));
    checks.extend(config.allow.folders.iter().filter(|folder| !folder.is_dir()).map(|folder| {
        let detail = format!("`{}` in allow.folders is no folder", folder.display());
        Check::warning("allow", detail, "make it or take it out")
    }));

    let failed = checks.iter().filter(|check| check.status == Status::Failed).count();
    let value = json!({ "ok": failed == 0, "checks": checks });
    show(as_json, &value, || checks.iter().map(Check::line).collect::<Vec<_>>().join("\n"));
    if failed > 0 {
        bail!("{failed} of {} checks failed", checks.len());
    }
    Ok(())
}

/// The daemon of the data folder, if one runs, answers.
async fn resident(data: &DataDir, config: &Config) -> Option<Check> {
    let name = "daemon";
    let Resident::Running(record) = Resident::of(data) else { return None };
    let Some(Record { pid, url: Some(url), store, database, .. }) = record else {
        return Some(Check::warning(name, "it has just been started", "repeat in a moment"));
    };
    let client = Client::new(&url, None).ok()?;
    if !client.is_alive().await {
        let remedy = "look at its log, or stop it and start it again";
        return Some(Check::failed(name, format!("pid {pid} at `{url}` does not answer"), remedy));
    }
    let settings = "it runs with other settings than these: start it again, or give these to `dpg doctor`";
    if let Some(differs) = differs(data, config, &store, &database) {
        return Some(Check::warning(name, format!("pid {pid} at `{url}`: {differs}"), settings));
    }
    Some(Check::ok(name, format!("pid {pid} answers at `{url}`")))
}

/// Writes, syncs and removes a file.
fn writable(folder: &Path) -> anyhow::Result<String> {
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
fn space(folder: &Path) -> Option<Check> {
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
fn space(_folder: &Path) -> Option<Check> {
    None
}

/// What nobody else may read. The program closes it when it starts, where it may.
fn secrets(data: &DataDir) -> Vec<Check> {
    let warning = |path: PathBuf| {
        let detail = format!("`{}` can be read by other users", path.display());
        Check::warning("secrets", detail, format!("chmod go= {}", path.display()))
    };
    open_to_others(&data.path(".")).into_iter().map(warning).collect()
}

/// The queue answers, and its clock is ours.
async fn queue(data: &DataDir, config: &Config) -> Vec<Check> {
    let location = match &config.database {
        file if file.is_empty() => format!("sqlite:{}", data.queue_file().display()),
        database => database.clone(),
    };
    let started = Instant::now();
    let ask = async {
        let queue = Queue::open(&location).await?;
        let (before, now) = (Utc::now(), queue.now().await?);
        let after = Utc::now();
        queue.close().await;
        // between asking and answer the clock may have been anything in between
        let ahead = (now - after).max(before - now).max(chrono::TimeDelta::zero());
        anyhow::Ok(ahead)
    };
    let shown = masked(&location);
    let answer = tokio::time::timeout(PATIENCE, ask).await.unwrap_or_else(|_| Err(anyhow!("no answer")));
    let ahead = match answer {
        Ok(ahead) => ahead,
        Err(error) => {
            let remedy = "start the database, or correct `database` and its password";
            return vec![Check::failed("queue", format!("`{shown}`: {}", told(&error)), remedy)];
        }
    };
    let answered = format!("`{shown}` answers in {:.0} ms", started.elapsed().as_secs_f64() * 1e3);
    let seconds = ahead.as_seconds_f64();
    let remedy = "set this machine's clock (NTP): S3 refuses requests that are 15 minutes off";
    let apart = format!("{seconds:.1} s from the queue's");
    let clock = match seconds {
        0.0..2.0 => Check::ok("clock", apart),
        2.0..300.0 => Check::warning("clock", apart, remedy),
        _ => Check::failed("clock", apart, remedy),
    };
    vec![Check::ok("queue", answered), clock]
}

/// The store lets one of several racing creates win.
async fn store(data: &DataDir, config: &Config) -> Check {
    let probe = async {
        let location = match &config.store {
            folder if folder.is_empty() => data.registry_dir()?.to_string_lossy().into_owned(),
            store => store.clone(),
        };
        let (store, prefix) = open_store(&location)?;
        let probed = tokio::time::timeout(2 * PATIENCE, probe_conditional_put(&store, &prefix));
        probed.await.map_err(|_| anyhow!("`{location}` does not answer"))??;
        anyhow::Ok(format!("`{location}` keeps racing creates apart"))
    };
    let is_s3 = config.store.starts_with("s3://");
    let remedy =
        if is_s3 { "check AWS_ENDPOINT_URL and `store`" } else { "choose another folder in `store`" };
    match probe.await {
        Ok(detail) => Check::ok("store", detail),
        Err(error) => {
            let text = format!("{error:#}");
            // most of what a store says comes with its own
            let (detail, remedy) = text.split_once("; ").unwrap_or((&text, remedy));
            Check::failed("store", detail, remedy)
        }
    }
}

/// The models in the program can be unpacked.
fn models(data: &DataDir) -> anyhow::Result<String> {
    let folder = data.hub()?.embedded;
    let names = fs::read_dir(&folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names = names.collect::<std::io::Result<Vec<_>>>()?;
    names.retain(|name| folder.join(name).join("model.safetensors").is_file());
    names.sort();
    if names.is_empty() {
        bail!("`{}` holds no model", folder.display());
    }
    Ok(format!("embedded: {}", names.join(", ")))
}

/// The devices compute.
async fn device(config: &Config) -> anyhow::Result<String> {
    let devices = dpg_models::device::parse(&config.device)?;
    let computed = compute(move || {
        let sum = |device| Tensor::<1>::ones([4], device).sum().into_scalar::<f64>();
        Ok(devices.iter().map(sum).collect::<Vec<_>>())
    });
    let sums = computed.await.with_context(|| format!("`{}` does not compute", config.device))?;
    if sums.iter().any(|&sum| sum != 4.0) {
        bail!("`{}` computes 1 + 1 + 1 + 1 as {sums:?}", config.device);
    }
    Ok(format!("`{}` computes", config.device))
}

/// The cache that Python shares can be written to.
fn hugging_face(data: &DataDir) -> Check {
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

/// The address is free, or a daemon is there already.
fn listen(config: &Config) -> Check {
    let address = config.listen;
    match TcpListener::bind(address) {
        Ok(_) => Check::ok("listen", format!("`{address}` is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            let remedy = "fine if that is the daemon; else choose another `listen`";
            Check::warning("listen", format!("`{address}` is in use"), remedy)
        }
        Err(error) => Check::failed("listen", format!("`{address}`: {error}"), "choose another `listen`"),
    }
}

/// Certificate and key can be read and belong together.
fn certificate(tls: &Tls) -> anyhow::Result<String> {
    let unreadable = |file: &Path| format!("cannot read `{}`", file.display());
    let chain = CertificateDer::pem_file_iter(&tls.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| unreadable(&tls.certificate))?;
    let key = PrivateKeyDer::from_pem_file(&tls.key).with_context(|| unreadable(&tls.key))?;
    let count = chain.len();
    ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .context("certificate and key do not make a server")?;
    Ok(format!("{count} certificate(s) in `{}` with their key", tls.certificate.display()))
}

/// Hooks can be signed, and their hosts are allowed.
fn webhooks(config: &Config) -> Vec<Check> {
    let check = |hook: &crate::settings::config::Webhook| {
        let host = reqwest::Url::parse(&hook.url).ok().and_then(|url| url.host_str().map(str::to_owned));
        let file = hook.secret_file.display();
        match host {
            None => Check::failed("webhook", format!("`{}` is no URL", hook.url), "correct `webhooks.url`"),
            Some(host) if !config.allow.webhook_hosts.contains(&host) => {
                let detail = format!("`{host}` is not in allow.webhook_hosts");
                Check::failed("webhook", detail, "add it there, or no job's end is told")
            }
            Some(host) => match fs::read_to_string(&hook.secret_file) {
                Ok(secret) if !secret.trim().is_empty() => {
                    Check::ok("webhook", format!("`{host}`, signed with `{file}`"))
                }
                Ok(_) => Check::failed("webhook", format!("`{file}` is empty"), "write a secret to it"),
                Err(error) => {
                    Check::failed("webhook", format!("`{file}`: {error}"), "correct `webhooks.secret_file`")
                }
            },
        }
    };
    config.webhooks.iter().map(check).collect()
}
