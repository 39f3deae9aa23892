//! A version's files to a local folder, from the store or from whoever serves it, each checked
//! against its hash; and the same check of the files in the store.
//!
//! Files are gathered in a folder beside the target, which then takes the target's place in one
//! rename. A fetch that was cut off goes on with the files it has.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

use crate::layout::MANIFEST;
use crate::snapshot::within;
use crate::{Error, Manifest, ManifestFile, Registry, Version};

type Result<T, E = Error> = std::result::Result<T, E>;

/// What a fetch did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Fetched {
    /// Files that were downloaded.
    pub downloaded: usize,
    /// Files that were there already, and right.
    pub kept: usize,
}

impl Registry {
    /// Places a version's files in `folder`, which is new, empty, or holds a version that was
    /// fetched before; that one is replaced as a whole once every file is there and right.
    ///
    /// Errors when a file in the store is damaged, and when the folder holds files of another
    /// origin.
    pub async fn fetch(&self, version: &Version, folder: &Path) -> Result<Fetched> {
        let (_, json) = self.read_manifest(version).await?;
        let open = async |file: &ManifestFile| self.open(version, file).await;
        fetch_from(&version.to_string(), &version.manifest_sha256, &json, folder, open).await
    }

    /// Reads all files of a version and compares their hashes; the error names every damaged one.
    pub async fn verify(&self, version: &Version) -> Result<()> {
        let name = version.to_string();
        let mut damages = Vec::new();
        for file in &self.manifest(version).await?.files {
            let read = async {
                let bytes = self.open(version, file).await?;
                transfer(&name, file, bytes, &mut tokio::io::sink(), Path::new("")).await
            };
            match read.await {
                Ok(()) => {}
                Err(Error::Damaged { damages: of_file, .. }) => damages.extend(of_file),
                Err(error) if error.is_not_found() => {
                    damages.push(format!("`{}` is missing", file.path));
                }
                Err(error) => return Err(error),
            }
        }
        if damages.is_empty() { Ok(()) } else { Err(Error::Damaged { version: name, damages }) }
    }

    /// The bytes of a file of a version as they arrive.
    async fn open(
        &self,
        version: &Version,
        file: &ManifestFile,
    ) -> Result<BoxStream<'static, Result<Bytes>>> {
        let (store, path) = (self.store.clone(), within(&self.version_path(version), &file.path));
        let got = store.get(&path).await;
        let unreadable = move |source| Error::of_store("read", &path, &store, source);
        match got {
            Ok(found) => Ok(found.into_stream().map_err(unreadable).boxed()),
            Err(source) => Err(unreadable(source)),
        }
    }
}

/// Places the version whose manifest is `manifest` in `folder`, as [`Registry::fetch`] does, with the
/// bytes that `open` gives for each file that is not there yet. They may come from anybody: the
/// manifest must have the hash `manifest_sha256`, and every file the size and hash that it says.
///
/// # Errors
/// As [`Registry::fetch`], with `version` as the version's name; and those of `open` and its streams.
pub async fn fetch_from<S, E>(
    version: &str,
    manifest_sha256: &str,
    manifest: &[u8],
    folder: &Path,
    open: impl AsyncFn(&ManifestFile) -> Result<S, E>,
) -> Result<Fetched, E>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: From<Error>,
{
    let json = manifest;
    let manifest = Manifest::check(json, version, manifest_sha256)?;
    let place = Place::new(folder)?;
    place.check_replaceable()?;

    let (mut downloaded, mut kept, mut elsewhere) = (0, 0, 0);
    for file in &manifest.files {
        let staged = place.staging.join(&file.path);
        if matches(&staged, file).await? {
            kept += 1;
            elsewhere += 1;
        } else if matches(&place.folder.join(&file.path), file).await? {
            kept += 1;
        } else {
            download(version, file, open(file).await?, &staged).await?;
            downloaded += 1;
        }
    }
    let present = fs::read(place.folder.join(MANIFEST)).is_ok_and(|present| present == json);
    if !present || downloaded + elsewhere > 0 {
        place.replace(&manifest, json)?;
    }
    Ok(Fetched { downloaded, kept })
}

