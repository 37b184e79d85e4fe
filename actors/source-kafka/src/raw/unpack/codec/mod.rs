//! Compression: the payload of a batch behind what is in a buffer.
//!
//! Checksums inside the payloads are not looked at: the batch's CRC covers
//! every byte of a payload already, and was checked. Nothing that a payload
//! claims about its size is believed further than its own length allows.

mod gzip;
mod lz4;
mod snappy;
mod zstd;

use std::fmt;

/// A batch's compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// As it is.
    None,
    /// Deflate between gzip's header and trailer.
    Gzip,
    /// Snappy blocks, bare or in the framing of Java's stream.
    Snappy,
    /// An LZ4 frame.
    Lz4,
    /// A Zstandard frame.
    Zstd,
}

impl Codec {
    /// The codec with the number that a batch header gives it.
    pub(super) fn from_number(number: u8) -> Option<Self> {
        [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd]
            .get(usize::from(number))
            .copied()
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        })
    }
}

/// Why a payload does not unpack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is no such payload; completes a sentence.
    Malformed(&'static str),
    /// It unpacks to so many bytes or more.
    TooLarge(usize),
}

/// What is said of a payload that ends inside a block or a number.
const CUT: Fault = Fault::Malformed("it ends too early");

/// The codecs with their contexts, each made when it is first needed.
#[derive(Default)]
pub(super) struct Codecs {
    gzip: gzip::Gzip,
    snappy: snappy::Snappy,
    zstd: zstd::Zstd,
}

impl Codecs {
    /// Appends what `payload` unpacks to, at most `limit` bytes. After an error
    /// the buffer is as it was.
    pub(super) fn unpack(
        &mut self,
        codec: Codec,
        payload: &[u8],
        out: &mut Vec<u8>,
        limit: usize,
    ) -> Result<(), Fault> {
        let start = out.len();
        let unpacked = match codec {
            Codec::None => {
                out.extend_from_slice(payload);
                Ok(())
            }
            Codec::Gzip => self.gzip.unpack(payload, out, limit),
            Codec::Snappy => self.snappy.unpack(payload, out, limit),
            Codec::Lz4 => lz4::unpack(payload, out, limit),
            Codec::Zstd => self.zstd.unpack(payload, out, limit),
        };
        let bytes = out.len() - start;
        let unpacked = match unpacked {
            Ok(()) if bytes > limit => Err(Fault::TooLarge(bytes)),
            other => other,
        };
        if unpacked.is_err() {
            out.truncate(start);
        }
        unpacked
    }
}

/// Takes `count` bytes from the front.
fn take<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8], Fault> {
    let (taken, left) = rest.split_at_checked(count).ok_or(CUT)?;
    *rest = left;
    Ok(taken)
}

/// Takes `N` bytes from the front.
fn take_array<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Fault> {
    let (taken, left) = rest.split_first_chunk::<N>().ok_or(CUT)?;
    *rest = left;
    Ok(*taken)
}
