//! The thread that reads one partition's moving end.
//!
//! ```text
//! reader thread --chunk--> (bounded: 1) --> projector
//!       ^------- empty buffers ------------------'
//! ```

use std::sync::Arc;
use std::time::Duration;

use refold_domain::log::Chunk;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_ports::source::ChunkReader;
use refold_ports::source::ReadLimit;
use refold_ports::source::SourceError;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::labour::Labour;
use crate::thread_cpu;

/// Pause before a log that is away is asked again.
const UNREACHABLE_PAUSE: Duration = Duration::from_millis(200);

/// Pause after a read that found nothing and did not wait either.
const EMPTY_PAUSE: Duration = Duration::from_millis(5);

/// What a reader thread is given.
pub(crate) struct TailRead {
    pub(crate) partition: Partition,
    pub(crate) from: Offset,
    pub(crate) limit: ReadLimit,
    pub(crate) wait: Duration,
}

/// A chunk and what reading it took.
pub(crate) struct TailChunk {
    pub(crate) chunk: Chunk,
    /// CPU time of the reader thread; what the log's client spends is not in it.
    pub(crate) cpu: Duration,
}

/// The projector's end of a reader thread. Dropping it ends the thread after its read.
pub(crate) struct TailReader {
    chunks: mpsc::Receiver<Result<TailChunk, SourceError>>,
    empties: mpsc::UnboundedSender<Chunk>,
}

impl TailReader {
    /// Starts a thread that reads ahead by one chunk.
    pub(crate) fn spawn(
        labour: &Arc<dyn Labour>,
        reader: Box<dyn ChunkReader>,
        read: TailRead,
    ) -> Result<Self, std::io::Error> {
        // One chunk waits, one is being read, one is being folded.
        let (chunk_tx, chunks) = mpsc::channel(1);
        // As many as there are chunks: it holds no more than they do.
        let (empties, empty_rx) = mpsc::unbounded_channel();
        let name = format!("tail-{}", read.partition);
        let work = read_loop(Arc::clone(labour), reader, read, chunk_tx, empty_rx);
        labour.start(name, Box::pin(work))?;
        Ok(Self { chunks, empties })
    }

    /// The next chunk, possibly empty; an error that is not transient is the last answer.
    pub(crate) async fn next(&mut self) -> Result<TailChunk, SourceError> {
        match self.chunks.recv().await {
            Some(answer) => answer,
            None => Err(SourceError::Fatal(
                "the reader thread ended without an answer".to_owned(),
            )),
        }
    }

    /// Gives a chunk's buffers back.
    pub(crate) fn recycle(&self, chunk: Chunk) {
        // A thread that has ended needs no buffers.
        let _ = self.empties.send(chunk);
    }
}

async fn read_loop(
    labour: Arc<dyn Labour>,
    mut reader: Box<dyn ChunkReader>,
    read: TailRead,
    chunks: mpsc::Sender<Result<TailChunk, SourceError>>,
    mut empties: mpsc::UnboundedReceiver<Chunk>,
) {
    loop {
        let recycled = empties.try_recv();
        let mut chunk = recycled.unwrap_or_else(|_| Chunk::new(read.partition, read.from));
        let (started, begun) = (Instant::now(), thread_cpu::now());
        let reading = labour.read(reader.as_mut(), &mut chunk, read.limit, read.wait);
        let answer = reading.await;
        let cpu = thread_cpu::now().saturating_sub(begun);
        let pause = match &answer {
            Ok(()) if chunk.is_empty() && started.elapsed() < EMPTY_PAUSE => Some(EMPTY_PAUSE),
            Ok(()) => Some(Duration::ZERO),
            Err(error) if error.is_transient() => Some(UNREACHABLE_PAUSE),
            Err(_) => None,
        };
        let told = chunks.send(answer.map(|()| TailChunk { chunk, cpu })).await;
        match pause {
            Some(pause) if told.is_ok() => labour.pause(pause).await,
            _ => return,
        }
    }
}
