//! Clocks that jump: what the queue makes of the database's clock being set, by hours, either way.
//!
//! Set forward, every lease seems to have run out at once. So whoever asks for work compares that clock
//! with its own monotonic one; after a jump it ends nobody's lease for the length of one, in which each
//! worker that lives renews its own.
//!
//! Set back, what was written before lies in the future. A row says so by its `updated`: no time in a row
//! of the future is waited for. A job waits no longer, and a lease begins anew, so that it is renewed or
//! runs out. Cursors of schedules are in [`cron`](crate::cron).

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};

/// How far two clocks may drift apart between two looks, or a row's time lie ahead, without a jump.
/// Statements have the same as `{slack}`.
pub(crate) const SLACK: TimeDelta = TimeDelta::seconds(10);

/// The database's clock as it is seen from here.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// What it showed last, and when that was.
    seen: Option<(DateTime<Utc>, Instant)>,
    /// No lease is ended until then.
    quiet_until: Option<Instant>,
}

impl Watch {
    /// Whether leases that seem to have run out have: the clock shows `now` at the moment `at`, and a
    /// worker that lives renews its lease within `lease`.
    pub(crate) fn leases_end(&mut self, now: DateTime<Utc>, at: Instant, lease: Duration) -> bool {
        if let Some((then, seen)) = self.seen.replace((now, at)) {
            let passed = TimeDelta::from_std(at.duration_since(seen)).unwrap_or_default();
            if now - then - passed > SLACK {
                self.quiet_until = at.checked_add(lease);
            }
        }
        self.quiet_until.is_none_or(|until| at >= until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_jump_forward_leases_have_one_length_to_be_renewed() {
        let (start, lease) = (Instant::now(), Duration::from_mins(1));
        let mut watch = Watch::default();
        let mut look = |clock: i64, after: u64| {
            let now = DateTime::UNIX_EPOCH + TimeDelta::seconds(clock);
            watch.leases_end(now, start + Duration::from_secs(after), lease)
        };
        assert!(look(0, 0), "who sees the clock for the first time believes it");
        assert!(look(3600, 3600), "an hour in an hour");
        assert!(!look(3601 + 7200, 3601), "two hours in a second");
        assert!(!look(3660 + 7200, 3660));
        assert!(look(3661 + 7200, 3661));
        assert!(look(3662, 3662), "set back, nothing seems to have run out");
        assert!(look(3663, 3663));
    }
}
