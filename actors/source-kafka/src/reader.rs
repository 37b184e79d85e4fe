//! The chunk reader: fills chunks from a feed and decides what its events mean.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use refold_domain::log::Chunk;
use refold_domain::log::Watermarks;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_ports::source::ChunkReader;
use refold_ports::source::ReadLimit;
use refold_ports::source::ReadMode;
use refold_ports::source::SourceError;
use refold_ports::source::inside;

use crate::client::Client;
use crate::failure;
use crate::failure::Verdict;
use crate::feed::Item;
use crate::feed::PartitionFeed;
use crate::feed::StartError;
use crate::question;
use crate::tail::TailSlot;

/// Longest wait inside librdkafka at a time, so that its log lines and errors
/// are served while the log is idle.
const SLICE: Duration = Duration::from_secs(1);

/// How long a bulk reader waits for more once it has something: the fold can
/// use the time, but a chunk of a few records is not worth handing over.
const BULK_LINGER: Duration = Duration::from_millis(10);

/// Answers in a row that say "there are records" while none arrive, before the partition is
/// started again.
const STALLS: u32 = 2;

/// As many of them before the client is given up: starting the partition again did not help.
const LAST_STALLS: u32 = 2 * STALLS;

/// Questions in a row that the client had no answer to and a fresh one had, before it is given
/// up. One may be a broker that came back in between.
const LOST: u32 = 2;

/// Bytes in a chunk at most, below the 4 GiB that a chunk can address.
const CHUNK_BYTES: usize = 1 << 30;

/// What a reader reads.
#[derive(Debug, Clone)]
pub(crate) struct Stand {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: Partition,
    pub(crate) from: Offset,
    pub(crate) mode: ReadMode,
}

/// Reads one partition of a topic.
pub(crate) struct KafkaReader {
    // Before the slot and the client: it must stop before another reader may
    // take its partition, and before its client ends.
    feed: PartitionFeed,
    slot: Option<TailSlot>,
    client: Arc<Client>,
    stand: Stand,
    /// One past the last record that was delivered.
    position: Offset,
    /// One past what librdkafka has passed: `position`, or the end of the log
    /// behind trailing markers. Nothing between the two is a record.
    reached: Offset,
    /// Whether `reached` was the end of the log when last heard of.
    at_end: bool,
    /// When the log was last heard of: a record, its end, or the broker's word that it ends here.
    heard: Instant,
    /// How often its end was told.
    ends_told: u64,
    stalls: u32,
    /// Questions in a row that another client was answered.
    lost: u32,
    /// Whether librdkafka has given up the partition, so that it must be started again.
    stopped: bool,
    /// The error after which this reader is of no use.
    broken: Option<SourceError>,
}

/// What ended a look through the feed.
enum Taken {
    /// The chunk is full, or an event waits behind the chunk's records.
    Enough,
    /// Nothing is left in the feed.
    All,
}

