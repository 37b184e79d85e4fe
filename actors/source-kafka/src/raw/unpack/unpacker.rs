//! The unpacker of one partition.

use std::collections::VecDeque;
use std::fmt;

use bytes::Bytes;
use refold_domain::log::Chunk;
use refold_domain::log::RecordSpan;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_ports::source::ReadLimit;

use super::aborted::AbortedTransaction;
use super::answer::Answer;
use super::answer::Batch;
use super::codec::Codec;
use super::codec::Codecs;
use super::codec::Fault;
use super::error::UnpackError;
use super::error::UnpackErrorKind;
use super::walk::Found;
use super::walk::Walk;
use super::walk::is_abort;

/// Largest batch that is unpacked, bytes, as it comes and unpacked: what a
/// payload of a few kilobytes may make of memory has to end somewhere.
pub const MAX_BATCH_BYTES: usize = 256 << 20;

/// Bytes of keys and values in a chunk at most, whatever the limit of a read
/// says: with what else is in its buffer that stays below the 4 GiB it can address.
const CHUNK_BYTES: usize = 1 << 30;

/// Bytes in a chunk's buffer that belong to no record, beyond as many as
/// there are of records, before batches are copied rather than unpacked into it.
const DEAD_BYTES: usize = 1 << 20;

/// Largest leftover buffer that is kept, bytes.
const KEPT_BYTES: usize = 8 << 20;

/// What ended a fill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filled {
    /// The limit was reached, or would be inside the next batch; more of what was
    /// accepted is left, or an error waits.
    Full,
    /// Nothing is left of what was accepted.
    Exhausted,
}

/// Unpacks what Fetch answers hold for one partition into chunks.
///
/// # Promise
/// * Every record of the accepted batches at or above the wanted offset is
///   delivered once, in offset order, except markers and, for the aborted
///   transactions that came with the answers, their records.
/// * Nothing of a batch is delivered unless its CRC is right.
/// * Memory grows with what is unpacked, not with what a batch claims; a batch
///   of more than [`MAX_BATCH_BYTES`] is an error.
/// * No allocation per record; once its buffers have grown, none per batch.
pub struct Unpacker {
    partition: Partition,
    position: i64,
    next_fetch: i64,
    answers: VecDeque<Answer>,
    leftover: Leftover,
    codecs: Codecs,
    failed: Option<UnpackError>,
    /// Bytes of the first batch of the answer accepted last, if it held no complete one.
    needed: Option<usize>,
}

/// A batch that did not fit into one chunk.
#[derive(Default)]
struct Leftover {
    bytes: Vec<u8>,
    at: usize,
    walk: Option<Walk>,
}

/// The limit of a fill.
#[derive(Clone, Copy)]
struct Room {
    records: usize,
    bytes: usize,
}

/// How a batch ended.
enum Poured {
    /// All of it is in the chunk.
    Whole,
    /// The limit was reached; the rest is left over.
    Cut,
}

impl Unpacker {
    /// An unpacker of `partition` that wants the records from `from` on, inclusive.
    pub fn new(partition: Partition, from: Offset) -> Self {
        Self {
            partition,
            position: from.0,
            next_fetch: from.0,
            answers: VecDeque::new(),
            leftover: Leftover::default(),
            codecs: Codecs::default(),
            failed: None,
            needed: None,
        }
    }

    /// Takes the record bytes of the answer to a Fetch from [`Unpacker::next_fetch`],
    /// with its aborted transactions (none for a read-uncommitted reader).
    ///
    /// Looks at batch headers only. Afterwards `next_fetch` is behind the last
    /// complete batch, so that the next request can be sent before this answer
    /// is unpacked. Answers queue.
    pub fn accept(&mut self, records: Bytes, aborted: Vec<AbortedTransaction>) {
        let (answer, scan) = Answer::scan(records, aborted);
        self.needed = scan.partial.filter(|_| scan.last.is_none());
        if let Some(last) = scan.last {
            self.next_fetch = self.next_fetch.max(last + 1);
        }
        if !answer.is_done() {
            self.answers.push_back(answer);
        }
    }

    /// Offset of the next Fetch request.
    pub fn next_fetch(&self) -> Offset {
        Offset(self.next_fetch)
    }

    /// Bytes that the next answer has to have room for, when the one accepted
    /// last held nothing but the head of a batch; a fetch of fewer bytes would
    /// bring the same head again.
    pub fn truncated_bytes_needed(&self) -> Option<usize> {
        self.needed
    }

    /// Whether nothing is left of what was accepted, not even an error.
    pub fn is_exhausted(&self) -> bool {
        self.answers.is_empty() && self.leftover.walk.is_none() && self.failed.is_none()
    }

    /// One past everything that was delivered or skipped: records, markers,
    /// aborted records, holes.
    pub fn position(&self) -> Offset {
        Offset(self.position)
    }

