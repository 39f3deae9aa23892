//! Where downloads are kept and how servers are reached.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use object_store::aws::AmazonS3Builder;

/// Settings of [`resolve`](crate::resolve). It holds secrets, so it has no `Debug`.
#[derive(Clone)]
pub struct Options {
    /// Folder of the embedded models and files, each under its name.
    pub embedded: PathBuf,
    /// Folder for what is downloaded from `s3://`.
    pub downloads: PathBuf,
    /// The Hugging Face cache that Python shares: `models--org--name` folders.
    pub hf_cache: PathBuf,
    /// The Hub's address.
    pub hf_endpoint: String,
    /// A token for private and gated models.
    pub hf_token: Option<String>,
    /// Use only what the Hugging Face cache holds.
    pub hf_offline: bool,
    /// Wait before the first retry of a request to the Hub; it doubles with each.
    pub retry_wait: Duration,
    /// How S3 is reached; the bucket is filled in from the location.
    pub s3: AmazonS3Builder,
}

impl Options {
    /// Settings from the environment, as the Python libraries read them: `HF_HUB_CACHE`, `HF_HOME`,
    /// `XDG_CACHE_HOME`, `HF_ENDPOINT`, `HF_TOKEN` (or the file `HF_TOKEN_PATH` or `HF_HOME/token`),
    /// `HF_HUB_OFFLINE`, their older names, and `AWS_*`. Proxies are those of `HTTPS_PROXY` and so on.
    pub fn from_env(embedded: PathBuf, downloads: PathBuf) -> Self {
        let home = env::home_dir().unwrap_or_default();
        let variable = |name: &str| env::var(name).ok().filter(|value| !value.trim().is_empty());
        Self::from_variables(embedded, downloads, &home, variable, AmazonS3Builder::from_env())
    }

    fn from_variables(
        embedded: PathBuf,
        downloads: PathBuf,
        home: &Path,
        variable: impl Fn(&str) -> Option<String>,
        s3: AmazonS3Builder,
    ) -> Self {
        let path = |name| {
            let path = variable(name)?;
            Some(path.strip_prefix("~/").map_or_else(|| PathBuf::from(&path), |inside| home.join(inside)))
        };
        let hf_home = path("HF_HOME").unwrap_or_else(|| {
            path("XDG_CACHE_HOME").unwrap_or_else(|| home.join(".cache")).join("huggingface")
        });
        let token_file = path("HF_TOKEN_PATH").unwrap_or_else(|| hf_home.join("token"));
        let token = variable("HF_TOKEN").or_else(|| variable("HUGGING_FACE_HUB_TOKEN"));
        let token = token.or_else(|| fs::read_to_string(token_file).ok());
        let offline = variable("HF_HUB_OFFLINE").or_else(|| variable("TRANSFORMERS_OFFLINE"));
        let offline = offline.unwrap_or_default().to_uppercase();
        Self {
            embedded,
            downloads,
            hf_cache: path("HF_HUB_CACHE")
                .or_else(|| path("HUGGINGFACE_HUB_CACHE"))
                .unwrap_or_else(|| hf_home.join("hub")),
            hf_endpoint: variable("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into()),
            hf_token: token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty()),
            hf_offline: ["1", "ON", "YES", "TRUE"].contains(&offline.as_str()),
            retry_wait: Duration::from_millis(500),
            s3,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(home: &Path, variables: &[(&str, &str)]) -> Options {
        let variable = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        Options::from_variables("e".into(), "d".into(), home, variable, AmazonS3Builder::new())
    }

    #[test]
    fn the_environment_is_read_as_python_reads_it() {
        let home = tempfile::tempdir().unwrap();
        let plain = options(home.path(), &[]);
        assert_eq!(plain.hf_cache, home.path().join(".cache/huggingface/hub"));
        assert_eq!(plain.hf_endpoint, "https://huggingface.co");
        assert_eq!((plain.hf_token, plain.hf_offline), (None, false));

        let hf_home = home.path().join("hf");
        fs::create_dir(&hf_home).unwrap();
        fs::write(hf_home.join("token"), "hf_file\n").unwrap();
        let hf_home = hf_home.to_str().unwrap();
        let filed = options(home.path(), &[("HF_HOME", hf_home), ("HF_HUB_OFFLINE", "true")]);
        assert_eq!(filed.hf_cache, home.path().join("hf/hub"));
        assert_eq!((filed.hf_token.as_deref(), filed.hf_offline), (Some("hf_file"), true));

        let given =
            [("HF_HOME", hf_home), ("HF_TOKEN", "hf_env"), ("HF_HUB_CACHE", "/c"), ("HF_HUB_OFFLINE", "0")];
        let given = options(home.path(), &given);
        assert_eq!(given.hf_cache, Path::new("/c"));
        assert_eq!((given.hf_token.as_deref(), given.hf_offline), (Some("hf_env"), false));

        fs::write(home.path().join("elsewhere"), "hf_elsewhere").unwrap();
        let older = [
            ("HF_TOKEN_PATH", "~/elsewhere"),
            ("HUGGINGFACE_HUB_CACHE", "~/c"),
            ("TRANSFORMERS_OFFLINE", "1"),
        ];
        let older = options(home.path(), &older);
        assert_eq!(older.hf_cache, home.path().join("c"));
        assert_eq!((older.hf_token.as_deref(), older.hf_offline), (Some("hf_elsewhere"), true));
    }
}
