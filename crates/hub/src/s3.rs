//! Objects and model folders in S3, kept under a hash of what the listing says.
//!
//! A download happens in `NAME.partial` file by file and becomes `NAME` by a rename, so that `NAME`
//! is complete and never changes; what changes in the bucket gets another name.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use futures::StreamExt;
use object_store::path::Path as Key;
use object_store::{GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt};
use sha2::{Digest, Sha256};
use tracing::info;

use crate::download::open_locked;
use crate::{Error, Options, Uri, is_model_file};

pub(crate) async fn resolve(bucket: &str, key: &str, options: &Options) -> Result<PathBuf, Error> {
    let uri = Uri::S3 { bucket: bucket.into(), key: key.into() }.to_string();
    let failed = |source: object_store::Error| Error::s3(&uri, source.into());
    let store = dpg_store::s3(options.s3.clone(), bucket).map_err(|cause| Error::s3(&uri, cause))?;
    let key = Key::parse(key).map_err(|source| failed(source.into()))?;
    // Listed first: some servers fail when asked for an object that is a folder.
    let listing = store.list_with_delimiter(Some(&key)).await;
    let mut objects = listing.as_ref().map_or(Vec::new(), |listing| listing.objects.clone());
    objects.retain(|object| object.location.filename().is_some_and(is_model_file));
    objects.sort_by(|a, b| a.location.cmp(&b.location));
    let single = objects.is_empty();
    if single {
        match store.head(&key).await {
            Ok(object) => objects.push(object),
            Err(object_store::Error::NotFound { .. }) => {
                return Err(listing.map_or_else(failed, |_| Error::EmptyPrefix { uri: uri.clone() }));
            }
            // the answer to a listing has a body, which says more
            Err(source) => return Err(failed(listing.err().unwrap_or(source))),
        }
    }
    let folder = options.downloads.join(fingerprint(&uri, &objects));
    let path =
        |folder: &Path, object: &ObjectMeta| folder.join(object.location.filename().unwrap_or("object"));
    let wanted = if single { path(&folder, &objects[0]) } else { folder.clone() };
    if folder.exists() {
        return Ok(wanted);
    }
    fs::create_dir_all(&options.downloads).map_err(Error::io(&options.downloads))?;
    let _lock = open_locked(&folder.with_added_extension("lock")).await?;
    if folder.exists() {
        return Ok(wanted);
    }
    let partial = folder.with_added_extension("partial");
    fs::create_dir_all(&partial).map_err(Error::io(&partial))?;
    for object in &objects {
        let path = path(&partial, object);
        if !path.metadata().is_ok_and(|metadata| metadata.len() == object.size) {
            info!(uri, file = %object.location, bytes = object.size, "downloading");
            download(&store, object, &path, &uri).await?;
        }
    }
    fs::rename(&partial, &folder).map_err(Error::io(&folder))?;
    Ok(wanted)
}

/// A name for exactly these contents of this location.
fn fingerprint(uri: &str, objects: &[ObjectMeta]) -> String {
    let mut hash = Sha256::new();
    hash.update(uri);
    for object in objects {
        hash.update(format!(
            "\n{} {} {:?} {}",
            object.location, object.size, object.e_tag, object.last_modified
        ));
    }
    hex::encode(&hash.finalize()[..16])
}

/// Downloads an object as it was listed: if it has changed since, its ETag has, and that is an error.
async fn download(store: &dyn ObjectStore, object: &ObjectMeta, path: &Path, uri: &str) -> Result<(), Error> {
    let failed = |source: object_store::Error| Error::s3(uri, source.into());
    let conditions = GetOptions { if_match: object.e_tag.clone(), ..GetOptions::default() };
    let mut content = store.get_opts(&object.location, conditions).await.map_err(failed)?.into_stream();
    let incomplete = path.with_added_extension("incomplete");
    let mut file = File::create(&incomplete).map_err(Error::io(&incomplete))?;
    let mut length = 0;
    while let Some(chunk) = content.next().await {
        let chunk = chunk.map_err(failed)?;
        file.write_all(&chunk).map_err(Error::io(&incomplete))?;
        length += chunk.len() as u64;
    }
    file.sync_all().map_err(Error::io(&incomplete))?;
    if length != object.size {
        return Err(Error::Corrupt {
            uri: uri.into(),
            file: object.location.to_string(),
            found: format!("{length} bytes"),
            expected: object.size.to_string(),
            resumed: false,
        });
    }
    fs::rename(&incomplete, path).map_err(Error::io(path))
}