    /// Forgets what was accepted, errors too, and wants the records from `from` on.
    pub fn restart(&mut self, from: Offset) {
        self.position = from.0;
        self.next_fetch = from.0;
        self.answers.clear();
        self.leftover.clear();
        self.failed = None;
        self.needed = None;
    }

    /// Fills `chunk`, recycled by the caller at [`Unpacker::position`], from
    /// what was accepted, within `limit`.
    ///
    /// # Errors
    /// A batch that cannot be delivered. The records before it are delivered
    /// first; after that every fill returns the error, until a restart.
    pub fn fill(&mut self, chunk: &mut Chunk, limit: ReadLimit) -> Result<Filled, UnpackError> {
        debug_assert_eq!(chunk.partition(), self.partition);
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let room = Room {
            records: limit.records.max(1),
            bytes: limit.bytes.min(CHUNK_BYTES),
        };
        self.pour_all(chunk, room).or_else(|error| {
            self.failed = Some(error.clone());
            if chunk.is_empty() {
                Err(error)
            } else {
                Ok(Filled::Full)
            }
        })
    }

    fn pour_all(&mut self, chunk: &mut Chunk, room: Room) -> Result<Filled, UnpackError> {
        loop {
            if let Some(walk) = self.leftover.walk {
                let poured = self.pour_leftover(walk, chunk, room);
                match poured.map_err(|kind| kind.at(walk.base))? {
                    Poured::Whole => continue,
                    Poured::Cut => return Ok(Filled::Full),
                }
            }
            while self
                .answers
                .pop_front_if(|answer| answer.is_done())
                .is_some()
            {}
            let Some(answer) = self.answers.front_mut() else {
                return Ok(Filled::Exhausted);
            };
            if room.is_used_up(chunk) || room.is_better_left(chunk, answer.next_records()) {
                return Ok(Filled::Full);
            }
            let batch = answer.next()?;
            let base = batch.header.base;
            let poured = self.pour_batch(&batch, chunk, room);
            if let Poured::Cut = poured.map_err(|kind| kind.at(base))? {
                return Ok(Filled::Full);
            }
        }
    }

    fn pour_batch(
        &mut self,
        batch: &Batch,
        chunk: &mut Chunk,
        room: Room,
    ) -> Result<Poured, UnpackErrorKind> {
        let header = &batch.header;
        let number = header.codec();
        let codec = Codec::from_number(number).ok_or(UnpackErrorKind::UnknownCodec(number))?;
        if header.is_control() {
            return self.pass_marker(batch, codec);
        }
        let passed = header.last < self.position;
        let empty = header.records == 0 && batch.payload.is_empty();
        if passed || empty || batch.aborted {
            self.position = self.position.max(header.last + 1);
            return Ok(Poured::Whole);
        }
        let walk = Walk::new(header);
        // Unpacking in place pays when most of the batch fits: the rest is moved.
        let left = room.records - chunk.len();
        if walk.left as usize / 2 <= left && has_few_dead(chunk) {
            let start = chunk.buffer().len();
            self.unpack(codec, &batch.payload, chunk.buffer())?;
            return self.pour_in_place(walk, chunk, start, room);
        }
        self.unpack_aside(codec, &batch.payload)?;
        self.leftover.walk = Some(walk);
        self.pour_copies(walk, chunk, room)
    }

    /// Passes a control batch; its records are markers, never the user's.
    fn pass_marker(&mut self, batch: &Batch, codec: Codec) -> Result<Poured, UnpackErrorKind> {
        self.unpack_aside(codec, &batch.payload)?;
        let abort = is_abort(&batch.header, &self.leftover.bytes)?;
        self.leftover.clear();
        if let (true, Some(answer)) = (abort, self.answers.front_mut()) {
            answer.abort_ends(batch.header.producer_id);
        }
        self.position = self.position.max(batch.header.last + 1);
        Ok(Poured::Whole)
    }

    fn unpack_aside(&mut self, codec: Codec, payload: &[u8]) -> Result<(), UnpackErrorKind> {
        self.leftover.clear();
        let mut bytes = std::mem::take(&mut self.leftover.bytes);
        let unpacked = self.unpack(codec, payload, &mut bytes);
        self.leftover.bytes = bytes;
        unpacked
    }

    fn unpack(
        &mut self,
        codec: Codec,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), UnpackErrorKind> {
        self.codecs
            .unpack(codec, payload, out, MAX_BATCH_BYTES)
            .map_err(|fault| match fault {
                Fault::Malformed(reason) => UnpackErrorKind::Payload { codec, reason },
                Fault::TooLarge(bytes) => UnpackErrorKind::TooLarge {
                    bytes,
                    limit: MAX_BATCH_BYTES,
                },
            })
    }

