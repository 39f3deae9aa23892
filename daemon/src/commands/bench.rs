//! `dpg bench`: how fast the engine's parts are on a device.

use benches::{Report, Shape};

use crate::commands::show;
use crate::pipeline::compute::compute;
use crate::pipeline::device::only;

/// Measures a shape on a device, beside JAX if `python` has it.
pub(crate) async fn bench(
    device: &str,
    shape: Shape,
    rounds: usize,
    python: String,
    as_json: bool,
) -> anyhow::Result<()> {
    let devices = dpg_models::device::parse(device)?;
    let name = device.to_owned();
    let report = compute(move || Ok(Report::measure(shape, &name, only(&devices)?, rounds, &python))).await?;
    show(as_json, &report.value(), || report.table().trim_end().to_owned());
    Ok(())
}
