//! `dpg doctor`: what the daemon needs, tried one after the other, with a remedy for what fails.

pub(super) mod check;
pub(super) mod machine;
mod network;
mod services;

use anyhow::bail;
use serde_json::json;

use crate::commands::show;
use crate::settings::config::Config;
use crate::settings::data_dir::DataDir;
use crate::settings::overrides::Overrides;
use crate::settings::resident::Resident;
use crate::terminal::told::told;
use check::{Check, Status};

/// Tries everything; an error if something does not work.
pub(crate) async fn doctor(data: &DataDir, overrides: Overrides, as_json: bool) -> anyhow::Result<()> {
    let config = Config::effective(data, &overrides);
    let mut checks = vec![match &config {
        Ok(_) => Check::ok("settings", "valid"),
        Err(error) => Check::failed("settings", told(error), "until then the defaults are checked"),
    }];
    let config = config.unwrap_or_else(|_| Config::default().overridden(&overrides));
    let root = data.root().to_owned();
    checks.extend(services::resident(data, &config).await);
    checks.push(Check::of("data folder", machine::writable(&root), "choose another with --data-dir"));
    checks.extend(machine::space(&root));
    checks.extend(machine::secrets(data));
    checks.extend(services::queue(data, &config).await);
    checks.push(services::store(data, &config).await);
    checks.push(Check::of(
        "models",
        machine::models(data),
        "free some space, or remove `embedded` in the data folder",
    ));
    let remedy =
        dpg_models::device::backend(&config.device).map_or("correct `device`", |found| found.remedy());
    checks.push(Check::of("device", machine::device(&config).await, remedy));
    checks.push(machine::hugging_face(data));
    checks.push(network::listen(&config));
    if let Some(tls) = &config.tls {
        checks.push(Check::of(
            "tls",
            network::certificate(tls),
            "give PEM files of one certificate and its key in [tls]",
        ));
    }
    checks.extend(network::webhooks(&config));
    checks.extend(config.allow.folders.iter().filter(|folder| !folder.is_dir()).map(|folder| {
        let detail = format!("`{}` in allow.folders is not a folder", folder.display());
        Check::warning("allow", detail, "make it or take it out")
    }));

    let failed = checks.iter().filter(|check| check.status == Status::Failed).count();
    let next = next(data, failed);
    let value = json!({ "ok": failed == 0, "checks": checks, "next": next });
    show(as_json, &value, || {
        let lines = checks.iter().map(Check::line).chain([format!("next: {next}")]);
        lines.collect::<Vec<_>>().join("\n")
    });
    if failed > 0 {
        bail!("{failed} of {} checks failed", checks.len());
    }
    Ok(())
}

/// What to do now.
fn next(data: &DataDir, failed: usize) -> &'static str {
    match Resident::of(data) {
        _ if failed > 0 => "do what the lines with FAIL say, then `dpg doctor` again",
        Resident::Running(_) => {
            "`dpg init` writes a spec, `dpg submit SPEC` gives it to the daemon, `dpg top` shows its jobs"
        }
        _ => "`dpg init` writes a spec, `dpg run SPEC` makes its dataset here; `dpg serve` starts a daemon",
    }
}
