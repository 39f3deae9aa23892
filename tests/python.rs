//! The Python of tests.

use std::process::{Command, Stdio};

use super::skip::skip;

/// A Python that has some packages, as in `pyarrow, duckdb`: `DPG_TEST_PYTHON`, or `python3`. Where it lacks
/// one the test is skipped.
pub(crate) fn python(packages: &str) -> Option<String> {
    let python = std::env::var("DPG_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
    let import = format!("import {packages}");
    let imported = Command::new(&python).args(["-c", &import]).stderr(Stdio::null()).status();
    if imported.is_ok_and(|status| status.success()) {
        return Some(python);
    }
    skip(&format!("`{python}` lacks one of {packages}; name a Python that has them in DPG_TEST_PYTHON"));
    None
}
