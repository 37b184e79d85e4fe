//! Gzip: one or more members.

use flate2::Decompress;
use flate2::FlushDecompress;
use flate2::Status;

use super::CUT;
use super::Fault;
use super::take;
use super::take_array;

const HEADER_CHECKSUM: u8 = 1 << 1;
const EXTRA: u8 = 1 << 2;
const NAME: u8 = 1 << 3;
const COMMENT: u8 = 1 << 4;

/// Room that is made at a time when the payload's length says nothing better, bytes.
const STEP: usize = 32 << 10;

/// Unpacks gzip; keeps its context.
#[derive(Default)]
pub(super) struct Gzip {
    inflater: Option<Decompress>,
}

impl Gzip {
    pub(super) fn unpack(
        &mut self,
        payload: &[u8],
        out: &mut Vec<u8>,
        limit: usize,
    ) -> Result<(), Fault> {
        let start = out.len();
        let mut rest = payload;
        while !rest.is_empty() {
            pass_header(&mut rest)?;
            let member = out.len();
            let inflater = self.inflater.get_or_insert_with(|| Decompress::new(false));
            inflater.reset(false);
            inflate(inflater, &mut rest, out, start + limit)?;
            let _crc = take_array::<4>(&mut rest)?;
            let size = u32::from_le_bytes(take_array(&mut rest)?);
            if size != (out.len() - member) as u32 {
                return Err(Fault::Malformed("its size is not what its trailer says"));
            }
        }
        Ok(())
    }
}

fn pass_header(rest: &mut &[u8]) -> Result<(), Fault> {
    let [id1, id2, method, flags, ..] = take_array::<10>(rest)?;
    if [id1, id2, method] != [0x1f, 0x8b, 8] {
        return Err(Fault::Malformed("it does not begin like gzip"));
    }
    if flags & EXTRA != 0 {
        let length = u16::from_le_bytes(take_array(rest)?);
        take(rest, usize::from(length))?;
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            let length = rest.iter().position(|byte| *byte == 0).ok_or(CUT)?;
            take(rest, length + 1)?;
        }
    }
    if flags & HEADER_CHECKSUM != 0 {
        take(rest, 2)?;
    }
    Ok(())
}

/// Inflates one stream and moves behind it; stops soon after `out` passes `end` bytes.
fn inflate(
    inflater: &mut Decompress,
    rest: &mut &[u8],
    out: &mut Vec<u8>,
    end: usize,
) -> Result<(), Fault> {
    loop {
        if out.len() > end {
            return Err(Fault::TooLarge(out.len()));
        }
        if out.len() == out.capacity() {
            out.reserve(STEP.max(rest.len()));
        }
        let (read, written) = (inflater.total_in(), out.len());
        let status = inflater
            .decompress_vec(rest, out, FlushDecompress::None)
            .map_err(|_| Fault::Malformed("its deflate stream is invalid"))?;
        let read = (inflater.total_in() - read) as usize;
        *rest = &rest[read..];
        if status == Status::StreamEnd {
            return Ok(());
        }
        if read == 0 && out.len() == written {
            return Err(CUT);
        }
    }
}
