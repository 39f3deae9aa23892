//! `dpg datasets show`: a version, and what was found when it was tried out.

use dpg_api::{DatasetDetail, DatasetVersion};
use dpg_engine::Verification;
use dpg_registry::{OWN_KEY, Registry, Version};
use serde_json::{Value, json};

use super::{megabytes, print};
use crate::commands::show;
use crate::pipeline::verification;
use crate::terminal;

/// From a store, with the reports.
pub(super) async fn stored(registry: &Registry, version: &Version, as_json: bool) -> anyhow::Result<()> {
    let dataset = registry.dataset(&version.dataset).await?;
    let mut records = vec![];
    for attestation in &version.attestations {
        records.push(registry.report(version, attestation).await);
    }
    // a record that cannot be read says so in its attestation
    let records: Vec<Value> = records.into_iter().map(Result::unwrap_or_default).collect();
    let value = json!({ "version": version, "reports": records });
    show(as_json, &value, || {
        let shown = DatasetVersion::from(version);
        let mut text = facts(&DatasetDetail::from(&dataset), &shown);
        for (attestation, record) in shown.attestations.iter().zip(&records) {
            text += &format!("\n{}\n", verdict(attestation, "this machine's key"));
            if attestation.signer.is_some() {
                text += &body(record);
            }
        }
        text.trim_end().to_owned()
    });
    Ok(())
}

/// From a daemon, which tells the verdicts alone.
pub(super) fn remote(dataset: &DatasetDetail, version: &DatasetVersion, as_json: bool) {
    show(as_json, &json!({ "version": version }), || {
        let verdicts = version.attestations.iter().map(|one| verdict(one, "the daemon's key") + "\n");
        (facts(dataset, version) + &verdicts.collect::<String>()).trim_end().to_owned()
    });
}

fn facts(dataset: &DatasetDetail, version: &DatasetVersion) -> String {
    format!(
        "{version}{}\njob        {}\npublished  {}\nrows       {}, {}\nmanifest   {}\n{}",
        print::notes(dataset, version),
        version.job,
        version.published_at.format("%Y-%m-%d %H:%M"),
        version.rows,
        megabytes(version.size),
        version.manifest_sha256,
        if version.attestations.is_empty() {
            format!("never tried out; `dpg verify {version}` does it\n")
        } else {
            String::new()
        }
    )
}

/// What a record says and who signed it, or why it does not count.
fn verdict(attestation: &dpg_api::Attestation, own: &str) -> String {
    let verdict = if attestation.holds { "passed" } else { "did not pass" };
    let on = attestation.at.format("%Y-%m-%d %H:%M");
    match attestation.signer.as_deref() {
        Some(OWN_KEY) => format!("{verdict} verification on {on}, signed by {own}"),
        Some(name) => {
            format!("{verdict} verification on {on}, signed by the trusted key `{}`", terminal::line(name))
        }
        None => format!("{}; the record of {on} does not count", print::doubted(attestation)),
    }
}

fn body(report: &Value) -> String {
    let arms = serde_json::from_value::<Verification>(report["arms"].clone());
    // a newer program may say it otherwise
    let table = arms.map_or_else(|_| format!("{report:#}\n"), |arms| verification::table(&arms));
    let failures = report["failures"].as_array().into_iter().flatten().filter_map(Value::as_str);
    table + &failures.map(|failure| format!("- {}\n", terminal::line(failure))).collect::<String>()
}
