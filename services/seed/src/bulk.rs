//! Appending to a log as fast as the broker takes it, without a producer id.
//!
//! A broker knows an idempotent producer by the times of its records, and the
//! times of this log lie years back: after a crash of the broker nothing of the
//! producer is left, and a batch that is sent again stands in the log twice.
//! This writer needs nobody's memory. Each partition has one writer and a
//! record's offset is its place in the stream, so the end of the log says which
//! of the batches on their way have arrived: the others are sent again, from
//! there.

mod batch;
mod connection;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::BaseConsumer;

use crate::broker::Target;
use crate::encode::Encoder;
use crate::error::SeedError;
use crate::layout::key_digits;
use crate::resume;
use crate::seed::SeedOptions;
use crate::stream::DrawnEvent;
use crate::write::{Append, Ledger, canceled};

use batch::{Batch, Builder};
use connection::{Answer, Connection};

pub(crate) use batch::ZSTD_LEVEL;

/// Batches on their way at a time: enough to keep the broker busy while the
/// next one is made.
const IN_FLIGHT: usize = 5;
/// How long a record of a slow log may wait for its batch to fill.
const LINGER: Duration = Duration::from_millis(100);
/// How long a broker may be away. After a crash it reads through its whole log
/// before it answers.
const BACK_WITHIN: Duration = Duration::from_secs(600);
/// Pause before a broker is asked again.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(300);

/// Writes one partition after another.
pub(crate) struct BulkWriter {
    target: Target,
    ledger: Arc<Ledger>,
    asker: BaseConsumer,
    connection: Option<(u32, Connection)>,
    encoder: Encoder,
    value: Vec<u8>,
    builder: Builder,
    /// When the first record of the open batch came.
    opened: Instant,
    lane: Lane,
    /// Set when the run is to end: then nobody waits for a broker.
    stop: Arc<AtomicBool>,
}

/// The partition at hand.
#[derive(Default)]
struct Lane {
    partition: u32,
    /// Offset of the first record of the open batch.
    base: u64,
    /// Sent or about to be sent, and not acknowledged.
    unacked: VecDeque<Batch>,
    /// Buffers of acknowledged batches.
    spare: Vec<Vec<u8>>,
}

impl BulkWriter {
    /// `None` when the cluster or the codec asks for the client library: for
    /// credentials, or for a compression that only the library knows.
    pub(crate) fn new(
        options: &SeedOptions,
        ledger: &Arc<Ledger>,
    ) -> Option<Result<Self, SeedError>> {
        let target = &options.target;
        if !target.client.is_empty() {
            return None;
        }
        let builder = Builder::new(options.codec, options.batch_bytes)?;
        Some(builder.map_err(SeedError::Output).and_then(|builder| {
            Ok(Self {
                target: target.clone(),
                ledger: Arc::clone(ledger),
                asker: target.asker()?,
                connection: None,
                encoder: Encoder::new(&options.params),
                value: Vec::with_capacity(1024),
                builder,
                opened: Instant::now(),
                lane: Lane::default(),
                stop: Arc::clone(&options.stop),
            })
        }))
    }

    /// Closes the open batch and sends it; waits for the oldest one's
    /// acknowledgement while too many are on their way.
    fn close(&mut self) -> Result<(), SeedError> {
        if self.builder.is_empty() {
            return Ok(());
        }
        let spare = self.lane.spare.pop().unwrap_or_default();
        let batch = self.builder.seal(self.lane.base, spare)?;
        self.lane.base = batch.end();
        self.lane.unacked.push_back(batch);
        let sent = self.send_last();
        self.or_again(sent)?;
        while self.lane.unacked.len() >= IN_FLIGHT {
            self.settle_one()?;
        }
        Ok(())
    }

    fn send_last(&mut self) -> Result<(), Trouble> {
        let partition = self.lane.partition;
        let (_, connection) = match &mut self.connection {
            Some(open) if open.0 == partition => open,
            // The leader of another partition may be another broker.
            closed => closed.insert((partition, connect(&self.target, &self.asker, partition)?)),
        };
        match self.lane.unacked.back() {
            Some(batch) => Ok(connection.send(partition, &batch.bytes)?),
            None => Ok(()),
        }
    }

