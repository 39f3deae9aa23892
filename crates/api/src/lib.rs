//! What the daemon's HTTP API takes and gives, and a client of it.
//!
//! The types here are the wire format: the server answers with them, [`Client`] reads them, and the
//! OpenAPI document is made from them. The crate knows neither the queue nor the registry: the queue
//! takes its words from here (`words.rs`), and the server makes these types of what it stores.

mod client;
mod code;
mod compare;
mod dataset;
mod deed;
mod delivery;
mod error;
mod follow;
mod job;
mod overview;
mod proof;
mod rows;
mod schedule;
mod series;
mod spec;
mod token;
mod words;

pub use client::{Client, JobQuery};
pub use code::Code;
pub use compare::{Comparison, MetricChange, RewardStatistics, SettingChange};
pub use dataset::{
    Attestation, CreateAttestation, Dataset, DatasetDetail, DatasetList, DatasetVersion, PutTag,
    VersionDetail, VersionFile, Withdrawal, Yank,
};
pub use deed::{Deed, DeedPage};
pub use delivery::{Delivery, DeliveryPage};
pub use error::{Error, Fault, ProblemDetails};
pub use follow::{Follow, Update};
pub use job::{Event, EventList, Job, JobDetail, JobPage, SetPriority, SubmitJob, Submitted};
pub use overview::{JobCounts, Machine, Overview};
pub use proof::{Challenge, Proof, Secret, is_loopback};
pub use rows::{Bin, Evidence, Report, RewardSummary, Row, RowPage, RowRecord};
pub use schedule::{PutSchedule, Schedule, ScheduleDetail, ScheduleList};
pub use series::{Pattern, Series, Validation};
pub use spec::{CheckedSpec, Template, TemplateList};
pub use token::{CreateToken, CreatedToken, Quota, Token, TokenList};
pub use words::{Catchup, DeliveryState, Overlap, Scope, State, UnknownWord};
