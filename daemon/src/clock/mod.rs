//! What happens at its time and not on demand: schedules and housekeeping.

pub(crate) mod housekeeping;
pub(crate) mod retention;
pub(crate) mod schedule;
