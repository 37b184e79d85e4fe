//! Reading the protobuf wire form in place.
//!
//! [`Reader`] takes the decisions of prost, element by element: the same varint
//! limits, the same bound on nesting, the same treatment of unknown fields and
//! groups. `tests/against_prost` holds it to that on arbitrary bytes.

use crate::error::{DecodeError, Reason};

/// How deep groups and messages may nest, the same bound as prost's.
pub(crate) const MAX_NESTING: u32 = 100;

pub(crate) const VARINT: u8 = 0;
pub(crate) const FIXED64: u8 = 1;
pub(crate) const BYTES: u8 = 2;
pub(crate) const GROUP_START: u8 = 3;
pub(crate) const GROUP_END: u8 = 4;
pub(crate) const FIXED32: u8 = 5;

/// A field key: number and wire type.
#[derive(Clone, Copy)]
pub(crate) struct Key {
    pub(crate) field: u32,
    pub(crate) wire_type: u8,
    /// Where the key stands, for errors about the field as a whole.
    at: usize,
}

/// A position in a borrowed slice.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// Errors, and whatever else is rare, are made outside of the reader and from
/// copies of its two fields: as long as nothing takes the reader's address,
/// it lives in registers, which makes decoding three times as fast.
#[cold]
fn refuse<T>(at: usize, reason: Reason) -> Result<T, DecodeError> {
    Err(DecodeError::new(at, reason))
}

impl<'a> Reader<'a> {
    #[inline]
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    #[inline]
    pub(crate) fn is_at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    #[inline]
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    #[inline(always)]
    pub(crate) fn varint(&mut self) -> Result<u64, DecodeError> {
        match self.bytes.get(self.at) {
            Some(&byte) if byte < 0x80 => {
                self.at += 1;
                Ok(u64::from(byte))
            }
            _ => match long_varint(&self.bytes[self.at..]) {
                Some((value, len)) => {
                    self.at += len;
                    Ok(value)
                }
                None => refuse(self.at, Reason::Varint),
            },
        }
    }

    #[inline(always)]
    pub(crate) fn key(&mut self) -> Result<Key, DecodeError> {
        // Fields 1 to 15 have keys of one byte, and they are all we define.
        match self.bytes.get(self.at) {
            Some(&byte) if (8..0x80).contains(&byte) && byte & 7 <= FIXED32 => {
                let at = self.at;
                self.at += 1;
                Ok(Key {
                    field: u32::from(byte >> 3),
                    wire_type: byte & 7,
                    at,
                })
            }
            _ => {
                let (key, at) = long_key(self.bytes, self.at)?;
                self.at = at;
                Ok(key)
            }
        }
    }

    #[inline(always)]
    fn expect(&self, key: Key, expected: u8) -> Result<(), DecodeError> {
        if key.wire_type == expected {
            return Ok(());
        }
        refuse(
            key.at,
            Reason::FieldType {
                field: key.field,
                expected,
                found: key.wire_type,
            },
        )
    }

    /// An unsigned integer field.
    #[inline(always)]
    pub(crate) fn uint(&mut self, key: Key) -> Result<u64, DecodeError> {
        self.expect(key, VARINT)?;
        self.varint()
    }

    /// A zigzag-coded signed integer field.
    #[inline(always)]
    pub(crate) fn sint(&mut self, key: Key) -> Result<i64, DecodeError> {
        let coded = self.uint(key)?;
        Ok((coded >> 1) as i64 ^ -((coded & 1) as i64))
    }

    /// A length-delimited field.
    #[inline(always)]
    pub(crate) fn bytes(&mut self, key: Key) -> Result<&'a [u8], DecodeError> {
        self.expect(key, BYTES)?;
        self.delimited()
    }

    /// A string field, checked to be UTF-8.
    #[inline(always)]
    pub(crate) fn text(&mut self, key: Key) -> Result<&'a str, DecodeError> {
        let bytes = self.bytes(key)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text),
            Err(bad) => refuse(
                self.at - bytes.len() + bad.valid_up_to(),
                Reason::Utf8(key.field),
            ),
        }
    }

    #[inline(always)]
    fn delimited(&mut self) -> Result<&'a [u8], DecodeError> {
        let at = self.at;
        let len = self.varint()?;
        let rest = self.bytes.len() - self.at;
        if len > rest as u64 {
            return refuse(at, Reason::Truncated(len));
        }
        let start = self.at;
        self.at = start + len as usize;
        Ok(&self.bytes[start..self.at])
    }

    /// Passes over a field that is not asked for. `depth` is how deep the
    /// message that holds it is nested; 0 for the outermost.
    #[inline(always)]
    pub(crate) fn skip(&mut self, key: Key, depth: u32) -> Result<(), DecodeError> {
        match key.wire_type {
            BYTES if depth < MAX_NESTING => self.delimited().map(|_| ()),
            VARINT if depth < MAX_NESTING => self.varint().map(|_| ()),
            _ => {
                self.at = skip_rare(self.bytes, self.at, key, depth)?;
                Ok(())
            }
        }
    }
}

