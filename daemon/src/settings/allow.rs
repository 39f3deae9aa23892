//! What a spec may read: embedded models always, and the folders, buckets and Hugging Face models
//! that the settings allow. A file of a model folder counts as what it links to. And the programs that it may start,
//! which the settings name.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use dpg_api::Fault;
use dpg_hub::Uri;
use dpg_spec::{Location, NamedProgram, Spec};

use crate::settings::config::Allow;

/// Each location of a spec that a daemon with these settings must not read or cannot find, and each program that it
/// does not have.
pub(crate) fn faults(spec: &Spec, allow: &Allow) -> Vec<Fault> {
    let mut spec = spec.clone();
    let unknown = commands(&mut spec, &allow.programs).err();
    let check = |Location { key, uri, .. }: Location<'_>| {
        let message = refusal(uri, allow).or_else(|| stray(uri, allow))?;
        Some(Fault { path: key, line: None, message })
    };
    spec.locations().into_iter().filter_map(check).chain(unknown).collect()
}

/// Gives each program that a spec names its command.
///
/// # Errors
/// The first name that is not among the programs'.
pub(crate) fn commands(spec: &mut Spec, programs: &BTreeMap<String, String>) -> Result<(), Fault> {
    for NamedProgram { key, name, command } in spec.programs() {
        let Some(known) = programs.get(name) else {
            let all: Vec<_> = programs.keys().map(|name| format!("`{name}`")).collect();
            let others = if all.is_empty() { String::new() } else { format!(", but {}", all.join(", ")) };
            let message = format!(
                "there is no program `{name}` here{others}; the operator of a daemon gives it below `[allow.programs]` in \
                 `dpg.toml`, and `--program {name}=COMMAND` to a command on this machine"
            );
            return Err(Fault { path: key, line: None, message });
        };
        *command = Some(known.clone());
    }
    Ok(())
}

/// Files of a folder that are looked at; a model has far fewer.
const MOST_FILES: usize = 10_000;

fn refusal(location: &str, allow: &Allow) -> Option<String> {
    let uri = match Uri::parse(location) {
        Ok(uri) => uri,
        Err(error) => return Some(error.to_string()),
    };
    let listed = |list: &[String], names: &[&str]| {
        list.iter().any(|allowed| allowed == "*" || names.contains(&allowed.as_str()))
    };
    let (allowed, setting) = match &uri {
        Uri::Embedded(_) => (true, ""),
        Uri::Local(path) if !path.is_absolute() => {
            return Some(format!("`{location}` is relative, and the daemon does not know to what"));
        }
        Uri::Local(path) => (allow.folders.iter().any(|folder| is_inside(path, folder)), "allow.folders"),
        Uri::S3 { bucket, .. } => (listed(&allow.buckets, &[bucket]), "allow.buckets"),
        Uri::HuggingFace { repo, .. } => {
            let organisation = repo.split('/').next().unwrap_or(repo);
            (listed(&allow.hugging_face, &[repo, organisation]), "allow.hugging_face")
        }
    };
    (!allowed).then(|| {
        format!(
            "this daemon does not read `{location}`; its operator allows it with `{setting}` in `dpg.toml`"
        )
    })
}

/// What is wrong with a model's folder of which a file links to somewhere that may not be read.
fn stray(location: &str, allow: &Allow) -> Option<String> {
    let Ok(Uri::Local(folder)) = Uri::parse(location) else { return None };
    // what is not a folder, or not there, is judged by its path, and told when it is read
    let files = folder.read_dir().ok()?.flatten().map(|file| file.path());
    let outside = |file: &PathBuf| {
        let end = file.canonicalize();
        end.is_ok_and(|end| !allow.folders.iter().any(|folder| is_inside(&end, folder)))
    };
    let file = files.take(MOST_FILES).find(outside)?;
    let file = file.display();
    Some(format!("`{file}` links to what this daemon does not read; copy the file, or allow its folder"))
}

/// Whether `path` is in `folder`, links followed as far as the path is there.
fn is_inside(path: &Path, folder: &Path) -> bool {
    let Ok(folder) = folder.canonicalize() else { return false };
    if path.components().any(|part| part == Component::ParentDir) {
        return false;
    }
    let existing = path.ancestors().find_map(|ancestor| {
        let rest = path.strip_prefix(ancestor).ok()?;
        Some(ancestor.canonicalize().ok()?.join(rest))
    });
    existing.is_some_and(|path| path.starts_with(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_allowed_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let models = folder.path().join("models");
        std::fs::create_dir(&models).unwrap();
        std::fs::write(folder.path().join("secret"), "").unwrap();
        std::os::unix::fs::symlink(folder.path().join("secret"), models.join("link")).unwrap();
        let allow = Allow {
            folders: vec![models.clone()],
            buckets: vec!["data".into()],
            hugging_face: vec!["org".into(), "other/model".into()],
            ..Allow::default()
        };
        let inside = models.display().to_string();
        for good in [
            "embedded:target",
            "s3://data/a",
            "hf:org/x@main",
            "hf:other/model",
            &format!("{inside}/gpt2"),
            &format!("{inside}/not/there/yet"),
        ] {
            assert_eq!(refusal(good, &allow), None, "{good}");
        }
        let model = models.join("model");
        std::fs::create_dir(&model).unwrap();
        std::fs::write(models.join("shared.json"), "").unwrap();
        std::os::unix::fs::symlink("../shared.json", model.join("config.json")).unwrap();
        assert_eq!(stray(&model.display().to_string(), &allow), None);
        std::os::unix::fs::symlink("../../secret", model.join("vocab.json")).unwrap();
        let refused = stray(&model.display().to_string(), &allow).unwrap();
        assert!(refused.contains("vocab.json"), "{refused}");
        for bad in [
            "/etc/passwd",
            "relative/path",
            "s3://other/a",
            "hf:other/another",
            &format!("{inside}/../secret"),
            &format!("{inside}/link"),
            &format!("{inside}-too/x"),
            "http://169.254.169.254/latest/meta-data",
        ] {
            assert!(refusal(bad, &allow).is_some(), "{bad}");
        }
    }
}
