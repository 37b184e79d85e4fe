//! The one module that calls librdkafka's C interface: batches of one
//! partition, which the safe wrapper does not offer.
//!
//! Fetching one message per call costs two to three times the CPU of fetching
//! them a thousand at a time, and history is read by the billion.
//!
//! What the rest of the crate may rely on:
//! * A feed is the only reader of its partition in its client, and is used by
//!   one thread at a time (`&mut self`), as the batch calls demand.
//! * Nothing here seeks, pauses or rebalances: those calls race with the batch
//!   calls inside librdkafka. Moving a feed means stopping and starting it.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::ffi::CString;
use std::ffi::c_int;
use std::fmt;
use std::ptr;
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::bindings as c;
use rdkafka::consumer::Consumer as _;
use refold_domain::position::Offset;
use refold_domain::position::Partition;

use crate::client::Consumer;

/// Messages per call. A thousand spread a call's cost; at ten thousand the
/// messages fall out of the cache before they are copied.
const BATCH: usize = 1_000;

/// What librdkafka's queue of a partition holds.
pub(crate) enum Item<'a> {
    /// A record.
    Record {
        offset: Offset,
        ts_millis: i64,
        key: &'a [u8],
        value: Option<&'a [u8]>,
    },
    /// An error or the end of the log.
    Event {
        /// librdkafka's code; see `failure`.
        code: i32,
        /// Where librdkafka stands, if it says so.
        offset: Offset,
        text: String,
    },
}

/// librdkafka does not start or stop a partition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the kafka client cannot read {partition} from offset {from}: {reason}")]
pub(crate) struct StartError {
    partition: Partition,
    from: Offset,
    reason: String,
}

/// One partition's messages, a batch at a time.
pub(crate) struct PartitionFeed {
    /// Keeps the client alive for longer than everything below, which points into it.
    consumer: Arc<Consumer>,
    topic: NonNull<c::rd_kafka_topic_t>,
    partition: Partition,
    /// Messages that this feed owns; those before `front` are given back already.
    batch: Vec<*mut c::rd_kafka_message_t>,
    front: usize,
}

// SAFETY: librdkafka's objects may be used from any thread, and the messages
// of the batch belong to this feed alone. `&PartitionFeed` gives read access
// to messages only, so the type needs no `Sync`.
unsafe impl Send for PartitionFeed {}

impl PartitionFeed {
    /// Starts to fetch `partition` at `from`, an offset inside the log.
    pub(crate) fn start(
        consumer: Arc<Consumer>,
        topic: &str,
        partition: Partition,
        from: Offset,
    ) -> Result<Self, StartError> {
        let failed = |reason: String| StartError {
            partition,
            from,
            reason,
        };
        let name = CString::new(topic).map_err(|error| failed(error.to_string()))?;
        // SAFETY: the client outlives the call; the name is copied; a null
        // configuration means the client's default one.
        let handle = unsafe {
            c::rd_kafka_topic_new(
                consumer.client().native_ptr(),
                name.as_ptr(),
                ptr::null_mut(),
            )
        };
        let topic = NonNull::new(handle).ok_or_else(|| failed(last_error()))?;
        // From here on, dropping the feed gives the topic handle back.
        let feed = Self {
            consumer,
            topic,
            partition,
            batch: Vec::with_capacity(BATCH),
            front: 0,
        };
        feed.begin(from)?;
        Ok(feed)
    }

    /// Stops, forgets what was fetched, and starts again at `from`.
    pub(crate) fn restart(&mut self, from: Offset) -> Result<(), StartError> {
        self.give_back_all();
        self.stop();
        self.begin(from)
    }

    fn begin(&self, from: Offset) -> Result<(), StartError> {
        // SAFETY: the topic handle is ours and alive.
        let outcome =
            unsafe { c::rd_kafka_consume_start(self.topic.as_ptr(), self.partition.0, from.0) };
        if outcome == 0 {
            return Ok(());
        }
        Err(StartError {
            partition: self.partition,
            from,
            reason: last_error(),
        })
    }

    fn stop(&self) {
        // SAFETY: the topic handle is ours and alive. Stopping a partition
        // that was never started is an error code, which changes nothing.
        let _ = unsafe { c::rd_kafka_consume_stop(self.topic.as_ptr(), self.partition.0) };
    }

    /// Fetches up to `max` messages, once those before were popped, and waits
    /// up to `wait` for the first one. Answers how many there are.
    pub(crate) fn fill(&mut self, max: usize, wait: Duration) -> usize {
        debug_assert!(self.front == self.batch.len(), "messages are still waiting");
        self.batch.clear();
        self.front = 0;
        let max = max.clamp(1, BATCH);
        // The call returns when the batch is full or the time is over: what is
        // there is taken without waiting, and only one message is waited for.
        self.take(max, Duration::ZERO);
        if self.batch.is_empty() && !wait.is_zero() {
            self.take(1, wait);
            if !self.batch.is_empty() && max > 1 {
                self.take(max - 1, Duration::ZERO);
            }
        }
        self.batch.len()
    }

