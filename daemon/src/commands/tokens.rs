//! `dpg token`: who may call the daemon, and for what.

use std::time::Duration;

use chrono::Utc;
use clap::Subcommand;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use dpg_api::{CreateToken, Quota, Scope, Token};
use serde_json::json;

use crate::commands::connect::Connection;
use crate::commands::{duration, show};

/// What is to be done with tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token and print it; it is not shown again.
    Create {
        /// The token's name.
        name: String,
        /// What the token allows; repeat the option for more than one.
        #[arg(long, value_parser = scope(), required = true)]
        scope: Vec<Scope>,
        /// When the token expires: `12h`, `30d` [default: never].
        #[arg(long, value_parser = duration)]
        expires: Option<Duration>,
        /// Datasets that the token is for, by name or prefix: `spanish,nightly-*` [default: all].
        #[arg(long, value_delimiter = ',')]
        datasets: Vec<String>,
        /// Most jobs of the token that wait at once.
        #[arg(long)]
        queued: Option<u32>,
        /// Most jobs of the token that run at once; more wait.
        #[arg(long)]
        running: Option<u32>,
        /// Most minutes that the token's jobs run in 24 hours; then they wait.
        #[arg(long)]
        minutes: Option<u32>,
    },
    /// List tokens, the expired and revoked ones too.
    List,
    /// Revoke a token at once and for good.
    Revoke {
        /// Its id or name.
        token: String,
    },
}

fn scope() -> impl TypedValueParser<Value = Scope> {
    PossibleValuesParser::new(Scope::ALL.iter().map(|scope| scope.as_str()))
        .try_map(|text| text.parse::<Scope>())
}

/// Does it.
pub(crate) async fn tokens(
    connection: &Connection,
    command: TokenCommand,
    as_json: bool,
) -> anyhow::Result<()> {
    let client = &connection.client;
    match command {
        TokenCommand::Create { name, scope, expires, datasets, queued, running, minutes } => {
            let expires = expires.map(|left| Utc::now() + left);
            let quota = Quota { queued, running, minutes };
            let token = CreateToken { name, scopes: scope, expires, datasets, quota };
            let created = client.create_token(&token).await?;
            // nothing else on standard output: it goes into files and variables
            show(as_json, &json!(created), || created.secret.clone());
        }
        TokenCommand::List => {
            let list = client.tokens().await?.tokens;
            show(as_json, &json!(list), || {
                let header = format!("{:<36}  {:<24} {:<20} STATE", "ID", "NAME", "SCOPES");
                std::iter::once(header).chain(list.iter().map(row)).collect::<Vec<_>>().join("\n")
            });
        }
        TokenCommand::Revoke { token } => {
            let token = client.revoke_token(&token).await?;
            show(as_json, &json!(token), || format!("token `{}` is revoked", token.name));
        }
    }
    Ok(())
}

fn row(token: &Token) -> String {
    let scopes: Vec<_> = token.scopes.iter().map(|scope| scope.as_str()).collect();
    let state = match (token.revoked, token.expires) {
        (Some(time), _) => format!("revoked {}", time.to_rfc3339()),
        (None, Some(time)) if time <= Utc::now() => format!("expired {}", time.to_rfc3339()),
        (None, Some(time)) => format!("until {}", time.to_rfc3339()),
        (None, None) => "active".into(),
    };
    let mut bounds = vec![];
    if !token.datasets.is_empty() {
        bounds.push(format!("for {}", token.datasets.join(",")));
    }
    let quota = &token.quota;
    for (what, most) in [("queued", quota.queued), ("running", quota.running), ("minutes", quota.minutes)] {
        bounds.extend(most.map(|most| format!("{most} {what}")));
    }
    let bounds = if bounds.is_empty() { String::new() } else { format!("  {}", bounds.join(", ")) };
    format!("{:<36}  {:<24} {:<20} {state}{bounds}", token.id.to_string(), token.name, scopes.join(","))
}
