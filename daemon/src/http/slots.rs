//! Counted places: at most so many for one key and so many for all. Places are given back when dropped,
//! and keys without places take no memory.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

/// Places of all keys.
pub(crate) struct Slots<K> {
    most_each: usize,
    most: usize,
    taken: Mutex<HashMap<K, usize>>,
}

/// A place; free again when dropped.
pub(crate) struct Slot<K: Eq + Hash> {
    slots: Arc<Slots<K>>,
    key: K,
}

impl<K: Eq + Hash + Copy> Slots<K> {
    pub(crate) fn new(most_each: usize, most: usize) -> Arc<Self> {
        Arc::new(Self { most_each, most, taken: Mutex::default() })
    }

    /// A place for `key`, if one is free.
    pub(crate) fn take(self: &Arc<Self>, key: K) -> Option<Slot<K>> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.values().sum::<usize>() >= self.most {
            return None;
        }
        let own = taken.entry(key).or_default();
        // a key that is new has a place: bounds are at least 1
        if *own >= self.most_each.max(1) {
            return None;
        }
        *own += 1;
        Some(Slot { slots: Arc::clone(self), key })
    }
}

impl<K: Eq + Hash> Drop for Slot<K> {
    fn drop(&mut self) {
        let mut taken = self.slots.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = taken.get_mut(&self.key) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_given_back() {
        let slots = Slots::new(2, 3);
        let one = slots.take(1).unwrap();
        let _two = slots.take(1).unwrap();
        assert!(slots.take(1).is_none(), "a key has two");
        let three = slots.take(2).unwrap();
        assert!(slots.take(3).is_none(), "all have three");
        drop(one);
        drop(three);
        assert!(slots.take(1).is_some());
        assert_eq!(slots.taken.lock().unwrap().len(), 1, "keys without places are forgotten");
    }
}
