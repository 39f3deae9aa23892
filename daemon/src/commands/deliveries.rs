//! `dpg deliveries`: what webhooks were told.

use clap::Args;
use dpg_api::Delivery;
use serde_json::json;
use uuid::Uuid;

use crate::commands::connect::Connection;
use crate::commands::show;
use crate::terminal;

/// Deliveries asked for at once.
const PAGE: u32 = 500;

/// What `dpg deliveries` takes.
#[derive(Debug, Args)]
pub(crate) struct DeliveriesArguments {
    /// Only those about this job: its id, or the newest job's name.
    job: Option<String>,
    /// Deliveries at most.
    #[arg(long, default_value_t = 50)]
    limit: u32,
}

/// Lists webhooks' calls, newest first.
pub(crate) async fn deliveries(
    connection: &Connection,
    arguments: DeliveriesArguments,
    as_json: bool,
) -> anyhow::Result<()> {
    let job: Option<Uuid> = match arguments.job {
        Some(job) => Some(connection.client.job(&job).await?.job.id),
        None => None,
    };
    let mut deliveries: Vec<Delivery> = vec![];
    let mut before = None;
    while (deliveries.len() as u32) < arguments.limit {
        let limit = PAGE.min(arguments.limit - deliveries.len() as u32);
        let page = connection.client.deliveries(job, before, limit).await?;
        deliveries.extend(page.deliveries);
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    show(as_json, &json!(deliveries), || {
        if deliveries.is_empty() {
            return "no webhook was to be told of anything; `webhooks` of the settings names those that are"
                .into();
        }
        deliveries.iter().map(row).collect::<Vec<_>>().join("\n")
    });
    Ok(())
}

fn row(delivery: &Delivery) -> String {
    let Delivery { job, host, state, attempts, status, error, due, .. } = delivery;
    let at = delivery.created.format("%Y-%m-%d %H:%M:%S");
    let attempts = if *attempts == 1 { "1 attempt".into() } else { format!("{attempts} attempts") };
    let answer = error.clone().or_else(|| status.map(|status| format!("answered {status}")));
    let next = due.map(|due| format!("; next {}", due.format("%H:%M:%S")));
    let told = format!("{}{}", answer.unwrap_or_else(|| "not tried yet".into()), next.unwrap_or_default());
    terminal::line(&format!("{at}  {job}  {state:<9} {attempts}  {host}  {told}"))
}
