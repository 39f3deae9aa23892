//! `dpg token`: who may call the daemon, and for what.

use std::time::Duration;

use chrono::Utc;
use clap::Subcommand;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use dpg_api::{CreateToken, Token};
use dpg_queue::Scope;
use serde_json::json;

use crate::{
    commands::{duration, show},
    connect::Connection,
};

/// What is to be done with tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token and print it, this once.
    Create {
        /// Its name.
        name: String,
        /// What it allows; repeat it for more than one.
        #[arg(long, value_parser = scope(), required = true)]
        scope: Vec<Scope>,
        /// When it ends by itself: `12h`, `30d`; never if absent.
        #[arg(long, value_parser = duration)]
        expires: Option<Duration>,
    },
    /// List tokens, with the expired and the revoked.
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
        TokenCommand::Create { name, scope, expires } => {
            let expires = expires.map(|left| Utc::now() + left);
            let created = client.create_token(&CreateToken { name, scopes: scope, expires }).await?;
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
    format!("{:<36}  {:<24} {:<20} {state}", token.id.to_string(), token.name, scopes.join(","))
}
