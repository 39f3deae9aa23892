//! `dpg schedule`: specs that are submitted again and again.

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use dpg_api::{PutSchedule, Schedule, ScheduleDetail};
use dpg_queue::cron::{Catchup, Overlap};
use serde_json::{Value, json};

use crate::commands::connect::Connection;
use crate::commands::{duration, show, submit::portable};

/// What is to be done with schedules.
#[derive(Debug, Subcommand)]
pub(crate) enum ScheduleCommand {
    /// Make a schedule, or replace the one of this name.
    Add(AddArguments),
    /// List schedules.
    List,
    /// Show a schedule with its next five times.
    Show {
        /// Its name.
        name: String,
    },
    /// Stop a schedule until it is resumed.
    Pause {
        /// Its name.
        name: String,
    },
    /// Let a paused schedule go on.
    Resume {
        /// Its name.
        name: String,
    },
    /// Submit a schedule's job at once.
    Run {
        /// Its name.
        name: String,
    },
    /// Delete a schedule; its jobs are left alone.
    Remove {
        /// Its name.
        name: String,
    },
}

/// What `dpg schedule add` takes.
#[derive(Debug, Args)]
pub(crate) struct AddArguments {
    /// Its name.
    name: String,
    /// The target spec, TOML or JSON; `-` reads it from standard input.
    spec: PathBuf,
    /// Minute, hour, day of month, month, day of week: `0 2 * * *`; or `@daily` and the like.
    #[arg(long)]
    cron: String,
    /// An IANA time zone.
    #[arg(long, default_value = "UTC")]
    zone: String,
    /// Each time is delayed by up to this much: `30s`, `10m`, `2h`.
    #[arg(long, default_value = "0s", value_parser = duration)]
    jitter: Duration,
    /// What happens while an earlier job has not ended.
    #[arg(long, default_value = "skip", value_parser = overlap())]
    overlap: Overlap,
    /// What happens to times that passed while no daemon ran.
    #[arg(long, default_value = "one", value_parser = catchup())]
    catchup: Catchup,
    /// Priority of its jobs.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    priority: i64,
}

fn overlap() -> impl TypedValueParser<Value = Overlap> {
    PossibleValuesParser::new(Overlap::ALL.iter().map(|policy| policy.as_str()))
        .try_map(|text| text.parse::<Overlap>())
}

fn catchup() -> impl TypedValueParser<Value = Catchup> {
    PossibleValuesParser::new(Catchup::ALL.iter().map(|policy| policy.as_str()))
        .try_map(|text| text.parse::<Catchup>())
}

/// Does it.
pub(crate) async fn schedules(
    connection: &Connection,
    command: ScheduleCommand,
    as_json: bool,
) -> anyhow::Result<()> {
    let client = &connection.client;
    match command {
        ScheduleCommand::Add(arguments) => {
            let schedule = PutSchedule {
                cron: arguments.cron,
                time_zone: arguments.zone,
                spec: Value::String(portable(&arguments.spec)?),
                overlap: arguments.overlap,
                catchup: arguments.catchup,
                jitter_seconds: u32::try_from(arguments.jitter.as_secs())?,
                priority: arguments.priority,
            };
            tell(&client.put_schedule(&arguments.name, &schedule).await?, as_json);
        }
        ScheduleCommand::List => {
            let list = client.schedules().await?.schedules;
            show(as_json, &json!(list), || {
                if list.is_empty() {
                    return "no schedules; `dpg schedule add` makes one".into();
                }
                let header = format!("{:<24} {:<16} {:<20} NEXT", "NAME", "CRON", "ZONE");
                std::iter::once(header).chain(list.iter().map(row)).collect::<Vec<_>>().join("\n")
            });
        }
        ScheduleCommand::Show { name } => tell(&client.schedule(&name).await?, as_json),
        ScheduleCommand::Pause { name } => tell(&client.pause_schedule(&name).await?, as_json),
        ScheduleCommand::Resume { name } => tell(&client.resume_schedule(&name).await?, as_json),
        ScheduleCommand::Run { name } => {
            let job = client.run_schedule(&name).await?;
            show(as_json, &json!(job), || format!("`{}` submitted as {}", job.name, job.id));
        }
        ScheduleCommand::Remove { name } => {
            client.delete_schedule(&name).await?;
            show(as_json, &json!({ "removed": name }), || format!("schedule `{name}` is removed"));
        }
    }
    Ok(())
}

fn row(schedule: &Schedule) -> String {
    let next = schedule.next.map_or("paused".into(), |time| local(schedule, time));
    format!("{:<24} {:<16} {:<20} {next}", schedule.name, schedule.cron, schedule.time_zone)
}

/// A time on the clock of the schedule's zone; in UTC if this program does not know the zone.
fn local(schedule: &Schedule, time: DateTime<Utc>) -> String {
    let zone = schedule.time_zone.parse().unwrap_or(Tz::UTC);
    time.with_timezone(&zone).to_rfc3339()
}

fn tell(detail: &ScheduleDetail, as_json: bool) {
    show(as_json, &json!(detail), || {
        let schedule = &detail.schedule;
        let state = schedule
            .paused
            .map_or("active".into(), |since| format!("paused since {}", local(schedule, since)));
        let times: Vec<_> =
            detail.upcoming.iter().map(|time| format!("  {}", local(schedule, *time))).collect();
        format!(
            "schedule   {}\ntimes      {} in {}\nstate      {state}\noverlap    {}\ncatchup    {}\n\
             jitter     up to {} s\n\nnext times:\n{}",
            schedule.name,
            schedule.cron,
            schedule.time_zone,
            schedule.overlap,
            schedule.catchup,
            schedule.jitter_seconds,
            times.join("\n")
        )
    });
}
