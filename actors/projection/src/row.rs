//! The row struct as schema.

use std::fmt;

use crate::Column;
use crate::cell::CellError;
use crate::cell::CellReader;

/// A row of a read model, without its key and its position, which the engine
/// adds. Derive it, or implement it by hand.
///
/// # Contract
/// `encode` writes exactly one cell per entry of `COLUMNS`, in that order, and
/// `decode` reads them back to an equal row. The bytes are what the database
/// stores and what the proof sums, so equal rows must give equal bytes.
pub trait Row: Clone + PartialEq + fmt::Debug + Send + Sync + 'static {
    /// The columns in table order.
    const COLUMNS: &'static [Column];

    /// Appends one cell per column.
    fn encode(&self, out: &mut Vec<u8>);

    /// Reads one cell per column.
    ///
    /// # Errors
    /// [`CellError`] names the column whose cell does not fit.
    fn decode(cells: &mut CellReader<'_>) -> Result<Self, CellError>;

    /// Bytes on the heap that this row owns beyond its own size.
    fn heap_bytes(&self) -> usize {
        0
    }
}
