//! The chunk reader: unpacks answers into chunks, and asks for the next answer
//! before it unpacks the last one.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use refold_domain::log::Chunk;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_ports::source::ChunkReader;
use refold_ports::source::ReadLimit;
use refold_ports::source::SourceError;

use super::cluster::Cluster;
use super::fetcher::Answer;
use super::fetcher::Fetcher;
use super::headers;
use super::options::Options;
use super::unpack::Filled;
use super::unpack::Unpacker;

/// How long to wait for the next answer once the chunk holds something: the
/// fold can use the time, but a chunk of a few records is not worth handing over.
const LINGER: Duration = Duration::from_millis(10);

/// What an answer says of the log's end counts while it is no older than this.
/// It may have waited in the socket's buffer for as long as the caller was busy.
const FRESH: Duration = Duration::from_secs(1);

/// Reads one partition of a topic.
pub(crate) struct RawReader {
    fetcher: Fetcher,
    unpacker: Unpacker,
    partition: Partition,
    /// One past the last record that was delivered.
    position: Offset,
    /// The last stable offset, by the newest answer that was fresh.
    end: Option<Offset>,
    /// Whether everything up to `end` was delivered when last looked at.
    at_end: bool,
    /// Since when answers have held nothing below the end that they name.
    stalled_since: Option<Instant>,
    /// An error that waits for the records before it to be taken.
    pending: Option<SourceError>,
    /// The error after which this reader is of no use.
    broken: Option<SourceError>,
}

impl RawReader {
    /// Connects to the partition's leader.
    ///
    /// # Errors
    /// As [`refold_ports::source::LogSource::open`].
    pub(crate) fn open(
        options: Arc<Options>,
        topic: Arc<str>,
        partition: Partition,
        from: Offset,
    ) -> Result<Self, SourceError> {
        let mut fetcher = Fetcher::open(Cluster::new(options, topic, partition), from)?;
        fetcher.ask_ahead(from);
        Ok(Self {
            fetcher,
            unpacker: Unpacker::new(partition, from),
            partition,
            position: from,
            end: None,
            at_end: false,
            stalled_since: None,
            pending: None,
            broken: None,
        })
    }

    fn fill(
        &mut self,
        chunk: &mut Chunk,
        limit: ReadLimit,
        wait: Duration,
    ) -> Result<(), SourceError> {
        let deadline = Instant::now() + wait;
        // An end that the caller was told of is no reason to return again.
        let told = self.at_end;
        if let Some(error) = self.pending.take() {
            return Err(error);
        }
        loop {
            match self.unpack(chunk, limit)? {
                Filled::Full => return Ok(()),
                Filled::Exhausted if self.at_end && !(told && chunk.is_empty()) => return Ok(()),
                Filled::Exhausted => {}
            }
            if chunk.len() * 2 > limit.records || chunk.bytes() > limit.bytes / 2 {
                return Ok(());
            }
            let until = match chunk.is_empty() {
                true => deadline,
                false => deadline.min(Instant::now() + LINGER),
            };
            let received = self.fetcher.receive(self.unpacker.next_fetch(), until);
            match received.and_then(|answer| answer.map(|answer| self.take(answer)).transpose()) {
                Ok(Some(())) => {}
                Ok(None) if !chunk.is_empty() || Instant::now() >= deadline => return Ok(()),
                Ok(None) => {}
                Err(error) if chunk.is_empty() => return Err(error),
                Err(error) => {
                    // Records before an error count; the error comes with the next read.
                    self.pending = Some(error);
                    return Ok(());
                }
            }
        }
    }

    /// Unpacks what was accepted, and looks whether that was all there is.
    fn unpack(&mut self, chunk: &mut Chunk, limit: ReadLimit) -> Result<Filled, SourceError> {
        let filled = if self.unpacker.is_exhausted() {
            Ok(Filled::Exhausted)
        } else {
            self.unpacker.fill(chunk, limit)
        };
        let all = self.unpacker.is_exhausted();
        let end = self.end;
        self.at_end = all && end.is_some_and(|end| self.unpacker.position() >= end);
        match filled {
            Err(_) if !chunk.is_empty() => Ok(Filled::Full),
            Err(error) => Err(SourceError::Corrupt {
                partition: self.partition,
                offset: error.offset,
                reason: error.to_string(),
            }),
            Ok(filled) => Ok(filled),
        }
    }

    /// Accepts an answer, and asks for the one behind it at once: the broker
    /// and the socket's buffer work while this one is unpacked and folded.
    fn take(&mut self, answer: Answer) -> Result<(), SourceError> {
        let fresh = answer.asked.elapsed() < FRESH;
        let fetched = answer.fetched;
        let before = self.unpacker.next_fetch();
        let end = Offset(fetched.last_stable);
        self.end = fresh.then_some(end);
        if let Some(needed) = headers::cut_off(&fetched.records) {
            self.widen(needed, before)?;
        } else if fetched.records.is_empty() {
            let expected = end > before && fetched.throttle_ms == 0;
            self.bear_stall(expected, end, before)?;
        } else {
            self.stalled_since = None;
            self.unpacker.accept(fetched.records, fetched.aborted);
            self.fetcher.set_answer_bytes(0);
            if self.unpacker.next_fetch() <= before && self.unpacker.is_exhausted() {
                return Err(SourceError::Corrupt {
                    partition: self.partition,
                    offset: before,
                    reason: "the broker answers with batches that all end below this offset"
                        .to_owned(),
                });
            }
        }
        self.fetcher.ask_ahead(self.unpacker.next_fetch());
        Ok(())
    }

    /// Asks for a batch that is larger than an answer.
    fn widen(&mut self, needed: usize, offset: Offset) -> Result<(), SourceError> {
        let limit = self.fetcher.cluster().options().frame_bytes;
        if needed > limit {
            return Err(SourceError::Corrupt {
                partition: self.partition,
                offset,
                reason: format!(
                    "the next batch announces {needed} bytes, and receive.message.max.bytes is \
                     {limit}: raise it if the topic has such batches; if not, the log is damaged"
                ),
            });
        }
        self.fetcher.set_answer_bytes(needed);
        Ok(())
    }

    /// Answers without records below the end that they name may come for a
    /// moment; for the deadline they may not.
    fn bear_stall(&mut self, stalled: bool, end: Offset, at: Offset) -> Result<(), SourceError> {
        if !stalled {
            self.stalled_since = None;
            return Ok(());
        }
        let since = *self.stalled_since.get_or_insert_with(Instant::now);
        if since.elapsed() < self.fetcher.cluster().options().deadline {
            return Ok(());
        }
        self.stalled_since = None;
        Err(SourceError::Unreachable(format!(
            "{} ends at offset {end}, but nothing was delivered from {at} on",
            self.partition
        )))
    }
}

impl ChunkReader for RawReader {
    fn read(
        &mut self,
        chunk: &mut Chunk,
        limit: ReadLimit,
        wait: Duration,
    ) -> Result<(), SourceError> {
        chunk.recycle(self.partition, self.position);
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        let outcome = self.fill(chunk, limit, wait);
        self.position = chunk.to();
        match &outcome {
            Ok(()) if self.at_end && self.pending.is_none() => {
                chunk.set_end_of_log(self.unpacker.position());
            }
            Ok(()) => {}
            // Nothing behind an error like corruption may ever be delivered: the error stays.
            Err(error) if !error.is_transient() => self.broken = Some(error.clone()),
            Err(_) => {
                self.at_end = false;
                self.end = None;
            }
        }
        outcome
    }
}
