//! One aggregate in memory, and what one record does to it.

use std::ops::Range;

use refold_projection::Change;
use refold_projection::DecodeError;
use refold_projection::Envelope;
use refold_projection::Key;
use refold_projection::KeyRef;
use refold_projection::KeyType;
use refold_projection::Projection;
use refold_projection::Row;
use refold_projection::Uuid;
use refold_projection::cell::CellError;
use refold_projection::cell::CellReader;
use refold_projection::cell::write_bytes;
use refold_projection::cell::write_null;
use refold_projection::guard::Admission;
use refold_projection::guard::Position;
use refold_projection::guard::admit;
use refold_proto::EnvelopeRef;

use super::FoldOptions;
use super::FoldReport;
use super::Halt;
use crate::batch::EventGap;
use crate::decode;
use crate::decode::Extent;
use crate::decode::WireFormat;
use crate::log::Chunk;
use crate::log::Record;
use crate::position::Offset;
use crate::sums::SumLayout;
use crate::sums::Sums;

/// An aggregate's row and position. `version` is 0 while no event was seen.
#[derive(Debug, Clone)]
pub(super) struct Slot<R> {
    pub(super) row: Option<R>,
    pub(super) version: u64,
    pub(super) offset: i64,
}

impl<R: Row> Slot<R> {
    /// An aggregate that no event was seen of.
    pub(super) const ABSENT: Self = Self {
        row: None,
        version: 0,
        offset: -1,
    };

    fn position(&self) -> Option<Position> {
        (self.version > 0).then_some(Position {
            version: self.version,
            offset: self.offset,
        })
    }

    /// Bytes that the row owns on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.row.as_ref().map_or(0, Row::heap_bytes)
    }

    /// Fields of a `COPY` tuple: key, columns, agg_version, off, deleted.
    pub(super) const FIELDS: i16 = R::COLUMNS.len() as i16 + 4;

    /// Appends the tuple's cells and returns where the author's columns stand in `out`.
    pub(super) fn write_cells(&self, key: &impl Key, out: &mut Vec<u8>) -> Range<usize> {
        key.borrow().write_cell(out);
        let start = out.len();
        match &self.row {
            Some(row) => row.encode(out),
            None => R::COLUMNS.iter().for_each(|_| write_null(out)),
        }
        let columns = start..out.len();
        write_bytes(out, &(self.version as i64).to_be_bytes());
        write_bytes(out, &self.offset.to_be_bytes());
        write_bytes(out, &[u8::from(self.row.is_none())]);
        columns
    }

    /// Adds (or, with `remove`, takes away) the row's sums; a tombstone has none.
    pub(super) fn sum(&self, layout: &SumLayout, key: &impl Key, sums: &mut Sums, remove: bool) {
        let Some(row) = &self.row else { return };
        let mut cells = Vec::with_capacity(128);
        key.borrow().write_cell(&mut cells);
        let key_len = cells.len();
        row.encode(&mut cells);
        let (key, columns) = cells.split_at(key_len);
        if remove {
            sums.remove_row(layout, key, columns, self.version);
        } else {
            sums.add_row(layout, key, columns, self.version);
        }
    }
}

/// What a record did to its aggregate.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Applied,
    Duplicate,
    Unhandled,
}

/// A decoded event on its way to its aggregate.
#[derive(Debug, Clone)]
pub(super) struct Incoming<'a> {
    pub(super) envelope: EnvelopeRef<'a>,
    /// The value that only the head was read of, and its form.
    unread: Option<(WireFormat, &'a [u8])>,
}

impl<'a> Incoming<'a> {
    /// No event.
    pub(super) const NONE: Self = Self {
        envelope: EnvelopeRef::NONE,
        unread: None,
    };

    /// An event whose envelope was read as a whole.
    pub(super) fn read(envelope: EnvelopeRef<'a>) -> Self {
        Self {
            envelope,
            unread: None,
        }
    }

