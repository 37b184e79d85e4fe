//! Who does the work that blocks or takes long: threads of their own, or, where one seed
//! decides the order of everything, tasks of the one thread that all actors share.

use std::any::Any;
use std::io;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::pin::Pin;
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use refold_domain::log::Chunk;
use refold_ports::source::ChunkReader;
use refold_ports::source::ReadLimit;
use refold_ports::source::SourceError;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// Work that goes on beside the actors until it is done.
pub type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Does the work that an actor must not do itself.
///
/// # Promise
/// What is started runs to its end unless the process ends first. [`Labour::read`] and
/// [`Labour::pause`] are called from started work only, so they may hold their thread.
#[async_trait]
pub trait Labour: Send + Sync {
    /// Starts work under a name, from inside a runtime.
    ///
    /// # Errors
    /// What the system says when it has no thread left.
    fn start(&self, name: String, work: Work) -> io::Result<()>;

    /// Reads the next chunk, as [`ChunkReader::read`].
    ///
    /// # Errors
    /// As [`ChunkReader::read`].
    async fn read(
        &self,
        reader: &mut dyn ChunkReader,
        chunk: &mut Chunk,
        limit: ReadLimit,
        wait: Duration,
    ) -> Result<(), SourceError>;

    /// Lets time pass.
    async fn pause(&self, time: Duration);

    /// Runs something that keeps a processor busy, and returns when it is done. It is dropped
    /// unrun when the process is ending.
    async fn compute(&self, work: Box<dyn FnOnce() + Send>);
}

/// A thread for each work that is started, and the runtime's pool for what is computed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Threads;

#[async_trait]
impl Labour for Threads {
    fn start(&self, name: String, work: Work) -> io::Result<()> {
        let runtime = Handle::current();
        let named = thread::Builder::new().name(name);
        // Nobody joins it: whoever started it hears from it by a channel.
        named.spawn(move || runtime.block_on(work)).map(drop)
    }

    async fn read(
        &self,
        reader: &mut dyn ChunkReader,
        chunk: &mut Chunk,
        limit: ReadLimit,
        wait: Duration,
    ) -> Result<(), SourceError> {
        reader.read(chunk, limit, wait)
    }

    async fn pause(&self, time: Duration) {
        // Not the runtime's timer: it is gone before the last threads are.
        thread::sleep(time);
    }

    async fn compute(&self, work: Box<dyn FnOnce() + Send>) {
        // A panic is caught inside; what is left is a runtime that is ending.
        let _ = tokio::task::spawn_blocking(work).await;
    }
}

/// Computes a value.
///
/// # Errors
/// The text of a panic, or that the process is ending.
pub(crate) async fn compute<T: Send + 'static>(
    labour: &dyn Labour,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let (done, answer) = oneshot::channel();
    let work = move || {
        // The actor may be gone: then the answer is of no use.
        let _ = done.send(catch_unwind(AssertUnwindSafe(work)));
    };
    labour.compute(Box::new(work)).await;
    match answer.await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(panic)) => Err(panic_text(panic.as_ref())),
        Err(_) => Err("the process is ending".to_owned()),
    }
}

/// The text of a panic.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no text".to_owned())
}
