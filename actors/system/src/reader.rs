//! The thread that reads one partition's moving end.
//!
//! ```text
//! reader thread --chunk--> (bounded: 1) --> projector
//!       ^------- empty buffers ------------------'
//! ```

use std::sync::mpsc as std_mpsc;
use std::time::Duration;
use std::time::Instant;

use refold_domain::log::Chunk;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_ports::source::ChunkReader;
use refold_ports::source::ReadLimit;
use refold_ports::source::SourceError;
use tokio::sync::mpsc;

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
    empties: std_mpsc::Sender<Chunk>,
}

impl TailReader {
    /// Starts a thread that reads ahead by one chunk.
    pub(crate) fn spawn(
        reader: Box<dyn ChunkReader>,
        read: TailRead,
    ) -> Result<Self, std::io::Error> {
        // One chunk waits, one is being read, one is being folded.
        let (chunk_tx, chunks) = mpsc::channel(1);
        let (empties, empty_rx) = std_mpsc::channel();
        std::thread::Builder::new()
            .name(format!("tail-{}", read.partition))
            .spawn(move || read_loop(reader, &read, &chunk_tx, &empty_rx))?;
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

fn read_loop(
    mut reader: Box<dyn ChunkReader>,
    read: &TailRead,
    chunks: &mpsc::Sender<Result<TailChunk, SourceError>>,
    empties: &std_mpsc::Receiver<Chunk>,
) {
    loop {
        let mut chunk = empties
            .try_recv()
            .unwrap_or_else(|_| Chunk::new(read.partition, read.from));
        let started = Instant::now();
        let (answer, cpu) = thread_cpu::of(|| reader.read(&mut chunk, read.limit, read.wait));
        let pause = match &answer {
            Ok(()) if chunk.is_empty() && started.elapsed() < EMPTY_PAUSE => EMPTY_PAUSE,
            Ok(()) => Duration::ZERO,
            Err(error) if error.is_transient() => UNREACHABLE_PAUSE,
            Err(_) => {
                let _ = chunks.blocking_send(answer.map(|()| TailChunk { chunk, cpu }));
                return;
            }
        };
        if chunks
            .blocking_send(answer.map(|()| TailChunk { chunk, cpu }))
            .is_err()
        {
            return;
        }
        std::thread::sleep(pause);
    }
}
