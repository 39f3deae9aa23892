//! `dpg datasets push` and `pull`: versions as datasets of the Hugging Face Hub.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use dpg_hub::{Error, Push, Uri};
use dpg_registry::{MANIFEST, Manifest, ManifestFile, Registry, fetch_from};
use futures::{StreamExt, stream};
use reqwest::StatusCode;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;

use crate::commands::connect::Place;
use crate::commands::fetch::{Copy, check_unchanged, copy};
use crate::commands::show;
use crate::commands::version::megabytes;
use crate::settings::data_dir::DataDir;
use crate::terminal;
use crate::terminal::console::tell;

/// Bytes of a file that are read at once.
const BUFFER: usize = 1 << 18;

/// Where a version goes.
#[derive(Clone, Copy)]
pub(super) struct To<'a> {
    /// `hf:org/name`.
    pub(super) repository: &'a str,
    pub(super) private: bool,
    pub(super) overwrite: bool,
}

/// Publishes a version on the Hub, from a copy in the data folder, which stays there until that is done.
pub(super) async fn push(
    data: &DataDir,
    place: &Place,
    store: Option<&str>,
    version: &str,
    To { repository, private, overwrite }: To<'_>,
    as_json: bool,
) -> anyhow::Result<()> {
    let (repo, branch) = repository_of(repository)?;
    let options = data.hub()?;
    if options.hf_token.is_none() {
        return Err(Error::NoToken { repo }.into());
    }
    let folder = data.path("pushes").join(version.replace(['@', '/'], "-"));
    fs::create_dir_all(folder.parent().unwrap_or(&folder))
        .with_context(|| format!("cannot create `{}`", folder.display()))?;
    let copied =
        copy(data, place, store, Copy { dataset: version, folder: &folder, overwrite: true }).await?.version;
    if let Some(why) = &copied.withdrawn {
        bail!("{copied} was withdrawn and is not pushed: {}", terminal::line(&why.to_string()));
    }
    let mut files = vec![MANIFEST.to_owned()];
    let manifest: Manifest = serde_json::from_slice(&fs::read(folder.join(MANIFEST))?)?;
    files.extend(manifest.files.into_iter().map(|file| file.path));
    let (message, tag) = (format!("{copied}: {} rows", copied.rows), format!("v{}", copied.number));
    let push = Push {
        repo: &repo,
        branch: &branch,
        folder: &folder,
        files: &files,
        message: &message,
        tag: &tag,
        private,
        overwrite,
    };
    let mut said = |file: &str, bytes: u64| tell(format_args!("uploaded {file}, {}", megabytes(bytes)));
    let pushed = dpg_hub::push(&push, &options, &mut said).await;
    let pushed = pushed.with_context(|| format!("cannot push {copied}"))?;
    let _ = fs::remove_dir_all(&folder);
    let value = json!({
        "version": copied.to_string(),
        "url": pushed.url,
        "commit": pushed.commit,
        "created": pushed.created,
        "sent": pushed.sent,
        "kept": pushed.kept,
        "removed": pushed.removed,
        "tag": pushed.tagged.then_some(&tag),
    });
    show(as_json, &value, || {
        let removed =
            if pushed.removed > 0 { format!(", {} removed", pushed.removed) } else { String::new() };
        let revision = if pushed.tagged {
            format!(", revision=\"{tag}\"")
        } else {
            format!(", revision=\"{}\")   # another commit has the tag `{tag}`", pushed.commit)
        };
        format!(
            "{copied} is at {}: {} files sent, {} there already{removed}\ndatasets.load_dataset(\"{repo}\"{revision})",
            pushed.url, pushed.sent, pushed.kept
        )
    });
    Ok(())
}

/// Copies a dataset from the Hub, by way of the cache that Python shares: to a folder, or into the registry.
pub(super) async fn pull(
    data: &DataDir,
    registry: &Registry,
    repository: &str,
    folder: Option<(&Path, bool)>,
    as_json: bool,
) -> anyhow::Result<()> {
    let (repo, revision) = repository_of(repository)?;
    if let Some((folder, false)) = folder {
        check_unchanged(folder)?;
    }
    let options = data.hub()?;
    let (snapshot, commit) = match dpg_hub::dataset(&repo, &revision, &[MANIFEST], &options).await {
        Err(Error::Status { status: StatusCode::NOT_FOUND, .. }) => bail!(
            "`{repository}` is not a dataset that dpg pushed, or has no such revision: it has no `{MANIFEST}`"
        ),
        found => found?,
    };
    let path = snapshot.join(MANIFEST);
    let json = fs::read(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let manifest: Manifest =
        serde_json::from_slice(&json).with_context(|| format!("`{MANIFEST}` of `{repository}`"))?;
    let files: Vec<_> = manifest.files.iter().map(|file| file.path.as_str()).collect();
    let (snapshot, _) = dpg_hub::dataset(&repo, &commit, &files, &options).await?;
    let name = format!("hf:{repo}@{revision}");
    let Some((folder, _)) = folder else {
        let version = registry.adopt(&snapshot).await;
        let version = version.with_context(|| format!("cannot take `{name}` into the store"))?;
        let value = json!({ "version": version.to_string(), "commit": commit, "rows": version.rows });
        show(as_json, &value, || format!("{name} is {version} ({} rows, commit {commit})", version.rows));
        return Ok(());
    };
    let open = async |file: &ManifestFile| anyhow::Ok(bytes(snapshot.join(&file.path)).boxed());
    let sha256 = hex::encode(Sha256::digest(&json));
    let fetched = fetch_from(&name, &sha256, &json, folder, open).await;
    let fetched = fetched.with_context(|| format!("cannot fetch `{name}`"))?;
    let value = json!({
        "dataset": manifest.dataset,
        "commit": commit,
        "folder": folder,
        "downloaded": fetched.downloaded,
        "kept": fetched.kept,
    });
    show(as_json, &value, || {
        format!(
            "{} of {name} is in {} ({} files, commit {commit})",
            manifest.dataset,
            folder.display(),
            files.len()
        )
    });
    Ok(())
}

/// `hf:org/name@rev` in its two parts.
fn repository_of(repository: &str) -> anyhow::Result<(String, String)> {
    match Uri::parse(repository)? {
        Uri::HuggingFace { repo, revision } => Ok((repo, revision)),
        _ => bail!("`{repository}` is not a repository of the Hugging Face Hub; expected `hf:org/name`"),
    }
}

/// The bytes of a local file.
fn bytes(path: PathBuf) -> impl futures::Stream<Item = anyhow::Result<bytes::Bytes>> + Send {
    stream::try_unfold((path, None), async |(path, file)| {
        let mut file = match file {
            Some(file) => file,
            None => tokio::fs::File::open(&path)
                .await
                .with_context(|| format!("cannot read `{}`", path.display()))?,
        };
        let mut buffer = bytes::BytesMut::with_capacity(BUFFER);
        let count = file.read_buf(&mut buffer).await?;
        Ok((count > 0).then(|| (buffer.freeze(), (path, Some(file)))))
    })
}
