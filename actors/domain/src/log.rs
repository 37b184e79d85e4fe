//! The log as chunks of records: what a reader delivers and a fold consumes.

use std::fmt;
use std::ops::Range;

use xxhash_rust::xxh3::Xxh3;

use crate::position::Offset;
use crate::position::Partition;

/// What a topic is, so that another topic or cluster behind the same address is noticed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TopicIdentity {
    /// The cluster's id as its brokers report it.
    pub cluster_id: String,
    /// The topic's name.
    pub topic: String,
    /// The topic's id, when the client can learn it.
    pub topic_id: Option<String>,
    /// Number of partitions. A key's partition depends on it.
    pub partitions: i32,
}

impl TopicIdentity {
    /// Whether the two are one log: an offset means the same event in both. A topic id that one
    /// of them does not know says nothing.
    pub fn is_same_log(&self, other: &Self) -> bool {
        let ids = self.topic_id.as_ref().zip(other.topic_id.as_ref());
        self.topic == other.topic
            && self.cluster_id == other.cluster_id
            && self.partitions == other.partitions
            && ids.is_none_or(|(own, other)| own == other)
    }
}

impl fmt::Display for TopicIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            cluster_id,
            topic,
            topic_id,
            partitions,
        } = self;
        let id = topic_id.as_deref().unwrap_or("not known");
        write!(
            f,
            "topic {topic} (id {id}) with {partitions} partitions of cluster {cluster_id}"
        )
    }
}

/// The ends of one partition's log at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermarks {
    /// First offset still in the log.
    pub low: Offset,
    /// One past the last readable record or marker (the last stable offset for
    /// a read-committed reader).
    pub high: Offset,
}

/// Where one record stands in its chunk's buffer.
#[derive(Debug, Clone, Copy)]
struct RecordSlot {
    offset: i64,
    ts_millis: i64,
    key_start: u32,
    key_len: u32,
    value_start: u32,
    /// `u32::MAX` marks a null value (a tombstone of the topic).
    value_len: u32,
}

impl RecordSlot {
    #[inline]
    fn record<'a>(&self, buf: &'a [u8]) -> Record<'a> {
        let key = &buf[self.key_start as usize..][..self.key_len as usize];
        let value = (self.value_len != NULL_VALUE)
            .then(|| &buf[self.value_start as usize..][..self.value_len as usize]);
        Record {
            offset: Offset(self.offset),
            ts_millis: self.ts_millis,
            key,
            value,
        }
    }
}

/// Where a record that a reader unpacked in place stands in its chunk's buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordSpan {
    /// Offset in the partition.
    pub offset: Offset,
    /// The record's timestamp, milliseconds since the Unix epoch.
    pub ts_millis: i64,
    /// Bytes `[start, end)` of the key; empty for none.
    pub key: Range<usize>,
    /// Bytes `[start, end)` of the value; `None` is a tombstone.
    pub value: Option<Range<usize>>,
}

const NULL_VALUE: u32 = u32::MAX;

/// One record, borrowed from its chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Offset in the partition.
    pub offset: Offset,
    /// The record's timestamp, milliseconds since the Unix epoch.
    pub ts_millis: i64,
    /// Key bytes; empty for none.
    pub key: &'a [u8],
    /// Value bytes; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
}

impl Record<'_> {
    /// The record's fingerprint: 128 bits over offset, timestamp, key and value.
    /// Stored with the mark; a log that shows another record there has diverged.
    pub fn fingerprint(&self) -> RecordFingerprint {
        let mut hash = Xxh3::new();
        hash.update(&self.offset.0.to_be_bytes());
        hash.update(&self.ts_millis.to_be_bytes());
        hash.update(&(self.key.len() as u64).to_be_bytes());
        hash.update(self.key);
        match self.value {
            Some(value) => {
                hash.update(&[1]);
                hash.update(value);
            }
            None => hash.update(&[0]),
        }
        RecordFingerprint {
            offset: self.offset,
            hash: hash.digest128(),
        }
    }
}

/// Identifies the record that was applied last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RecordFingerprint {
    /// The record's offset.
    pub offset: Offset,
    /// XXH3-128 over its content, see [`Record::fingerprint`].
    pub hash: u128,
}

impl RecordFingerprint {
    /// 24 bytes: offset and hash, big-endian.
    pub fn to_bytes(self) -> [u8; 24] {
        let mut out = [0; 24];
        out[..8].copy_from_slice(&self.offset.0.to_be_bytes());
        out[8..].copy_from_slice(&self.hash.to_be_bytes());
        out
    }

    /// Reads what [`RecordFingerprint::to_bytes`] wrote; `None` for any other length.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; 24] = bytes.try_into().ok()?;
        let (offset, hash) = bytes.split_first_chunk::<8>()?;
        Some(Self {
            offset: Offset(i64::from_be_bytes(*offset)),
            hash: u128::from_be_bytes(hash.try_into().ok()?),
        })
    }
}

/// A run of records of one partition in offset order, owned in one buffer.
#[derive(Debug, Clone)]
pub struct Chunk {
    partition: Partition,
    from: Offset,
    to: Offset,
    log_end: Option<Offset>,
    buf: Vec<u8>,
    slots: Vec<RecordSlot>,
    /// Bytes of keys and values; `buf` may hold more.
    bytes: usize,
}

