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

use clap::{CommandFactory, Parser};
use cli::{Cli, Command};
use commands::connect::{Connection, Place};
use jobs::child;
use settings::{data_dir::DataDir, resident};
use terminal::console::{self, Voice};

#[global_allocator]
static ALLOCATOR: dpg_models::Allocator = dpg_models::Allocator;

fn main() -> ExitCode {
    dpg_models::keep_freed_memory();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return console::usage(&error),
    };
    // what the database's pool says of an error is in the error
    let serves = matches!(cli.command, Command::Serve(_) | Command::Work(_) | Command::Worker);
    let default = match cli.voice() {
        Voice::Quiet => "error,sqlx_core::pool=off",
        Voice::Plain if !serves => "warn,sqlx_core::pool=off",
        Voice::Plain => "warn,dpg=info,sqlx_core::pool=off",
        Voice::Verbose => "info,dpg=debug,sqlx_core::pool=off",
    };
    console::speak(cli.voice());
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
        Command::Schema => return commands::shell::schema(),
        Command::Completions(arguments) => return commands::shell::completions(arguments, Cli::command()),
        Command::Man(arguments) => return commands::shell::manual(arguments, Cli::command()),
        Command::SelfCheck(arguments) => return commands::self_check::self_check(arguments, cli.json).await,
        _ => {}
    }
    let place = Place { url: cli.url };
    let data = DataDir::open(cli.data_dir)?;
    resident::introduce(&data, matches!(cli.command, Command::Serve(_)));
    let json = cli.json;
    match cli.command {
        Command::Schema | Command::Completions(_) | Command::Man(_) | Command::SelfCheck(_) => Ok(()),
        Command::Serve(overrides) => commands::serve::serve(data, overrides).await,
        Command::Work(arguments) => commands::work::work(data, arguments, json).await,
        Command::Worker => child::work(data).await,
        Command::Init(arguments) => Box::pin(commands::init::init(&data, arguments, json)).await,
        Command::Run(arguments) => Box::pin(commands::run::run(&data, arguments, json)).await,
        Command::Plan(arguments) => commands::plan::plan(&data, arguments, json).await,
        Command::Metric(arguments) => commands::metric::metric(&data, arguments, json).await,
        Command::Direction(arguments) => commands::direction::direction(&data, arguments, json).await,
        Command::Score(arguments) => commands::score::score(&data, arguments, json).await,
        Command::Audit(arguments) => commands::audit::audit(&data, arguments, json).await,
        Command::Queue(command) => {
            commands::queue::dispatch(Connection::open(data, &place).await?, command, json).await
        }
        Command::Verify(arguments) => commands::verify::verify(&data, &place, arguments, json).await,
        Command::Generate(arguments) => commands::generate::generate(&data, &place, arguments).await,
        Command::Datasets(arguments) => commands::datasets::datasets(&data, &place, arguments, json).await,
        Command::Fetch(arguments) => commands::fetch::fetch(&data, &place, arguments, json).await,
        Command::Conformance(arguments) => commands::conformance::conformance(&data, arguments, json).await,
        Command::Bench(arguments) => commands::bench::bench(arguments, json).await,
        Command::Config(arguments) => commands::config::config(&data, arguments, json),
        Command::Doctor(overrides) => commands::doctor::doctor(&data, overrides, json).await,
    }
}
