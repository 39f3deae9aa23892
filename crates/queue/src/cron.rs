//! When a schedule is due. Pure: the time comes in as an argument.
//!
//! An expression that names hours (`30 2 * * *`) means the wall clock of its time zone. On a night
//! that skips 02:30 it is due once, at the first moment after the gap; on a night with two 02:30 it is
//! due once, at the first. An expression of every hour (`*/15 * * * *`) means time as it passes: it
//! keeps its pace through both nights.
//!
//! A cursor in the future says that the clock was set back since. It is moved back to the present, and
//! [`Queue::advance`](crate::Queue::advance) leaves out the times that have had their job already.

use std::time::Duration;

use chrono::{DateTime, LocalResult, NaiveDateTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::Error;

pub use dpg_api::{Catchup, Overlap};

/// The most due times that [`Catchup::All`] makes up for at once.
pub const MAX_CATCHUP: usize = 100;

/// A cron expression in a time zone.
#[derive(Clone, Debug)]
pub struct Calendar {
    cron: Cron,
    zone: Tz,
}

impl Calendar {
    /// Reads five fields (minute, hour, day of month, month, day of week) or a nickname (`@hourly`,
    /// `@daily` or `@midnight`, `@weekly`, `@monthly`, `@yearly` or `@annually`), and an IANA time zone.
    ///
    /// # Errors
    /// The expression or the zone cannot be read, or the expression is never due.
    pub fn new(expression: &str, zone: &str) -> Result<Self, Error> {
        let zone = zone.parse().map_err(|_| Error::TimeZone { name: zone.into() })?;
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        // the parser has every nickname of cron(8) but this one
        let known = if expression.trim().eq_ignore_ascii_case("@midnight") { "@daily" } else { expression };
        let cron = parser.parse(known).map_err(|error| Error::Cron {
            expression: expression.into(),
            reason: error.to_string().trim_end_matches('.').to_lowercase(),
        })?;
        let calendar = Self { cron, zone };
        match calendar.next(DateTime::UNIX_EPOCH) {
            Some(_) => Ok(calendar),
            None => Err(Error::NeverDue { expression: expression.into() }),
        }
    }

    /// The first due time after `after`.
    pub fn next(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let local = after.with_timezone(&self.zone);
        if self.cron.pattern.hours.values().len() == 24 {
            return Some(self.cron.find_next_occurrence(&local, false).ok()?.to_utc());
        }
        // The search runs on the bare wall clock, as if it were UTC, and each hit is placed in time.
        let mut wall = local.naive_local().and_utc();
        loop {
            wall = self.cron.find_next_occurrence(&wall, false).ok()?;
            let due = self.first_moment(wall.naive_utc());
            if due > after {
                return Some(due);
            }
        }
    }

    /// The next `count` due times after `after`.
    pub fn upcoming(&self, after: DateTime<Utc>, count: usize) -> Vec<DateTime<Utc>> {
        std::iter::successors(self.next(after), |due| self.next(*due)).take(count).collect()
    }

    /// The first moment at which the wall clock shows `wall` or, if it skips it, a later time.
    fn first_moment(&self, mut wall: NaiveDateTime) -> DateTime<Utc> {
        loop {
            match self.zone.from_local_datetime(&wall) {
                LocalResult::Single(time) | LocalResult::Ambiguous(time, _) => return time.to_utc(),
                LocalResult::None => wall += TimeDelta::minutes(1),
            }
        }
    }
}

/// What is due of a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// The due times to make jobs for, oldest first; may be empty.
    pub times: Vec<DateTime<Utc>>,
    /// How many due times passed without one.
    pub missed: usize,
    /// The newest due time dealt with, or the present after the clock was set back: the schedule's next
    /// cursor.
    pub cursor: DateTime<Utc>,
}

/// How a schedule treats its due times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What happens to missed times.
    pub catchup: Catchup,
    /// A time this late is not missed yet.
    pub grace: Duration,
    /// Each time is delayed by up to this much.
    pub jitter: Duration,
}

/// What is due of the schedule `id` at `now`, of the times after `cursor`; `None` if nothing is.
pub fn due(
    calendar: &Calendar,
    policy: Policy,
    id: Uuid,
    cursor: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Option<Due> {
    if cursor > now {
        return Some(Due { times: vec![], missed: 0, cursor: now });
    }
    let delayed = |due: DateTime<Utc>| due + jitter(id, due, policy.jitter);
    let first = calendar.next(cursor);
    let passed: Vec<_> = std::iter::successors(first, |due| calendar.next(*due))
        .take_while(|due| delayed(*due) <= now)
        .collect();
    let cursor = *passed.last()?;
    let wanted = match policy.catchup {
        Catchup::None => usize::from(now - delayed(cursor) <= TimeDelta::from_std(policy.grace).ok()?),
        Catchup::One => 1,
        Catchup::All => MAX_CATCHUP,
    };
    let missed = passed.len().saturating_sub(wanted);
    Some(Due { times: passed[missed..].to_vec(), missed, cursor })
}

/// The delay of one due time, from 0 to `max`: the same whoever asks, and different for each schedule
/// and time.
pub fn jitter(id: Uuid, due: DateTime<Utc>, max: Duration) -> Duration {
    let hash = Sha256::new().chain_update(id).chain_update(due.timestamp().to_be_bytes()).finalize();
    let number = hash.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte));
    Duration::from_millis(number % (max.as_millis() as u64 + 1))
}

#[cfg(test)]
mod tests;
