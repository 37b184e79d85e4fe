//! The value types that a row may hold.

use std::fmt;

use crate::ColumnType;
use crate::cell::CellError;
use crate::cell::CellReader;
use crate::cell::write_bytes;
use crate::cell::write_null;

/// A Rust type that fills a column.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a column",
    note = "columns are i64, i32, bool, String, Timestamp, Numeric, Json, Vec<u8>, Uuid, or an Option of one",
    note = "an enum is stored as text: derive `TextValue` on it and mark the field `#[row(text)]`"
)]
pub trait CellValue: Sized {
    /// The SQL type.
    const TYPE: ColumnType;
    /// Whether null is a value of this type.
    const NULLABLE: bool = false;
    /// Appends the value's cell.
    fn write(&self, out: &mut Vec<u8>);
    /// Reads the value from the next cell.
    ///
    /// # Errors
    /// [`CellError`] when the cell is null, too long or not such a value.
    fn read(cells: &mut CellReader<'_>) -> Result<Self, CellError>;
    /// Bytes on the heap that the value owns.
    fn heap_bytes(&self) -> usize {
        0
    }
}

pub(crate) fn required<'a>(cells: &mut CellReader<'a>) -> Result<&'a [u8], CellError> {
    match cells.next_cell()? {
        Some(bytes) => Ok(bytes),
        None => Err(cells.error("null in a column that is not an Option")),
    }
}

fn fixed<const N: usize>(cells: &mut CellReader<'_>) -> Result<[u8; N], CellError> {
    let bytes = required(cells)?;
    bytes
        .try_into()
        .map_err(|_| cells.error(format!("{} bytes where {N} belong", bytes.len())))
}

impl CellValue for i64 {
    const TYPE: ColumnType = ColumnType::Int8;
    #[inline]
    fn write(&self, out: &mut Vec<u8>) {
        write_bytes(out, &self.to_be_bytes());
    }
    fn read(cells: &mut CellReader<'_>) -> Result<Self, CellError> {
        fixed(cells).map(Self::from_be_bytes)
    }
}

impl CellValue for i32 {
    const TYPE: ColumnType = ColumnType::Int4;
    #[inline]
    fn write(&self, out: &mut Vec<u8>) {
        write_bytes(out, &self.to_be_bytes());
    }
    fn read(cells: &mut CellReader<'_>) -> Result<Self, CellError> {
        fixed(cells).map(Self::from_be_bytes)
    }
}

impl CellValue for bool {
    const TYPE: ColumnType = ColumnType::Bool;
    fn write(&self, out: &mut Vec<u8>) {
        write_bytes(out, &[u8::from(*self)]);
    }
    fn read(cells: &mut CellReader<'_>) -> Result<Self, CellError> {
        match fixed::<1>(cells)? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(cells.error(format!("{other} is not a boolean"))),
        }
    }
}

impl CellValue for String {
    const TYPE: ColumnType = ColumnType::Text;
    fn write(&self, out: &mut Vec<u8>) {
        write_bytes(out, self.as_bytes());
    }
    fn read(cells: &mut CellReader<'_>) -> Result<Self, CellError> {
        let bytes = required(cells)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| cells.error("text is not UTF-8"))
    }
    fn heap_bytes(&self) -> usize {
        self.capacity()
    }
}

impl CellValue for Vec<u8> {
    const TYPE: ColumnType = ColumnType::Bytea;
    fn write(&self, out: &mut Vec<u8>) {
        write_bytes(out, self);
    }
    fn read(cells: &mut CellReader<'_>) -> Result<Self, CellError> {
        Ok(required(cells)?.to_vec())
    }
    fn heap_bytes(&self) -> usize {
        self.capacity()
    }
}

impl<T: CellValue> CellValue for Option<T> {
    const TYPE: ColumnType = T::TYPE;
    const NULLABLE: bool = true;
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Some(value) => value.write(out),
            None => write_null(out),
        }
    }
    fn read(cells: &mut CellReader<'_>) -> Result<Self, CellError> {
        let mut probe = cells.clone();
        if probe.next_cell()?.is_none() {
            *cells = probe;
            return Ok(None);
        }
        T::read(cells).map(Some)
    }
    fn heap_bytes(&self) -> usize {
        self.as_ref().map_or(0, T::heap_bytes)
    }
}

/// Microseconds between 1970-01-01 and 2000-01-01, both at 00:00 UTC:
/// 10,957 days, the distance of the Unix epoch from Postgres' own.
const POSTGRES_EPOCH_MICROS: i64 = 10_957 * 86_400 * 1_000_000;

/// A moment in UTC, in microseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl CellValue for Timestamp {
    const TYPE: ColumnType = ColumnType::Timestamptz;
    fn write(&self, out: &mut Vec<u8>) {
        write_bytes(
            out,
            &self.0.saturating_sub(POSTGRES_EPOCH_MICROS).to_be_bytes(),
        );
    }
    fn read(cells: &mut CellReader<'_>) -> Result<Self, CellError> {
        let micros = fixed(cells).map(i64::from_be_bytes)?;
        Ok(Self(micros.saturating_add(POSTGRES_EPOCH_MICROS)))
    }
}

/// A UUID as 16 bytes in network order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// Parses the hyphenated form, `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if bytes.len() != 36 || [8, 13, 18, 23].iter().any(|&i| bytes[i] != b'-') {
            return None;
        }
        let mut digits = bytes.iter().filter(|&&b| b != b'-');
        let mut out = [0u8; 16];
        for byte in &mut out {
            let high = char::from(*digits.next()?).to_digit(16)?;
            let low = char::from(*digits.next()?).to_digit(16)?;
            *byte = (high * 16 + low) as u8;
        }
        digits.next().is_none().then_some(Self(out))
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl CellValue for Uuid {
    const TYPE: ColumnType = ColumnType::Uuid;
    fn write(&self, out: &mut Vec<u8>) {
        write_bytes(out, &self.0);
    }
    fn read(cells: &mut CellReader<'_>) -> Result<Self, CellError> {
        fixed(cells).map(Self)
    }
}
