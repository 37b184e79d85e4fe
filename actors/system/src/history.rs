//! The past of single aggregates, folded from the log.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use async_trait::async_trait;
use refold_domain::as_of::AsOf;
use refold_domain::as_of::Gone;
use refold_domain::as_of::Point;
use refold_domain::decode::WireFormat;
use refold_domain::fold::AnyProjection;
use refold_domain::log::Chunk;
use refold_domain::log::TopicIdentity;
use refold_domain::log::Watermarks;
use refold_domain::partitioner::partition_of;
use refold_domain::position::Partition;
use refold_ports::history::History;
use refold_ports::history::HistoryError;
use refold_ports::history::Question;
use refold_ports::history::Remembered;
use refold_ports::source::ChunkReader;
use refold_ports::source::LogSource;
use refold_ports::source::ReadLimit;
use refold_ports::source::ReadMode;
use refold_ports::source::SourceError;
use refold_projection::Column;
use refold_projection::Timestamp;
use tokio::sync::Semaphore;

/// Questions that are answered at once: each of them reads a partition as fast as it can.
const AT_ONCE: usize = 2;

/// How long a question waits for its turn.
const TURN: Duration = Duration::from_secs(2);

/// How long a log may be silent.
const SILENCE: Duration = Duration::from_secs(10);

/// Pause before a log that is away is asked again.
const AWAY_PAUSE: Duration = Duration::from_millis(200);

/// One read of the log.
const READ: ReadLimit = ReadLimit {
    records: 100_000,
    bytes: 4 << 20,
};

/// The bound of one read's wait: how late a question that nobody waits for any more ends.
const WAIT: Duration = Duration::from_millis(500);

/// Folds aggregates again from the log, up to a point. The log alone is asked, no table: a
/// partition is read from its start, one after another, at the speed of the bulk reader.
pub struct LogHistory {
    log: Arc<dyn LogSource>,
    wire: WireFormat,
    projections: Vec<Arc<dyn AnyProjection>>,
    turns: Semaphore,
}

impl std::fmt::Debug for LogHistory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogHistory")
            .field("wire", &self.wire)
            .field("projections", &self.projections)
            .finish_non_exhaustive()
    }
}

impl LogHistory {
    /// The past as a topic tells it, by the folds of these versions.
    pub fn new(
        log: Arc<dyn LogSource>,
        wire: WireFormat,
        projections: Vec<Arc<dyn AnyProjection>>,
    ) -> Self {
        Self {
            log,
            wire,
            projections,
            turns: Semaphore::new(AT_ONCE),
        }
    }

    async fn reading(
        &self,
        question: &Question,
        projection: &Arc<dyn AnyProjection>,
    ) -> Result<Reading, HistoryError> {
        let key = projection.spec().key_type.parse(&question.key);
        let key = key.map_err(|error| HistoryError::BadKey(error.to_string()))?;
        let partitions = self.log.identity().await?.partitions;
        let home = partition_of(key.to_string().as_bytes(), partitions);
        if let Point::At(asked, _) = question.point
            && asked != home
        {
            return Err(HistoryError::OtherPartition { asked, home });
        }
        let ends = self.log.watermarks(home).await?;
        has_come(question.point, ends)?;
        let reader = self.log.open(home, ends.low, ReadMode::Bulk).await?;
        let (point, trace) = (question.point, question.trace);
        Ok(Reading {
            as_of: AsOf::new(&**projection, self.wire, key, point, trace),
            reader,
            partition: home,
            ends,
            point,
            columns: projection.spec().columns,
        })
    }
}

#[async_trait]
impl History for LogHistory {
    async fn log(&self) -> Result<TopicIdentity, HistoryError> {
        Ok(self.log.identity().await?)
    }