    /// Waits for the answer to the oldest batch on its way.
    fn settle_one(&mut self) -> Result<(), SeedError> {
        let answered = self.receive();
        self.or_again(answered)
    }

    fn receive(&mut self) -> Result<(), Trouble> {
        let Some((_, connection)) = &mut self.connection else {
            return Err(io::Error::from(io::ErrorKind::NotConnected).into());
        };
        match connection.receive()? {
            Answer::At(offset) => Ok(self.lane.acknowledge(&self.ledger, offset)?),
            Answer::Refused(code) => Err(Trouble::Refused(code)),
        }
    }

    /// Goes on after trouble that can pass: waits until the broker is there
    /// again and the end of the log stands still, and sends what is not in it.
    fn or_again(&mut self, result: Result<(), Trouble>) -> Result<(), SeedError> {
        let Err(mut trouble) = result else {
            return self.check();
        };
        let deadline = Instant::now() + BACK_WITHIN;
        loop {
            self.connection = None;
            self.check()?;
            let given_up = self.stop.load(Ordering::Relaxed) || Instant::now() > deadline;
            if given_up || !trouble.can_pass() {
                let error = trouble.into_error(&self.target, self.lane.partition);
                // Known to all writers, so that the others stop as well.
                self.ledger.fail(error);
                return Err(canceled());
            }
            thread::sleep(ASK_AGAIN_AFTER);
            match self.send_again() {
                Ok(()) => return Ok(()),
                Err(next) => trouble = next,
            }
        }
    }

    fn send_again(&mut self) -> Result<(), Trouble> {
        let partition = self.lane.partition;
        // A client that saw its broker die tries again ever more rarely.
        self.asker = self.target.asker()?;
        let mut connection = connect(&self.target, &self.asker, partition)?;
        let end = resume::settled_end(&self.target, &self.asker, partition)?;
        self.lane.drop_arrived(&self.ledger, &self.target, end)?;
        for batch in &self.lane.unacked {
            connection.send(partition, &batch.bytes)?;
        }
        self.connection = Some((partition, connection));
        Ok(())
    }

    fn check(&self) -> Result<(), SeedError> {
        if self.ledger.has_failed() {
            return Err(canceled());
        }
        Ok(())
    }
}

impl Append for BulkWriter {
    #[inline]
    fn send(&mut self, partition: u32, event: &DrawnEvent) -> Result<(), SeedError> {
        if partition != self.lane.partition || event.offset != self.next_offset() {
            self.flush()?;
            self.lane.partition = partition;
            self.lane.base = event.offset;
        }
        if self.builder.is_empty() {
            self.opened = Instant::now();
        }
        self.value.clear();
        self.encoder.encode(event, &mut self.value);
        let mut space = [0; 10];
        let key = key_digits(event.id, &mut space);
        self.builder
            .push(key, &self.value, event.ts_micros.div_euclid(1000));
        if self.builder.is_full() {
            self.close()?;
        }
        Ok(())
    }

    fn wait(&mut self, pause: Duration) -> Result<(), SeedError> {
        let until = Instant::now() + pause;
        if self.opened.elapsed() >= LINGER {
            self.close()?;
            while !self.lane.unacked.is_empty() {
                self.settle_one()?;
            }
        }
        loop {
            self.check()?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            thread::sleep(left.min(LINGER));
        }
    }

    fn flush(&mut self) -> Result<(), SeedError> {
        self.close()?;
        while !self.lane.unacked.is_empty() {
            self.settle_one()?;
        }
        self.check()
    }
}

impl BulkWriter {
    fn next_offset(&self) -> u64 {
        self.lane.base + u64::from(self.builder.count())
    }
}

impl Lane {
    /// Takes the broker's word that the oldest batch lies at `offset`.
    fn acknowledge(&mut self, ledger: &Ledger, offset: i64) -> Result<(), SeedError> {
        let Some(batch) = self.unacked.pop_front() else {
            return Ok(());
        };
        ledger.acknowledge_batch(self.partition, offset, u64::from(batch.count));
        self.spare.push(batch.bytes);
        if ledger.has_failed() {
            return Err(canceled());
        }
        Ok(())
    }

