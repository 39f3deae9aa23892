//! Fetching: hashes, resumption, replacement, and folders that are not ours.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path as LocalPath;

use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use sha2::{Digest, Sha256};

use super::Place;
use crate::{Error, Fetched};

/// The files under a folder with their content.
fn files(folder: &LocalPath) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_string();
        if path.is_dir() {
            found.extend(files(&path).into_iter().map(|(inner, bytes)| (format!("{name}/{inner}"), bytes)));
        } else {
            found.insert(name, fs::read(path).unwrap());
        }
    }
    found
}

async fn damage(place: &Place, file: &str) -> Vec<u8> {
    let path = Path::from(format!("sixseven/snapshots/a-1/{file}"));
    let store = &place.registry.store;
    let right = store.get(&path).await.unwrap().bytes().await.unwrap().to_vec();
    let mut wrong = right.clone();
    wrong[right.len() / 2] ^= 1;
    store.put(&path, wrong.into()).await.unwrap();
    right
}

#[tokio::test]
async fn a_folder_holds_the_version_and_nothing_else() {
    for place in [Place::memory(), Place::local()] {
        let registry = &place.registry;
        let (old, new) = (place.snapshot("a", 1), place.snapshot("b", 1));
        let (old, new) = (registry.publish(&old).await.unwrap(), registry.publish(&new).await.unwrap());
        let parent = place.folder.path().join("fetched");
        let folder = parent.join("sixseven");
        let fetch = async |version| registry.fetch(version, &folder).await;

        assert_eq!(fetch(&old).await.unwrap(), Fetched { downloaded: 9, kept: 0 });
        let first = files(&folder);
        assert_eq!(first.len(), 10);
        for (path, bytes) in &first {
            let stored = Path::from(format!("sixseven/snapshots/a-1/{path}"));
            assert_eq!(bytes, &registry.store.get(&stored).await.unwrap().bytes().await.unwrap());
        }
        assert_eq!(fetch(&old).await.unwrap(), Fetched { downloaded: 0, kept: 9 });

        // A damaged file and an absent one are fetched again.
        fs::write(folder.join("data/train-00000-of-00001.parquet"), "damaged").unwrap();
        fs::remove_file(folder.join("README.md")).unwrap();
        assert_eq!(fetch(&old).await.unwrap(), Fetched { downloaded: 2, kept: 7 });
        assert_eq!(files(&folder), first);

        // Another version takes its place; the spec is the same file in both.
        assert_eq!(fetch(&new).await.unwrap(), Fetched { downloaded: 7, kept: 2 });
        assert_ne!(files(&folder), first);
        assert_eq!(files(&folder).len(), 10);
        assert_eq!(fs::read_dir(&parent).unwrap().count(), 1, "something is left beside the folder");

        fs::write(folder.join("notes.txt"), "mine").unwrap();
        let error = fetch(&old).await.unwrap_err().to_string();
        assert!(error.contains("holds `notes.txt`, which is not part of a fetched dataset"), "{error}");
        assert!(folder.join("notes.txt").exists());
    }
}

#[tokio::test]
async fn a_tampered_byte_is_found() {
    for place in [Place::memory(), Place::local()] {
        let registry = &place.registry;
        let version = registry.publish(&place.snapshot("a", 1)).await.unwrap();
        for file in ["data/train-00000-of-00001.parquet", "README.md", "manifest.json"] {
            let folder = place.folder.path().join(format!("fetched-{}", file.len()));
            let right = damage(&place, file).await;
            for error in [
                registry.fetch(&version, &folder).await.unwrap_err(),
                registry.verify(&version).await.unwrap_err(),
            ] {
                let Error::Damaged { damages, .. } = &error else { panic!("{error}") };
                assert!(damages.len() == 1 && damages[0].contains(file), "{error}");
            }
            assert!(!folder.exists());
            let path = Path::from(format!("sixseven/snapshots/a-1/{file}"));
            registry.store.put(&path, right.into()).await.unwrap();
        }
        registry.store.delete(&Path::from("sixseven/snapshots/a-1/spec.toml")).await.unwrap();
        damage(&place, "croissant.json").await;
        let Err(Error::Damaged { damages, .. }) = registry.verify(&version).await else { panic!() };
        assert!(
            damages[0].contains("croissant.json") && damages[1] == "`spec.toml` is missing",
            "{damages:?}"
        );
    }
}

#[tokio::test]
async fn a_cut_off_fetch_goes_on() {
    let place = Place::memory();
    let registry = &place.registry;
    let version = registry.publish(&place.snapshot("a", 1)).await.unwrap();
    let folder = place.folder.path().join("fetched");
    // The last file but one cannot be had: what came before it stays in the staging folder.
    let right = damage(&place, "rewards/validation-00000-of-00001.parquet").await;
    registry.fetch(&version, &folder).await.unwrap_err();
    assert!(!folder.exists());
    let path = Path::from("sixseven/snapshots/a-1/rewards/validation-00000-of-00001.parquet");
    registry.store.put(&path, right.into()).await.unwrap();
    assert_eq!(registry.fetch(&version, &folder).await.unwrap(), Fetched { downloaded: 2, kept: 7 });
    assert_eq!(files(&folder).len(), 10);

    // A fetch that died between its two renames: the old version stands aside, the new is complete.
    let content = files(&folder);
    fs::rename(&folder, place.folder.path().join(".fetched.dpg-replaced")).unwrap();
    assert_eq!(registry.fetch(&version, &folder).await.unwrap(), Fetched { downloaded: 0, kept: 9 });
    assert_eq!(files(&folder), content);
}

#[tokio::test]
async fn other_peoples_folders_are_left_alone() {
    let place = Place::memory();
    let version = place.registry.publish(&place.snapshot("a", 1)).await.unwrap();
    let folder = place.folder.path().join("thesis");
    fs::create_dir_all(folder.join("chapters")).unwrap();
    place.registry.fetch(&version, &folder).await.expect("a folder without files is free");

    let folder = place.folder.path().join("other");
    fs::create_dir_all(folder.join("data")).unwrap();
    fs::write(folder.join("data/train-00000-of-00001.parquet"), "mine").unwrap();
    assert!(matches!(place.registry.fetch(&version, &folder).await, Err(Error::ForeignFile { .. })));
    assert_eq!(files(&folder).len(), 1);
}

#[tokio::test]
async fn files_are_read_in_ranges() {
    for place in [Place::memory(), Place::local()] {
        ranges(&place).await;
    }
}

/// Reads each file of a version as a whole and in parts.
pub(super) async fn ranges(place: &Place) {
    let registry = &place.registry;
    let version = registry.publish(&place.snapshot("ranges", 1)).await.unwrap();
    let files = registry.files(&version).await.unwrap();
    assert!(files.iter().any(|file| file.path == "manifest.json"));
    for file in &files {
        let read = async |range| {
            let bytes = registry.read_range(&version, file, range).await.unwrap();
            bytes.try_collect::<Vec<_>>().await.unwrap().concat()
        };
        let whole = read(0..file.size).await;
        assert_eq!(hex::encode(Sha256::digest(&whole)), file.sha256, "{}", file.path);
        let end = file.size as usize;
        for range in [0..1, 2..7, end - 1..end, 3..3] {
            assert_eq!(read(range.start as u64..range.end as u64).await, whole[range], "{}", file.path);
        }
    }
    let mut longer = files[0].clone();
    longer.size += 1;
    let error = registry.read_range(&version, &longer, 0..1).await.err().unwrap();
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
}
