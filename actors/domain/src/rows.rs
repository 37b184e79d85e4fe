//! Rows in the form in which they are written: binary `COPY` tuples.

/// The columns that the engine adds behind the author's, in this order.
pub const ENGINE_COLUMNS: [(&str, &str); 3] = [
    ("agg_version", "bigint"),
    ("off", "bigint"),
    ("deleted", "boolean"),
];

/// Rows as binary `COPY` tuples: each a big-endian `i16` field count and the
/// cells `key, columns..., agg_version, off, deleted`. A deleted row is a
/// tombstone: its columns are null and it keeps its position.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EncodedRows {
    buf: Vec<u8>,
    ends: Vec<usize>,
}

impl EncodedRows {
    /// No rows.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// All tuples behind each other, as a `COPY` data stream wants them
    /// (without the stream's header and trailer).
    pub fn bytes(&self) -> &[u8] {
        &self.buf
    }

    /// Takes the buffer of all tuples.
    pub fn into_bytes(self) -> Vec<u8> {
        self.buf
    }

    /// Appends one tuple, written by `write` into the buffer that it is given.
    pub fn push_with(&mut self, fields: i16, write: impl FnOnce(&mut Vec<u8>)) {
        self.buf.extend_from_slice(&fields.to_be_bytes());
        write(&mut self.buf);
        self.ends.push(self.buf.len());
    }

    /// The cells of each row, without the field count.
    pub fn cells(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts
            .zip(&self.ends)
            .map(|(start, end)| &self.buf[start + 2..*end])
    }

    /// Removes all rows and keeps the buffers.
    pub fn clear(&mut self) {
        self.buf.clear();
        self.ends.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_is_a_tuple_behind_the_one_before_it() {
        let mut rows = EncodedRows::new();
        assert!(rows.is_empty() && rows.cells().next().is_none());
        for cells in [&b"first"[..], b"", b"a longer one"] {
            rows.push_with(3, |out| out.extend_from_slice(cells));
        }
        assert!(!rows.is_empty());
        assert_eq!(rows.len(), 3);
        let cells: Vec<_> = rows.cells().collect();
        assert_eq!(cells, [&b"first"[..], b"", b"a longer one"]);
        let tuples = b"\0\x03first\0\x03\0\x03a longer one";
        assert_eq!(rows.bytes(), tuples);
        assert_eq!(rows.clone().into_bytes(), tuples);
        rows.clear();
        assert_eq!(rows, EncodedRows::new());
    }
}
