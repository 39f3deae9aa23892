//! `dpg`: makes synthetic fine-tuning datasets that move a differentiable metric of a target model.

mod cli;
mod commands;
mod data_dir;
mod progress;
mod resolve;
mod stop;

use std::process::ExitCode;

use clap::Parser;
use cli::{Cli, Command};

fn main() -> ExitCode {
    dpg_models::keep_freed_memory();
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into()),
        )
        .with_writer(std::io::stderr)
        .init();
    // the one TLS provider of every client in the process; a second installation changes nothing
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(dispatch(cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn dispatch(cli: Cli) -> anyhow::Result<()> {
    let data = data_dir::DataDir::open(cli.data_dir)?;
    match cli.command {
        Command::Run { spec } => commands::run::run(&data, &spec, cli.json).await,
        Command::Plan { spec } => commands::plan::plan(&data, &spec, cli.json).await,
        Command::Score(arguments) => commands::score::score(&data, arguments, cli.json).await,
        Command::Audit { spec, data: file, examples } => {
            commands::audit::audit(&data, &spec, file.as_deref(), examples, cli.json).await
        }
        Command::Datasets { name } => commands::datasets::list(&data, name.as_deref(), cli.json).await,
        Command::Fetch { dataset, folder } => {
            commands::datasets::fetch(&data, &dataset, &folder, cli.json).await
        }
    }
}
