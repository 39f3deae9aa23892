//! The readers that must just work, on a fetched dataset of each format.

use std::path::Path;
use std::process::Command;

use dpg_spec::Format;

use super::python::python;
use super::{Place, snapshot};

#[tokio::test]
async fn python_reads_what_was_fetched() {
    let Some(python) = python("pyarrow, duckdb, polars, datasets") else { return };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/readers.py");
    let place = Place::local();
    for (job, format) in [("t", Format::Text), ("p", Format::PromptCompletion), ("m", Format::Messages)] {
        let snapshot = snapshot(&place.folder.path().join("work"), "sixseven", job, 1, format);
        let version = place.registry.publish(&snapshot).await.unwrap();
        let folder = place.folder.path().join(job);
        place.registry.fetch(&version, &folder).await.unwrap();
        let output = Command::new(&python).arg(&script).arg(&folder).output().unwrap();
        assert!(
            output.status.success(),
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
