//! Parking: events that a fold refuses are put aside, and with each of them every later event of
//! its aggregate, so that a row is never folded across a hole.
//!
//! The record's key names the aggregate, because the value is what may not be readable. A record
//! without a key is put aside alone.
//!
//! What is put aside is taken out of its chunk before the fold sees it: an engine folds what it is
//! given, and knows nothing of this. The rows of an aggregate stay as they were in front of its
//! first parked event.

use std::collections::BTreeMap;

use crate::fold::Halt;
use crate::log::Chunk;
use crate::log::Record;
use crate::position::Offset;

/// An event that was put aside, as it becomes durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedEvent {
    /// Its offset.
    pub offset: Offset,
    /// The record's key; empty for none.
    pub key: Vec<u8>,
    /// One sentence.
    pub reason: String,
    /// The record's value; `None` for a tombstone.
    pub value: Option<Vec<u8>>,
}

impl ParkedEvent {
    fn new(record: &Record<'_>, reason: String) -> Self {
        Self {
            offset: record.offset,
            key: record.key.to_vec(),
            reason,
            value: record.value.map(<[u8]>::to_vec),
        }
    }
}

/// The aggregates of a partition whose events are put aside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parking {
    /// Each tainted aggregate's first parked event.
    since: BTreeMap<Vec<u8>, Offset>,
}

impl Parking {
    /// Nothing is put aside.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes that an aggregate is tainted from its event at `offset` on.
    pub fn taint(&mut self, key: &[u8], offset: Offset) {
        if key.is_empty() {
            return;
        }
        match self.since.get_mut(key) {
            Some(since) => *since = offset.min(*since),
            None => {
                self.since.insert(key.to_vec(), offset);
            }
        }
    }

    /// Notes events that were put aside.
    pub fn note(&mut self, events: &[ParkedEvent]) {
        for event in events {
            self.taint(&event.key, event.offset);
        }
    }

    /// The tainted aggregates, and the offset of each one's first parked event.
    pub fn tainted(&self) -> impl Iterator<Item = (&[u8], Offset)> {
        self.since.iter().map(|(key, since)| (&key[..], *since))
    }

    /// Takes the events that follow on a parked one of their aggregate out of a chunk.
    pub fn sift(&self, chunk: &mut Chunk) -> Vec<ParkedEvent> {
        let mut parked = Vec::new();
        // Most logs have no such event, and then nothing may cost anything.
        if self.since.is_empty() {
            return parked;
        }
        chunk.retain(|record| match self.since.get(record.key) {
            Some(since) if *since < record.offset => {
                let reason =
                    format!("follows on the event of this key at {since}, which is parked");
                parked.push(ParkedEvent::new(&record, reason));
                false
            }
            _ => true,
        });
        parked
    }

    /// Takes the event that a fold halted at out of its chunk, and what follows on it.
    pub fn park(&mut self, chunk: &mut Chunk, halt: &Halt) -> Vec<ParkedEvent> {
        let mut parked = Vec::new();
        chunk.retain(|record| {
            let keep = record.offset != halt.offset;
            if !keep {
                parked.push(ParkedEvent::new(&record, halt.reason.clone()));
            }
            keep
        });
        self.note(&parked);
        parked.extend(self.sift(chunk));
        parked
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::Partition;

    fn chunk(keys: &[&str]) -> Chunk {
        let mut chunk = Chunk::new(Partition(0), Offset(10));
        for (offset, key) in (10..).zip(keys) {
            assert!(chunk.push(Offset(offset), 0, key.as_bytes(), Some(b"value")));
        }
        chunk
    }

    fn offsets(events: &[ParkedEvent]) -> Vec<i64> {
        events.iter().map(|event| event.offset.0).collect()
    }

    fn left(chunk: &Chunk) -> Vec<i64> {
        chunk.records().map(|record| record.offset.0).collect()
    }

    fn halt(offset: i64) -> Halt {
        Halt {
            offset: Offset(offset),
            reason: "strange".to_owned(),
        }
    }

    #[test]
    fn an_event_takes_the_later_ones_of_its_aggregate_along_and_no_other() {
        let mut parking = Parking::new();
        let mut first = chunk(&["a", "b", "a", "b", "a"]);
        let parked = parking.park(&mut first, &halt(12));
        assert_eq!(offsets(&parked), [12, 14]);
        assert_eq!(parked[0].reason, "strange");
        assert!(parked[1].reason.contains("12"), "{}", parked[1].reason);
        assert_eq!(parked[1].value.as_deref(), Some(&b"value"[..]));
        assert_eq!(left(&first), [10, 11, 13]);
        assert_eq!(first.to(), Offset(15), "the chunk's range stays");
        assert_eq!(first.bytes(), 3 * 6);

        // Read again, its events in front of the parked one are folded again.
        let mut again = chunk(&["a", "b", "a", "b", "a"]);
        assert_eq!(offsets(&parking.sift(&mut again)), [14]);
        assert_eq!(left(&again), [10, 11, 12, 13]);
    }

    #[test]
    fn a_record_without_a_key_is_put_aside_alone() {
        let mut parking = Parking::new();
        let mut chunk = chunk(&["", "a", ""]);
        assert_eq!(offsets(&parking.park(&mut chunk, &halt(10))), [10]);
        assert_eq!(left(&chunk), [11, 12]);
        assert_eq!(parking.tainted().count(), 0);
    }

    #[test]
    fn the_first_parked_event_of_an_aggregate_counts_whatever_order_they_are_noted_in() {
        let mut parking = Parking::new();
        parking.taint(b"a", Offset(7));
        parking.taint(b"a", Offset(5));
        parking.taint(b"a", Offset(9));
        let tainted: Vec<_> = parking.tainted().collect();
        assert_eq!(tainted, [(&b"a"[..], Offset(5))]);
    }
}