/// A key of more than one byte, or one that does not exist: the key, and the
/// position after it.
#[cold]
fn long_key(bytes: &[u8], at: usize) -> Result<(Key, usize), DecodeError> {
    let mut reader = Reader { bytes, at };
    let key = reader.varint()?;
    let Ok(key) = u32::try_from(key) else {
        return refuse(at, Reason::Key);
    };
    let wire_type = (key & 7) as u8;
    if wire_type > FIXED32 {
        return refuse(at, Reason::WireType(wire_type));
    }
    let field = key >> 3;
    if field == 0 {
        return refuse(at, Reason::FieldNumber);
    }
    let key = Key {
        field,
        wire_type,
        at,
    };
    Ok((key, reader.at))
}

/// The position after a field of fixed width or a group.
#[cold]
fn skip_rare(bytes: &[u8], at: usize, key: Key, depth: u32) -> Result<usize, DecodeError> {
    if depth >= MAX_NESTING {
        return refuse(key.at, Reason::Nesting);
    }
    let fixed = |len: usize| match bytes.len() - at {
        rest if rest < len => refuse(at, Reason::Truncated(len as u64)),
        _ => Ok(at + len),
    };
    match key.wire_type {
        FIXED64 => fixed(8),
        FIXED32 => fixed(4),
        GROUP_START => {
            let mut reader = Reader { bytes, at };
            loop {
                let inner = reader.key()?;
                if inner.wire_type != GROUP_END {
                    reader.skip(inner, depth + 1)?;
                } else if inner.field == key.field {
                    return Ok(reader.at);
                } else {
                    return refuse(inner.at, Reason::Group);
                }
            }
        }
        _ => refuse(key.at, Reason::Group),
    }
}

/// A varint of several bytes: value and length.
#[inline]
fn long_varint(bytes: &[u8]) -> Option<(u64, usize)> {
    match bytes.first_chunk().and_then(word_varint) {
        Some(short) => Some(short),
        None => varint_by_bytes(bytes),
    }
}

/// A varint of at most eight bytes, value and length, taken in one load: the end
/// is the first byte without its top bit, and the groups of seven bits are
/// pushed together pairwise. `None` for a longer one.
#[inline(always)]
pub(crate) fn word_varint(bytes: &[u8; 8]) -> Option<(u64, usize)> {
    let word = u64::from_le_bytes(*bytes);
    let ends = !word & 0x8080_8080_8080_8080;
    if ends == 0 {
        return None;
    }
    // All bits up to the end's top bit, which is the lowest one that is set.
    let kept = word & (ends ^ (ends - 1));
    let len = ends.trailing_zeros() / 8 + 1;
    let sevens = kept & 0x7f7f_7f7f_7f7f_7f7f;
    let pairs = (sevens & 0x007f_007f_007f_007f) | ((sevens & 0x7f00_7f00_7f00_7f00) >> 1);
    let fours = (pairs & 0x0000_3fff_0000_3fff) | ((pairs & 0x3fff_0000_3fff_0000) >> 2);
    let value = (fours & 0x0fff_ffff) | ((fours & 0x0fff_ffff_0000_0000) >> 4);
    Some((value, len as usize))
}

/// The same near the end of the value, and for nine and ten bytes.
#[cold]
fn varint_by_bytes(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0_u64;
    for (index, &byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (index * 7);
        if byte < 0x80 {
            // The tenth byte holds bit 63 alone.
            return (index < 9 || byte <= 1).then_some((value, index + 1));
        }
    }
    None
}
