//! `dpg activity`: who did what at the daemon.

use dpg_api::Deed;
use serde_json::json;

use crate::commands::connect::Connection;
use crate::commands::show;
use crate::terminal;

/// Calls asked for at once.
const PAGE: u32 = 500;

/// Lists the newest calls that changed something or tried to.
pub(crate) async fn activity(connection: &Connection, limit: u32, as_json: bool) -> anyhow::Result<()> {
    let mut deeds: Vec<Deed> = vec![];
    let mut before = None;
    while (deeds.len() as u32) < limit {
        let page = connection.client.deeds(before, PAGE.min(limit - deeds.len() as u32)).await?;
        deeds.extend(page.deeds);
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    show(as_json, &json!(deeds), || deeds.iter().map(row).collect::<Vec<_>>().join("\n"));
    Ok(())
}

fn row(deed: &Deed) -> String {
    let at = deed.at.format("%Y-%m-%d %H:%M:%S");
    let Deed { name, address, status, action, object, .. } = deed;
    // the route says less than the address that was called
    let method = action.split(' ').next().unwrap_or_default();
    terminal::line(&format!("{at}  {name:<24} {address:<15} {status} {method:<6} {object}"))
}
