//! `dpg`: makes synthetic fine-tuning datasets that move a differentiable metric of a target model.

// `console.rs` prints: these panic when nobody reads
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod cli;
mod clock;
mod commands;
mod http;
mod jobs;
mod pipeline;
mod services;
mod settings;
mod terminal;

use std::process::ExitCode;

use clap::Parser;
use cli::{Cli, Command};
use commands::connect::{Connection, Place};
use jobs::child;
use settings::{data_dir, resident};
use terminal::console;

fn main() -> ExitCode {
    dpg_models::keep_freed_memory();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return console::usage(&error),
    };
    // what the database's pool says of an error is in the error
    let default = if matches!(cli.command, Command::Serve(_) | Command::Worker) {
        "warn,dpg=info,sqlx_core::pool=off"
    } else {
        "warn,sqlx_core::pool=off"
    };
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| default.into()),
        )
        .with_writer(|| terminal::LogWriter)
        // colours are control characters, which a line of the log is not to have
        .with_ansi(false)
        // it would be told on standard error, which has just failed
        .log_internal_errors(false)
        .init();
    // the one TLS provider of every client in the process; a second installation changes nothing
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            console::note(format_args!("error: cannot start the runtime: {error}"));
            return ExitCode::FAILURE;
        }
    };
    console::exit_code(runtime.block_on(dispatch(cli)))
}

async fn dispatch(cli: Cli) -> anyhow::Result<()> {
    // what needs no data folder makes none
    match &cli.command {
        Command::Completions { shell } => return commands::shell::completions(*shell),
        Command::Man { folder } => return commands::shell::manual(folder.as_deref()),
        _ => {}
    }
    let place = Place { url: cli.url };
    let data = data_dir::DataDir::open(cli.data_dir)?;
    resident::introduce(&data, matches!(cli.command, Command::Serve(_)));
    let json = cli.json;
    match cli.command {
        Command::Completions { .. } | Command::Man { .. } => Ok(()),
        Command::Serve(arguments) => commands::serve::serve(data, arguments).await,
        Command::Worker => child::work(data).await,
        Command::Run { spec, again, device } => commands::run::run(&data, &spec, again, &device, json).await,
        Command::Plan { spec, reweigh, device } => {
            commands::plan::plan(&data, &spec, reweigh, &device, json).await
        }
        Command::Score(arguments) => commands::score::score(&data, arguments, json).await,
        Command::Audit(arguments) => commands::audit::audit(&data, arguments, json).await,
        Command::Queue(command) => {
            commands::queue::dispatch(Connection::open(data, &place).await?, command, json).await
        }
        Command::Verify(arguments) => commands::verify::verify(&data, &place, arguments, json).await,
        Command::Generate(arguments) => commands::generate::generate(&data, &place, arguments).await,
        Command::Datasets(arguments) => commands::datasets::datasets(&data, &place, arguments, json).await,
        Command::Fetch { dataset, folder, overwrite, store } => {
            let to = commands::datasets::Copy { dataset: &dataset, folder: &folder, overwrite };
            commands::datasets::fetch(&data, &place, store.as_deref(), to, json).await
        }
        Command::Conformance { device } => commands::conformance::conformance(&data, &device, json).await,
        Command::Bench { device, shape, rounds, python } => {
            commands::bench::bench(&device, shape, rounds, python, json).await
        }
        Command::Config { action } => commands::config::config(&data, action, json),
        Command::Doctor(arguments) => commands::doctor::doctor(&data, arguments, json).await,
    }
}