impl KafkaReader {
    pub(crate) fn open(
        client: Arc<Client>,
        slot: Option<TailSlot>,
        stand: Stand,
    ) -> Result<Self, StartError> {
        let consumer = Arc::clone(client.consumer());
        let feed = PartitionFeed::start(consumer, &stand.topic, stand.partition, stand.from)?;
        Ok(Self {
            feed,
            slot,
            client,
            position: stand.from,
            reached: stand.from,
            at_end: false,
            heard: Instant::now(),
            ends_told: 0,
            stalls: 0,
            lost: 0,
            stopped: false,
            broken: None,
            stand,
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
        if self.stopped {
            self.feed.restart(self.reached).map_err(fatal)?;
            self.stopped = false;
        }
        loop {
            self.client.serve();
            if let Err(error) = self.client.check_log() {
                // Records of the old log count; those behind them do not.
                return if chunk.is_empty() { Err(error) } else { Ok(()) };
            }
            let before = (self.reached, self.ends_told);
            let taken = self.take(chunk, limit)?;
            if before != (self.reached, self.ends_told) {
                // An error that passes says nothing of the log.
                self.heard = Instant::now();
                (self.stalls, self.lost) = (0, 0);
            }
            if let Taken::Enough = taken {
                return Ok(());
            }
            if self.at_end && !(told && chunk.is_empty()) {
                return Ok(());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let room = limit.records.max(1).saturating_sub(chunk.len());
            if self.feed.fill(room, self.patience(chunk, left)) > 0 {
                continue;
            }
            if !chunk.is_empty() {
                return Ok(());
            }
            self.check_silence()?;
            if Instant::now() >= deadline {
                return Ok(());
            }
        }
    }

    /// How long to wait for the next message, when `left` of the caller's wait is left.
    fn patience(&self, chunk: &Chunk, left: Duration) -> Duration {
        match (chunk.is_empty(), self.stand.mode) {
            (true, _) => left.min(SLICE),
            (false, ReadMode::Bulk) => left.min(BULK_LINGER),
            (false, ReadMode::Tail) => Duration::ZERO,
        }
    }

    /// Moves messages from the feed into the chunk.
    fn take(&mut self, chunk: &mut Chunk, limit: ReadLimit) -> Result<Taken, SourceError> {
        let bytes = limit.bytes.min(CHUNK_BYTES);
        while let Some(item) = self.feed.front() {
            match item {
                Item::Record {
                    offset,
                    ts_millis,
                    key,
                    value,
                } => {
                    let size = key.len() + value.map_or(0, <[u8]>::len);
                    let full = chunk.len() >= limit.records || chunk.bytes() + size > bytes;
                    if full && !chunk.is_empty() {
                        return Ok(Taken::Enough);
                    }
                    // Refused is only what lies below the position: the head of
                    // a batch that was delivered before.
                    if chunk.push(offset, ts_millis, key, value) {
                        self.reached = offset.next();
                        self.at_end = false;
                    }
                    self.feed.pop();
                }
                Item::Event { code, offset, text } => {
                    let verdict = failure::judge(code);
                    let harmless = matches!(verdict, Verdict::EndOfLog | Verdict::Passing);
                    if !harmless && !chunk.is_empty() {
                        // Records before an error count; the error comes with the next read.
                        return Ok(Taken::Enough);
                    }
                    self.feed.pop();
                    self.obey(verdict, offset, text)?;
                }
            }
        }
        Ok(Taken::All)
    }

    fn obey(&mut self, verdict: Verdict, offset: Offset, text: String) -> Result<(), SourceError> {
        let partition = self.stand.partition;
        match verdict {
            Verdict::EndOfLog => {
                self.ends_told += 1;
                self.at_end = true;
                self.reached = self.reached.max(offset);
                Ok(())
            }
            Verdict::Passing => {
                tracing::debug!(%partition, %offset, "kafka client: {text}");
                Ok(())
            }
            Verdict::OffsetRefused => {
                self.stopped = true;
                let ends = self.ask()?;
                self.check_ends(ends)?;
                Err(SourceError::Unreachable(format!(
                    "{partition} refused offset {} for a moment: {text}",
                    self.reached
                )))
            }
            Verdict::TopicGone => {
                self.stopped = true;
                let count = question::partition_count(&self.client, &self.stand.topic)?;
                if partition.0 >= count {
                    return Err(question::no_partition(&self.stand.topic, partition, count));
                }
                Err(SourceError::Unreachable(format!(
                    "{partition} was not known for a moment: {text}"
                )))
            }
            Verdict::Corrupt => Err(SourceError::Corrupt {
                partition,
                offset: offset.max(self.position),
                reason: text,
            }),
            Verdict::Fatal => Err(SourceError::Fatal(format!(
                "{partition} at offset {}: {text}",
                offset.max(self.position)
            ))),
        }
    }

    /// Asks the broker when nothing has come for as long as a question may
    /// take: an idle log and a dead broker are equally quiet. One that is away
    /// is reported after about twice that time.
    fn check_silence(&mut self) -> Result<(), SourceError> {
        if self.heard.elapsed() < self.client.deadline() {
            return Ok(());
        }
        let ends = match self.ask() {
            Err(error) if error.is_transient() => return Err(self.unanswered(error)),
            answer => answer?,
        };
        self.check_ends(ends)?;
        self.heard = Instant::now();
        self.lost = 0;
        self.at_end = ends.high <= self.reached;
        if self.at_end {
            self.stalls = 0;
            return Ok(());
        }
        self.stalls += 1;
        let stall = format!(
            "{} ends at offset {}, but nothing was delivered from {} on",
            self.stand.partition, ends.high, self.reached
        );
        match self.stalls {
            STALLS => {
                self.stopped = true;
                Err(SourceError::Unreachable(stall))
            }
            LAST_STALLS.. => {
                Err(self.given_up(format!("{stall}, also after it was started again")))
            }
            _ => Ok(()),
        }
    }

    /// What a question without an answer means: that the brokers are away, or, when a fresh client
    /// finds them, that this client does not. Such a client was seen to stay cut off for minutes;
    /// librdkafka's issue 5301 may be why (ADR 23).
    fn unanswered(&mut self, error: SourceError) -> SourceError {
        let fresh = self.client.fresh();
        let elsewhere = fresh.and_then(|client| {
            question::watermarks(&client, &self.stand.topic, self.stand.partition)
        });
        if elsewhere.is_err() {
            self.lost = 0;
            return error;
        }
        self.lost += 1;
        match self.lost {
            LOST.. => self.given_up(format!("{error}, but a fresh client finds them")),
            _ => error,
        }
    }

    /// The end of this reader, and of its client for others: the next reader gets another one.
    fn given_up(&self, why: String) -> SourceError {
        if let Some(slot) = &self.slot {
            slot.give_client_up();
        }
        SourceError::Fatal(format!("{why}: its client is given up"))
    }

    fn ask(&self) -> Result<Watermarks, SourceError> {
        question::watermarks(&self.client, &self.stand.topic, self.stand.partition)
    }

    fn check_ends(&self, ends: Watermarks) -> Result<(), SourceError> {
        inside(ends, self.stand.partition, self.reached)
    }
}

impl ChunkReader for KafkaReader {
    fn read(
        &mut self,
        chunk: &mut Chunk,
        limit: ReadLimit,
        wait: Duration,
    ) -> Result<(), SourceError> {
        chunk.recycle(self.stand.partition, self.position);
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        let outcome = self.fill(chunk, limit, wait);
        self.position = chunk.to();
        match &outcome {
            Ok(()) if self.at_end => chunk.set_end_of_log(self.reached),
            Ok(()) => {}
            // What is in the client's queue behind an error like corruption
            // must never be delivered: the error stays.
            Err(error) if !error.is_transient() => self.broken = Some(error.clone()),
            Err(_) => self.at_end = false,
        }
        outcome
    }
}

pub(crate) fn fatal(error: StartError) -> SourceError {
    SourceError::Fatal(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::KafkaConfig;
    use crate::tail::TailClients;
    use crate::testing::created_topic;

    /// A client can stay cut off while others find the brokers (ADR 23).
    #[tokio::test]
    async fn a_client_that_is_not_answered_when_a_fresh_one_is_is_given_up() {
        let (brokers, topic) = created_topic("lost").await;
        let config = KafkaConfig::new(brokers).with_deadline(Duration::from_secs(1));
        let tails = TailClients::default();
        let slot = tails.lost_slot(&config, Partition(0));
        let stand = Stand {
            topic: topic.into(),
            partition: Partition(0),
            from: Offset(0),
            mode: ReadMode::Tail,
        };
        let mut reader =
            KafkaReader::open(Arc::clone(slot.client()), Some(slot), stand).expect("opens");
        let mut chunk = Chunk::new(Partition(0), Offset(0));
        let limit = ReadLimit {
            records: 1,
            bytes: 1,
        };
        let mut errors = Vec::new();
        while errors.last().is_none_or(SourceError::is_transient) {
            errors.extend(
                reader
                    .read(&mut chunk, limit, reader.client.deadline())
                    .err(),
            );
        }
        let [first, last] = errors.as_slice() else {
            panic!("two questions without an answer are enough: {errors:?}");
        };
        assert!(matches!(first, SourceError::Unreachable(_)), "{first:?}");
        let given_up =
            matches!(last, SourceError::Fatal(why) if why.ends_with("its client is given up"));
        assert!(given_up, "{last:?}");
        let next = tails.slot(&config, Partition(0)).expect("a client");
        assert!(!Arc::ptr_eq(next.client(), &reader.client));
    }
}
