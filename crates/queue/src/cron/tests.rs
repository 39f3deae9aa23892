//! Due times on ordinary days, on the nights the clocks change, and after downtime.

use dpg_spec::Hint;

use super::*;

fn utc(text: &str) -> DateTime<Utc> {
    format!("{text}:00Z").parse().unwrap()
}

fn calendar(expression: &str, zone: &str) -> Calendar {
    Calendar::new(expression, zone).unwrap()
}

/// The due times strictly between two moments.
fn between(expression: &str, zone: &str, from: &str, to: &str) -> Vec<DateTime<Utc>> {
    let calendar = calendar(expression, zone);
    std::iter::successors(calendar.next(utc(from)), |due| calendar.next(*due))
        .take_while(|due| *due < utc(to))
        .collect()
}

fn times(texts: &[&str]) -> Vec<DateTime<Utc>> {
    texts.iter().map(|text| utc(text)).collect()
}

#[test]
fn ordinary_days_follow_the_wall_clock_of_the_zone() {
    let winter = between("30 2 * * *", "Europe/Berlin", "2026-01-10T00:00", "2026-01-12T00:00");
    assert_eq!(winter, times(&["2026-01-10T01:30", "2026-01-11T01:30"]));
    let summer = between("30 2 * * 1-5", "America/New_York", "2026-07-10T00:00", "2026-07-14T00:00");
    assert_eq!(summer, times(&["2026-07-10T06:30", "2026-07-13T06:30"]), "the weekend is left out");
    let nickname = between("@daily", "Asia/Kathmandu", "2026-01-10T00:00", "2026-01-11T00:00");
    assert_eq!(nickname, times(&["2026-01-10T18:15"]));
}

