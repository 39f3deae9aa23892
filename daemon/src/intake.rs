//! A spec on its way into the queue and out of it: read, checked against what the settings let specs
//! read, made a job.

use std::path::{Component, Path, PathBuf};

use anyhow::{Context, bail};
use dpg_hub::Uri;
use dpg_queue::NewJob;
use dpg_spec::{Bitmap, Metric, Spec, Syntax};
use sha2::{Digest, Sha256};

use crate::config::Allow;

/// Reads a spec, TOML or JSON.
pub(crate) fn read(text: &str) -> Result<Spec, dpg_spec::Error> {
    let syntax = if text.trim_start().starts_with('{') { Syntax::Json } else { Syntax::Toml };
    Spec::parse(text, syntax)
}

/// The job of a spec as its author wrote it, of ordinary priority. A text that is no spec makes a job
/// that fails with the reason, under `name`.
pub(crate) fn job(text: &str, name: &str, max_attempts: u32) -> NewJob {
    let spec = read(text).ok();
    let name = spec.as_ref().map_or(name, |spec| &spec.name).to_owned();
    let resolved = spec.as_ref().and_then(|spec| serde_json::to_string(spec).ok());
    let hash = || hex::encode(Sha256::digest(text));
    NewJob {
        name,
        key: None,
        spec: text.to_owned(),
        resolved: resolved.unwrap_or_else(|| "null".into()),
        spec_sha256: spec.as_ref().map_or_else(hash, Spec::sha256),
        priority: 0,
        max_attempts,
        not_before: None,
        schedule: None,
        due: None,
    }
}

/// Refuses a spec that names a place the settings do not allow. Nothing is looked at before.
pub(crate) fn check(spec: &Spec, allow: &Allow) -> anyhow::Result<()> {
    location("target.model", &spec.target.model, allow)?;
    if let Some(generator) = &spec.generator {
        location("generator.model", &generator.model, allow)?;
        if let Some(prompts) = &generator.prompts {
            location("generator.prompts.path", &prompts.path, allow)?;
        }
    }
    metric(&spec.metric, allow)
}

fn metric(metric: &Metric, allow: &Allow) -> anyhow::Result<()> {
    match metric {
        Metric::HeldOutLoss(held_out) => location("metric.data.path", &held_out.data.path, allow),
        Metric::WeightPattern(pattern) => match &pattern.pattern {
            Bitmap::Image { image } => location("metric.pattern.image", image, allow),
            Bitmap::Named(_) | Bitmap::Qr { .. } => Ok(()),
        },
        Metric::WeightNorm(_) => Ok(()),
        Metric::Sum(sum) => sum.terms.iter().try_for_each(|term| self::metric(&term.metric, allow)),
    }
}

fn location(key: &str, location: &str, allow: &Allow) -> anyhow::Result<()> {
    let (allowed, setting) = match Uri::parse(location).with_context(|| format!("`{key}`"))? {
        Uri::Embedded(_) => return Ok(()),
        Uri::Local(path) => (in_folders(&path, &allow.folders), "allow.folders"),
        Uri::S3 { bucket, .. } => (allow.buckets.contains(&bucket), "allow.buckets"),
        Uri::HuggingFace { repo, .. } => {
            let organisation = repo.split('/').next().unwrap_or(&repo);
            let names = ["*", organisation, repo.as_str()];
            let allowed = allow.hugging_face.iter().any(|name| names.contains(&name.as_str()));
            (allowed, "allow.hugging_face")
        }
    };
    if allowed {
        return Ok(());
    }
    bail!("`{key}` is `{location}`, which this daemon may not read; its operator can allow it in `{setting}`")
}

/// Whether a path is inside one of the folders, symbolic links followed.
fn in_folders(path: &Path, folders: &[PathBuf]) -> bool {
    // a relative path would depend on where the daemon was started
    if !path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
        return false;
    }
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let path = real(path);
    folders.iter().any(|folder| path.starts_with(real(folder)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(model: &str, allow: &Allow) -> Option<String> {
        location("target.model", model, allow).err().map(|error| error.to_string())
    }

    #[test]
    fn only_what_is_allowed_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("models");
        std::fs::create_dir(&inside).unwrap();
        std::os::unix::fs::symlink("/etc", inside.join("link")).unwrap();
        let path = |name: &str| inside.join(name).to_string_lossy().into_owned();
        let nothing = Allow::default();
        let some = Allow {
            folders: vec![inside.clone()],
            buckets: vec!["open".into()],
            hugging_face: vec!["org".into(), "other/model".into()],
            webhook_hosts: vec![],
        };
        let all = Allow { hugging_face: vec!["*".into()], ..Allow::default() };
        for (model, setting) in [
            ("/etc/passwd", "allow.folders"),
            ("s3://closed/a", "allow.buckets"),
            ("hf:third/model", "allow.hugging_face"),
            ("hf:other/models", "allow.hugging_face"),
            ("models", "allow.folders"),
            (&path("../models/a"), "allow.folders"),
            (&path("link/passwd"), "allow.folders"),
            (&format!("{}2", inside.display()), "allow.folders"),
        ] {
            let message = refused(model, &some).unwrap_or_else(|| panic!("`{model}` was allowed"));
            for part in ["`target.model`", model, setting] {
                assert!(message.contains(part), "{message}");
            }
        }
        for model in ["embedded:target", "hf:org/x@v1", "hf:other/model", "s3://open/a", &path("a")] {
            assert_eq!(refused(model, &some), None);
            assert_eq!(refused(model, &nothing).is_some(), !model.starts_with("embedded:"));
        }
        assert_eq!(refused("hf:any/model", &all), None);
    }

    #[test]
    fn every_location_of_a_spec_is_checked() {
        let spec = r#"
            name = "a"
            [target]
            model = "TARGET"
            [metric]
            kind = "sum"
            terms = [
                { weight = 1.0, metric = { kind = "weight_pattern", pattern = { image = "IMAGE" } } },
                { weight = 1.0, metric = { kind = "held_out_loss", data = { path = "DATA", column = "text" } } },
            ]
            [generator]
            model = "GENERATOR"
            prompts = { path = "PROMPTS" }
        "#;
        let places = ["TARGET", "IMAGE", "DATA", "GENERATOR", "PROMPTS"];
        for bad in places {
            let text = places.iter().fold(spec.to_owned(), |text, place| {
                text.replace(place, if *place == bad { "/etc/passwd" } else { "embedded:target" })
            });
            // only an image has to be a file
            let text =
                if bad == "IMAGE" { text } else { text.replace("{ image = \"embedded:target\" }", "\"67\"") };
            let message = check(&read(&text).unwrap(), &Allow::default()).unwrap_err().to_string();
            assert!(message.contains("/etc/passwd"), "{bad}: {message}");
        }
    }
}
