//! A folder of this machine as a dataset of the Hugging Face Hub, through the Hub's HTTP API: the repository is made if
//! there is none, large files go to its storage (Git LFS), and one commit puts all of them in place. What the Hub has
//! already is not sent again, so that a push which was cut off goes on where it stopped.
//!
//! Departures from `huggingface_hub`: nothing is replaced that is another's unless that is asked for, the commit names
//! its parent, and Xet, the newer storage, is not spoken: the Hub takes Git LFS as well.

mod api;
mod lfs;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde_json::json;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use tokio::task::spawn_blocking;

use crate::{Error, Options};
use api::{Api, Entry};

/// Bytes of a file by which the Hub judges whether it is text.
const SAMPLE: usize = 512;
/// Files of one request.
const TOGETHER: usize = 256;
/// Git's own, which the Hub puts into each new repository.
const ATTRIBUTES: &str = ".gitattributes";

/// What is to be pushed, and where to.
#[derive(Clone, Debug)]
pub struct Push<'a> {
    /// `org/name`.
    pub repo: &'a str,
    /// The branch, which is `main` in a new repository.
    pub branch: &'a str,
    /// The folder that the files are in.
    pub folder: &'a Path,
    /// All that the dataset is to have: paths in the folder, with `/`.
    pub files: &'a [String],
    /// The commit's first line.
    pub message: &'a str,
    /// A tag for the commit.
    pub tag: &'a str,
    /// Whether a new repository is private.
    pub private: bool,
    /// Whether other files of the repository may be replaced and removed.
    pub overwrite: bool,
}

/// What a push did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// The dataset's page.
    pub url: String,
    /// The commit that has the files.
    pub commit: String,
    /// Whether the repository was made.
    pub created: bool,
    /// Files that were committed, and those that were there already.
    pub sent: usize,
    /// Files that were there already, as they are.
    pub kept: usize,
    /// Files that were removed.
    pub removed: usize,
    /// Whether the commit has the tag; another one had it before if not.
    pub tagged: bool,
}

/// A file of the folder.
struct Local<'a> {
    path: &'a str,
    size: u64,
    sha256: String,
    /// The name of its content in git.
    blob: String,
    sample: Vec<u8>,
}

impl<'a> Local<'a> {
    async fn read(folder: &Path, path: &'a str) -> Result<Self, Error> {
        let file = folder.join(path);
        let read = {
            let file = file.clone();
            spawn_blocking(move || hashes(&file)).await.expect("hashing does not panic and is not aborted")
        };
        let (size, sha256, blob, sample) = read.map_err(Error::io(&file))?;
        Ok(Self { path, size, sha256, blob, sample })
    }

    fn is(&self, entry: &Entry) -> bool {
        entry.lfs.as_ref().map_or(entry.oid == self.blob, |large| large.oid == self.sha256)
    }
}

fn hashes(file: &Path) -> io::Result<(u64, String, String, Vec<u8>)> {
    let mut file = File::open(file)?;
    let size = file.metadata()?.len();
    let (mut content, mut blob) = (Sha256::new(), Sha1::new_with_prefix(format!("blob {size}\0")));
    let (mut sample, mut buffer) = (vec![], vec![0; 1 << 20]);
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok((size, hex::encode(content.finalize()), hex::encode(blob.finalize()), sample));
        }
        let more = SAMPLE.saturating_sub(sample.len()).min(count);
        sample.extend_from_slice(&buffer[..more]);
        content.update(&buffer[..count]);
        blob.update(&buffer[..count]);
    }
}

/// Pushes a folder. `sent` is told of each large file that has been uploaded, with its bytes.
///
/// # Errors
/// [`Error::NoToken`]; [`Error::Overwrites`] where the repository has other files; and what the Hub refuses.
pub async fn push(
    push: &Push<'_>,
    options: &Options,
    sent: &mut (dyn FnMut(&str, u64) + Send),
) -> Result<Pushed, Error> {
    let api = Api::new(push, options)?;
    let created = api.create(push.private).await?;
    let parent = api.commit().await?;
    let theirs = api.tree(&parent).await?;
    let mut ours = vec![];
    for path in push.files {
        ours.push(Local::read(push.folder, path).await?);
    }

    let (same, new): (Vec<_>, Vec<_>) =
        ours.into_iter().partition(|file| theirs.get(file.path).is_some_and(|entry| file.is(entry)));
    let is_ours = |path: &str| push.files.iter().any(|file| file == path);
    let stale: Vec<_> =
        theirs.keys().filter(|path| !is_ours(path) && path.as_str() != ATTRIBUTES).cloned().collect();
    let replaced =
        new.iter().map(|file| file.path).filter(|path| theirs.contains_key(*path) && *path != ATTRIBUTES);
    let lost: Vec<_> = replaced.map(str::to_owned).chain(stale.iter().cloned()).collect();
    if !lost.is_empty() && !push.overwrite {
        return Err(Error::Overwrites { repo: push.repo.into(), branch: push.branch.into(), files: lost });
    }

    let commit = if new.is_empty() && stale.is_empty() {
        parent
    } else {
        let modes = modes(&api, &new).await?;
        // an empty file is none for a storage of large ones
        let (large, small): (Vec<_>, Vec<_>) = new
            .iter()
            .partition(|file| file.size > 0 && modes.get(file.path).is_some_and(|mode| mode == "lfs"));
        lfs::upload(&api, push, &large, sent).await?;
        let mut lines = vec![json!({
            "key": "header",
            "value": { "summary": push.message, "description": "", "parentCommit": parent },
        })];
        for file in small {
            let path = push.folder.join(file.path);
            let content = std::fs::read(&path).map_err(Error::io(&path))?;
            let value = json!({ "path": file.path, "encoding": "base64", "content": api::base64(&content) });
            lines.push(json!({ "key": "file", "value": value }));
        }
        for file in large {
            let value = json!({ "path": file.path, "algo": "sha256", "oid": file.sha256, "size": file.size });
            lines.push(json!({ "key": "lfsFile", "value": value }));
        }
        lines.extend(stale.iter().map(|path| json!({ "key": "deletedFile", "value": { "path": path } })));
        api.send_commit(&lines).await?
    };
    let tagged = api.tag(&commit, push.tag).await?;
    let (sent, kept, removed) = (new.len(), same.len(), stale.len());
    Ok(Pushed { url: api.page(), commit, created, sent, kept, removed, tagged })
}

/// How the Hub wants each file: `lfs` or `regular`.
async fn modes(api: &Api<'_>, files: &[Local<'_>]) -> Result<BTreeMap<String, String>, Error> {
    let mut modes = BTreeMap::new();
    for files in files.chunks(TOGETHER) {
        let described = files
            .iter()
            .map(|file| json!({ "path": file.path, "size": file.size, "sample": api::base64(&file.sample) }));
        modes.extend(api.modes(described.collect()).await?);
    }
    Ok(modes)
}
