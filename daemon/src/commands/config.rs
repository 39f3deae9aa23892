//! `dpg config`: is a settings file good, and which settings are in force.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;

use crate::cli::ServeArguments;
use crate::commands::show;
use crate::settings::config::Config;
use crate::settings::data_dir::DataDir;

/// What to do with settings.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigAction {
    /// Check a settings file.
    Check {
        /// The file.
        file: PathBuf,
    },
    /// Print the settings that `dpg serve` would run with, passwords masked.
    Show(ServeArguments),
}

/// Checks a settings file, or prints the settings in force.
pub(crate) fn config(data: &DataDir, action: ConfigAction, as_json: bool) -> anyhow::Result<()> {
    match action {
        ConfigAction::Check { file } => {
            Config::load(Some(&file))?;
            let value = json!({ "file": file, "valid": true });
            show(as_json, &value, || format!("`{}` is valid", file.display()));
        }
        ConfigAction::Show(arguments) => {
            let mut config = Config::effective(data, &arguments)?;
            config.database = masked(&config.database);
            let text = toml::to_string_pretty(&config)?;
            show(as_json, &json!(config), || text.trim_end().to_owned());
        }
    }
    Ok(())
}

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

#[cfg(test)]
mod tests {
    use super::masked;

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
}
