//! Stores that are not Amazon's: what a server or a proxy in front of it may answer, and what becomes of
//! a registry there.

mod command_line;
mod registry;
mod server;
#[path = "../snapshot.rs"]
mod snapshot;
