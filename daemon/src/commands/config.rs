//! `dpg config`: is a settings file good, and which settings are in force.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use crate::commands::show;
use crate::settings::address::masked;
use crate::settings::config::Config;
use crate::settings::data_dir::DataDir;
use crate::settings::overrides::Overrides;

/// What `dpg config` takes.
#[derive(Debug, Args)]
pub(crate) struct ConfigArguments {
    /// What to do.
    #[command(subcommand)]
    action: ConfigAction,
}

/// What to do with settings.
#[derive(Debug, Subcommand)]
enum ConfigAction {
    /// Check a settings file.
    Check {
        /// The file.
        file: PathBuf,
    },
    /// Print the settings that `dpg serve` would run with, passwords masked.
    Show(Overrides),
}

/// Checks a settings file, or prints the settings in force.
pub(crate) fn config(data: &DataDir, arguments: ConfigArguments, as_json: bool) -> anyhow::Result<()> {
    match arguments.action {
        ConfigAction::Check { file } => {
            Config::load(Some(&file))?;
            let value = json!({ "file": file, "valid": true });
            show(as_json, &value, || format!("`{}` is valid", file.display()));
        }
        ConfigAction::Show(overrides) => {
            let mut config = Config::effective(data, &overrides)?;
            config.database = masked(&config.database);
            let text = toml::to_string_pretty(&config)?;
            show(as_json, &json!(config), || text.trim_end().to_owned());
        }
    }
    Ok(())
}
