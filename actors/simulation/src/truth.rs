//! What the log holds, and what rows must come of it: a plain fold that shares nothing with the
//! engine but the arithmetic of the projection.

use std::collections::BTreeMap;

use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_projection::cell::CellReader;

use crate::ledger::WRONG;
use crate::ledger::add;
use crate::ledger::wrong;

/// What an event does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deed {
    /// Changes the row.
    Added(i64),
    /// Deletes it.
    Closed,
    /// Nothing that the projection handles.
    Noted,
}

/// An event as it stands in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) offset: i64,
    pub(crate) key: i64,
    /// Its number in the aggregate's history.
    pub(crate) seq: u64,
    pub(crate) deed: Deed,
}

/// A row: the version's columns, `None` when it is deleted, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) columns: Option<Vec<i64>>,
    pub(crate) seq: u64,
    pub(crate) off: i64,
}

/// The rows of a partition, by key.
pub(crate) type Rows = BTreeMap<i64, Row>;

/// The log as its writer knows it.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    events: BTreeMap<Partition, Vec<Event>>,
    /// The first record of a partition that nobody can decode.
    poison: BTreeMap<Partition, Offset>,
}

impl Truth {
    pub(crate) fn append(&mut self, partition: Partition, event: Event) {
        self.events.entry(partition).or_default().push(event);
    }

    pub(crate) fn poison(&mut self, partition: Partition, at: Offset) {
        self.poison.entry(partition).or_insert(at);
    }

    /// Where the projectors of a partition must stop.
    pub(crate) fn poison_of(&self, partition: Partition) -> Option<Offset> {
        self.poison.get(&partition).copied()
    }

    /// The events of `[start, end)`.
    fn events(
        &self,
        partition: Partition,
        (start, end): (Offset, Offset),
    ) -> impl Iterator<Item = &Event> {
        let all = self.events.get(&partition).map_or(&[][..], Vec::as_slice);
        all.iter()
            .filter(move |event| start.0 <= event.offset && event.offset < end.0)
    }

    /// Whether an event stands at or behind an offset.
    pub(crate) fn has_more(&self, partition: Partition, from: Offset) -> bool {
        self.has_any(partition, (from, Offset(i64::MAX)))
    }

    /// Whether an event stands in `[start, end)`.
    pub(crate) fn has_any(&self, partition: Partition, range: (Offset, Offset)) -> bool {
        self.events(partition, range).next().is_some()
    }

    /// The rows of a version that come of the events of `[start, end)`.
    pub(crate) fn rows(&self, number: u32, partition: Partition, range: (Offset, Offset)) -> Rows {
        let mut rows = Rows::new();
        for event in self.events(partition, range) {
            let row = rows.entry(event.key).or_insert(Row {
                columns: None,
                seq: 0,
                off: -1,
            });
            if event.seq <= row.seq {
                continue;
            }
            match event.deed {
                Deed::Added(amount) => row.columns = Some(added(number, &row.columns, amount)),
                Deed::Closed => row.columns = None,
                Deed::Noted => {}
            }
            row.seq = event.seq;
            row.off = event.offset;
        }
        rows
    }

    /// Events of `[start, end)` in front of which another one of their aggregate is missing.
    pub(crate) fn gaps(&self, partition: Partition, range: (Offset, Offset)) -> usize {
        let mut seen = BTreeMap::new();
        let mut gaps = 0;
        for event in self.events(partition, range) {
            let seq = seen.entry(event.key).or_insert(0);
            gaps += usize::from(event.seq > *seq + 1);
            *seq = event.seq.max(*seq);
        }
        gaps
    }

    /// The offset of a key's next event behind `off`, duplicates left out.
    pub(crate) fn next_of(&self, partition: Partition, key: i64, off: i64) -> Option<i64> {
        let all = (Offset(0), Offset(i64::MAX));
        let of_key = || self.events(partition, all).filter(|e| e.key == key);
        let seen = of_key().filter(|e| e.offset <= off).map(|e| e.seq).max();
        let seen = seen.unwrap_or_default();
        let mut later = of_key().filter(|e| e.offset > off && e.seq > seen);
        later.next().map(|e| e.offset)
    }
}

fn added(number: u32, columns: &Option<Vec<i64>>, amount: i64) -> Vec<i64> {
    let before = |at: usize| columns.as_ref().and_then(|c| c.get(at)).copied();
    let total = before(0).unwrap_or_default();
    let largest = before(1).unwrap_or_default().max(amount);
    match number {
        1 => vec![add(total, amount)],
        WRONG => vec![add(total, wrong(amount)), largest],
        _ => vec![add(total, amount), largest],
    }
}

/// Reads a stored row of `columns` columns: its key, and the row.
///
/// # Errors
/// One sentence when the cells are no such row.
pub(crate) fn read_row(cells: &[u8], columns: usize) -> Result<(i64, Row), String> {
    let mut reader = CellReader::new(cells);
    let mut number = || -> Result<Option<i64>, String> {
        let cell = reader.next_cell().map_err(|e| e.to_string())?;
        let Some(cell) = cell else { return Ok(None) };
        let bytes = <[u8; 8]>::try_from(cell).map_err(|_| format!("{} bytes", cell.len()))?;
        Ok(Some(i64::from_be_bytes(bytes)))
    };
    let key = number()?.ok_or("no key")?;
    let values: Vec<_> = (0..columns).map(|_| number()).collect::<Result<_, _>>()?;
    let seq = number()?.ok_or("no version")?;
    let off = number()?.ok_or("no offset")?;
    let deleted = reader.next_cell().map_err(|e| e.to_string())? == Some(&[1][..]);
    let columns: Option<Vec<i64>> = values.into_iter().collect();
    let row = Row {
        columns: columns.filter(|_| !deleted),
        seq: seq.cast_unsigned(),
        off,
    };
    Ok((key, row))
}
