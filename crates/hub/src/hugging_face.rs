//! Models of the Hugging Face Hub, through the cache that Python shares.
//!
//! A commit that is complete in the cache is used as it is. A branch or tag is looked up on the Hub
//! each time, so that it is current; if the Hub cannot be reached, the last known commit serves.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use reqwest::StatusCode;
use serde::Deserialize;
use tracing::warn;

use crate::cache::{Cache, is_commit};
use crate::download::{Announced, Hub};
use crate::uri::is_relative;
use crate::{Error, Options, Uri};

/// Files beside the weights that are used if a model has them. The first it must have, and the
/// second nearly all have.
pub(crate) const SMALL_FILES: [&str; 6] = [
    "config.json",
    "tokenizer.json",
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
];
const WEIGHTS: &str = "model.safetensors";
/// Says which shard holds which tensor.
pub(crate) const INDEX: &str = "model.safetensors.index.json";

pub(crate) async fn resolve(repo: &str, revision: &str, options: &Options) -> Result<PathBuf, Error> {
    let cache = Cache::new(&options.hf_cache, repo);
    let known = cache.commit(revision);
    let uri = Uri::HuggingFace { repo: repo.into(), revision: revision.into() }.to_string();
    if options.hf_offline {
        let mut missing = match &known {
            Some(commit) => unknown(&cache, commit, &uri)?,
            None => vec![SMALL_FILES[0].into()],
        };
        missing.retain(|file| !SMALL_FILES[2..].contains(&file.as_str()));
        return match known {
            Some(commit) if missing.is_empty() => Ok(cache.snapshot(&commit)),
            _ => {
                let (repo, revision, cache) = (repo.into(), revision.into(), options.hf_cache.clone());
                Err(Error::Offline { repo, revision, cache, missing })
            }
        };
    }
    if is_commit(revision) && unknown(&cache, revision, &uri)?.is_empty() {
        return Ok(cache.snapshot(revision));
    }
    let hub = Hub::new(repo, revision, options)?;
    let config = match (hub.head(revision, SMALL_FILES[0]).await, known) {
        (Err(error @ Error::Transfer { .. }), Some(commit)) if unknown(&cache, &commit, &uri)?.is_empty() => {
            warn!(%error, "using {uri} as last downloaded, commit {commit}");
            return Ok(cache.snapshot(&commit));
        }
        (config, _) => config?.ok_or_else(|| hub.refused(SMALL_FILES[0], StatusCode::NOT_FOUND, None))?,
    };
    let commit = commit_of(&config, SMALL_FILES[0], revision, &hub)?;
    let model = Model { cache: &cache, hub: &hub, commit: &commit };
    model.fetch_announced(SMALL_FILES[0], &config).await?;
    for file in &SMALL_FILES[1..] {
        model.fetch(file).await?;
    }
    if !model.fetch(WEIGHTS).await? {
        if !model.fetch(INDEX).await? {
            return Err(Error::NoWeights { uri });
        }
        for shard in shards(&cache, &commit, &uri)? {
            if !model.fetch(&shard).await? {
                return Err(hub.refused(&shard, StatusCode::NOT_FOUND, None));
            }
        }
    }
    cache.set_commit(revision, &commit)?;
    Ok(cache.snapshot(&commit))
}

