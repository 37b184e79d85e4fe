//! The primitive types of Kafka's protocol, in both of its encodings.
//!
//! Written here rather than taken from a library because of what a length
//! from the wire may do: nothing is allocated here that the bytes of the frame
//! do not back, so that garbage costs an error and never the process.

use bytes::Bytes;

/// An answer that cannot be read: one sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the answer cannot be read: {0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

/// Writes a request.
#[derive(Debug)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
    /// Whether lengths are variable and structures end in tagged fields.
    flexible: bool,
}

impl Writer {
    /// Starts a frame: room for its size, then `header` by the caller.
    pub(crate) fn frame(flexible: bool) -> Self {
        Self {
            bytes: vec![0; 4],
            flexible,
        }
    }

    /// Ends the frame: its size is written in front of it.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        // Requests of this client are a few hundred bytes; credentials are bounded by their file.
        let size = u32::try_from(self.bytes.len() - 4).unwrap_or(u32::MAX);
        self.bytes[..4].copy_from_slice(&size.to_be_bytes());
        self.bytes
    }

    pub(crate) fn int8(&mut self, value: i8) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn int16(&mut self, value: i16) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn int32(&mut self, value: i32) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn int64(&mut self, value: i64) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn boolean(&mut self, value: bool) {
        self.int8(i8::from(value));
    }

    pub(crate) fn uuid(&mut self, value: [u8; 16]) {
        self.bytes.extend_from_slice(&value);
    }

    /// A string in the encoding of the frame.
    pub(crate) fn string(&mut self, value: &str) {
        if self.flexible {
            self.varint(value.len() as u32 + 1);
            self.bytes.extend_from_slice(value.as_bytes());
        } else {
            self.short_string(value);
        }
    }

    /// A string with a two-byte length, whatever the frame's encoding.
    pub(crate) fn short_string(&mut self, value: &str) {
        self.int16(value.len() as i16);
        self.bytes.extend_from_slice(value.as_bytes());
    }

    /// Bytes in the encoding of the frame.
    pub(crate) fn blob(&mut self, value: &[u8]) {
        if self.flexible {
            self.varint(value.len() as u32 + 1);
        } else {
            self.int32(value.len() as i32);
        }
        self.bytes.extend_from_slice(value);
    }

    /// The length of an array, whose elements follow.
    pub(crate) fn array(&mut self, len: usize) {
        if self.flexible {
            self.varint(len as u32 + 1);
        } else {
            self.int32(len as i32);
        }
    }

    /// The end of a structure: no tagged field.
    pub(crate) fn end(&mut self) {
        if self.flexible {
            self.bytes.push(0);
        }
    }

    fn varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }
}

/// Reads an answer; slices of it share its memory.
#[derive(Debug)]
pub(crate) struct Reader {
    rest: Bytes,
    flexible: bool,
}

impl Reader {
    pub(crate) fn new(frame: Bytes, flexible: bool) -> Self {
        Self {
            rest: frame,
            flexible,
        }
    }

    fn take(&mut self, len: usize) -> Result<Bytes, Malformed> {
        if len > self.rest.len() {
            return Err(Malformed("it ends in the middle of a field"));
        }
        Ok(self.rest.split_to(len))
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let Some(bytes) = self.rest.first_chunk::<N>() else {
            return Err(Malformed("it ends in the middle of a field"));
        };
        let bytes = *bytes;
        let _ = self.rest.split_to(N);
        Ok(bytes)
    }

    pub(crate) fn int8(&mut self) -> Result<i8, Malformed> {
        self.fixed().map(i8::from_be_bytes)
    }

    pub(crate) fn int16(&mut self) -> Result<i16, Malformed> {
        self.fixed().map(i16::from_be_bytes)
    }

    pub(crate) fn int32(&mut self) -> Result<i32, Malformed> {
        self.fixed().map(i32::from_be_bytes)
    }

    pub(crate) fn int64(&mut self) -> Result<i64, Malformed> {
        self.fixed().map(i64::from_be_bytes)
    }

    pub(crate) fn uuid(&mut self) -> Result<[u8; 16], Malformed> {
        self.fixed()
    }

