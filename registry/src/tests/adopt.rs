//! Versions of other registries: the same files, believed or refused.

use std::fs;
use std::path::PathBuf;

use dpg_spec::Hint;

use super::{Place, objects};
use crate::{Error, OWN_KEY, Registry, Version};

/// A version of another registry in a folder, and a registry that believes its key.
async fn foreign() -> (Place, Version, PathBuf, Place) {
    let from = Place::memory();
    let version = from.registry.publish(&from.snapshot("a", 3)).await.unwrap();
    let folder = from.folder.path().join("fetched");
    from.registry.fetch(&version, &folder).await.unwrap();
    let key = from.registry.public_key().unwrap();
    let mut to = Place::memory();
    to.registry = to.registry.trusting([(&"theirs".to_owned(), &key)]).unwrap();
    (from, version, folder, to)
}

async fn refused(registry: &Registry, folder: &std::path::Path) -> String {
    let before = objects(registry).await.into_iter().filter(|path| path.contains("/log/")).count();
    let error = registry.adopt(folder).await.unwrap_err();
    let after = objects(registry).await.into_iter().filter(|path| path.contains("/log/")).count();
    assert_eq!(before, after, "nothing is published");
    format!("{error}; {}", error.hint().unwrap_or_default())
}

#[tokio::test]
async fn a_version_comes_with_its_files_and_its_signature() {
    let (_from, theirs, folder, to) = foreign().await;
    let own = to.registry.publish(&to.snapshot("b", 1)).await.unwrap();
    let ours = to.registry.adopt(&folder).await.unwrap();
    assert_eq!((own.number, ours.number), (1, 2));
    assert_eq!((&ours.job, ours.fence), (&theirs.job, theirs.fence));
    assert_eq!(
        (&ours.manifest_sha256, ours.rows, ours.size),
        (&theirs.manifest_sha256, theirs.rows, theirs.size)
    );
    to.registry.verify(&ours).await.unwrap();
    assert_eq!(to.registry.verify_signature(&ours, None).await.unwrap(), "theirs");
    assert_eq!(to.registry.verify_signature(&own, None).await.unwrap(), OWN_KEY);
    // again, and it is the version that it was
    assert_eq!(to.registry.adopt(&folder).await.unwrap().number, 2);
    assert_eq!(to.registry.dataset("sixseven").await.unwrap().versions.len(), 2);
}

#[tokio::test]
async fn what_no_trusted_key_signed_is_refused() {
    let (_from, _, folder, to) = foreign().await;
    let said = refused(&Place::memory().registry, &folder).await;
    assert!(said.contains("signed by unknown key") && said.contains("[trust.keys]"), "{said}");

    // signed files under another name
    let manifest = folder.join("manifest.json");
    let json = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, json.replace("\"sixseven\"", "\"spanish\"")).unwrap();
    let said = refused(&to.registry, &folder).await;
    assert!(said.contains("about another dataset or job"), "{said}");
    fs::write(&manifest, json.replace("\"sixseven\"", "\"../up\"")).unwrap();
    let said = refused(&to.registry, &folder).await;
    assert!(said.contains("dataset name `../up` is not allowed"), "{said}");
    fs::write(&manifest, json).unwrap();

    // a file that was changed
    let spec = folder.join("spec.toml");
    let right = fs::read(&spec).unwrap();
    fs::write(&spec, "other").unwrap();
    let said = refused(&to.registry, &folder).await;
    assert!(said.contains("spec.toml") && said.contains("is no longer what was written"), "{said}");
    fs::write(&spec, right).unwrap();
    to.registry.adopt(&folder).await.unwrap();
}

#[tokio::test]
async fn a_job_has_one_version() {
    let (_from, _, folder, to) = foreign().await;
    to.registry.publish(&to.snapshot("a", 1)).await.unwrap();
    let error = to.registry.adopt(&folder).await.unwrap_err();
    assert!(matches!(&error, Error::OtherFiles { version, .. } if version == "sixseven@v1"), "{error}");
}
