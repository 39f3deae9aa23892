//! Times of the kernels that some work launches, by cubecl's observer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use cubecl::{
    future::block_on,
    logging::{Duration, LaunchObservation, LaunchObserver, ProfileDuration, TimingMethod, TimingRequest},
};

use crate::backend::KernelTime;

/// The launches so far, their times not yet read: nothing waits for a kernel, so they run back to back.
#[derive(Default)]
struct Observer(Mutex<Vec<(&'static str, ProfileDuration)>>);

impl LaunchObserver for Observer {
    fn launched(&self, _: &'static str) {}

    fn timing(&self) -> TimingRequest {
        TimingRequest::Deferred
    }

    fn profiled(&self, kernel: &'static str, profile: ProfileDuration) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((kernel, profile));
    }

    fn timed(&self, kernel: &'static str, duration: Duration, _: TimingMethod) {
        tracing::warn!(kernel, ?duration, "cubecl's own profile is on: the kernel is left out");
    }
}

/// Does the work and measures its kernels, the longest first.
#[expect(clippy::unnecessary_wraps, reason = "without such a backend there is none")]
pub(in crate::backend) fn kernels(work: &mut dyn FnMut()) -> Option<Vec<KernelTime>> {
    let observer = Arc::new(Observer::default());
    let observation = LaunchObservation::new(observer.clone());
    #[cfg(feature = "cuda")]
    let products = super::cublas::watched(work);
    #[cfg(not(feature = "cuda"))]
    let products = {
        work();
        vec![]
    };
    drop(observation);
    let launches = std::mem::take(&mut *observer.0.lock().unwrap_or_else(PoisonError::into_inner));
    let mut kernels: HashMap<String, (usize, f64)> = HashMap::new();
    let launches = launches.into_iter().map(|(name, profile)| {
        // a window in which nothing ran has no ticks
        let ticks = block_on(profile.into_future());
        (short(name), ticks.map_or(0.0, |ticks| ticks.duration().as_secs_f64()))
    });
    for (name, seconds) in launches.chain(products) {
        let kernel = kernels.entry(name).or_default();
        kernel.0 += 1;
        kernel.1 += seconds;
    }
    let mut kernels: Vec<KernelTime> = kernels
        .into_iter()
        .map(|(name, (launches, seconds))| KernelTime { name, launches, seconds })
        .collect();
    kernels.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    Some(kernels)
}

/// A type's name without the paths in it.
fn short(name: &str) -> String {
    let mut text = String::new();
    let mut word = String::new();
    for character in name.chars() {
        match character {
            ':' => word.clear(),
            character if character.is_alphanumeric() || character == '_' => word.push(character),
            other => {
                text.push_str(&word);
                word.clear();
                text.push(other);
            }
        }
    }
    text + &word
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_lose_their_paths() {
        assert_eq!(super::short("a::b::Kernel<c::Sum, f32>"), "Kernel<Sum, f32>");
    }
}
