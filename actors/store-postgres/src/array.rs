//! Cells that are sent and received as they are: a row's cell is, byte for
//! byte, an element of a binary array and a field of a binary answer.

use std::error::Error;
use std::ops::Range;

use bytes::BytesMut;
use refold_domain::rows::EncodedRows;
use refold_projection::cell::CellReader;
use refold_projection::cell::write_bytes;
use refold_projection::cell::write_null;
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;
use tokio_postgres::types::IsNull;
use tokio_postgres::types::Kind;
use tokio_postgres::types::ToSql;
use tokio_postgres::types::Type;

/// Bytes in front of the elements: dimensions, null flag, element type, length, lower bound.
const HEADER: usize = 20;

/// A one-dimensional array in binary form, put together from cells.
#[derive(Debug)]
pub(crate) struct CellArray {
    bytes: Vec<u8>,
    elements: i32,
}

impl CellArray {
    /// No elements yet, of this type.
    pub(crate) fn new(element: &Type) -> Self {
        let mut bytes = Vec::with_capacity(HEADER);
        bytes.extend_from_slice(&1i32.to_be_bytes());
        // The server only looks at each element's length; the flag may always be set.
        bytes.extend_from_slice(&1i32.to_be_bytes());
        bytes.extend_from_slice(&element.oid().to_be_bytes());
        bytes.extend_from_slice(&0i32.to_be_bytes());
        bytes.extend_from_slice(&1i32.to_be_bytes());
        Self { bytes, elements: 0 }
    }

    /// Appends a cell with its length prefix.
    pub(crate) fn push(&mut self, cell: &[u8]) {
        self.bytes.extend_from_slice(cell);
        self.elements += 1;
    }

    /// Appends a row: its length, how many fields, and each behind the oid of its type.
    fn push_row(&mut self, cells: &[u8], count: i32, columns: &[[u8; 4]]) -> Result<(), String> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&count.to_be_bytes());
        let mut reader = CellReader::new(cells);
        for oid in columns {
            self.bytes.extend_from_slice(oid);
            let cell = reader.next_raw().map_err(|e| e.to_string())?;
            self.bytes.extend_from_slice(cell);
        }
        if !reader.rest().is_empty() {
            let what = "the row has more cells than its table has columns";
            return Err(reader.error(what).to_string());
        }
        let length = i32::try_from(self.bytes.len() - start - 4).map_err(|e| e.to_string())?;
        self.bytes[start..start + 4].copy_from_slice(&length.to_be_bytes());
        self.elements += 1;
        Ok(())
    }
}

impl ToSql for CellArray {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(&self.bytes[..12]);
        out.extend_from_slice(&self.elements.to_be_bytes());
        out.extend_from_slice(&self.bytes[16..]);
        Ok(IsNull::No)
    }

    // The statement casts each parameter to the leaf's own column type, and the
    // element type stands in the header, where the server checks it.
    fn accepts(_: &Type) -> bool {
        true
    }

    tokio_postgres::types::to_sql_checked!();
}

/// A one-dimensional array of whole rows in binary form, put together from their cells.
///
/// One array of rows instead of one for each column: the server takes a row apart once, and does
/// not walk a dozen arrays side by side (`ops/experiments/upsert`).
#[derive(Debug)]
pub(crate) struct RowArray(CellArray);

impl RowArray {
    /// The rows as `parameter` wants them, an array of the row type of a table whose columns have
    /// these types.
    ///
    /// # Errors
    /// One sentence when `parameter` is no array, or a row has other columns.
    pub(crate) fn new<'a>(
        rows: &EncodedRows,
        parameter: Option<&Type>,
        columns: impl Iterator<Item = &'a Type>,
    ) -> Result<Self, String> {
        let Some(Kind::Array(row)) = parameter.map(Type::kind) else {
            return Err(format!("an array of rows is sent as {parameter:?}"));
        };
        let columns: Vec<_> = columns.map(|column| column.oid().to_be_bytes()).collect();
        let count = i32::try_from(columns.len()).map_err(|e| e.to_string())?;
        let mut array = CellArray::new(row);
        for cells in rows.cells() {
            array.push_row(cells, count, &columns)?;
        }
        Ok(Self(array))
    }
}

impl ToSql for RowArray {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        self.0.to_sql(ty, out)
    }

    fn accepts(ty: &Type) -> bool {
        matches!(ty.kind(), Kind::Array(_))
    }

    tokio_postgres::types::to_sql_checked!();
}

/// A field of an answer, whatever its type.
struct RawField<'a>(Option<&'a [u8]>);

impl<'a> FromSql<'a> for RawField<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(Some(raw)))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(None))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// A row of an answer as cells.
pub(crate) fn row_cells(row: &Row) -> Result<Vec<u8>, tokio_postgres::Error> {
    cells_of(row, 0..row.len())
}

/// Some fields of an answer as cells.
pub(crate) fn cells_of(row: &Row, fields: Range<usize>) -> Result<Vec<u8>, tokio_postgres::Error> {
    let mut cells = Vec::with_capacity(row.raw_size_bytes());
    for i in fields {
        match row.try_get::<_, RawField<'_>>(i)? {
            RawField(Some(bytes)) => write_bytes(&mut cells, bytes),
            RawField(None) => write_null(&mut cells),
        }
    }
    Ok(cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One row of these numbers.
    fn row(numbers: &[i64]) -> EncodedRows {
        let mut rows = EncodedRows::new();
        let fields = i16::try_from(numbers.len()).expect("few cells");
        rows.push_with(fields, |out| {
            for number in numbers {
                write_bytes(out, &number.to_be_bytes());
            }
        });
        rows
    }

    #[test]
    fn a_row_is_an_element_with_each_cell_behind_the_number_of_its_type() {
        let columns = [Type::INT8, Type::INT8];
        let array = RowArray::new(&row(&[7, 9]), Some(&Type::INT8_ARRAY), columns.iter());
        let mut sent = BytesMut::new();
        let written = array
            .expect("an array")
            .to_sql(&Type::INT8_ARRAY, &mut sent);
        assert!(matches!(written, Ok(IsNull::No)));
        let int8 = Type::INT8.oid();
        let mut wanted = Vec::new();
        // Dimensions, null flag, element type, elements, lower bound; bytes of the row, its fields.
        for number in [1, 1, int8, 1, 1, 36, 2] {
            wanted.extend(number.to_be_bytes());
        }
        for value in [7_i64, 9] {
            wanted.extend(int8.to_be_bytes());
            wanted.extend(8_u32.to_be_bytes());
            wanted.extend(value.to_be_bytes());
        }
        assert_eq!(sent, wanted);
    }

    #[test]
    fn a_row_of_another_table_and_a_parameter_that_is_no_array_are_refused() {
        let of = |numbers: &[i64], parameter| {
            RowArray::new(&row(numbers), parameter, [Type::INT8].iter()).map(drop)
        };
        assert_eq!(of(&[7], Some(&Type::INT8_ARRAY)), Ok(()));
        let more = of(&[7, 9], Some(&Type::INT8_ARRAY)).expect_err("a cell too many");
        assert!(more.contains("more cells"), "{more}");
        assert!(of(&[], Some(&Type::INT8_ARRAY)).is_err(), "a cell too few");
        for parameter in [None, Some(&Type::INT8)] {
            let refused = of(&[7], parameter).expect_err("no array");
            assert!(refused.contains("an array of rows"), "{refused}");
        }
    }
}