    async fn as_of(&self, question: &Question) -> Result<Remembered, HistoryError> {
        let mut linked = self.projections.iter();
        let projection = linked
            .find(|projection| projection.spec().label() == question.version)
            .ok_or_else(|| HistoryError::UnknownVersion(question.version.clone()))?;
        let turn = tokio::time::timeout(TURN, self.turns.acquire()).await;
        let Ok(Ok(_turn)) = turn else {
            return Err(HistoryError::Busy(AT_ONCE));
        };
        let reading = self.reading(question, projection).await?;
        let unwanted = Arc::new(AtomicBool::new(false));
        // A caller that went away drops this future, and the thread ends after its read.
        let _stop = StopOnDrop(Arc::clone(&unwanted));
        let answer = tokio::task::spawn_blocking(move || reading.run(&unwanted)).await;
        let lost = |error| SourceError::Fatal(format!("the reading thread ended: {error}"));
        answer.map_err(lost)?
    }
}

struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Refuses a point in front of which there may still come an event.
fn has_come(point: Point, ends: Watermarks) -> Result<(), HistoryError> {
    let reason = match point {
        Point::At(_, offset) if offset >= ends.high => {
            format!("the partition ends in front of offset {}", ends.high)
        }
        Point::Time(time) if time > now() => format!("it is {}", now()),
        _ => return Ok(()),
    };
    Err(HistoryError::NotYet { point, reason })
}

/// The clock decides nothing but that a moment is refused as one that has not come yet.
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let micros = since.unwrap_or_default().as_micros();
    Timestamp(i64::try_from(micros).unwrap_or(i64::MAX))
}

/// A question on its way through a partition.
struct Reading {
    as_of: AsOf,
    reader: Box<dyn ChunkReader>,
    partition: Partition,
    ends: Watermarks,
    point: Point,
    columns: &'static [Column],
}

impl Reading {
    /// Reads until the answer is known. Blocks.
    fn run(mut self, unwanted: &AtomicBool) -> Result<Remembered, HistoryError> {
        let mut chunk = Chunk::new(self.partition, self.ends.low);
        let mut next = self.ends.low;
        let mut heard = Instant::now();
        while next < self.ends.high {
            if unwanted.load(Ordering::Acquire) {
                // Nobody is there to hear it.
                return Err(SourceError::Fatal("the question was withdrawn".to_owned()).into());
            }
            match self.reader.read(&mut chunk, READ, WAIT) {
                Ok(()) => {}
                Err(error) if error.is_transient() && heard.elapsed() < SILENCE => {
                    std::thread::sleep(AWAY_PAUSE);
                    continue;
                }
                Err(SourceError::Corrupt { offset, reason, .. }) => {
                    return Err(self.gone(Gone::Unreadable { at: offset, reason }));
                }
                Err(error) => return Err(error.into()),
            }
            if self.take(&chunk)? {
                break;
            }
            let reached = chunk.log_end().unwrap_or(chunk.to());
            if reached > next {
                next = reached;
                heard = Instant::now();
            } else if heard.elapsed() >= SILENCE {
                let sentence = format!("nothing of {} within {SILENCE:?}", self.partition);
                return Err(SourceError::Unreachable(sentence).into());
            }
        }
        self.finish()
    }

    /// Whether the answer is known.
    fn take(&mut self, chunk: &Chunk) -> Result<bool, HistoryError> {
        // What came after the question was asked is not in its log.
        let asked = chunk.records();
        for record in asked.take_while(|record| record.offset < self.ends.high) {
            match self.as_of.take(&record) {
                Ok(false) => {}
                Ok(true) => return Ok(true),
                Err(gone) => return Err(self.gone(gone)),
            }
        }
        Ok(false)
    }

    fn finish(self) -> Result<Remembered, HistoryError> {
        let (partition, point) = (self.partition, self.point);
        let seen = self.as_of.seen();
        let past = self.as_of.finish(self.ends.low);
        let past = past.map_err(|gone| HistoryError::Gone {
            point,
            partition,
            gone,
            whole_to: None,
        })?;
        if let Point::Seq(number) = point
            && (1..number).contains(&seen)
        {
            let reason = format!("the aggregate has {seen} events");
            return Err(HistoryError::NotYet { point, reason });
        }
        Ok(Remembered {
            past,
            columns: self.columns,
            partition,
        })
    }

    fn gone(&self, gone: Gone) -> HistoryError {
        HistoryError::Gone {
            point: self.point,
            partition: self.partition,
            gone,
            whole_to: self.as_of.whole_to(),
        }
    }
}