    fn varint(&mut self) -> Result<u32, Malformed> {
        let mut value = 0_u64;
        for shift in (0..35).step_by(7) {
            let [byte] = self.fixed()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| Malformed("a length is above 32 bits"));
            }
        }
        Err(Malformed("a length is longer than five bytes"))
    }

    /// A length in the encoding of the frame; `None` is null.
    fn len(&mut self, plain: impl FnOnce(&mut Self) -> Result<i32, Malformed>) -> LenResult {
        if self.flexible {
            return Ok((self.varint()? as usize).checked_sub(1));
        }
        match plain(self)? {
            -1 => Ok(None),
            len => usize::try_from(len)
                .map(Some)
                .map_err(|_| Malformed("a length is negative")),
        }
    }

    pub(crate) fn nullable_string(&mut self) -> Result<Option<String>, Malformed> {
        let Some(len) = self.len(|reader| reader.int16().map(i32::from))? else {
            return Ok(None);
        };
        let text = self.take(len)?;
        match std::str::from_utf8(&text) {
            Ok(text) => Ok(Some(text.to_owned())),
            Err(_) => Err(Malformed("a string is not UTF-8")),
        }
    }

    /// A string; null counts as empty.
    pub(crate) fn string(&mut self) -> Result<String, Malformed> {
        self.nullable_string().map(Option::unwrap_or_default)
    }

    /// Bytes; null counts as empty.
    pub(crate) fn blob(&mut self) -> Result<Bytes, Malformed> {
        let len = self.len(Self::int32)?.unwrap_or(0);
        self.take(len)
    }

    /// An array; null counts as empty. Room is made as elements are found, not
    /// as the length promises.
    pub(crate) fn array<T>(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let len = self.len(Self::int32)?.unwrap_or(0);
        if len > self.rest.len() {
            return Err(Malformed("an array has more elements than bytes follow"));
        }
        let mut elements = Vec::new();
        for _ in 0..len {
            elements.push(element(self)?);
        }
        Ok(elements)
    }

    /// The end of a structure whose tagged fields are of no interest.
    pub(crate) fn end(&mut self) -> Result<(), Malformed> {
        self.tagged(|_, _| Ok(()))
    }

    /// The end of a structure: `field` sees each tag with a reader of its bytes.
    pub(crate) fn tagged(
        &mut self,
        mut field: impl FnMut(u32, &mut Self) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        if !self.flexible {
            return Ok(());
        }
        let count = self.varint()?;
        for _ in 0..count {
            let tag = self.varint()?;
            let len = self.varint()? as usize;
            let mut inner = Self::new(self.take(len)?, true);
            field(tag, &mut inner)?;
        }
        Ok(())
    }
}

type LenResult = Result<Option<usize>, Malformed>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_in_either_encoding_is_read_again() {
        for flexible in [false, true] {
            let mut writer = Writer::frame(flexible);
            writer.int8(-1);
            writer.int16(-2);
            writer.int32(-3);
            writer.int64(i64::MIN);
            writer.uuid([7; 16]);
            writer.string(&"x".repeat(300));
            writer.blob(b"blob");
            writer.array(2);
            writer.int32(1);
            writer.int32(2);
            writer.end();
            let frame = writer.finish();
            let size = u32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]);
            assert_eq!(size as usize, frame.len() - 4);

            let mut reader = Reader::new(Bytes::from(frame).slice(4..), flexible);
            assert_eq!(reader.int8(), Ok(-1));
            assert_eq!(reader.int16(), Ok(-2));
            assert_eq!(reader.int32(), Ok(-3));
            assert_eq!(reader.int64(), Ok(i64::MIN));
            assert_eq!(reader.uuid(), Ok([7; 16]));
            assert_eq!(reader.string(), Ok("x".repeat(300)));
            assert_eq!(reader.blob(), Ok(Bytes::from_static(b"blob")));
            assert_eq!(reader.array(Reader::int32), Ok(vec![1, 2]));
            assert_eq!(reader.end(), Ok(()));
            assert!(reader.int8().is_err(), "nothing is left");
        }
    }

    #[test]
    fn a_length_that_no_bytes_back_is_an_error() {
        let huge: &[u8] = &[0x7f, 0xff, 0xff, 0xff, 1, 2, 3];
        let mut plain = Reader::new(Bytes::from_static(huge), false);
        assert!(plain.array(Reader::int8).is_err());
        let mut blob = Reader::new(Bytes::from_static(huge), false);
        assert!(blob.blob().is_err());
        let wide: &[u8] = &[0xff, 0xff, 0xff, 0xff, 0x0f, 1, 2, 3];
        let mut compact = Reader::new(Bytes::from_static(wide), true);
        assert!(compact.array(Reader::int8).is_err());
        let wider: &[u8] = &[0xff; 8];
        let mut endless = Reader::new(Bytes::from_static(wider), true);
        assert!(endless.end().is_err());
        let negative: &[u8] = &[0xff, 0xff, 0xff, 0xfe];
        let mut negative = Reader::new(Bytes::from_static(negative), false);
        assert!(negative.blob().is_err());
    }

    #[test]
    fn unknown_tags_are_passed_over_and_known_ones_are_seen() {
        // Two tags: 0 with two bytes, 9 with one.
        let bytes: &[u8] = &[2, 0, 2, 0, 5, 9, 1, 7, 42];
        let mut reader = Reader::new(Bytes::from_static(bytes), true);
        let mut seen = None;
        let read = reader.tagged(|tag, inner| {
            if tag == 0 {
                seen = Some(inner.int16()?);
            }
            Ok(())
        });
        assert_eq!((read, seen), (Ok(()), Some(5)));
        assert_eq!(reader.int8(), Ok(42), "the next field follows");
    }
}
