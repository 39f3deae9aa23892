//! The admin token that the first start leaves in the data folder, for its owner's eyes only.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;
use dpg_queue::{Error, NewToken, Queue, Refusal, Scope};
use tracing::{info, warn};
use uuid::Uuid;

/// Makes the token and writes `file`, unless it holds one that this queue knows.
pub(crate) async fn ensure(queue: &Queue, file: &Path, host: &str) -> anyhow::Result<()> {
    if let Ok(secret) = fs::read_to_string(file) {
        match queue.authenticate(secret.trim()).await {
            Err(Error::TokenRefused { reason: Refusal::Unknown }) => {}
            Err(error @ Error::TokenRefused { .. }) => {
                // whoever revoked it does not want another
                warn!("`{}`: {error}", file.display());
                return Ok(());
            }
            known => return Ok(known.map(drop)?),
        }
    }
    let new = |name| NewToken { name, scopes: vec![Scope::Admin], expires: None };
    let secret = match queue.create_token(&new(format!("admin-{host}"))).await {
        // another data folder on this host has it
        Err(Error::TokenNameTaken { .. }) => {
            let name = format!("admin-{host}-{}", &Uuid::new_v4().simple().to_string()[..8]);
            queue.create_token(&new(name)).await?.1
        }
        created => created?.1,
    };
    write(file, &secret).with_context(|| format!("cannot write `{}`", file.display()))?;
    info!("the admin token is in `{}`", file.display());
    Ok(())
}

/// Writes a file that only its owner may read, at once.
fn write(file: &Path, text: &str) -> std::io::Result<()> {
    let temporary = file.with_extension(format!("{}.tmp", std::process::id()));
    let mut opened =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    writeln!(opened, "{text}")?;
    opened.sync_all()?;
    fs::rename(&temporary, file)
}
