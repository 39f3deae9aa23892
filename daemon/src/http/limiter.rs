//! How often: a bucket for each token or address, which holds a minute's requests and fills up evenly.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Buckets that are remembered: callers that make up keys must not fill the memory.
const MOST: usize = 10_000;

/// Buckets by key.
pub(crate) struct Limiter<K> {
    per_minute: f64,
    buckets: Mutex<HashMap<K, Bucket>>,
}

struct Bucket {
    left: f64,
    filled: Instant,
}

impl Bucket {
    fn fill(&mut self, per_minute: f64, now: Instant) {
        let passed = now.duration_since(self.filled).as_secs_f64();
        self.left = (self.left + passed * per_minute / 60.0).min(per_minute);
        self.filled = now;
    }
}

impl<K: Eq + Hash> Limiter<K> {
    pub(crate) fn new(per_minute: u32) -> Self {
        Self { per_minute: f64::from(per_minute.max(1)), buckets: Mutex::default() }
    }

    /// Takes one request out of a bucket, or says how long to wait for the next.
    pub(crate) fn take(&self, key: K, now: Instant) -> Option<Duration> {
        self.look(key, now, 1.0)
    }

    /// How long to wait for the next request, if the bucket is empty.
    pub(crate) fn wait(&self, key: K, now: Instant) -> Option<Duration> {
        self.look(key, now, 0.0)
    }

    fn look(&self, key: K, now: Instant, take: f64) -> Option<Duration> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MOST && !buckets.contains_key(&key) {
            buckets.retain(|_, bucket| {
                bucket.fill(self.per_minute, now);
                bucket.left < self.per_minute
            });
            if buckets.len() >= MOST {
                buckets.clear();
            }
        }
        let bucket = buckets.entry(key).or_insert(Bucket { left: self.per_minute, filled: now });
        bucket.fill(self.per_minute, now);
        if bucket.left >= 1.0 {
            bucket.left -= take;
            return None;
        }
        Some(Duration::from_secs_f64((1.0 - bucket.left) * 60.0 / self.per_minute))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_empties_and_fills_again() {
        let (limiter, start) = (Limiter::new(60), Instant::now());
        for _ in 0..60 {
            assert_eq!(limiter.take("one", start), None);
        }
        assert_eq!(limiter.take("one", start), Some(Duration::from_secs(1)));
        assert_eq!(limiter.wait("one", start), Some(Duration::from_secs(1)));
        assert_eq!(limiter.take("other", start), None, "another has its own bucket");
        assert_eq!(limiter.take("one", start + Duration::from_secs(1)), None);
        assert!(limiter.take("one", start + Duration::from_secs(1)).is_some());
    }

    #[test]
    fn many_keys_take_no_more_memory() {
        let (limiter, start) = (Limiter::new(60), Instant::now());
        for key in 0..3 * MOST {
            limiter.take(key, start);
        }
        assert!(limiter.buckets.lock().unwrap().len() <= MOST);
    }
}
