//! Cells: a value as `COPY BINARY`, binary arrays and the checksums see it,
//! which is a big-endian `i32` length (-1 for null) and the Postgres binary form.

/// The length that stands for null.
pub const NULL_LENGTH: i32 = -1;

/// Appends a null cell.
pub fn write_null(out: &mut Vec<u8>) {
    out.extend_from_slice(&NULL_LENGTH.to_be_bytes());
}

/// Appends a cell of these bytes.
pub fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as i32).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// A cell that does not hold what its column promises.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cell {index}: {reason}")]
pub struct CellError {
    /// Zero-based index of the cell in its row.
    pub index: usize,
    /// One sentence.
    pub reason: String,
}

/// Walks the cells of one row.
#[derive(Debug, Clone)]
pub struct CellReader<'a> {
    rest: &'a [u8],
    index: usize,
}

impl<'a> CellReader<'a> {
    /// Reads cells from the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            index: 0,
        }
    }

    /// What has not been read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// An error at the cell that was read last.
    pub fn error(&self, reason: impl Into<String>) -> CellError {
        CellError {
            index: self.index.saturating_sub(1),
            reason: reason.into(),
        }
    }

    /// The next cell's bytes, `None` for null.
    ///
    /// # Errors
    /// [`CellError`] when the bytes end inside the cell.
    pub fn next_cell(&mut self) -> Result<Option<&'a [u8]>, CellError> {
        self.index += 1;
        let Some((head, rest)) = self.rest.split_first_chunk::<4>() else {
            return Err(self.error("the row ends before its length"));
        };
        let length = i32::from_be_bytes(*head);
        if length == NULL_LENGTH {
            self.rest = rest;
            return Ok(None);
        }
        let length = usize::try_from(length).map_err(|_| self.error("negative length"))?;
        if rest.len() < length {
            return Err(self.error(format!("{length} bytes announced, {} left", rest.len())));
        }
        let (cell, rest) = rest.split_at(length);
        self.rest = rest;
        Ok(Some(cell))
    }

    /// The next cell with its length prefix, as it stands in the row.
    ///
    /// # Errors
    /// As [`CellReader::next_cell`].
    pub fn next_raw(&mut self) -> Result<&'a [u8], CellError> {
        let before = self.rest;
        self.next_cell()?;
        Ok(&before[..before.len() - self.rest.len()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A null, no byte, two bytes.
    fn row() -> Vec<u8> {
        let mut row = Vec::new();
        write_null(&mut row);
        write_bytes(&mut row, b"");
        write_bytes(&mut row, b"ab");
        row
    }

    #[test]
    fn a_cell_is_its_length_and_its_bytes_and_a_null_has_the_length_minus_one() {
        assert_eq!(row(), b"\xff\xff\xff\xff\0\0\0\0\0\0\0\x02ab");
        let row = row();
        let mut cells = CellReader::new(&row);
        assert_eq!(cells.rest(), row);
        assert_eq!(cells.next_cell(), Ok(None));
        assert_eq!(cells.next_cell(), Ok(Some(&b""[..])));
        assert_eq!(cells.rest(), b"\0\0\0\x02ab");
        assert_eq!(cells.next_cell(), Ok(Some(&b"ab"[..])));
        assert_eq!(cells.rest(), b"");
        let mut cells = CellReader::new(&row);
        assert_eq!(cells.next_raw(), Ok(&b"\xff\xff\xff\xff"[..]));
        assert_eq!(cells.next_raw(), Ok(&b"\0\0\0\0"[..]));
        assert_eq!(cells.next_raw(), Ok(&b"\0\0\0\x02ab"[..]));
    }

    #[test]
    fn a_cell_that_is_none_is_named_with_its_place() {
        let read = |bytes: &[u8]| {
            let mut cells = CellReader::new(bytes);
            let error = (0..9).find_map(|_| cells.next_cell().err());
            error.expect("the row ends").to_string()
        };
        let row = row();
        assert_eq!(read(&row), "cell 3: the row ends before its length");
        assert_eq!(
            read(&row[..row.len() - 1]),
            "cell 2: 2 bytes announced, 1 left"
        );
        assert_eq!(read(&row[..6]), "cell 1: the row ends before its length");
        assert_eq!(read(&[0xff, 0xff, 0xff, 0xfe]), "cell 0: negative length");
        let none = CellReader::new(b"").error("nothing was read");
        assert_eq!(none.to_string(), "cell 0: nothing was read");
    }
}
