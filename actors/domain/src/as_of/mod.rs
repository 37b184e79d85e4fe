//! As of: one aggregate as it was at a point of its log.
//!
//! A state is answered only when the log itself shows that it is the right one. Events carry
//! their number in the aggregate, 1, 2, 3 and on, so that what compaction, retention or a loss
//! took out of the log leaves a hole between two numbers. Because the missing events may have
//! stood on either side of the point, reading goes on to the aggregate's next event behind it,
//! unless no offset is missing in front of the point. Nothing is asked of a topic's settings,
//! which say what is true today and not what was deleted before.

mod point;
#[cfg(test)]
mod tests;

use std::fmt;

use refold_projection::KeyRef;
use refold_projection::Timestamp;
use refold_proto::IdRef;
use refold_proto::WireFormat;
use refold_proto::decode_plain;

pub use point::NotAPoint;
pub use point::Point;

use crate::decode;
use crate::fold::AnyProjection;
use crate::fold::Keys;
use crate::fold::WitnessFold;
use crate::fold::WitnessRow;
use crate::log::Record;
use crate::position::Offset;

/// Events that a trace holds at most: the last ones.
pub const TRACED: usize = 1_000;

/// An event of the aggregate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Where it stands in the partition.
    pub offset: Offset,
    /// Its number in the aggregate, counted from 1.
    pub seq: u64,
    /// When it happened, as it says itself.
    pub time: Timestamp,
    /// Its name.
    pub kind: String,
}

/// An event and the aggregate's columns around it, as cells; `None` where there is no row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The event.
    pub event: Event,
    /// In front of it.
    pub before: Option<Vec<u8>>,
    /// Behind it.
    pub after: Option<Vec<u8>>,
}

/// The order of the aggregate's times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeOrder {
    /// No event is older than one in front of it.
    Monotone,
    /// Some event is.
    Disordered,
}

impl TimeOrder {
    /// The word in answers.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Monotone => "monotone",
            Self::Disordered => "disordered",
        }
    }
}

/// What an aggregate was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Past {
    /// Its columns as cells; `None` where it had no row.
    pub cells: Option<Vec<u8>>,
    /// The last event that is in the state; `None` in front of the first.
    pub stopped_at: Option<Event>,
    /// The first event that is not, of those that were read.
    pub next: Option<Event>,
    /// Events that were folded.
    pub folded: u64,
    /// The order of the times of all its events that were read.
    pub order: TimeOrder,
    /// The last [`TRACED`] events that were folded, when a trace was asked for.
    pub steps: Vec<Step>,
}

/// Why the log cannot answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gone {
    /// Events `[from, to)` of the aggregate, by number, are in front of the one at `at` and not in
    /// the log.
    Missing {
        /// The first number that is missing.
        from: u64,
        /// The number that was found instead.
        to: u64,
        /// Where it was found.
        at: Offset,
    },
    /// The log begins behind offset 0 and holds no event of the aggregate.
    BeforeStart {
        /// The log's first offset.
        low: Offset,
    },
    /// A record of the aggregate cannot be folded.
    Unreadable {
        /// Its offset.
        at: Offset,
        /// One sentence.
        reason: String,
    },
}

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { from, to, at } if from + 1 == *to => write!(
                f,
                "event {from} of the aggregate is not in the log, in front of {to} at offset {at}"
            ),
            Self::Missing { from, to, at } => write!(
                f,
                "events {from} to {} of the aggregate are not in the log, in front of {to} at offset {at}",
                to - 1
            ),
            Self::BeforeStart { low } => write!(
                f,
                "the log begins at offset {low} and holds no event of the aggregate from there on"
            ),
            Self::Unreadable { at, reason } => {
                write!(f, "the record at offset {at} cannot be folded: {reason}")
            }
        }
    }
}

/// Folds one aggregate up to a point, record by record in offset order.
pub struct AsOf {
    wire: WireFormat,
    key: OneKey,
    point: Point,
    fold: Box<dyn WitnessFold>,
    trace: Option<Vec<Step>>,
    /// Number of the aggregate's last event so far, folded or not.
    seen: u64,
    /// Its offset.
    last: Option<Offset>,
    newest: Option<Timestamp>,
    /// The offsets `[from, to)` that were read last, none of which is missing.
    dense: (Offset, Offset),
    past: Past,
}

impl fmt::Debug for AsOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsOf")
            .field("key", &self.key.text)
            .field("point", &self.point)
            .field("seen", &self.seen)
            .finish_non_exhaustive()
    }
}

impl AsOf {
    /// Nothing read yet of the aggregate `key`, whose events are in the form `wire`.
    pub fn new(
        projection: &dyn AnyProjection,
        wire: WireFormat,
        key: KeyRef<'_>,
        point: Point,
        trace: bool,
    ) -> Self {
        let key = OneKey::of(key);
        Self {
            wire,
            fold: projection.witness(Keys::these([key.cell.clone()])),
            key,
            point,
            trace: trace.then(Vec::new),
            seen: 0,
            last: None,
            newest: None,
            dense: (Offset(0), Offset(0)),
            past: Past {
                cells: None,
                stopped_at: None,
                next: None,
                folded: 0,
                order: TimeOrder::Monotone,
                steps: Vec::new(),
            },
        }
    }

