//! `dpg completions` and `dpg man`: what a shell and its users want to know of the commands.

use std::path::Path;

use anyhow::Context;
use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::terminal::console;

/// Prints the completions for a shell.
pub(crate) fn completions(shell: Shell) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "dpg", &mut script);
    Ok(console::text_as_it_is(&String::from_utf8_lossy(&script))?)
}

/// Writes the manual, a page for each command, to a folder; or prints the page of `dpg` itself.
pub(crate) fn manual(folder: Option<&Path>) -> anyhow::Result<()> {
    let Some(folder) = folder else {
        let mut page = Vec::new();
        clap_mangen::Man::new(Cli::command()).render(&mut page)?;
        return Ok(console::text_as_it_is(&String::from_utf8_lossy(&page))?);
    };
    let failed = || format!("cannot write the manual to `{}`", folder.display());
    std::fs::create_dir_all(folder).with_context(failed)?;
    clap_mangen::generate_to(Cli::command(), folder).with_context(failed)?;
    Ok(console::line(format_args!(
        "the manual is in {0}; read it with `man -l {0}/dpg.1`",
        folder.display()
    ))?)
}
