//! What the daemon's HTTP API takes and gives, and a client of it.
//!
//! The types here are the wire format: the server answers with them, [`Client`] reads them, and the
//! OpenAPI document is made from them. The crate knows neither the queue nor the registry: the queue
//! takes its words from here (`words.rs`), and the server makes these types of what it stores.

mod client;
mod code;
mod dataset;
mod deed;
mod delivery;
mod error;
mod follow;
mod job;
mod proof;
mod schedule;
mod token;
mod words;

pub use client::{Client, JobQuery};
pub use code::Code;
pub use dataset::{
    Attestation, CreateAttestation, Dataset, DatasetDetail, DatasetList, DatasetVersion, PutTag,
    VersionDetail, VersionFile, Withdrawal, Yank,
};
pub use deed::{Deed, DeedPage};
pub use delivery::{Delivery, DeliveryPage};
pub use error::{Error, Fault, ProblemDetails};
pub use follow::{Follow, Update};
pub use job::{Event, EventList, Job, JobDetail, JobPage, SubmitJob, Submitted};
pub use proof::{Challenge, Proof, Secret, is_loopback};
pub use schedule::{PutSchedule, Schedule, ScheduleDetail, ScheduleList};
pub use token::{CreateToken, CreatedToken, Quota, Token, TokenList};
pub use words::{Catchup, DeliveryState, Overlap, Scope, State, UnknownWord};
