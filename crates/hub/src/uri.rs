//! Locations as users write them.

use std::fmt;
use std::path::PathBuf;

use crate::Error;

/// Where a model or a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Uri {
    /// `embedded:NAME`: one that the program brings with it.
    Embedded(String),
    /// A file or folder of this machine.
    Local(PathBuf),
    /// `hf:org/name@rev`: a model on the Hugging Face Hub.
    HuggingFace {
        /// `org/name`.
        repo: String,
        /// A branch, tag or commit.
        revision: String,
    },
    /// `s3://bucket/key`: an object, or the prefix of a folder.
    S3 {
        /// The bucket.
        bucket: String,
        /// The key or prefix, without a slash at the end.
        key: String,
    },
}

impl Uri {
    /// Reads a location. What has none of the known schemes is a path.
    ///
    /// # Errors
    /// [`Error::Uri`] if the part after the scheme is not of the scheme's form.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let refuse = |expected: &'static str| Err(Error::Uri { uri: text.into(), expected });
        if let Some(name) = text.strip_prefix("embedded:") {
            return if is_relative(name) {
                Ok(Self::Embedded(name.into()))
            } else {
                refuse("`embedded:NAME`, as in `embedded:target`")
            };
        }
        if let Some(model) = text.strip_prefix("hf:") {
            let (repo, revision) = model.split_once('@').unwrap_or((model, "main"));
            return if is_repo(repo) && is_relative(revision) {
                Ok(Self::HuggingFace { repo: repo.into(), revision: revision.into() })
            } else {
                refuse("`hf:org/name@rev`, as in `hf:openai-community/gpt2@main`")
            };
        }
        if let Some(object) = text.strip_prefix("s3://") {
            let (bucket, key) = object.split_once('/').unwrap_or((object, ""));
            let key = key.trim_end_matches('/');
            return if !bucket.is_empty() && is_relative(key) {
                Ok(Self::S3 { bucket: bucket.into(), key: key.into() })
            } else {
                refuse("`s3://bucket/prefix`, as in `s3://models/gpt2`")
            };
        }
        if text.is_empty() || text.contains("://") {
            return refuse("`embedded:NAME`, a path, `hf:org/name@rev` or `s3://bucket/prefix`");
        }
        Ok(Self::Local(text.into()))
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded(name) => write!(f, "embedded:{name}"),
            Self::Local(path) => path.display().fmt(f),
            Self::HuggingFace { repo, revision } => write!(f, "hf:{repo}@{revision}"),
            Self::S3 { bucket, key } => write!(f, "s3://{bucket}/{key}"),
        }
    }
}

/// `name` or `org/name`, of the characters the Hub allows.
fn is_repo(repo: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let part = |part: &str| !part.is_empty() && part.chars().all(allowed);
    is_relative(repo) && repo.split('/').count() <= 2 && repo.split('/').all(part)
}

/// Whether a name stays inside the folder that it is joined to.
pub(crate) fn is_relative(name: &str) -> bool {
    name.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}

#[cfg(test)]
mod tests {
    use super::Uri;

    #[test]
    fn every_form_is_read_and_written_back() {
        for text in [
            "embedded:target",
            "embedded:prompts/articles.jsonl",
            "models/gpt2",
            "/models/gpt2",
            "../gpt2",
            "hf:gpt2@main",
            "hf:org/na.me-1_x@refs/pr/1",
            "s3://bucket/a/b",
        ] {
            assert_eq!(Uri::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Uri::parse("hf:gpt2").unwrap().to_string(), "hf:gpt2@main");
        assert_eq!(Uri::parse("s3://bucket/a/").unwrap().to_string(), "s3://bucket/a");
    }

    #[test]
    fn what_is_not_of_a_form_is_refused_with_the_form() {
        for (text, expected) in [
            ("embedded:", "embedded:NAME"),
            ("embedded:../../etc", "embedded:NAME"),
            ("hf:org/name@", "hf:org/name@rev"),
            ("hf:a/b/c", "hf:org/name@rev"),
            ("hf:../x", "hf:org/name@rev"),
            ("hf:org/name@../x", "hf:org/name@rev"),
            ("s3://bucket", "s3://bucket/prefix"),
            ("s3:///a", "s3://bucket/prefix"),
            ("gs://bucket/a", "s3://bucket/prefix"),
            ("", "a path"),
        ] {
            let message = Uri::parse(text).unwrap_err().to_string();
            assert!(message.contains(&format!("`{text}`")) && message.contains(expected), "{message}");
        }
    }
}