    /// Forgets the batches that lie below `end`, where the log was found to
    /// end.
    fn drop_arrived(
        &mut self,
        ledger: &Ledger,
        target: &Target,
        end: u64,
    ) -> Result<(), SeedError> {
        while let Some(first) = self.unacked.front()
            && first.end() <= end
        {
            self.acknowledge(ledger, first.base.cast_signed())?;
        }
        let expected = self.unacked.front().map_or(self.base, |first| first.base);
        if end < expected {
            return Err(SeedError::Receded {
                topic: target.topic.clone(),
                partition: self.partition,
                end,
                acknowledged: expected,
            });
        }
        if end > expected {
            return Err(SeedError::Displaced {
                partition: self.partition,
                found: end.cast_signed(),
                expected,
            });
        }
        Ok(())
    }
}

fn connect(target: &Target, asker: &BaseConsumer, partition: u32) -> Result<Connection, Trouble> {
    let (host, port) = target.leader(asker, partition)?;
    Ok(Connection::open(&host, port, &target.topic)?)
}

/// Why a batch is not known to be in the log.
#[derive(Debug)]
enum Trouble {
    Io(io::Error),
    Refused(i16),
    Error(SeedError),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Trouble::Io(error)
    }
}

impl From<SeedError> for Trouble {
    fn from(error: SeedError) -> Self {
        Trouble::Error(error)
    }
}

impl Trouble {
    /// Whether the same batch may be taken later: the leader moves, a replica
    /// comes back, a broker starts.
    fn can_pass(&self) -> bool {
        match self {
            Trouble::Io(error) => error.kind() != io::ErrorKind::InvalidData,
            // Unknown topic or partition, leader not available, not the leader,
            // timed out, network, too few replicas (before and after the
            // append), storage, fenced and unknown leader epoch.
            Trouble::Refused(code) => matches!(code, 3 | 5 | 6 | 7 | 13 | 19 | 20 | 56 | 74 | 75),
            Trouble::Error(error) => matches!(error, SeedError::Broker { .. }),
        }
    }

    fn into_error(self, target: &Target, partition: u32) -> SeedError {
        match self {
            Trouble::Io(source) => SeedError::Connection {
                partition,
                brokers: target.brokers.clone(),
                source,
            },
            Trouble::Refused(code) => SeedError::RefusedBatch { partition, code },
            Trouble::Error(error) => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three batches of ten records from offset 100 on their way.
    fn lane() -> Lane {
        let batch = |base| Batch {
            base,
            count: 10,
            bytes: Vec::new(),
        };
        Lane {
            base: 130,
            unacked: [100, 110, 120].map(batch).into(),
            ..Lane::default()
        }
    }

    fn after_restart(end: u64) -> (Result<(), SeedError>, Lane, u64) {
        let (mut lane, ledger) = (lane(), Ledger::new(&[100], None));
        let result = lane.drop_arrived(&ledger, &Target::new("here:1", "log"), end);
        assert!(!ledger.has_failed());
        (result, lane, ledger.acked())
    }

    #[test]
    fn the_end_of_the_log_says_which_batches_have_arrived() {
        for (end, left, acked) in [(100, 3, 0), (110, 2, 10), (120, 1, 20), (130, 0, 30)] {
            let (result, lane, counted) = after_restart(end);
            assert!(result.is_ok(), "{end}: {result:?}");
            assert_eq!((lane.unacked.len(), counted), (left, acked), "{end}");
        }
    }

    #[test]
    fn an_end_that_is_no_boundary_is_another_producers_work() {
        for (end, expected) in [(105, 100), (129, 120), (131, 130)] {
            match after_restart(end).0 {
                Err(SeedError::Displaced {
                    found, expected: e, ..
                }) => {
                    assert_eq!((found as u64, e), (end, expected));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_log_that_lost_acknowledged_records_is_reported() {
        match after_restart(99).0 {
            Err(SeedError::Receded {
                end, acknowledged, ..
            }) => assert_eq!((end, acknowledged), (99, 100)),
            other => panic!("{other:?}"),
        }
    }
}
