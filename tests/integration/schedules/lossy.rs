//! A connection that loses requests and answers, and delivers requests late.
//!
//! A put or delete without an answer was carried out, is carried out at any later time, or never
//! is. What is late arrives before a later request of any machine, or when all have ended.

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult,
};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Most requests of a run that go wrong.
const MOST: usize = 4;

/// A request that the service has not seen yet.
enum Late {
    Put(Path, PutPayload, PutOptions),
    Delete(Path),
}

/// What the machines of a run share.
pub struct Network {
    inner: Arc<InMemory>,
    late: Mutex<Vec<Late>>,
    wrong: AtomicUsize,
}

impl Network {
    pub fn new(inner: InMemory) -> Arc<Self> {
        Arc::new(Self {
            inner: Arc::new(inner),
            late: Mutex::default(),
            wrong: AtomicUsize::new(0),
        })
    }

    /// The store, as a machine sees it whose connection is healthy.
    pub fn store(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.inner) as _
    }

    async fn carry_out(&self, late: Late) {
        let _ = match late {
            Late::Put(path, payload, options) => self.inner.put_opts(&path, payload, options).await.map(|_| ()),
            Late::Delete(path) => self.delete(path).await,
        };
    }

    async fn delete(&self, path: Path) -> object_store::Result<()> {
        let path = futures_util::stream::iter([Ok(path)]).boxed();
        self.inner.delete_stream(path).for_each(|_| async {}).await;
        Ok(())
    }

    /// Carries out all that is late. Returns the number of requests that went wrong.
    pub fn settle(&self) -> usize {
        let late = std::mem::take(&mut *self.late.lock().unwrap());
        let all = async {
            for late in late {
                self.carry_out(late).await;
            }
        };
        futures_util::FutureExt::now_or_never(all).expect("the in-memory store never waits");
        self.wrong.load(Ordering::SeqCst)
    }
}

/// The connection of one machine.
pub struct Lossy {
    network: Arc<Network>,
    seed: u64,
    number: AtomicUsize,
}

/// What becomes of a request.
#[derive(Clone, Copy)]
enum Fate {
    Answered,
    AnswerLost,
    Late,
    Lost,
}

impl Lossy {
    /// `seed` decides the fates.
    pub fn new(network: &Arc<Network>, seed: u64) -> Self {
        Self {
            network: Arc::clone(network),
            seed,
            number: AtomicUsize::new(0),
        }
    }

    /// Delivers something late now and then, and returns the fate of the next request.
    async fn next(&self) -> Fate {
        let number = self.number.fetch_add(1, Ordering::SeqCst);
        let roll = xxhash_rust::xxh3::xxh3_64_with_seed(&number.to_le_bytes(), self.seed);
        if roll % 16 == 1 {
            let late = self.network.late.lock().unwrap().pop();
            if let Some(late) = late {
                self.network.carry_out(late).await;
            }
        }
        if !(roll >> 8).is_multiple_of(24) || self.network.wrong.fetch_add(1, Ordering::SeqCst) >= MOST {
            return Fate::Answered;
        }
        match (roll >> 32) % 3 {
            0 => Fate::AnswerLost,
            1 => Fate::Late,
            _ => Fate::Lost,
        }
    }
}

fn no_answer() -> object_store::Error {
    object_store::Error::Generic {
        store: "test",
        source: "no answer".into(),
    }
}

impl fmt::Debug for Lossy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lossy")
    }
}

impl fmt::Display for Lossy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lossy")
    }
}

#[async_trait]
impl ObjectStore for Lossy {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> object_store::Result<PutResult> {
        let put = self.network.inner.put_opts(path, payload.clone(), options.clone());
        match self.next().await {
            Fate::Answered => return put.await,
            Fate::AnswerLost => drop(put.await),
            Fate::Late => {
                let late = Late::Put(path.clone(), payload, options);
                self.network.late.lock().unwrap().push(late);
            }
            Fate::Lost => {}
        }
        Err(no_answer())
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.network.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.network.inner.get_opts(path, options).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        let paths = futures_util::FutureExt::now_or_never(paths.collect::<Vec<_>>()).expect("paths are ready");
        let mut answers = Vec::new();
        for path in paths.into_iter().flatten() {
            let fate = futures_util::FutureExt::now_or_never(self.next()).expect("nothing waits");
            let delete = |path| {
                let deleted = futures_util::FutureExt::now_or_never(self.network.delete(path));
                deleted.expect("the in-memory store never waits").ok();
            };
            answers.push(match fate {
                Fate::Answered => {
                    delete(path.clone());
                    Ok(path)
                }
                Fate::AnswerLost => {
                    delete(path);
                    Err(no_answer())
                }
                Fate::Late => {
                    self.network.late.lock().unwrap().push(Late::Delete(path));
                    Err(no_answer())
                }
                Fate::Lost => Err(no_answer()),
            });
        }
        futures_util::stream::iter(answers).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.network.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.network.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.network.inner.copy_opts(from, to, options).await
    }
}