    fn take(&mut self, max: usize, wait: Duration) {
        let room = self.batch.spare_capacity_mut();
        let max = max.min(room.len());
        let wait_ms = match wait {
            Duration::ZERO => 0,
            wait => c_int::try_from(wait.as_millis().max(1)).unwrap_or(c_int::MAX),
        };
        // SAFETY: `room` has space for `max` pointers, and the call writes at
        // most that many. The topic handle is ours and alive.
        let count = unsafe {
            c::rd_kafka_consume_batch(
                self.topic.as_ptr(),
                self.partition.0,
                wait_ms,
                room.as_mut_ptr().cast(),
                max,
            )
        };
        // A negative answer means that the client does not know the partition
        // (any more); the reader notices the silence and asks.
        let count = usize::try_from(count).unwrap_or(0);
        // SAFETY: the call has initialised `count` (at most `max`) pointers
        // behind the length, inside the capacity.
        unsafe { self.batch.set_len(self.batch.len() + count) };
    }

    /// The first message that was not popped.
    #[inline]
    pub(crate) fn front(&self) -> Option<Item<'_>> {
        let message = *self.batch.get(self.front)?;
        // SAFETY: pointers from `front` on are messages that we own and have
        // not given back, and they stay as they are while `self` is borrowed.
        Some(unsafe { read(message) })
    }

    /// Gives the first message back.
    #[inline]
    pub(crate) fn pop(&mut self) {
        if let Some(message) = self.batch.get(self.front) {
            self.front += 1;
            // SAFETY: the message is ours, and `front` has moved past it, so
            // that nothing can reach it again.
            unsafe { c::rd_kafka_message_destroy(*message) };
        }
    }

    fn give_back_all(&mut self) {
        while self.front < self.batch.len() {
            self.pop();
        }
        self.batch.clear();
        self.front = 0;
    }
}

impl Drop for PartitionFeed {
    fn drop(&mut self) {
        // In this order: messages point into the topic, the topic into the client.
        self.give_back_all();
        self.stop();
        // SAFETY: the handle is ours, and this is its last use.
        unsafe { c::rd_kafka_topic_destroy(self.topic.as_ptr()) };
    }
}

impl fmt::Debug for PartitionFeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartitionFeed")
            .field("client", &self.consumer.client().native_ptr())
            .field("partition", &self.partition)
            .field("waiting", &(self.batch.len() - self.front))
            .finish_non_exhaustive()
    }
}

/// Reads a message.
///
/// # Safety
/// `message` must come from a batch call, must not be given back yet, and must
/// not be while the answer is in use.
#[inline]
unsafe fn read<'a>(message: *const c::rd_kafka_message_t) -> Item<'a> {
    // SAFETY: valid by the caller's promise. The code is read as the integer
    // that it is in C: a broker may send one that the enumeration lacks.
    let code = unsafe { (&raw const (*message).err).cast::<i32>().read() };
    // SAFETY: valid by the caller's promise.
    let (offset, key, key_len, value, value_len) = unsafe {
        (
            Offset((*message).offset),
            (*message).key.cast::<u8>().cast_const(),
            (*message).key_len,
            (*message).payload.cast::<u8>().cast_const(),
            (*message).len,
        )
    };
    if code != c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR as i32 {
        // SAFETY: the answer is null or a string that lives as long as the message.
        let text = unsafe { text_of(c::rd_kafka_message_errstr(message)) };
        return Item::Event { code, offset, text };
    }
    // SAFETY: valid by the caller's promise; the type of timestamp is not asked for.
    let ts_millis = unsafe { c::rd_kafka_message_timestamp(message, ptr::null_mut()) };
    Item::Record {
        offset,
        ts_millis,
        // SAFETY: null, or as many bytes as the length says, alive as long as the message.
        key: unsafe { bytes(key, key_len) }.unwrap_or_default(),
        // SAFETY: as for the key.
        value: unsafe { bytes(value, value_len) },
    }
}

/// # Safety
/// `start` must be null or point to `len` bytes that live as long as `'a`.
#[inline]
unsafe fn bytes<'a>(start: *const u8, len: usize) -> Option<&'a [u8]> {
    // SAFETY: by the caller's promise.
    (!start.is_null()).then(|| unsafe { slice::from_raw_parts(start, len) })
}

/// # Safety
/// `text` must be null or a string of C.
unsafe fn text_of(text: *const std::ffi::c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: by the caller's promise.
    unsafe { CStr::from_ptr(text) }
        .to_string_lossy()
        .into_owned()
}

/// The sentence of the last error of this thread.
fn last_error() -> String {
    // SAFETY: both calls are always allowed; the string is static.
    unsafe { text_of(c::rd_kafka_err2str(c::rd_kafka_last_error())) }
}