    /// Names the records of the batch that stands in the chunk's buffer from `at` on.
    fn pour_in_place(
        &mut self,
        mut walk: Walk,
        chunk: &mut Chunk,
        mut at: usize,
        room: Room,
    ) -> Result<Poured, UnpackErrorKind> {
        let wanted = self.position.max(chunk.to().0);
        while walk.left > 0 {
            let found = walk.look(chunk.unpacked(), at)?;
            if found.offset >= wanted {
                if !room.admits(&found, chunk) {
                    self.leftover.keep(&chunk.unpacked()[at..], walk);
                    chunk.buffer().truncate(at);
                    return Ok(Poured::Cut);
                }
                let pushed = chunk.push_span(&RecordSpan {
                    offset: Offset(found.offset),
                    ts_millis: found.millis,
                    key: found.key.clone(),
                    value: found.value.clone(),
                });
                debug_assert!(
                    pushed,
                    "the span lies in the buffer and above the chunk's end"
                );
                self.position = found.offset + 1;
            }
            walk.pass(&found);
            at = found.end;
        }
        walk.finish(chunk.unpacked(), at)?;
        self.position = self.position.max(walk.last + 1);
        Ok(Poured::Whole)
    }

    fn pour_leftover(
        &mut self,
        walk: Walk,
        chunk: &mut Chunk,
        room: Room,
    ) -> Result<Poured, UnpackErrorKind> {
        let bytes = &self.leftover.bytes[self.leftover.at..];
        let fits = walk.left as usize <= room.records.saturating_sub(chunk.len())
            && bytes.len() <= room.bytes.saturating_sub(chunk.bytes());
        if !fits || !has_few_dead(chunk) {
            return self.pour_copies(walk, chunk, room);
        }
        let start = chunk.buffer().len();
        chunk.buffer().extend_from_slice(bytes);
        self.leftover.clear();
        self.pour_in_place(walk, chunk, start, room)
    }

    /// Copies records of the leftover batch. However small the limits are, a
    /// batch costs one copy of each record, not one of its rest per chunk.
    fn pour_copies(
        &mut self,
        mut walk: Walk,
        chunk: &mut Chunk,
        room: Room,
    ) -> Result<Poured, UnpackErrorKind> {
        let wanted = self.position.max(chunk.to().0);
        while walk.left > 0 {
            let found = walk.look(&self.leftover.bytes, self.leftover.at)?;
            if found.offset >= wanted {
                if !room.admits(&found, chunk) {
                    self.leftover.walk = Some(walk);
                    return Ok(Poured::Cut);
                }
                let bytes = &self.leftover.bytes;
                let value = found.value.as_ref().map(|value| &bytes[value.clone()]);
                let key = &bytes[found.key.clone()];
                let pushed = chunk.push(Offset(found.offset), found.millis, key, value);
                debug_assert!(pushed, "the record lies above the chunk's end");
                self.position = found.offset + 1;
            }
            walk.pass(&found);
            self.leftover.at = found.end;
        }
        walk.finish(&self.leftover.bytes, self.leftover.at)?;
        self.leftover.clear();
        self.position = self.position.max(walk.last + 1);
        Ok(Poured::Whole)
    }
}

impl Leftover {
    fn keep(&mut self, bytes: &[u8], walk: Walk) {
        self.clear();
        self.bytes.extend_from_slice(bytes);
        self.walk = Some(walk);
    }

    fn clear(&mut self) {
        if self.bytes.capacity() > KEPT_BYTES {
            self.bytes = Vec::new();
        }
        self.bytes.clear();
        self.at = 0;
        self.walk = None;
    }
}

impl Room {
    /// Whether the chunk takes no record any more that has a key or a value.
    fn is_used_up(self, chunk: &Chunk) -> bool {
        chunk.len() >= self.records || (!chunk.is_empty() && chunk.bytes() >= self.bytes)
    }

    /// Whether a chunk that holds something worth folding ends better in front of
    /// a batch of so many records than inside it: what does not fit is copied twice.
    fn is_better_left(self, chunk: &Chunk, records: usize) -> bool {
        chunk.len() * 2 >= self.records && chunk.len() + records > self.records
    }

    #[inline(always)]
    fn admits(self, found: &Found, chunk: &Chunk) -> bool {
        let bytes = found.key.len() + found.value.as_ref().map_or(0, |value| value.len());
        chunk.is_empty() || (chunk.len() < self.records && chunk.bytes() + bytes <= self.bytes)
    }
}

/// Whether the chunk's buffer holds little that is no record's: dropped heads of
/// batches, headers. Otherwise a chunk of few bytes could keep much memory.
fn has_few_dead(chunk: &Chunk) -> bool {
    chunk.unpacked().len() <= 2 * chunk.bytes() + DEAD_BYTES
}

impl fmt::Debug for Unpacker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unpacker")
            .field("partition", &self.partition)
            .field("position", &self.position)
            .field("next_fetch", &self.next_fetch)
            .field("answers", &self.answers.len())
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}
