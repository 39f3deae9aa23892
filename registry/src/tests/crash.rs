//! A publisher that fails or dies at each of its writes, before or after it took effect: readers
//! see the old state or the new one, and publishing again ends with exactly one new version.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};

use super::{Place, add_large_shard};
use crate::probe_conditional_put;

/// Whether a failing write took effect.
#[derive(Clone, Copy, Debug, PartialEq)]
enum When {
    Before,
    After,
}

/// What follows the failing write.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    /// Everything works again.
    Recover,
    /// Nothing works any more: the process is gone.
    Die,
}

/// A store whose `at`-th write (from 0) fails.
#[derive(Clone, Debug)]
pub(super) struct Faulty {
    inner: Arc<dyn ObjectStore>,
    at: usize,
    when: When,
    then: Then,
    writes: Arc<AtomicUsize>,
    error: fn() -> Error,
}

impl Faulty {
    /// A store all of whose writes from the `at`-th on fail with `error`.
    pub(super) fn from_write(inner: Arc<dyn ObjectStore>, at: usize, error: fn() -> Error) -> Self {
        Self { inner, at, when: When::Before, then: Then::Die, writes: Arc::default(), error }
    }

    fn new(inner: Arc<dyn ObjectStore>, at: usize, when: When, then: Then) -> Self {
        Self { inner, at, when, then, writes: Arc::default(), error: killed }
    }

    fn fired(&self) -> bool {
        self.writes.load(Ordering::SeqCst) > self.at
    }

    fn alive(&self) -> Result<()> {
        if self.fired() && self.then == Then::Die { Err((self.error)()) } else { Ok(()) }
    }

    async fn write<T>(&self, write: impl Future<Output = Result<T>>) -> Result<T> {
        self.alive()?;
        if self.writes.fetch_add(1, Ordering::SeqCst) != self.at {
            return write.await;
        }
        if self.when == When::After {
            write.await?;
        }
        Err((self.error)())
    }
}

fn killed() -> Error {
    Error::Generic { store: "faulty", source: "killed".into() }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.write(self.inner.put_opts(path, payload, options)).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let upload = self.write(self.inner.put_multipart_opts(path, options)).await?;
        Ok(Box::new(FaultyUpload { upload, store: self.clone() }))
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.alive()?;
        self.inner.get_opts(path, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let delete = move |path: Path| {
            let store = store.clone();
            async move {
                let one = stream::iter([Ok(path.clone())]).boxed();
                store.write(store.inner.delete_stream(one).try_collect::<Vec<_>>()).await?;
                Ok(path)
            }
        };
        paths.and_then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.alive() {
            Ok(()) => self.inner.list(prefix),
            Err(error) => stream::once(async { Err(error) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.alive()?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.write(self.inner.copy_opts(from, to, options)).await
    }
}

#[derive(Debug)]
struct FaultyUpload {
    upload: Box<dyn MultipartUpload>,
    store: Faulty,
}

#[async_trait]
impl MultipartUpload for FaultyUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (store, part) = (self.store.clone(), self.upload.put_part(data));
        async move { store.write(part).await }.boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        self.store.write(self.upload.complete()).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.store.write(self.upload.abort()).await
    }
}

/// Publishes v1, then v2 through a store that fails at one write, for every write there is, and
/// returns how many there are.
async fn fail_everywhere(place: impl Fn() -> Place, when: When, then: Then, large: bool) -> usize {
    for at in 0.. {
        let place = place();
        let case = format!("write {at}, {when:?}, {then:?}");
        place.registry.publish(&place.snapshot("old", 1)).await.unwrap();
        let mut snapshot = place.snapshot("new", 1);
        if large {
            add_large_shard(&mut snapshot);
        }

        let store = Faulty::new(place.registry.store.clone(), at, when, then);
        let outcome = place.through(store.clone()).publish(&snapshot).await;
        let dataset = place.registry.dataset("sixseven").await.unwrap();
        for version in &dataset.versions {
            place.registry.verify(version).await.expect(&case);
        }
        if outcome.is_ok() {
            assert_eq!(dataset.versions.len(), 2, "{case}");
        }
        if !store.fired() {
            outcome.expect(&case);
            return at;
        }

        // The job's next lease has another fence.
        snapshot.fence = 2;
        let version = place.registry.publish(&snapshot).await.expect(&case);
        assert_eq!(version.number, 2, "{case}");
        place.registry.verify(&version).await.expect(&case);
        let versions = place.registry.dataset("sixseven").await.unwrap().versions;
        assert_eq!(versions.len(), 2, "{case}");
        // What the lost attempt left behind goes with the next collection.
        place.registry.gc("sixseven", chrono::TimeDelta::zero(), |_| false).await.unwrap();
        place.registry.verify(&versions[0]).await.expect(&case);
        place.registry.verify(&version).await.expect(&case);
    }
    unreachable!("the loop has no end")
}

#[tokio::test]
async fn a_publisher_may_fail_at_any_write() {
    for when in [When::Before, When::After] {
        for then in [Then::Recover, Then::Die] {
            // Four shards, six files around them, one log entry.
            assert_eq!(fail_everywhere(Place::memory, when, then, false).await, 11);
            assert_eq!(fail_everywhere(Place::local, when, then, false).await, 11);
        }
    }
}

#[tokio::test]
async fn a_publisher_may_fail_at_any_part_of_a_large_file() {
    for (when, then) in [(When::Before, Then::Die), (When::After, Then::Recover)] {
        // One more shard: its creation, three parts, its completion.
        assert_eq!(fail_everywhere(Place::memory, when, then, true).await, 16);
    }
}

/// A store that ignores the condition of a conditional put, as some servers do.
#[derive(Debug)]
struct Careless(Arc<dyn ObjectStore>);

impl fmt::Display for Careless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for Careless {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.0.put_opts(path, payload, PutOptions { mode: PutMode::Overwrite, ..options }).await
    }
    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(path, options).await
    }
    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.0.get_opts(path, options).await
    }
    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.0.delete_stream(paths)
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.0.list(prefix)
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}

#[tokio::test]
async fn the_probe_refuses_a_store_that_ignores_conditions() {
    let place = Place::memory();
    let store: Arc<dyn ObjectStore> = Arc::new(Careless(place.registry.store.clone()));
    let error = probe_conditional_put(&store, &Path::default()).await.unwrap_err();
    assert!(matches!(error, crate::Error::UnsafeStore { round: 1, winners: 16, .. }), "{error}");
    assert!(super::objects(&place.registry).await.is_empty());
}