    /// Takes the event of a record in, as far as a fold of `P` wants it read.
    #[inline(always)]
    pub(super) fn take<P: Projection>(
        &mut self,
        wire: WireFormat,
        record: &Record<'a>,
    ) -> Result<P::Key, String> {
        let extent = decode::envelope_into::<P>(wire, record, &mut self.envelope)?;
        self.unread = match extent {
            Extent::Whole => None,
            Extent::Head => record.value.map(|value| (wire, value)),
        };
        match decode::key(&self.envelope.id) {
            Ok(key) => Ok(key),
            // What is wrong with the value itself comes first.
            Err(reason) => self.check().and(Err(reason)),
        }
    }

    /// Reads the rest of a value of which nobody decodes the payload.
    #[inline]
    pub(super) fn check(&self) -> Result<(), String> {
        match self.unread {
            None => Ok(()),
            Some((wire, value)) => decode::whole(wire, value).map(drop),
        }
    }

    /// The envelope once more, when its payload could not be decoded as it was found: the value
    /// is malformed, or goes on behind the payload.
    #[cold]
    fn reread(&self) -> Result<EnvelopeRef<'a>, String> {
        match self.unread {
            None => Ok(self.envelope.clone()),
            Some((wire, value)) => decode::whole(wire, value),
        }
    }

    /// Decodes the event and gives it away again: whether that can be done is all that matters.
    pub(super) fn try_decode<P: Projection>(&self) -> Result<(), String> {
        if decode::event::<P>(&self.envelope).is_ok() {
            return Ok(());
        }
        let whole = self.reread()?;
        let decoded = decode::event::<P>(&whole).map(drop);
        decoded.map_err(|error| undecodable(&whole, &error))
    }
}

#[cold]
fn undecodable(envelope: &EnvelopeRef<'_>, error: &DecodeError) -> String {
    format!("event {} cannot be decoded: {error}", envelope.kind)
}

/// Folds an admitted event of a slot, or counts it.
///
/// Every event advances the aggregate's position, whether the projection
/// handles its type or not: positions of two versions of a projection are then
/// comparable, and a missing event shows whatever its type.
#[inline]
pub(super) fn step<P: Projection>(
    projection: &P,
    slot: &mut Slot<P::Row>,
    incoming: &Incoming<'_>,
    key: &P::Key,
    offset: Offset,
) -> Result<(Step, Option<u64>), String> {
    let envelope = &incoming.envelope;
    let at = Position {
        version: envelope.version,
        offset: offset.0,
    };
    let gap = match admit(slot.position(), at) {
        Admission::Duplicate => {
            incoming.check()?;
            return Ok((Step::Duplicate, None));
        }
        Admission::Apply => None,
        Admission::Gap { expected } => Some(expected),
    };
    let handled = P::HANDLES.contains(&&*envelope.kind);
    if handled {
        match decode::event::<P>(envelope) {
            Ok(event) => fold_event(projection, slot, envelope, key, event),
            Err(_) => fold_reread(projection, slot, incoming, key)?,
        }
    } else {
        incoming.check()?;
    }
    slot.version = at.version;
    slot.offset = at.offset;
    let step = if handled {
        Step::Applied
    } else {
        Step::Unhandled
    };
    Ok((step, gap))
}

/// What the author makes of the row.
#[inline(always)]
fn fold_event<P: Projection>(
    projection: &P,
    slot: &mut Slot<P::Row>,
    envelope: &EnvelopeRef<'_>,
    key: &P::Key,
    event: P::Event<'_>,
) {
    let envelope = Envelope {
        key: key.borrow(),
        version: envelope.version,
        kind: &envelope.kind,
        ts_micros: envelope.ts_micros,
        event,
    };
    match projection.fold(slot.row.clone(), &envelope) {
        Change::Put(row) => slot.row = Some(row),
        Change::Delete => slot.row = None,
        Change::Skip => {}
    }
}

