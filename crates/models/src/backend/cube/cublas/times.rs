//! Times of cuBLAS's products, by an event before and one after each: cubecl's observer does not see them.

use std::{
    ptr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use cudarc::driver::{result::event, sys as driver};

use super::library::done;

static IS_ON: AtomicBool = AtomicBool::new(false);
static PRODUCTS: Mutex<Vec<Product>> = Mutex::new(vec![]);

/// A product and what came before and after it on its stream.
struct Product {
    name: String,
    begin: Moment,
    end: Moment,
}

/// An event that keeps the time.
pub(super) struct Moment(driver::CUevent);

#[expect(unsafe_code, reason = "events belong to no thread")]
// SAFETY: the driver takes them from any
unsafe impl Send for Moment {}

impl Moment {
    #[expect(unsafe_code, reason = "the driver's functions are foreign")]
    fn on(stream: driver::CUstream) -> Result<Self, String> {
        let mut event = ptr::null_mut();
        // SAFETY: one pointer is written to a place that is there, and the stream is one
        unsafe {
            done(driver::cuEventCreate(&raw mut event, 0))?;
            done(driver::cuEventRecord(event, stream))?;
        }
        Ok(Self(event))
    }
}

impl Drop for Moment {
    fn drop(&mut self) {
        #[expect(unsafe_code, reason = "the driver's functions are foreign")]
        // SAFETY: it was created, and nobody else has it
        unsafe {
            let _ = driver::cuEventDestroy_v2(self.0);
        }
    }
}

/// Before a product: what [`after`] is to be given, if products are watched.
pub(super) fn before(stream: driver::CUstream) -> Result<Option<Moment>, String> {
    IS_ON.load(Ordering::Relaxed).then(|| Moment::on(stream)).transpose()
}

/// After a product.
pub(super) fn after(
    begin: Option<Moment>,
    stream: driver::CUstream,
    name: impl FnOnce() -> String,
) -> Result<(), String> {
    if let Some(begin) = begin {
        let product = Product { name: name(), begin, end: Moment::on(stream)? };
        PRODUCTS.lock().unwrap_or_else(PoisonError::into_inner).push(product);
    }
    Ok(())
}

/// Does work that waits for its results; names of its products and the seconds of each.
pub(in super::super) fn watched(work: impl FnOnce()) -> Vec<(String, f64)> {
    IS_ON.store(true, Ordering::Relaxed);
    work();
    IS_ON.store(false, Ordering::Relaxed);
    let products = std::mem::take(&mut *PRODUCTS.lock().unwrap_or_else(PoisonError::into_inner));
    products.into_iter().map(|product| (product.name.clone(), product.seconds())).collect()
}

impl Product {
    #[expect(unsafe_code, reason = "the driver's functions are foreign")]
    fn seconds(&self) -> f64 {
        // SAFETY: both events were recorded
        let milliseconds = unsafe {
            let _ = event::synchronize(self.end.0);
            event::elapsed(self.begin.0, self.end.0)
        };
        milliseconds.map_or(0.0, |milliseconds| f64::from(milliseconds) / 1e3)
    }
}
