//! Files that a command makes for its user. They are never written over what the command reads, nor over
//! a file of another origin unless `--overwrite` says so; and a file is there whole or not at all.

use std::fs::{self, File, Metadata, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use chrono::{DateTime, Utc};

/// A file to be written, or a device or pipe.
pub(crate) struct Output {
    path: PathBuf,
    /// Of the file that is replaced.
    replaced: Option<Metadata>,
}

impl Output {
    /// The file `path`, which the option `option` names. It is refused if it is one of `inputs`, or in
    /// one that is a folder; or if it is there, unless `overwrite` or `is_ours`.
    pub(crate) fn new(
        path: &Path,
        option: &str,
        inputs: &[PathBuf],
        overwrite: bool,
        is_ours: impl Fn(&Path) -> bool,
    ) -> anyhow::Result<Self> {
        let shown = path.display();
        let found = match fs::metadata(path) {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                if path.is_symlink() {
                    bail!("`{option} {shown}` is a link to a file that is not there; remove the link");
                }
                if path.file_name().is_none() {
                    bail!("`{option} {shown}` does not name a file");
                }
                return Ok(Self { path: path.into(), replaced: None });
            }
            Err(error) => return Err(error).with_context(|| format!("cannot look at `{shown}`")),
        };
        if found.is_dir() {
            bail!("`{option} {shown}` is a folder; name a file in it");
        }
        if let Some(input) = inputs.iter().find_map(|input| same(input, &found)) {
            bail!(
                "`{option} {shown}` is `{}`, which this command reads and would lose; name another file",
                input.display()
            );
        }
        if found.is_file() && !overwrite && !is_ours(path) {
            let written = found.modified().map_or_else(
                |_| String::new(),
                |time| format!(", written {}", DateTime::<Utc>::from(time).format("%Y-%m-%d %H:%M UTC")),
            );
            bail!(
                "`{option} {shown}` is there already ({} bytes{written}) and would be replaced; name another file, or \
                 add --overwrite",
                found.len()
            );
        }
        // a link stays, and what it leads to is replaced
        let path = path.canonicalize().with_context(|| format!("cannot look at `{shown}`"))?;
        Ok(Self { path, replaced: Some(found) })
    }

    /// Writes the file. Until it is complete an earlier one stays, and after an error.
    pub(crate) fn write<T>(&self, write: impl FnOnce(&mut File) -> anyhow::Result<T>) -> anyhow::Result<T> {
        let failed = || format!("cannot write `{}`", self.path.display());
        if self.replaced.as_ref().is_some_and(|found| !found.is_file()) {
            return write(&mut File::options().write(true).open(&self.path).with_context(failed)?);
        }
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        fs::create_dir_all(folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
        let mut partial = tempfile::Builder::new();
        partial.prefix(".dpg-").suffix(".partial");
        let mut file =
            partial.permissions(Permissions::from_mode(0o666)).tempfile_in(folder).with_context(failed)?;
        let written = write(file.as_file_mut())?;
        file.as_file_mut().flush().and_then(|()| file.as_file().sync_all()).with_context(failed)?;
        if let Some(replaced) = &self.replaced {
            fs::set_permissions(file.path(), replaced.permissions()).with_context(failed)?;
        }
        file.persist(&self.path).map_err(|error| error.error).with_context(failed)?;
        Ok(written)
    }
}

/// Refuses a folder for pictures that has some already, unless `overwrite`.
pub(crate) fn check_pictures(folder: &Path, overwrite: bool) -> anyhow::Result<()> {
    if folder.exists() && !folder.is_dir() {
        bail!("`--pictures {}` is not a folder", folder.display());
    }
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let is_picture = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "png");
    match entries.map(|entry| entry.path()).find(is_picture) {
        Some(picture) if !overwrite => bail!(
            "`{}` is there already and might be replaced; name another folder with --pictures, or add --overwrite",
            picture.display()
        ),
        _ => Ok(()),
    }
}

/// Writes a picture, whole or not at all, over one of the same name.
pub(crate) fn write_picture(path: &Path, png: &[u8]) -> anyhow::Result<()> {
    Output::new(path, "--pictures", &[], true, |_| true)?
        .write(|file| file.write_all(png).with_context(|| format!("cannot write `{}`", path.display())))
}

/// The input, or the file in it, that is the file `found`: by another name, through links, or as another
/// name of the same file.
fn same(input: &Path, found: &Metadata) -> Option<PathBuf> {
    let is = |path: &Path| {
        fs::metadata(path).is_ok_and(|input| (input.dev(), input.ino()) == (found.dev(), found.ino()))
    };
    if !input.is_dir() {
        return is(input).then(|| input.to_owned());
    }
    let entries = fs::read_dir(input).ok()?.flatten();
    entries.map(|entry| entry.path()).find(|path| is(path))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn output(path: &Path, inputs: &[PathBuf], overwrite: bool) -> anyhow::Result<Output> {
        Output::new(path, "--out", inputs, overwrite, |path| path.ends_with("ours"))
    }

    #[test]
    fn an_input_is_never_written_over_by_any_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("data"), "data").unwrap();
        fs::write(path("ours"), "data").unwrap();
        fs::create_dir(path("model")).unwrap();
        fs::write(path("model/config.json"), "{}").unwrap();
        symlink(path("data"), path("link")).unwrap();
        fs::hard_link(path("data"), path("hard")).unwrap();
        symlink(folder.path(), path("up")).unwrap();
        let inputs = [path("data"), path("ours"), path("model")];
        let names =
            ["data", "ours", "link", "hard", "model/../data", "up/data", "up/hard", "model/config.json"];
        for name in names {
            for overwrite in [false, true] {
                let error = output(&path(name), &inputs, overwrite).err().unwrap().to_string();
                assert!(error.contains("which this command reads"), "{name}: {error}");
            }
        }
        assert!(output(&path("model/new"), &inputs, false).is_ok());
    }

    #[test]
    fn what_is_there_stays_unless_told_otherwise() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("mine"), "mine").unwrap();
        fs::write(path("ours"), "ours").unwrap();
        symlink(path("mine"), path("link")).unwrap();
        symlink(path("nothing"), path("dangling")).unwrap();
        for (name, part) in
            [("mine", "4 bytes"), ("link", "--overwrite"), ("dangling", "is a link"), (".", "is a folder")]
        {
            let error = output(&path(name), &[], false).err().unwrap().to_string();
            assert!(error.contains(part), "{name}: {error}");
        }
        let write = |name: &str, text: &str| {
            output(&path(name), &[], true).unwrap().write(|file| Ok(file.write_all(text.as_bytes())?))
        };
        write("link", "new").unwrap();
        assert!(path("link").is_symlink());
        assert_eq!(fs::read_to_string(path("mine")).unwrap(), "new");
        assert!(output(&path("ours"), &[], false).is_ok());
        write("in/new/folders", "text").unwrap();
        assert_eq!(fs::read_to_string(path("in/new/folders")).unwrap(), "text");
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine");
        fs::write(&path, "mine").unwrap();
        let written: anyhow::Result<()> = output(&path, &[], true).unwrap().write(|file| {
            file.write_all(b"half")?;
            bail!("the disk is full")
        });
        assert!(written.is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        output(Path::new("/dev/null"), &[], false).unwrap().write(|file| Ok(file.write_all(b"x")?)).unwrap();
        assert!(!Path::new("/dev/null").is_file());
    }
}