/// The same for an event whose payload could not be decoded as it was found. Out of the way of
/// the others: where a decoder's answer is used in one place, the event it made stays in registers.
#[cold]
#[inline(never)]
fn fold_reread<P: Projection>(
    projection: &P,
    slot: &mut Slot<P::Row>,
    incoming: &Incoming<'_>,
    key: &P::Key,
) -> Result<(), String> {
    let whole = incoming.reread()?;
    match decode::event::<P>(&whole) {
        Ok(event) => fold_event(projection, slot, &whole, key, event),
        Err(error) => return Err(undecodable(&whole, &error)),
    }
    Ok(())
}

/// Walks a chunk from `start` and gives each record below `until` to `apply`,
/// at most `events` of them.
pub(super) fn walk(
    chunk: &Chunk,
    start: usize,
    events: usize,
    until: Offset,
    options: FoldOptions,
    mut apply: impl FnMut(&Record<'_>) -> Result<(Step, Option<EventGap>), String>,
) -> FoldReport {
    let mut report = FoldReport::before(chunk, start);
    let end = start.saturating_add(events).min(chunk.len());
    let mut last = None;
    while let Some(record) = chunk.get(report.index) {
        if record.offset >= until {
            // Nothing lies between the last record and this one, so the mark
            // may stand on the limit even when no record ends there.
            report.next = report.next.max(until);
            break;
        }
        if report.index == end {
            break;
        }
        match apply(&record) {
            Ok((step, gap)) => {
                match step {
                    Step::Applied => report.applied += 1,
                    Step::Duplicate => report.duplicates += 1,
                    Step::Unhandled => report.unhandled += 1,
                }
                report.gaps.extend(gap.filter(|_| options.complete_log));
            }
            Err(reason) => {
                report.halt = Some(Halt {
                    offset: record.offset,
                    reason,
                });
                break;
            }
        }
        report.index += 1;
        report.next = record.offset.next();
        last = Some(record);
    }
    report.last_record = last.map(|record| record.fingerprint());
    report
}

/// Reads a stored row: key, columns, agg_version, off, deleted.
///
/// # Errors
/// [`CellError`] when the cells are not of this key and row type.
pub(super) fn load_cells<K: Key, R: Row>(cells: &[u8]) -> Result<(K, Slot<R>), CellError> {
    let mut cells = CellReader::new(cells);
    let key = read_key(&mut cells)?;
    let mut columns = cells.clone();
    for _ in R::COLUMNS {
        cells.next_cell()?;
    }
    let version = read_i64(&mut cells)?;
    let offset = read_i64(&mut cells)?;
    let deleted = cells.next_cell()? == Some(&[1][..]);
    let row = match deleted {
        true => None,
        false => Some(R::decode(&mut columns)?),
    };
    let version = version.cast_unsigned();
    Ok((
        key,
        Slot {
            row,
            version,
            offset,
        },
    ))
}

fn read_i64(cells: &mut CellReader<'_>) -> Result<i64, CellError> {
    match cells.next_cell()?.map(TryInto::try_into) {
        Some(Ok(bytes)) => Ok(i64::from_be_bytes(bytes)),
        _ => Err(cells.error("eight bytes belong here")),
    }
}

pub(super) fn read_key<K: Key>(cells: &mut CellReader<'_>) -> Result<K, CellError> {
    let Some(bytes) = cells.next_cell()? else {
        return Err(cells.error("the key is null"));
    };
    let key = match K::TYPE {
        KeyType::Int8 => bytes
            .try_into()
            .ok()
            .map(i64::from_be_bytes)
            .map(KeyRef::Int),
        KeyType::Uuid => bytes.try_into().ok().map(Uuid).map(KeyRef::Uuid),
        KeyType::Text => std::str::from_utf8(bytes).ok().map(KeyRef::Text),
    };
    key.and_then(|key| K::from_key(key).ok())
        .ok_or_else(|| cells.error(format!("{} bytes are not a {}", bytes.len(), K::TYPE.sql())))
}
