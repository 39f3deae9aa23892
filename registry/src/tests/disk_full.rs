//! A full disk while publishing or fetching: the error names the file, and nothing is published.

use std::io::Write;
use std::process::Command;

use super::crash::Faulty;
use super::skip::skip;
use super::{Place, add_large_shard};
use crate::{Error, Registry, open_store};

/// What a write to a full disk returns, from a real one.
fn no_space() -> object_store::Error {
    let full =
        std::fs::OpenOptions::new().write(true).open("/dev/full").and_then(|mut file| file.write_all(b"x"));
    object_store::Error::Generic { store: "LocalFileSystem", source: full.unwrap_err().into() }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn every_write_names_its_file() {
    let place = Place::local();
    for at in 0..10 {
        let store = Faulty::from_write(place.registry.store.clone(), at, no_space);
        let error = place.through(store).publish(&place.snapshot("a", 1)).await.unwrap_err();
        let Error::DiskFull { path, place: of, .. } = &error else { panic!("{error}") };
        assert!(path.starts_with("sixseven/") && of.contains("store"), "{error}");
        assert!(error.is_transient());
        assert!(matches!(place.registry.dataset("sixseven").await, Err(Error::NoDataset { .. })));
    }
}

/// The same on a file system of 4 MiB, where this process may mount one in a namespace of its own.
#[cfg(target_os = "linux")]
#[test]
fn a_small_file_system_fills_up() {
    let mount = tempfile::tempdir().unwrap();
    let script = r#"mount -t tmpfs -o size=4m tmpfs "$0" || exit 77; exec "$@""#;
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
        .arg(mount.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "tests::disk_full::fill_the_file_system", "--ignored", "--nocapture"])
        .env("DPG_TEST_SMALL_FILE_SYSTEM", mount.path())
        .output();
    match output {
        Ok(output) if output.status.success() => {
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(text.contains("1 passed"), "{text}");
        }
        // 1 is unshare's own failure, 77 that of mount.
        Ok(output) if !matches!(output.status.code(), Some(1 | 77)) => {
            panic!("{}: {}", output.status, String::from_utf8_lossy(&output.stdout))
        }
        other => skip(&format!("no mount namespace here: {other:?}")),
    }
}

#[tokio::test]
#[ignore = "started by a_small_file_system_fills_up on a file system of its own"]
async fn fill_the_file_system() {
    let small = std::env::var("DPG_TEST_SMALL_FILE_SYSTEM").unwrap();
    let place = Place::local();
    let mut large = place.snapshot("large", 1);
    add_large_shard(&mut large);

    // Publishing to it.
    let (store, prefix) = open_store(&format!("{small}/registry")).unwrap();
    let registry = Registry::new(store, prefix, place.folder.path().join("key.pem"));
    let error = registry.publish(&large).await.unwrap_err();
    let message = error.to_string();
    assert!(matches!(error, Error::DiskFull { .. }), "{message}");
    assert!(message.contains("sixseven/snapshots/large-1/data/large.parquet"), "{message}");
    assert!(registry.datasets().await.unwrap().is_empty());
    assert_eq!(registry.publish(&place.snapshot("small", 1)).await.unwrap().number, 1);

    // Fetching to it.
    let version = place.registry.publish(&large).await.unwrap();
    let target = std::path::Path::new(&small).join("fetched");
    let error = place.registry.fetch(&version, &target).await.unwrap_err();
    assert!(
        matches!(&error, Error::DiskFull { path, .. } if path.ends_with("data/large.parquet")),
        "{error}"
    );
    assert!(!target.exists());
}
