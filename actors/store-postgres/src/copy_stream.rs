//! Reading a binary COPY stream: pieces in, whole tuples out.

use bytes::Buf;
use bytes::BytesMut;
use refold_projection::cell::CellReader;

/// Signature, flags and length of the extension: what a binary COPY begins with.
const HEADER_SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
const HEADER: usize = HEADER_SIGNATURE.len() + 8;

/// Cuts a binary COPY stream into tuples; pieces may end anywhere.
#[derive(Debug, Default)]
pub(crate) struct Tuples {
    buffer: BytesMut,
    header_seen: bool,
}

impl Tuples {
    pub(crate) fn feed(&mut self, piece: &[u8]) {
        self.buffer.extend_from_slice(piece);
    }

    /// The cells of the next whole tuple of `fields` cells.
    ///
    /// # Errors
    /// One sentence when the bytes are not such a stream.
    pub(crate) fn next(&mut self, fields: usize) -> Result<Option<BytesMut>, String> {
        if !self.header_seen {
            if self.buffer.len() < HEADER {
                return Ok(None);
            }
            if !self.buffer.starts_with(HEADER_SIGNATURE) {
                return Err("not a binary COPY stream".to_owned());
            }
            self.buffer.advance(HEADER);
            self.header_seen = true;
        }
        let Some((head, rest)) = self.buffer.split_first_chunk::<2>() else {
            return Ok(None);
        };
        let count = i16::from_be_bytes(*head);
        if count == -1 {
            // The trailer.
            return Ok(None);
        }
        if usize::try_from(count) != Ok(fields) {
            return Err(format!("a row of {count} fields"));
        }
        let mut reader = CellReader::new(rest);
        for _ in 0..fields {
            if reader.next_raw().is_err() {
                // The rest of the tuple is in the next piece.
                return Ok(None);
            }
        }
        let length = rest.len() - reader.rest().len();
        self.buffer.advance(2);
        Ok(Some(self.buffer.split_to(length)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(rows: &[(i64, &str)]) -> Vec<u8> {
        let mut out = HEADER_SIGNATURE.to_vec();
        out.extend_from_slice(&[0; 8]);
        for (key, text) in rows {
            out.extend_from_slice(&2i16.to_be_bytes());
            out.extend_from_slice(&8i32.to_be_bytes());
            out.extend_from_slice(&key.to_be_bytes());
            out.extend_from_slice(&(text.len() as i32).to_be_bytes());
            out.extend_from_slice(text.as_bytes());
        }
        out.extend_from_slice(&(-1i16).to_be_bytes());
        out
    }

    #[test]
    fn tuples_are_the_same_wherever_the_stream_is_cut() {
        let whole = stream(&[(1, "one"), (2, ""), (3, "three")]);
        for size in 1..=whole.len() {
            let mut tuples = Tuples::default();
            let mut keys = Vec::new();
            for piece in whole.chunks(size) {
                tuples.feed(piece);
                while let Some(tuple) = tuples.next(2).expect("the stream is whole") {
                    keys.push(tuple[11]);
                }
            }
            assert_eq!(keys, [1, 2, 3], "pieces of {size}");
        }
    }

    #[test]
    fn another_number_of_fields_is_refused() {
        let mut tuples = Tuples::default();
        tuples.feed(&stream(&[(1, "one")]));
        assert!(tuples.next(3).is_err());
    }
}