/// Files of a dataset, in the cache that Python shares.
pub(crate) async fn dataset(
    repo: &str,
    revision: &str,
    files: &[&str],
    options: &Options,
) -> Result<(PathBuf, String), Error> {
    let cache = Cache::of_dataset(&options.hf_cache, repo);
    let missing = |commit: &str| {
        let missing = files.iter().filter(|file| cache.has(commit, file) != Some(true));
        missing.map(|file| (*file).to_owned()).collect::<Vec<_>>()
    };
    let known = cache.commit(revision);
    let absent = known
        .as_ref()
        .map_or_else(|| files.iter().map(|file| (*file).to_owned()).collect(), |commit| missing(commit));
    if let Some(commit) = known.filter(|_| (options.hf_offline || is_commit(revision)) && absent.is_empty()) {
        return Ok((cache.snapshot(&commit), commit));
    }
    if options.hf_offline {
        let (repo, revision, cache) = (format!("datasets/{repo}"), revision.into(), options.hf_cache.clone());
        return Err(Error::Offline { repo, revision, cache, missing: absent });
    }
    let named = format!("datasets/{repo}");
    let hub = Hub::new(&named, revision, options)?;
    let mut found = None;
    for file in files {
        if !is_relative(file) {
            return Err(hub.malformed(file, "it is not the path of a file in the dataset"));
        }
        let absent = || hub.refused(file, StatusCode::NOT_FOUND, None);
        let commit = if let Some(commit) = &found {
            commit
        } else {
            let first = hub.head(revision, file).await?.ok_or_else(absent)?;
            found.insert(commit_of(&first, file, revision, &hub)?)
        };
        if !(Model { cache: &cache, hub: &hub, commit }).fetch(file).await? {
            return Err(absent());
        }
    }
    let commit = found.unwrap_or_else(|| revision.to_owned());
    cache.set_commit(revision, &commit)?;
    Ok((cache.snapshot(&commit), commit))
}

/// The commit that a revision stands for, as the Hub says of one of its files.
fn commit_of(announced: &Announced, file: &str, revision: &str, hub: &Hub) -> Result<String, Error> {
    let commit = announced.commit.clone().or_else(|| is_commit(revision).then(|| revision.to_owned()));
    commit.filter(|commit| is_commit(commit)).ok_or_else(|| {
        let reason = "the server does not say which commit this is (`X-Repo-Commit`); name the commit itself \
                      (`hf:org/name@COMMIT`), or check `HF_ENDPOINT`";
        hub.malformed(file, reason)
    })
}

struct Model<'a> {
    cache: &'a Cache,
    hub: &'a Hub<'a>,
    commit: &'a str,
}

impl Model<'_> {
    /// Brings a file into the snapshot; false if the commit has none of that name.
    async fn fetch(&self, file: &str) -> Result<bool, Error> {
        if let Some(has) = self.cache.has(self.commit, file) {
            return Ok(has);
        }
        if let Some(announced) = self.hub.head(self.commit, file).await? {
            self.fetch_announced(file, &announced).await?;
            return Ok(true);
        }
        self.cache.set_absent(self.commit, file)?;
        Ok(false)
    }

    async fn fetch_announced(&self, file: &str, announced: &Announced) -> Result<(), Error> {
        let blob = self.cache.blob(&announced.etag)?;
        self.hub.download(self.commit, file, announced, &blob).await?;
        self.cache.link(self.commit, file, &announced.etag)
    }
}

/// Files of a commit of which the cache cannot tell what they are, or that they do not exist.
fn unknown(cache: &Cache, commit: &str, uri: &str) -> Result<Vec<String>, Error> {
    let unknown = |file: &&str| cache.has(commit, file).is_none();
    let mut files: Vec<_> = SMALL_FILES.iter().copied().filter(unknown).map(str::to_owned).collect();
    if cache.has(commit, WEIGHTS) != Some(true) {
        match cache.has(commit, INDEX) {
            Some(true) => {
                files
                    .extend(shards(cache, commit, uri)?.into_iter().filter(|shard| unknown(&shard.as_str())));
            }
            _ => files.push(WEIGHTS.into()),
        }
    }
    Ok(files)
}

/// Names of the weight files, from the index.
fn shards(cache: &Cache, commit: &str, uri: &str) -> Result<BTreeSet<String>, Error> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let path = cache.snapshot(commit).join(INDEX);
    let malformed = |reason: String| Error::Malformed { uri: uri.into(), file: INDEX.into(), reason };
    let text = dpg_files::read(&path, dpg_files::JSON_BYTES).map_err(Error::io(&path))?;
    let index: Index = serde_json::from_slice(&text).map_err(|error| malformed(error.to_string()))?;
    let shards: BTreeSet<_> = index.weight_map.into_values().collect();
    match shards.iter().find(|shard| !is_relative(shard) || shard.contains('/')) {
        Some(shard) => Err(malformed(format!("`{shard}` is not the name of a file beside it"))),
        None => Ok(shards),
    }
}
