//! Addresses of stores and queues: in full, so that two names of one place are equal, and without passwords.

use std::path::{Path, PathBuf};

use crate::settings::data_dir::DataDir;

/// A database's address without its password.
pub(crate) fn masked(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else { return address.to_owned() };
    let (place, query) = rest.split_once('?').map_or((rest, None), |(place, query)| (place, Some(query)));
    let place = match place.rsplit_once('@') {
        Some((user, host)) => match user.split_once(':') {
            Some((user, _)) => format!("{user}:***@{host}"),
            None => format!("{user}@{host}"),
        },
        None => place.to_owned(),
    };
    let pairs = query.map(|query| {
        let masked = query.split('&').map(|pair| match pair.split_once('=') {
            Some((name, _)) if name.to_ascii_lowercase().contains("password") => format!("{name}=***"),
            _ => pair.to_owned(),
        });
        format!("?{}", masked.collect::<Vec<_>>().join("&"))
    });
    format!("{scheme}://{place}{}", pairs.unwrap_or_default())
}

/// A store's full address; a folder in the data folder if none is named.
pub(crate) fn store_of(data: &DataDir, store: &str) -> String {
    if store.contains("://") || store == "memory:" {
        let trimmed = store.trim_end_matches('/');
        // what names no bucket is left for whoever opens it to refuse
        return if trimmed.ends_with(':') { store } else { trimmed }.to_owned();
    }
    let path = if store.is_empty() { data.path("registry") } else { PathBuf::from(store) };
    full(&path).to_string_lossy().into_owned()
}

/// A queue's full address without its password; a file in the data folder if none is named.
pub(crate) fn database_of(data: &DataDir, database: &str) -> String {
    match database.strip_prefix("sqlite:") {
        Some(path) => format!("sqlite:{}", full(Path::new(path)).display()),
        None if database.is_empty() => format!("sqlite:{}", full(&data.queue_file()).display()),
        None => masked(database),
    }
}

/// A path without links, as far as it exists.
fn full(path: &Path) -> PathBuf {
    let parent = || {
        let (folder, name) = (path.parent()?, path.file_name()?);
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        Some(folder.canonicalize().ok()?.join(name))
    };
    path.canonicalize().ok().or_else(parent).or_else(|| std::path::absolute(path).ok()).unwrap_or(path.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_masked() {
        for (address, shown) in [
            ("postgres://dpg:se:cr@et@db:5432/dpg", "postgres://dpg:***@db:5432/dpg"),
            ("postgres://dpg@db/dpg?sslmode=require", "postgres://dpg@db/dpg?sslmode=require"),
            ("postgres://db/dpg?user=dpg&password=secret", "postgres://db/dpg?user=dpg&password=***"),
            ("sqlite:/var/lib/dpg/queue.db", "sqlite:/var/lib/dpg/queue.db"),
            ("", ""),
        ] {
            assert_eq!(masked(address), shown);
        }
    }

    #[test]
    fn addresses_of_one_place_are_one() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::open(Some(folder.path().into())).unwrap();
        let registry = data.registry_dir().unwrap();
        assert_eq!(store_of(&data, ""), store_of(&data, &registry.join("../registry/").to_string_lossy()));
        assert_eq!(store_of(&data, "s3://bucket/prefix/"), "s3://bucket/prefix");
        assert_eq!(store_of(&data, "s3://"), "s3://");
        assert_eq!(
            database_of(&data, ""),
            database_of(&data, &format!("sqlite:{}", data.queue_file().display()))
        );
        assert_eq!(database_of(&data, "postgres://u:secret@h/d"), "postgres://u:***@h/d");
    }
}
