//! One file a command.

pub(crate) mod audit;
pub(crate) mod datasets;
pub(crate) mod plan;
pub(crate) mod run;
pub(crate) mod score;
pub(crate) mod verify;

use serde_json::Value;

/// Prints a result as JSON, or as text.
fn show(json: bool, value: &Value, text: impl FnOnce() -> String) {
    if json {
        println!("{value:#}");
    } else {
        println!("{}", text());
    }
}

/// Runs numeric work on a thread of its own; a panic in it is an error with its message.
async fn compute<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(panic) => Err(anyhow::anyhow!("the computation panicked: {panic}")),
    }
}