#[test]
fn nicknames_are_those_of_cron() {
    let same = [
        ("@hourly", "0 * * * *"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        (" @Midnight", "0 0 * * *"),
        ("@weekly", "0 0 * * 0"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
    ];
    let start = utc("2026-05-06T07:08");
    for (nickname, fields) in same {
        let next = |expression| calendar(expression, "UTC").upcoming(start, 3);
        assert_eq!(next(nickname), next(fields), "{nickname}");
    }
    assert!(Calendar::new("@noon", "UTC").is_err());
}

#[test]
fn a_clock_that_was_set_back_moves_the_cursor_to_the_present() {
    let policy = Policy { catchup: Catchup::All, grace: Duration::ZERO, jitter: Duration::ZERO };
    let minutes = calendar("* * * * *", "UTC");
    let (ahead, now) = (utc("2026-05-06T14:00"), utc("2026-05-06T12:00"));
    let back = due(&minutes, policy, Uuid::nil(), ahead, now).unwrap();
    assert_eq!(back, Due { times: vec![], missed: 0, cursor: now });
    let next = due(&minutes, policy, Uuid::nil(), back.cursor, utc("2026-05-06T12:01")).unwrap();
    assert_eq!(next.times, times(&["2026-05-06T12:01"]));
}

#[test]
fn a_skipped_time_is_due_once_when_the_gap_ends() {
    // Berlin, 2026-03-29: 02:00 CET is 03:00 CEST, at 01:00 UTC.
    let berlin = |cron| between(cron, "Europe/Berlin", "2026-03-28T12:00", "2026-03-30T12:00");
    assert_eq!(berlin("30 2 * * *"), times(&["2026-03-29T01:00", "2026-03-30T00:30"]));
    assert_eq!(berlin("0,20,40 2 * * *").len(), 1 + 3, "three skipped times are one");
    assert_eq!(berlin("30 2,3 29 3 *"), times(&["2026-03-29T01:00", "2026-03-29T01:30"]));
    assert_eq!(berlin("0 2,3 29 3 *"), times(&["2026-03-29T01:00"]), "02:00 and 03:00 are one moment");
    // New York, 2026-03-08: 02:00 EST is 03:00 EDT, at 07:00 UTC.
    let new_york = between("30 2 * * *", "America/New_York", "2026-03-07T12:00", "2026-03-09T12:00");
    assert_eq!(new_york, times(&["2026-03-08T07:00", "2026-03-09T06:30"]));
}

#[test]
fn a_repeated_time_is_due_once_at_its_first() {
    // Berlin, 2026-10-25: 03:00 CEST is 02:00 CET, at 01:00 UTC.
    let berlin = |cron| between(cron, "Europe/Berlin", "2026-10-24T12:00", "2026-10-26T12:00");
    assert_eq!(berlin("30 2 * * *"), times(&["2026-10-25T00:30", "2026-10-26T01:30"]));
    assert_eq!(berlin("0 2,14 25 10 *"), times(&["2026-10-25T00:00", "2026-10-25T13:00"]));
    assert_eq!(berlin("*/30 2 25 10 *"), times(&["2026-10-25T00:00", "2026-10-25T00:30"]));
    // New York, 2026-11-01: 02:00 EDT is 01:00 EST, at 06:00 UTC.
    let new_york = between("30 1 * * *", "America/New_York", "2026-10-31T12:00", "2026-11-02T12:00");
    assert_eq!(new_york, times(&["2026-11-01T05:30", "2026-11-02T06:30"]));
    // A daemon that asks in the middle of the repeated hour.
    let calendar = calendar("30 1 * * *", "America/New_York");
    assert_eq!(calendar.next(utc("2026-11-01T06:10")), Some(utc("2026-11-02T06:30")));
}

#[test]
fn every_hour_keeps_its_pace_through_both_nights() {
    for zone in ["Europe/Berlin", "America/New_York"] {
        for (from, to) in [("2026-03-07T23:59", "2026-03-30T00:00"), ("2026-10-24T23:59", "2026-11-02T00:00")]
        {
            let due = between("*/15 * * * *", zone, from, to);
            assert!(due.windows(2).all(|pair| pair[1] - pair[0] == TimeDelta::minutes(15)), "{zone}");
            assert!(due.len() > 700);
        }
    }
}

#[test]
fn due_times_rise_through_a_year_in_every_zone() {
    for zone in chrono_tz::TZ_VARIANTS {
        let calendar = calendar("*/20 0-4,23 * * *", zone.name());
        let due = calendar.upcoming(utc("2025-12-31T00:00"), 365 * 18);
        assert!(due.windows(2).all(|pair| pair[0] < pair[1]), "{zone}");
        let last = due.last().unwrap();
        assert!((utc("2026-12-30T00:00")..utc("2027-01-02T00:00")).contains(last), "{zone} {last}");
    }
}

#[test]
fn mistakes_are_named() {
    let error = |cron: &str, zone: &str| Calendar::new(cron, zone).unwrap_err().told();
    assert!(error("61 2 * * *", "UTC").starts_with("`61 2 * * *` is not a cron expression"));
    assert!(error("0 30 2 * * *", "UTC").contains("expected five fields"));
    assert!(error("", "UTC").contains("is not a cron expression"));
    assert!(error("0 0 30 2 *", "UTC").contains("never falls due"));
    assert!(error("0 0 * * *", "Berlin").contains("`Berlin` is not a time zone"));
}

#[test]
fn downtime_under_each_policy() {
    let calendar = calendar("0 2 * * *", "UTC");
    let id = Uuid::from_u128(7);
    let at = |catchup, cursor, now| {
        let policy = Policy { catchup, grace: Duration::from_mins(5), jitter: Duration::ZERO };
        due(&calendar, policy, id, utc(cursor), utc(now))
    };
    let some =
        |texts: &[&str], missed, cursor| Some(Due { times: times(texts), missed, cursor: utc(cursor) });
    let (down, up) = ("2026-05-01T02:00", "2026-05-04T12:00");
    let newest = "2026-05-04T02:00";
    assert_eq!(at(Catchup::None, down, up), some(&[], 3, newest));
    assert_eq!(at(Catchup::One, down, up), some(&[newest], 2, newest));
    let all = ["2026-05-02T02:00", "2026-05-03T02:00", newest];
    assert_eq!(at(Catchup::All, down, up), some(&all, 0, newest));
    // Back within the grace of the third: that one is in time under every policy.
    assert_eq!(at(Catchup::None, down, "2026-05-04T02:05"), some(&[newest], 2, newest));
    assert_eq!(at(Catchup::None, down, "2026-05-04T02:06"), some(&[], 3, newest));
    for catchup in Catchup::ALL {
        assert_eq!(at(*catchup, newest, "2026-05-05T01:59"), None, "not due yet");
        let next = "2026-05-05T02:00";
        assert_eq!(at(*catchup, newest, next), some(&[next], 0, next), "due to the second");
        assert_eq!(at(*catchup, next, next), None, "not twice");
    }
    let long = at(Catchup::All, "2020-01-01T00:00", up).unwrap();
    assert_eq!((long.times.len(), *long.times.last().unwrap()), (MAX_CATCHUP, utc(newest)));
    assert!(long.missed > 2000);
}

#[test]
fn jitter_delays_by_the_same_amount_for_everyone() {
    let max = Duration::from_mins(10);
    let calendar = calendar("0 2 * * *", "UTC");
    let id = Uuid::from_u128(7);
    let due_times = calendar.upcoming(utc("2026-01-01T00:00"), 200);
    let delays: Vec<_> = due_times.iter().map(|due| jitter(id, *due, max)).collect();
    assert!(delays.iter().all(|delay| *delay <= max));
    let mean = delays.iter().sum::<Duration>() / 200;
    assert!((Duration::from_mins(4)..Duration::from_mins(6)).contains(&mean), "{mean:?}");
    assert_ne!(jitter(id, due_times[0], max), jitter(Uuid::from_u128(8), due_times[0], max));

    let policy = Policy { catchup: Catchup::None, grace: Duration::from_mins(1), jitter: max };
    let start = due_times[0] + delays[0];
    let at = |now| due(&calendar, policy, id, utc("2026-01-01T00:00"), now);
    assert_eq!(at(start - TimeDelta::milliseconds(1)), None);
    assert_eq!(at(start).unwrap().times, [due_times[0]], "the job is for the time itself");
}