    /// Takes the next record of the partition, whosever it is, and answers whether nothing
    /// that follows can change the answer.
    ///
    /// # Errors
    /// [`Gone`] when the state at the point cannot be known from this log.
    pub fn take(&mut self, record: &Record<'_>) -> Result<bool, Gone> {
        if self.is_whole() {
            return Ok(true);
        }
        self.extend(record.offset);
        let unreadable = |reason: String| Gone::Unreadable {
            at: record.offset,
            reason,
        };
        let envelope = match decode::envelope(self.wire, record) {
            Ok(envelope) if self.key.is(&envelope.id) => envelope,
            // Whose it is, only the record's key says.
            Err(reason) if record.key == self.key.text.as_bytes() => {
                return Err(unreadable(reason));
            }
            _ => return Ok(false),
        };
        if envelope.version <= self.seen {
            // Written to the log again.
            return Ok(false);
        }
        let event = Event {
            offset: record.offset,
            seq: envelope.version,
            time: Timestamp(envelope.ts_micros),
            kind: envelope.kind.to_string(),
        };
        if event.seq > self.seen + 1 {
            return Err(Gone::Missing {
                from: self.seen + 1,
                to: event.seq,
                at: event.offset,
            });
        }
        self.seen = event.seq;
        self.last = Some(event.offset);
        if self.newest.is_some_and(|newest| event.time < newest) {
            self.past.order = TimeOrder::Disordered;
        }
        self.newest = self.newest.max(Some(event.time));
        if self.is_in(&event) {
            self.apply(record, event).map_err(unreadable)?;
            return Ok(self.point == Point::Seq(self.seen));
        }
        self.past.next.get_or_insert(event);
        // By time, every later event may be one more.
        Ok(!matches!(self.point, Point::Time(_)))
    }

    /// What was found, once the log is read to its end or [`AsOf::take`] said that it is enough.
    /// `low` is the log's first offset.
    ///
    /// # Errors
    /// [`Gone::BeforeStart`] when no event was seen and there may have been some.
    pub fn finish(mut self, low: Offset) -> Result<Past, Gone> {
        if self.seen == 0 && low > Offset(0) {
            return Err(Gone::BeforeStart { low });
        }
        self.past.cells = self.cells();
        self.past.steps = self.trace.unwrap_or_default();
        let kept = self.past.steps.len().min(TRACED);
        self.past.steps.drain(..self.past.steps.len() - kept);
        Ok(self.past)
    }

    /// Number of the aggregate's last event that was read; 0 for none.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Offset of the last event up to which nothing of the aggregate is missing.
    pub fn whole_to(&self) -> Option<Offset> {
        self.last
    }

    fn is_in(&self, event: &Event) -> bool {
        match self.point {
            Point::At(_, offset) => event.offset <= offset,
            Point::Time(time) => event.time <= time,
            Point::Seq(number) => event.seq <= number,
        }
    }

    /// Whether every offset from the aggregate's last event (or the log's first) up to the point
    /// was read, so that none of its events can be missing there.
    fn is_whole(&self) -> bool {
        let Point::At(_, at) = self.point else {
            return false;
        };
        let last = self.past.stopped_at.as_ref();
        let since = last.map_or(Offset(0), |event| event.offset);
        let (from, to) = self.dense;
        from <= since && at < to
    }

    fn extend(&mut self, offset: Offset) {
        let (from, to) = self.dense;
        self.dense = match offset == to {
            true => (from, offset.next()),
            false => (offset, offset.next()),
        };
    }

    fn apply(&mut self, record: &Record<'_>, event: Event) -> Result<(), String> {
        let value = record.value.ok_or("it has no value")?;
        let plain = decode_plain(self.wire, value)?;
        let before = self.trace.is_some().then(|| self.cells()).flatten();
        self.fold.event(&plain, event.offset)?;
        self.past.folded += 1;
        if self.trace.is_some() {
            let after = self.cells();
            let step = Step {
                event: event.clone(),
                before,
                after,
            };
            self.keep(step);
        }
        self.past.stopped_at = Some(event);
        Ok(())
    }

    fn keep(&mut self, step: Step) {
        if let Some(steps) = &mut self.trace {
            // Once in a thousand events, so that each is moved once.
            if steps.len() == 2 * TRACED {
                steps.drain(..TRACED);
            }
            steps.push(step);
        }
    }

    fn cells(&self) -> Option<Vec<u8>> {
        let row: WitnessRow = self.fold.row(&self.key.cell)?;
        row.cells
    }
}

/// The key that is looked for.
struct OneKey {
    id: Id,
    cell: Vec<u8>,
    text: String,
}

enum Id {
    Int(i64),
    Uuid([u8; 16]),
    Text,
}

impl OneKey {
    fn of(key: KeyRef<'_>) -> Self {
        let mut cell = Vec::new();
        key.write_cell(&mut cell);
        Self {
            id: match key {
                KeyRef::Int(id) => Id::Int(id),
                KeyRef::Uuid(id) => Id::Uuid(id.0),
                KeyRef::Text(_) => Id::Text,
            },
            cell,
            text: key.to_string(),
        }
    }

    /// Whether an event is of it. The id in the envelope counts, as it does for a projector, and
    /// is asked for in the type that the projection declares.
    fn is(&self, id: &IdRef<'_>) -> bool {
        match &self.id {
            Id::Int(own) => id.int() == Some(*own),
            Id::Uuid(own) => id.uuid() == Some(*own),
            Id::Text => id.text() == Some(&self.text),
        }
    }
}
