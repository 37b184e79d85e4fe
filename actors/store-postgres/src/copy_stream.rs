//! Reading a binary COPY stream: pieces in, whole tuples out.

use refold_projection::cell::CellReader;

/// Signature, flags and length of the extension: what a binary COPY begins with.
const HEADER_SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
const HEADER: usize = HEADER_SIGNATURE.len() + 8;

/// Cuts a binary COPY stream into tuples; pieces may end anywhere. A server sends a tuple
/// a piece, so that most of them are read where they lie.
#[derive(Debug, Default)]
pub(crate) struct Tuples {
    /// The beginning of a tuple whose end is in the next piece.
    rest: Vec<u8>,
    header_seen: bool,
}

impl Tuples {
    /// Hands the cells of every tuple of `fields` cells that ends in `piece` to `visit`.
    ///
    /// # Errors
    /// One sentence when the bytes are not such a stream, or what `visit` said.
    pub(crate) fn each(
        &mut self,
        piece: &[u8],
        fields: usize,
        mut visit: impl FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<(), String> {
        if self.rest.is_empty() {
            let used = self.walk(piece, fields, &mut visit)?;
            self.rest.extend_from_slice(&piece[used..]);
            return Ok(());
        }
        self.rest.extend_from_slice(piece);
        let mut whole = std::mem::take(&mut self.rest);
        let used = self.walk(&whole, fields, &mut visit)?;
        whole.drain(..used);
        self.rest = whole;
        Ok(())
    }

    /// Visits the whole tuples at the start of `bytes` and returns how many bytes they take.
    fn walk(
        &mut self,
        bytes: &[u8],
        fields: usize,
        visit: &mut impl FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<usize, String> {
        let mut at = 0;
        if !self.header_seen {
            if bytes.len() < HEADER {
                return Ok(0);
            }
            if !bytes.starts_with(HEADER_SIGNATURE) {
                return Err("not a binary COPY stream".to_owned());
            }
            self.header_seen = true;
            at = HEADER;
        }
        while let Some((head, rest)) = bytes[at..].split_first_chunk::<2>() {
            let count = i16::from_be_bytes(*head);
            if count == -1 {
                // The trailer.
                return Ok(bytes.len());
            }
            if usize::try_from(count) != Ok(fields) {
                return Err(format!("a row of {count} fields"));
            }
            let mut reader = CellReader::new(rest);
            if (0..fields).any(|_| reader.next_raw().is_err()) {
                // The rest of the tuple is in the next piece.
                break;
            }
            let length = rest.len() - reader.rest().len();
            visit(&rest[..length])?;
            at += 2 + length;
        }
        Ok(at)
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
                let each = tuples.each(piece, 2, |tuple| {
                    keys.push(tuple[11]);
                    Ok(())
                });
                each.expect("the stream is whole");
            }
            assert_eq!(keys, [1, 2, 3], "pieces of {size}");
        }
    }

    #[test]
    fn another_number_of_fields_and_what_the_visitor_says_end_it() {
        let piece = stream(&[(1, "one"), (2, "two")]);
        let more = Tuples::default().each(&piece, 3, |_| Ok(()));
        assert_eq!(more, Err("a row of 2 fields".to_owned()));
        let mut seen = 0;
        let stopped = Tuples::default().each(&piece, 2, |_| {
            seen += 1;
            Err("stop".to_owned())
        });
        assert_eq!((stopped, seen), (Err("stop".to_owned()), 1));
    }
}
