//! The commands that speak to a daemon.

use clap::Subcommand;

use crate::commands::connect::Connection;
use crate::commands::{
    activity,
    deliveries::{self, DeliveriesArguments},
    jobs::{self, ListArguments},
    logs,
    schedules::{self, ScheduleCommand},
    submit::{self, SubmitArguments},
    tokens::{self, TokenCommand},
    top::{self, TopArguments},
};

/// Jobs, schedules and tokens of a daemon.
#[derive(Debug, Subcommand)]
pub(crate) enum QueueCommand {
    /// Put a spec into the queue.
    Submit(SubmitArguments),
    /// List jobs, newest first.
    List(ListArguments),
    /// Show the jobs that run and wait, over and over.
    Top(TopArguments),
    /// Show a job and its last events.
    Status {
        /// Its id, or the newest job's name.
        job: String,
    },
    /// Show what happened to a job.
    Logs {
        /// Its id, or the newest job's name.
        job: String,
        /// Go on until it ends; the exit code is its success.
        #[arg(long, short)]
        follow: bool,
    },
    /// Cancel a queued or running job.
    Cancel {
        /// Its id, or the newest job's name.
        job: String,
    },
    /// Queue a failed or cancelled job again.
    Retry {
        /// Its id, or the newest job's name.
        job: String,
    },
    /// Submit specs at given times.
    #[command(subcommand)]
    Schedule(ScheduleCommand),
    /// Make, list and revoke tokens: who may call the daemon, and for what.
    #[command(subcommand)]
    Token(TokenCommand),
    /// List what webhooks were told of jobs' ends, and what they are still to be told, newest first.
    Deliveries(DeliveriesArguments),
    /// List who did what at the daemon, newest first.
    Activity {
        /// Calls at most.
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
}

/// Does what a command says.
pub(crate) async fn dispatch(
    connection: Connection,
    command: QueueCommand,
    json: bool,
) -> anyhow::Result<()> {
    let token_of = connection.token_of().to_owned();
    let done = match command {
        QueueCommand::Submit(arguments) => submit::submit(connection, arguments, json).await,
        QueueCommand::List(arguments) => jobs::list(&connection, arguments, json).await,
        QueueCommand::Top(arguments) => top::top(&connection, arguments, json).await,
        QueueCommand::Status { job } => jobs::status(&connection, &job, json).await,
        QueueCommand::Logs { job, follow } => logs::logs(&connection, &job, follow, json).await,
        QueueCommand::Cancel { job } => jobs::cancel(&connection, &job, json).await,
        QueueCommand::Retry { job } => jobs::retry(&connection, &job, json).await,
        QueueCommand::Schedule(command) => schedules::schedules(&connection, command, json).await,
        QueueCommand::Token(command) => tokens::tokens(&connection, command, json).await,
        QueueCommand::Deliveries(arguments) => deliveries::deliveries(&connection, arguments, json).await,
        QueueCommand::Activity { limit } => activity::activity(&connection, limit, json).await,
    };
    done.map_err(|error| Connection::explained(&token_of, error))
}
