//! One accepted Fetch answer: its complete batches, in order.

use bytes::Bytes;

use super::aborted::Aborted;
use super::aborted::AbortedTransaction;
use super::error::UnpackError;
use super::error::UnpackErrorKind;
use super::header::Framed;
use super::header::HEADER_BYTES;
use super::header::Header;
use super::header::base_offset;

/// The record bytes of one answer, and how far they are unpacked.
#[derive(Debug)]
pub(super) struct Answer {
    records: Bytes,
    /// Where the next batch begins.
    at: usize,
    /// Where the complete batches end.
    end: usize,
    /// What stands at `end`, if it is no batch.
    broken: Option<UnpackError>,
    aborted: Aborted,
}

/// What the headers of an answer say.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// The largest offset of a complete batch, inclusive.
    pub(super) last: Option<i64>,
    /// Bytes that the batch would take of which only the head is there.
    pub(super) partial: Option<usize>,
}

/// A batch whose CRC is right.
pub(super) struct Batch {
    pub(super) header: Header,
    pub(super) payload: Bytes,
    /// Whether it belongs to an aborted transaction.
    pub(super) aborted: bool,
}

impl Answer {
    /// Looks at the headers of an answer.
    pub(super) fn scan(records: Bytes, aborted: Vec<AbortedTransaction>) -> (Self, Scan) {
        let mut scan = Scan::default();
        let mut end = 0;
        let mut broken = None;
        while end < records.len() {
            let rest = &records[end..];
            match Header::frame(rest) {
                Ok(Framed::Whole(header, size)) => {
                    scan.last = scan.last.max(Some(header.last));
                    end += size;
                }
                Ok(Framed::Partial(bytes)) => {
                    scan.partial = Some(bytes);
                    break;
                }
                Err(kind) => {
                    broken = Some(kind.at(base_offset(rest).unwrap_or(0)));
                    break;
                }
            }
        }
        let answer = Self {
            records,
            at: 0,
            end,
            broken,
            aborted: Aborted::new(aborted),
        };
        (answer, scan)
    }

    /// Whether nothing is left, not even an error.
    pub(super) fn is_done(&self) -> bool {
        self.at == self.end && self.broken.is_none()
    }

    /// How many records the next batch says it has. Nothing of it was checked: a
    /// hint of where to end a chunk, and no more.
    pub(super) fn next_records(&self) -> usize {
        match Header::frame(&self.records[self.at..self.end]) {
            Ok(Framed::Whole(header, _)) => usize::try_from(header.records).unwrap_or(0),
            Ok(Framed::Partial(_)) | Err(_) => 0,
        }
    }

    /// The next batch, checked.
    pub(super) fn next(&mut self) -> Result<Batch, UnpackError> {
        let rest = &self.records[self.at..self.end];
        if let (true, Some(broken)) = (rest.is_empty(), &self.broken) {
            return Err(broken.clone());
        }
        let base = base_offset(rest).unwrap_or(0);
        let (header, size) = match Header::frame(rest).map_err(|kind| kind.at(base))? {
            Framed::Whole(header, size) => (header, size),
            Framed::Partial(_) => return Err(UnpackErrorKind::Header("it is cut").at(base)),
        };
        header.check(&rest[..size]).map_err(|kind| kind.at(base))?;
        // The CRC does not cover the base offset, but neighbours tell.
        if base_offset(&rest[size..]).is_some_and(|next| next <= header.last) {
            let disorder = "the batch behind it begins before it ends";
            return Err(UnpackErrorKind::Header(disorder).at(base));
        }
        let payload = self.at + HEADER_BYTES..self.at + size;
        self.at += size;
        Ok(Batch {
            header,
            payload: self.records.slice(payload),
            aborted: header.is_transactional()
                && self.aborted.reaches(header.producer_id, header.last),
        })
    }

    /// Notes that the producer's abort marker was passed.
    pub(super) fn abort_ends(&mut self, producer_id: i64) {
        self.aborted.ends(producer_id);
    }
}
