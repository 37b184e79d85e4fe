//! The records of one unpacked batch.

use std::ops::Range;

use super::error::UnpackErrorKind;
use super::header::Header;
use super::varint::read_i32;
use super::varint::read_i64;

/// Walks the records of a batch, which may stand in one buffer first and in another later.
#[derive(Debug, Clone, Copy)]
pub(super) struct Walk {
    pub(super) base: i64,
    pub(super) last: i64,
    /// The lowest offset that the next record may have.
    floor: i64,
    base_millis: i64,
    append_millis: Option<i64>,
    total: u32,
    pub(super) left: u32,
}

/// Where a record stands in its buffer.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) offset: i64,
    pub(super) millis: i64,
    pub(super) key: Range<usize>,
    /// `None` is a null value.
    pub(super) value: Option<Range<usize>>,
    /// Where the next one begins.
    pub(super) end: usize,
}

/// What is wrong with a record; completes a sentence.
type Reason = &'static str;

const CUT: Reason = "it ends inside a number";
const LONGER: Reason = "a part of it is longer than what holds it";
const NEGATIVE: Reason = "a length in it is negative";

impl Walk {
    pub(super) fn new(header: &Header) -> Self {
        let total = header.records.unsigned_abs();
        Self {
            base: header.base,
            last: header.last,
            floor: header.base,
            base_millis: header.base_millis,
            append_millis: header.append_millis(),
            total,
            left: total,
        }
    }

    /// The record at `at`; `buffer` ends where the batch does. The walk stays
    /// where it is until [`Walk::pass`].
    #[inline(always)]
    pub(super) fn look(&self, buffer: &[u8], at: usize) -> Result<Found, UnpackErrorKind> {
        self.parse(buffer, at).map_err(|reason| self.fault(reason))
    }

    #[inline(always)]
    fn parse(&self, buffer: &[u8], mut at: usize) -> Result<Found, Reason> {
        let length = read_i32(buffer, &mut at).ok_or(CUT)?;
        let length = usize::try_from(length).map_err(|_| NEGATIVE)?;
        let end = at.checked_add(length).filter(|end| *end <= buffer.len());
        let end = end.ok_or(LONGER)?;
        // Nothing of a record is read from behind its end.
        let record = &buffer[..end];
        at += 1; // Attributes: none is defined.
        let millis_delta = read_i64(record, &mut at).ok_or(CUT)?;
        let offset_delta = read_i32(record, &mut at).ok_or(CUT)?;
        let key = read_bytes(record, &mut at)?.unwrap_or(at..at);
        let value = read_bytes(record, &mut at)?;
        // One zero byte, no headers, is how nearly every record ends.
        if at + 1 != end || record[at] != 0 {
            pass_headers(record, &mut at)?;
        }
        // An overflow wraps below the floor.
        let offset = self.base.wrapping_add(i64::from(offset_delta));
        if offset < self.floor || offset > self.last {
            return Err("its offset is out of order or outside the batch");
        }
        let millis = match self.append_millis {
            Some(millis) => millis,
            None => self.base_millis.wrapping_add(millis_delta),
        };
        Ok(Found {
            offset,
            millis,
            key,
            value,
            end,
        })
    }

    /// Goes behind a record.
    #[inline(always)]
    pub(super) fn pass(&mut self, found: &Found) {
        self.floor = found.offset + 1;
        self.left -= 1;
    }

    /// Checks that a batch of which no record is left ends where its bytes do.
    pub(super) fn finish(&self, buffer: &[u8], at: usize) -> Result<(), UnpackErrorKind> {
        if at == buffer.len() {
            return Ok(());
        }
        Err(UnpackErrorKind::Header(
            "it counts fewer records than there are",
        ))
    }

    #[cold]
    fn fault(&self, reason: Reason) -> UnpackErrorKind {
        UnpackErrorKind::Record {
            number: self.total - self.left + 1,
            reason,
        }
    }
}

/// Reads a length and passes as many bytes; `None` for a null.
#[inline(always)]
fn read_bytes(record: &[u8], at: &mut usize) -> Result<Option<Range<usize>>, Reason> {
    let length = read_i32(record, at).ok_or(CUT)?;
    if length < 0 {
        return if length == -1 {
            Ok(None)
        } else {
            Err(NEGATIVE)
        };
    }
    let start = *at;
    // Cannot overflow: a slice is shorter than half of what an address can be.
    let end = start + length as usize;
    if end > record.len() {
        return Err(LONGER);
    }
    *at = end;
    Ok(Some(start..end))
}

#[cold]
fn pass_headers(record: &[u8], at: &mut usize) -> Result<(), Reason> {
    let count = read_i32(record, at).ok_or(CUT)?;
    if count < 0 {
        return Err(NEGATIVE);
    }
    for _ in 0..count {
        read_bytes(record, at)?.ok_or("a header's key is null")?;
        read_bytes(record, at)?;
    }
    if *at == record.len() {
        return Ok(());
    }
    Err("it is longer than its parts")
}

/// Whether the records of a control batch begin with an abort marker: the key
/// is a version and a type, and type 0 is an abort.
pub(super) fn is_abort(header: &Header, records: &[u8]) -> Result<bool, UnpackErrorKind> {
    if header.records == 0 {
        return Ok(false);
    }
    let marker = Walk::new(header).look(records, 0)?;
    Ok(matches!(records[marker.key], [_, _, 0, 0, ..]))
}