/// A file in a folder that is not what was fetched to it, if there is one. Files that are not there any
/// more are none, and a folder that nothing was fetched to has none.
pub fn changed_since_fetch(folder: &Path) -> Result<Option<PathBuf>> {
    let manifest = fs::read(folder.join(MANIFEST)).ok().and_then(|json| Manifest::parse(&json).ok());
    for file in manifest.iter().flat_map(|manifest| &manifest.files) {
        let path = folder.join(&file.path);
        let same = has_content(&path, file.size, &file.sha256);
        match same {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Ok(true) => {}
            Ok(false) => return Ok(Some(PathBuf::from(&file.path))),
            Err(source) => return Err(Error::of_file("read", &path, source)),
        }
    }
    Ok(None)
}

async fn download<E: From<Error>>(
    version: &str,
    file: &ManifestFile,
    bytes: impl Stream<Item = Result<Bytes, E>> + Unpin,
    to: &Path,
) -> Result<(), E> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).map_err(|source| Error::of_file("create folder", folder, source))?;
    }
    let mut part = to.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let failed = |source| Error::of_file("write", to, source);
    let mut sink = tokio::fs::File::create(&part).await.map_err(failed)?;
    transfer(version, file, bytes, &mut sink, to).await?;
    sink.sync_all().await.map_err(failed)?;
    Ok(fs::rename(&part, to).map_err(failed)?)
}

/// Copies a file of a version to `sink`, whose name for errors is `to`; an error if its hash is
/// not the manifest's, or at once if it is longer.
async fn transfer<E: From<Error>>(
    version: &str,
    file: &ManifestFile,
    mut bytes: impl Stream<Item = Result<Bytes, E>> + Unpin,
    sink: &mut (impl AsyncWriteExt + Unpin),
    to: &Path,
) -> Result<(), E> {
    let failed = |source| Error::of_file("write", to, source);
    let damaged = |damage| Error::Damaged { version: version.into(), damages: vec![damage] };
    let (mut hash, mut size) = (Sha256::new(), 0);
    while let Some(bytes) = bytes.try_next().await? {
        size += bytes.len() as u64;
        if size > file.size {
            return Err(damaged(format!("`{}` has more than {} bytes", file.path, file.size)).into());
        }
        hash.update(&bytes);
        sink.write_all(&bytes).await.map_err(failed)?;
    }
    sink.flush().await.map_err(failed)?;
    let found = hex::encode(hash.finalize());
    if found == file.sha256 {
        return Ok(());
    }
    let damage = format!("`{}` has SHA-256 `{found}`, expected `{}`", file.path, file.sha256);
    Err(damaged(damage).into())
}

/// The target folder and its two neighbours on the same disk.
struct Place {
    folder: PathBuf,
    /// Where files are gathered.
    staging: PathBuf,
    /// Where the replaced version waits to be removed.
    retired: PathBuf,
}

impl Place {
    fn new(folder: &Path) -> Result<Self> {
        let folder = fs::canonicalize(folder)
            .or_else(|_| std::path::absolute(folder))
            .map_err(|source| Error::of_file("find", folder, source))?;
        let no_folder = || Error::of_file("fetch to", &folder, ErrorKind::InvalidInput.into());
        let name = folder.file_name().ok_or_else(no_folder)?.to_string_lossy();
        let beside = |suffix| folder.with_file_name(format!(".{name}.{suffix}"));
        let (staging, retired) = (beside("dpg-partial"), beside("dpg-replaced"));
        let place = Self { folder, staging, retired };
        // A fetch that died between the two renames of `replace` left no folder.
        if !place.folder.exists() && place.retired.exists() {
            rename(&place.retired, &place.folder)?;
        }
        Ok(place)
    }