impl Chunk {
    /// An empty chunk at `from`, to be filled by [`Chunk::push`]. Buffers can be
    /// reused through [`Chunk::recycle`].
    pub fn new(partition: Partition, from: Offset) -> Self {
        Self {
            partition,
            from,
            to: from,
            log_end: None,
            buf: Vec::new(),
            slots: Vec::new(),
            bytes: 0,
        }
    }

    /// Empties the chunk and moves it to `from`, keeping its buffers.
    pub fn recycle(&mut self, partition: Partition, from: Offset) {
        self.partition = partition;
        self.from = from;
        self.to = from;
        self.log_end = None;
        self.buf.clear();
        self.slots.clear();
        self.bytes = 0;
    }

    /// Appends a record and moves the end to one past it.
    ///
    /// Returns `false`, and changes nothing, when the record lies below the
    /// chunk's end (a reader may see the head of a batch again) or when the
    /// buffer would pass 4 GiB.
    pub fn push(
        &mut self,
        offset: Offset,
        ts_millis: i64,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> bool {
        let start = self.buf.len();
        let value_len = value.map_or(0, <[u8]>::len);
        if offset < self.to || start + key.len() + value_len >= NULL_VALUE as usize {
            return false;
        }
        self.buf.extend_from_slice(key);
        if let Some(value) = value {
            self.buf.extend_from_slice(value);
        }
        self.slots.push(RecordSlot {
            offset: offset.0,
            ts_millis,
            key_start: start as u32,
            key_len: key.len() as u32,
            value_start: (start + key.len()) as u32,
            value_len: value.map_or(NULL_VALUE, |v| v.len() as u32),
        });
        self.bytes += key.len() + value_len;
        self.to = offset.next();
        true
    }

    /// The buffer, for a reader that unpacks whole batches behind what is
    /// there and then names the records in it with [`Chunk::push_span`]. What
    /// was there must stay as it is.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buf
    }

    /// What stands in the buffer, records and all.
    pub fn unpacked(&self) -> &[u8] {
        &self.buf
    }

    /// Appends a record that stands in the buffer and moves the end to one past it.
    ///
    /// Returns `false`, and changes nothing, when the record lies below the
    /// chunk's end, outside the buffer, or above 4 GiB in it.
    #[inline]
    pub fn push_span(&mut self, span: &RecordSpan) -> bool {
        let end = self.buf.len().min(NULL_VALUE as usize);
        let fits = |range: &Range<usize>| range.start <= range.end && range.end <= end;
        let value = span.value.as_ref();
        if span.offset < self.to || !fits(&span.key) || !value.is_none_or(fits) {
            return false;
        }
        let key_len = span.key.end - span.key.start;
        let value_len = value.map_or(0, |v| v.end - v.start);
        self.slots.push(RecordSlot {
            offset: span.offset.0,
            ts_millis: span.ts_millis,
            key_start: span.key.start as u32,
            key_len: key_len as u32,
            value_start: value.map_or(0, |v| v.start as u32),
            value_len: value.map_or(NULL_VALUE, |_| value_len as u32),
        });
        self.bytes += key_len + value_len;
        self.to = span.offset.next();
        true
    }

    /// Says that the reader reached the end of the log behind the last record. `at` is that end,
    /// exclusive: markers and holes may lie between the two.
    pub fn set_end_of_log(&mut self, at: Offset) {
        self.log_end = Some(at.max(self.to));
    }

    /// The partition of every record.
    pub fn partition(&self) -> Partition {
        self.partition
    }

    /// Where the reader stood before the chunk, inclusive.
    pub fn from(&self) -> Offset {
        self.from
    }

    /// One past the last record; equals `from` when there is none.
    pub fn to(&self) -> Offset {
        self.to
    }

    /// Whether the log ended behind the last record when the chunk was read.
    pub fn end_of_log(&self) -> bool {
        self.log_end.is_some()
    }

    /// Where the log ended when the chunk was read, exclusive and not below [`Chunk::to`]; `None`
    /// when there may have been more.
    pub fn log_end(&self) -> Option<Offset> {
        self.log_end
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Bytes of keys and values.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The record at `index`, counted from 0.
    #[inline]
    pub fn get(&self, index: usize) -> Option<Record<'_>> {
        Some(self.slots.get(index)?.record(&self.buf))
    }

    /// Drops the records that are not to be kept; the chunk covers the same offsets as before.
    pub fn retain(&mut self, mut keep: impl FnMut(Record<'_>) -> bool) {
        let Self {
            slots, buf, bytes, ..
        } = self;
        slots.retain(|slot| {
            let record = slot.record(buf);
            let length = record.key.len() + record.value.map_or(0, <[u8]>::len);
            let kept = keep(record);
            if !kept {
                *bytes -= length;
            }
            kept
        });
    }

    /// The records in offset order.
    pub fn records(&self) -> impl Iterator<Item = Record<'_>> {
        (0..self.slots.len()).filter_map(|i| self.get(i))
    }
}

#[cfg(test)]
mod tests;
