//! `dpg datasets show`: a version, and what was found when it was tried out.

use dpg_api::{DatasetDetail, DatasetVersion};
use dpg_engine::Verification;
use dpg_registry::{Attestation, Error, Registry, Version};
use serde_json::{Value, json};

use super::{megabytes, print};
use crate::{commands::show, data_dir::DataDir, verification};

/// From a store, with the reports.
pub(super) async fn stored(
    data: &DataDir,
    registry: &Registry,
    version: &Version,
    as_json: bool,
) -> anyhow::Result<()> {
    let dataset = registry.dataset(&version.dataset).await?;
    // asking for the key of a machine without one would make it
    let key = if data.key_file().exists() { Some(registry.public_key()?) } else { None };
    let (mut records, mut signers) = (vec![], vec![]);
    for attestation in &version.attestations {
        let (report, signer) = report(registry, version, attestation, key.as_deref()).await?;
        records.push(report);
        signers.push(signer);
    }
    let value = json!({
        "version": version,
        "reports": records,
        "signed_here": signers.iter().map(|here| json!(here)).collect::<Vec<_>>(),
    });
    show(as_json, &value, || {
        let shown = DatasetVersion::from(version);
        let mut text = facts(&DatasetDetail::from(&dataset), &shown);
        for ((attestation, record), here) in version.attestations.iter().zip(&records).zip(&signers) {
            let signer = if *here { "signed by this machine's key" } else { "signed by another machine" };
            text += &format!("\n{}, {signer}\n", verdict(&dpg_api::Attestation::from(attestation)));
            text += &body(record);
        }
        text.trim_end().to_owned()
    });
    Ok(())
}

/// From a daemon, which tells the verdicts alone.
pub(super) fn remote(dataset: &DatasetDetail, version: &DatasetVersion, as_json: bool) {
    show(as_json, &json!({ "version": version }), || {
        let verdicts = version.attestations.iter().map(|attestation| verdict(attestation) + "\n");
        (facts(dataset, version) + &verdicts.collect::<String>()).trim_end().to_owned()
    });
}

/// A report, and whether this machine signed it. One that is about something else is an error.
async fn report(
    registry: &Registry,
    version: &Version,
    attestation: &Attestation,
    key: Option<&str>,
) -> Result<(Value, bool), Error> {
    if key.is_some()
        && let Ok(report) = registry.report(version, attestation, key).await
    {
        return Ok((report, true));
    }
    Ok((registry.report(version, attestation, None).await?, false))
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

fn verdict(attestation: &dpg_api::Attestation) -> String {
    let verdict = if attestation.holds { "passed" } else { "did not pass" };
    format!("{verdict} verification on {}", attestation.at.format("%Y-%m-%d %H:%M"))
}

fn body(report: &Value) -> String {
    let arms = serde_json::from_value::<Verification>(report["arms"].clone());
    // a newer program may say it otherwise
    let table = arms.map_or_else(|_| format!("{report:#}\n"), |arms| verification::table(&arms));
    let failures = report["failures"].as_array().into_iter().flatten().filter_map(Value::as_str);
    table + &failures.map(|failure| format!("- {failure}\n")).collect::<String>()
}
