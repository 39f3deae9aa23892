//! Object stores by address, and the check that one keeps racing creates apart.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode};
use tokio::time::sleep;
use uuid::Uuid;

use crate::{Error, Result};

/// The store at an address, and the prefix in it.
///
/// - a path is a local folder, made if it is not there; writes to it are synced to disk;
/// - `memory:` is a new store that lasts as long as the process;
/// - `s3://bucket/prefix` is S3 or a server that speaks it, with the usual environment variables:
///   `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_DEFAULT_REGION`,
///   `AWS_ENDPOINT_URL`, `AWS_ENDPOINT_URL_S3`, `AWS_ALLOW_HTTP`. The process must have installed a
///   default rustls crypto provider.
pub fn open_store(uri: &str) -> Result<(Arc<dyn ObjectStore>, Path)> {
    let bad = |reason: String| Error::BadUri { uri: uri.into(), reason };
    if uri == "memory:" {
        return Ok((Arc::new(InMemory::new()), Path::default()));
    }
    if let Some(place) = uri.strip_prefix("s3://") {
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        if bucket.is_empty() {
            return Err(bad("it does not name a bucket".into()));
        }
        let prefix = Path::parse(prefix.trim_end_matches('/')).map_err(|error| bad(error.to_string()))?;
        let store =
            dpg_store::s3(AmazonS3Builder::from_env(), bucket).map_err(|error| bad(error.to_string()))?;
        return Ok((Arc::new(store), prefix));
    }
    if let Some((scheme, _)) = uri.split_once("://") {
        return Err(bad(format!("`{scheme}` is not a kind of store that is known")));
    }
    if uri.is_empty() {
        return Err(bad("it is empty".into()));
    }
    let folder = std::path::Path::new(uri);
    fs::create_dir_all(folder).map_err(|source| Error::of_file("create folder", folder, source))?;
    let store = LocalFileSystem::new_with_prefix(folder)
        .map_err(|error| bad(error.to_string()))?
        .with_fsync(true)
        .with_automatic_cleanup(true);
    Ok((Arc::new(store), Path::default()))
}

const ROUNDS: usize = 50;
const RACERS: usize = 16;
/// Before a round is tried again, doubled each time.
const WAIT: Duration = Duration::from_millis(15);
/// For a server that starts.
const PATIENCE: Duration = Duration::from_secs(15);

/// Checks with 50 rounds of 16 racing creates of one object under `prefix` that the store lets
/// exactly one win and keeps its bytes. What it writes it removes.
///
/// # Errors
/// The store has no conditional puts, does not keep them apart, or cannot be used at all.
pub async fn probe_conditional_put(store: &Arc<dyn ObjectStore>, prefix: &Path) -> Result<()> {
    let folder = prefix.clone().join(format!("probe-{}", Uuid::new_v4()));
    for round in 1..=ROUNDS {
        let (mut tries, started) = (0, Instant::now());
        loop {
            let path = folder.clone().join(format!("{round:02}-{tries}"));
            let checked = probe_once(store, &path, round).await;
            let removed = store.delete(&path).await;
            let removed = removed.map_err(|source| Error::of_store("delete", &path, store, source));
            match checked.and(removed) {
                // a request that failed says nothing of the store; another object is raced for
                Err(error) if error.is_transient() && started.elapsed() < PATIENCE => {
                    sleep(WAIT * 2_u32.pow(tries)).await;
                    tries += 1;
                }
                Err(error) if !error.is_transient() && round == 1 => {
                    return Err(explain(store, &folder.clone().join("plain"), error).await);
                }
                checked => break checked?,
            }
        }
    }
    Ok(())
}

/// A refusal of the first conditional put, as what it is: if the same put goes without the condition,
/// the store has none.
async fn explain(store: &Arc<dyn ObjectStore>, path: &Path, error: Error) -> Error {
    let Error::Store { action: "create", source, .. } = error else { return error };
    match store.put(path, "plain".into()).await {
        Ok(_) => {
            // it is small, and what matters is said
            let _ = store.delete(path).await;
            Error::NoConditionalPut { store: store.to_string(), source }
        }
        Err(refused) => Error::of_store("write", path, store, refused),
    }
}

async fn probe_once(store: &Arc<dyn ObjectStore>, path: &Path, round: usize) -> Result<()> {
    let creates = (0..RACERS).map(|racer| {
        let bytes = format!("{racer}");
        async move { store.put_opts(path, bytes.into(), PutMode::Create.into()).await }
    });
    let mut winners = Vec::new();
    for (racer, outcome) in join_all(creates).await.into_iter().enumerate() {
        match outcome {
            Ok(_) => winners.push(racer),
            Err(object_store::Error::AlreadyExists { .. }) => {}
            Err(source) => return Err(Error::of_store("create", path, store, source)),
        }
    }
    let failed = |source| Error::of_store("read", path, store, source);
    let kept = match store.get(path).await {
        Ok(kept) => Some(kept.bytes().await.map_err(failed)?),
        Err(object_store::Error::NotFound { .. }) => None,
        Err(source) => return Err(failed(source)),
    };
    let faithful = match winners.as_slice() {
        [winner] => kept.is_some_and(|kept| kept == winner.to_string()),
        // The winner's answer was lost on the way, its retry found the object there: one won all the same.
        [] if kept.is_some() => {
            (0..RACERS).any(|racer| kept.as_ref().is_some_and(|kept| *kept == racer.to_string()))
        }
        _ => {
            let (store, winners) = (store.to_string(), winners.len());
            return Err(Error::UnsafeStore { store, round, winners, racers: RACERS });
        }
    };
    if faithful { Ok(()) } else { Err(Error::UnfaithfulStore { store: store.to_string() }) }
}
