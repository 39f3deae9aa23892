//! What `dpg datasets` prints, wherever the datasets are.

use dpg_api::{Attestation, Dataset, DatasetDetail, DatasetVersion};
use serde_json::{Value, json};

use crate::commands::show;
use crate::terminal;

pub(super) fn list(value: &Value, datasets: &[Dataset], as_json: bool) {
    show(as_json, value, || {
        if datasets.is_empty() {
            return "no datasets yet; `dpg run SPEC` makes one".into();
        }
        let rows = datasets.iter().map(|dataset| {
            let latest = dataset.latest.as_ref().map_or("all withdrawn".into(), |version| {
                format!("v{}, {} rows", version.number, version.rows)
            });
            format!("{:<24} {} version(s), latest {latest}", dataset.name, dataset.versions)
        });
        rows.collect::<Vec<_>>().join("\n")
    });
}

pub(super) fn versions(value: &Value, dataset: &DatasetDetail, as_json: bool) {
    show(as_json, value, || {
        let rows = dataset.versions.iter().map(|version| {
            let published = version.published_at.format("%Y-%m-%d %H:%M");
            let notes = notes(dataset, version);
            format!("{:<24} {:>8} rows  {published}{notes}", version.to_string(), version.rows)
        });
        rows.collect::<Vec<_>>().join("\n")
    });
}

/// `latest`, tags, whether it was withdrawn, and how it was found when it was tried out last.
pub(super) fn notes(dataset: &DatasetDetail, version: &DatasetVersion) -> String {
    let latest = dataset.versions.iter().rfind(|version| version.withdrawn.is_none());
    let latest = latest.filter(|latest| latest.number == version.number).map(|_| "latest");
    let tags = dataset.tags.iter().filter(|(_, number)| **number == version.number).map(|(tag, _)| &**tag);
    let names: Vec<_> = latest.into_iter().chain(tags).collect();
    let names = if names.is_empty() { String::new() } else { format!("  {}", names.join(", ")) };
    match &version.withdrawn {
        Some(_) if version.retired.is_some() => format!("{names}  retired"),
        Some(why) => format!("{names}  withdrawn: {}", terminal::line(&why.to_string())),
        None => match version.attestations.iter().rfind(|one| one.signer.is_some()) {
            Some(last) if last.holds => format!("{names}  verified"),
            Some(_) => format!("{names}  verification failed"),
            None => match version.attestations.last() {
                Some(last) => format!("{names}  {}", doubted(last)),
                None => names,
            },
        },
    }
}

/// Why a record does not count.
pub(super) fn doubted(attestation: &Attestation) -> String {
    let doubt = attestation.doubt.as_deref().unwrap_or("nobody checked who signed its record");
    format!("unverified: {}", terminal::line(doubt))
}

pub(super) fn tagged(version: &DatasetVersion, tag: &str, as_json: bool) {
    let value = json!({ "dataset": version.dataset, "tag": tag, "version": version.number });
    show(as_json, &value, || format!("`{}@{tag}` is now {version}", version.dataset));
}

pub(super) fn withdrawn(version: &DatasetVersion, reason: &str, as_json: bool) {
    let value = json!({ "dataset": version.dataset, "version": version.number, "reason": reason });
    show(as_json, &value, || format!("{version} is withdrawn: {reason}"));
}
