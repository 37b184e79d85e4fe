//! Snappy: one bare block, or blocks in the framing of Java's stream.

use snap::raw::Decoder;
use snap::raw::decompress_len;

use super::Fault;
use super::take;
use super::take_array;

/// What the framing begins with; two version numbers of four bytes follow.
const FRAMING: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];

/// No element of a block yields more than 64 bytes from three.
const LARGEST_RATIO: usize = 22;

/// Unpacks snappy.
#[derive(Default)]
pub(super) struct Snappy {
    decoder: Decoder,
}

impl Snappy {
    pub(super) fn unpack(
        &mut self,
        payload: &[u8],
        out: &mut Vec<u8>,
        limit: usize,
    ) -> Result<(), Fault> {
        let Some(mut rest) = payload.strip_prefix(&FRAMING) else {
            return self.block(payload, out, limit);
        };
        take(&mut rest, 8)?;
        let end = out.len() + limit;
        while !rest.is_empty() {
            let length = u32::from_be_bytes(take_array(&mut rest)?);
            let block = take(&mut rest, length as usize)?;
            self.block(block, out, end - out.len())?;
        }
        Ok(())
    }

    fn block(&mut self, block: &[u8], out: &mut Vec<u8>, limit: usize) -> Result<(), Fault> {
        let claimed = decompress_len(block).map_err(|_| INVALID)?;
        if claimed > block.len().saturating_mul(LARGEST_RATIO) {
            return Err(Fault::Malformed("it claims more than it can hold"));
        }
        if claimed > limit {
            return Err(Fault::TooLarge(claimed));
        }
        let start = out.len();
        out.resize(start + claimed, 0);
        let space = &mut out[start..];
        self.decoder.decompress(block, space).map_err(|_| INVALID)?;
        Ok(())
    }
}

const INVALID: Fault = Fault::Malformed("a block of it is invalid");
