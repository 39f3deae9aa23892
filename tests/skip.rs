//! What a test does where a tool that it needs is missing.

use std::io::Write;

/// Says that the test is skipped, and why: past the harness, which hides what passing tests print.
///
/// # Panics
/// Under `CI`, where every tool must be there.
pub(crate) fn skip(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "{why}, and under `CI` no test is skipped");
    let thread = std::thread::current();
    let _ = writeln!(std::io::stderr(), "skipped {}: {why}", thread.name().unwrap_or("a test"));
}