    /// Refuses a folder with files that an earlier fetch did not put there: they would be lost.
    fn check_replaceable(&self) -> Result<()> {
        let files = files_under(&self.folder)?;
        if files.is_empty() {
            return Ok(());
        }
        let manifest = fs::read(self.folder.join(MANIFEST)).ok().and_then(|json| Manifest::parse(&json).ok());
        let ours: BTreeSet<_> = manifest
            .iter()
            .flat_map(|manifest| &manifest.files)
            .map(|file| PathBuf::from(&file.path))
            .collect();
        let is_manifest = |file: &Path| manifest.is_some() && file == Path::new(MANIFEST);
        match files.into_iter().find(|file| !ours.contains(file) && !is_manifest(file)) {
            Some(file) => Err(Error::ForeignFile { folder: self.folder.clone(), file }),
            None => Ok(()),
        }
    }

    /// Completes the staging folder with the target's right files, and swaps the two.
    fn replace(&self, manifest: &Manifest, json: &[u8]) -> Result<()> {
        let wanted: BTreeSet<_> = manifest.files.iter().map(|file| PathBuf::from(&file.path)).collect();
        for file in &wanted {
            let (staged, present) = (self.staging.join(file), self.folder.join(file));
            if !staged.exists() {
                let failed = |source| Error::of_file("write", &staged, source);
                staged.parent().map_or(Ok(()), fs::create_dir_all).map_err(failed)?;
                fs::hard_link(&present, &staged)
                    .or_else(|_| fs::copy(&present, &staged).map(drop))
                    .map_err(failed)?;
            }
        }
        for file in files_under(&self.staging)?.difference(&wanted) {
            let file = self.staging.join(file);
            fs::remove_file(&file).map_err(|source| Error::of_file("remove", &file, source))?;
        }
        let list = self.staging.join(MANIFEST);
        fs::write(&list, json).map_err(|source| Error::of_file("write", &list, source))?;

        let remove = |source| Error::of_file("remove", &self.retired, source);
        if self.retired.exists() {
            fs::remove_dir_all(&self.retired).map_err(remove)?;
        }
        if self.folder.exists() {
            rename(&self.folder, &self.retired)?;
        }
        rename(&self.staging, &self.folder)?;
        if self.retired.exists() {
            fs::remove_dir_all(&self.retired).map_err(remove)?;
        }
        Ok(())
    }
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|source| Error::of_file("place", to, source))
}

/// The files under a folder, as paths relative to it; none if it is not there.
fn files_under(folder: &Path) -> Result<BTreeSet<PathBuf>> {
    let unreadable = |source| Error::of_file("read", folder, source);
    let mut files = BTreeSet::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(inner) = folders.pop() {
        let entries = match fs::read_dir(folder.join(&inner)) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            entries => entries.map_err(unreadable)?,
        };
        for entry in entries {
            let entry = entry.map_err(unreadable)?;
            let path = inner.join(entry.file_name());
            if entry.file_type().map_err(unreadable)?.is_dir() {
                folders.push(path);
            } else {
                files.insert(path);
            }
        }
    }
    Ok(files)
}

/// Whether a local file has the size and hash that a manifest says.
async fn matches(path: &Path, file: &ManifestFile) -> Result<bool> {
    let (local, size, sha256) = (path.to_path_buf(), file.size, file.sha256.clone());
    let compare = move || has_content(&local, size, &sha256);
    match tokio::task::spawn_blocking(compare).await.map_err(io::Error::other).flatten() {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        same => same.map_err(|source| Error::of_file("read", path, source)),
    }
}

fn has_content(path: &Path, size: u64, sha256: &str) -> io::Result<bool> {
    let mut file = fs::File::open(path)?;
    if file.metadata()?.len() != size {
        return Ok(false);
    }
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex::encode(hash.finalize()) == sha256),
            read => hash.update(&buffer[..read]),
        }
    }
}
