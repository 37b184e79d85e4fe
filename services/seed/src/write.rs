//! Producing records and holding the broker to their offsets.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};

use crate::broker::Target;
use crate::codec::{BATCH_BYTES, Compression};
use crate::encode::Encoder;
use crate::error::SeedError;
use crate::layout::key_digits;
use crate::params::SeedParams;
use crate::stream::DrawnEvent;

/// A record that the broker has acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acked {
    /// The aggregate.
    pub id: i64,
    /// Its partition.
    pub partition: u32,
    /// Offset of the record.
    pub offset: u64,
}

/// Called for every acknowledged record, on a producer's thread: it must not
/// block.
pub type OnAcked = Arc<dyn Fn(Acked) + Send + Sync>;

/// What the broker has acknowledged so far, over all producers of a process.
pub(crate) struct Ledger {
    /// Offset that the next acknowledgement of each partition must carry.
    next: Vec<AtomicU64>,
    acked: AtomicU64,
    failed: AtomicBool,
    failure: Mutex<Option<SeedError>>,
    on_acked: Option<OnAcked>,
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger")
            .field("acked", &self.acked)
            .finish()
    }
}

impl Ledger {
    pub(crate) fn new(ends: &[u64], on_acked: Option<OnAcked>) -> Arc<Self> {
        Arc::new(Self {
            next: ends.iter().map(|&end| AtomicU64::new(end)).collect(),
            acked: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            failure: Mutex::new(None),
            on_acked,
        })
    }

    /// Records acknowledged by the broker.
    pub(crate) fn acked(&self) -> u64 {
        self.acked.load(Ordering::Relaxed)
    }

    /// Next offset of every partition, as acknowledged.
    pub(crate) fn ends(&self) -> Vec<u64> {
        self.next
            .iter()
            .map(|next| next.load(Ordering::Relaxed))
            .collect()
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Keeps the first failure; the ones after it are its echo.
    pub(crate) fn fail(&self, error: SeedError) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(error);
        self.failed.store(true, Ordering::Relaxed);
    }

    /// The verdict over a run that ended with `result`: the first failure of
    /// any thread, not what followed from it.
    pub(crate) fn verdict(&self, result: Result<(), SeedError>) -> Result<(), SeedError> {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        match failure.take() {
            Some(first) => Err(first),
            None => result,
        }
    }

    /// Takes a whole batch at once; nobody is told its records.
    pub(crate) fn acknowledge_batch(&self, partition: u32, offset: i64, count: u64) {
        let Some(next) = self.next.get(partition as usize) else {
            return;
        };
        let expected = next.fetch_add(count, Ordering::Relaxed);
        if offset != expected.cast_signed() {
            self.fail(SeedError::Displaced {
                partition,
                found: offset,
                expected,
            });
            return;
        }
        self.acked.fetch_add(count, Ordering::Relaxed);
    }

    fn acknowledge(&self, partition: u32, offset: i64, key: Option<&[u8]>) {
        let Some(next) = self.next.get(partition as usize) else {
            return;
        };
        // One producer owns a partition and its reports come in order.
        let expected = next.fetch_add(1, Ordering::Relaxed);
        if offset != expected as i64 {
            self.fail(SeedError::Displaced {
                partition,
                found: offset,
                expected,
            });
            return;
        }
        self.acked.fetch_add(1, Ordering::Relaxed);
        let id = key
            .and_then(|key| std::str::from_utf8(key).ok())
            .and_then(|key| key.parse().ok());
        if let (Some(on_acked), Some(id)) = (&self.on_acked, id) {
            on_acked(Acked {
                id,
                partition,
                offset: expected,
            });
        }
    }
}

struct Acknowledgements(Arc<Ledger>);

impl ClientContext for Acknowledgements {}

impl ProducerContext for Acknowledgements {
    type DeliveryOpaque = ();

    fn delivery(&self, report: &DeliveryResult<'_>, (): ()) {
        match report {
            Ok(message) => {
                let key = self.0.on_acked.as_ref().and_then(|_| message.key());
                self.0
                    .acknowledge(message.partition() as u32, message.offset(), key);
            }
            Err((source, message)) => self.0.fail(SeedError::Delivery {
                partition: message.partition() as u32,
                source: source.clone(),
            }),
        }
    }
}

/// How a writer trades delay for batch size.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Batching {
    /// Batches are always full: of this many record bytes.
    Bulk(usize),
    /// A record waits so long for others of its batch.
    Prompt(Duration),
}

/// Where events go, in the order of their partition's stream.
pub(crate) trait Append {
    /// Queues one record; blocks while too much is on its way.
    fn send(&mut self, partition: u32, event: &DrawnEvent) -> Result<(), SeedError>;

    /// Passes `pause`, and sends meanwhile what has waited too long.
    fn wait(&mut self, pause: Duration) -> Result<(), SeedError>;

    /// Waits until everything that was queued is acknowledged.
    fn flush(&mut self) -> Result<(), SeedError>;
}

/// One producer: its partitions are written by nobody else in this process.
pub(crate) struct Writer {
    producer: BaseProducer<Acknowledgements>,
    ledger: Arc<Ledger>,
    topic: String,
    encoder: Encoder,
    value: Vec<u8>,
    unpolled: u32,
}

