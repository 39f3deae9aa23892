//! `dpg completions`, `dpg man` and `dpg schema`: what shells and editors want to know of commands and specs.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Command};
use clap_complete::Shell;

use crate::terminal::console;

/// What `dpg completions` is for.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArguments {
    /// The shell.
    shell: Shell,
}

/// Where `dpg man` writes.
#[derive(Debug, Args)]
pub(crate) struct ManArguments {
    /// The folder.
    folder: Option<PathBuf>,
}

/// Prints the JSON schema of a spec.
pub(crate) fn schema() -> anyhow::Result<()> {
    Ok(console::text_as_it_is(&format!("{:#}\n", dpg_spec::Spec::json_schema()))?)
}

/// Prints the completions of `program` for a shell.
pub(crate) fn completions(arguments: &CompletionsArguments, mut program: Command) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut program, "dpg", &mut script);
    Ok(console::text_as_it_is(&String::from_utf8_lossy(&script))?)
}

/// Writes the manual of `program`, a page for each command, to a folder; or prints the first page.
pub(crate) fn manual(arguments: &ManArguments, program: Command) -> anyhow::Result<()> {
    let Some(folder) = &arguments.folder else {
        let mut page = Vec::new();
        clap_mangen::Man::new(program).render(&mut page)?;
        return Ok(console::text_as_it_is(&String::from_utf8_lossy(&page))?);
    };
    let failed = || format!("cannot write the manual to `{}`", folder.display());
    std::fs::create_dir_all(folder).with_context(failed)?;
    clap_mangen::generate_to(program, folder).with_context(failed)?;
    Ok(console::line(format_args!(
        "the manual is in {0}; read it with `man -l {0}/dpg.1`",
        folder.display()
    ))?)
}
