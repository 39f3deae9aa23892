//! A spec becomes a dataset that can be published: resolve, run, judge, describe.

pub(crate) mod board;
pub(crate) mod compute;
pub(crate) mod describe;
pub(crate) mod device;
pub(crate) mod figures;
pub(crate) mod lengths;
pub(crate) mod make;
pub(crate) mod memory;
pub(crate) mod plan;
pub(crate) mod probe;
pub(crate) mod protobuf;
pub(crate) mod quality;
pub(crate) mod resolve;
pub(crate) mod teacher;
pub(crate) mod verification;