/// Records between two looks at the acknowledgements.
const POLL_EVERY: u32 = 512;
/// Between two looks at the acknowledgements in a pause. They are not waited for: a poll of rdkafka
/// with a time-out counts in whole milliseconds and asks without a pause for what is left of the
/// last one, which at a tick of five is a seventh of a processor.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How long a full queue or the end of the log may take to get through.
const DELIVERED_WITHIN: Duration = Duration::from_secs(150);

/// What a writer ends with when any of them has failed; the ledger knows why.
pub(crate) fn canceled() -> SeedError {
    SeedError::Delivery {
        partition: 0,
        source: KafkaError::Canceled,
    }
}

impl Writer {
    pub(crate) fn new(
        target: &Target,
        params: &SeedParams,
        codec: Compression,
        batching: Batching,
        ledger: &Arc<Ledger>,
    ) -> Result<Self, SeedError> {
        let (linger_ms, batch_bytes) = match batching {
            Batching::Bulk(bytes) => (100, bytes),
            Batching::Prompt(linger) => (linger.as_millis(), BATCH_BYTES),
        };
        let mut config = target.config();
        if let Some(level) = codec.level() {
            config.set("compression.level", level.to_string());
        }
        let producer = config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            // A batch that cannot be delivered must not let a later one pass.
            .set("enable.gapless.guarantee", "true")
            .set("message.timeout.ms", "120000")
            .set("linger.ms", linger_ms.to_string())
            .set("batch.size", batch_bytes.to_string())
            .set("batch.num.messages", "10000")
            .set("queue.buffering.max.messages", "200000")
            .set("queue.buffering.max.kbytes", "65536")
            .set("compression.type", codec.codec().name())
            // Partitions are chosen here; this is for whoever reads the
            // client's settings.
            .set("partitioner", "murmur2_random")
            .create_with_context(Acknowledgements(Arc::clone(ledger)))
            .map_err(target.error("create a producer"))?;
        Ok(Self {
            producer,
            ledger: Arc::clone(ledger),
            topic: target.topic.clone(),
            encoder: Encoder::new(params),
            value: Vec::with_capacity(1024),
            unpolled: 0,
        })
    }

    /// Ends the run of this writer when any of them has failed; the ledger
    /// knows why.
    fn check(&self) -> Result<(), SeedError> {
        if self.ledger.has_failed() {
            return Err(canceled());
        }
        Ok(())
    }
}

impl Append for Writer {
    fn send(&mut self, partition: u32, event: &DrawnEvent) -> Result<(), SeedError> {
        self.value.clear();
        self.encoder.encode(event, &mut self.value);
        let mut space = [0; 10];
        let key = key_digits(event.id, &mut space);
        let started = Instant::now();
        let mut record = BaseRecord::to(&self.topic)
            .partition(partition as i32)
            .key(key)
            .payload(self.value.as_slice())
            .timestamp(event.ts_micros / 1000);
        loop {
            match self.producer.send(record) {
                Ok(()) => break,
                Err((error, back)) if is_full(&error) && started.elapsed() < DELIVERED_WITHIN => {
                    record = back;
                    self.producer.poll(Duration::from_millis(20));
                    self.check()?;
                }
                Err((source, _)) => return Err(SeedError::Delivery { partition, source }),
            }
        }
        self.unpolled += 1;
        if self.unpolled >= POLL_EVERY {
            self.wait(Duration::ZERO)?;
        }
        Ok(())
    }

    fn wait(&mut self, pause: Duration) -> Result<(), SeedError> {
        self.unpolled = 0;
        let until = Instant::now() + pause;
        loop {
            self.producer.poll(Duration::ZERO);
            self.check()?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(LOOK_EVERY));
        }
    }

    fn flush(&mut self) -> Result<(), SeedError> {
        let flushed = self.producer.flush(DELIVERED_WITHIN);
        self.check()?;
        flushed.map_err(|source| SeedError::Delivery {
            partition: 0,
            source,
        })
    }
}

fn is_full(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements_in_order_are_counted_and_told() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&told);
        let on_acked: OnAcked = Arc::new(move |acked| sink.lock().expect("no panic").push(acked));
        let ledger = Ledger::new(&[10, 0], Some(on_acked));
        ledger.acknowledge(0, 10, Some(b"77"));
        ledger.acknowledge(0, 11, Some(b"78"));
        ledger.acknowledge(1, 0, Some(b"5"));
        assert_eq!(ledger.acked(), 3);
        assert_eq!(ledger.ends(), [12, 1]);
        assert!(!ledger.has_failed());
        let first = Acked {
            id: 77,
            partition: 0,
            offset: 10,
        };
        assert_eq!(told.lock().expect("no panic")[0], first);
    }

    #[test]
    fn an_acknowledgement_at_another_offset_is_a_failure() {
        let ledger = Ledger::new(&[10], None);
        ledger.acknowledge(0, 12, None);
        ledger.acknowledge(0, 13, None);
        assert!(ledger.has_failed());
        let echo = Err(SeedError::NoTopic("of no interest".to_owned()));
        assert!(matches!(
            ledger.verdict(echo),
            Err(SeedError::Displaced {
                partition: 0,
                found: 12,
                expected: 10
            })
        ));
    }
}
