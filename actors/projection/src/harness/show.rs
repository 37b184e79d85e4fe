//! Rows, cells and histories for people.

use std::fmt::Write;

use crate::CellValue;
use crate::Column;
use crate::ColumnType;
use crate::Json;
use crate::Key;
use crate::Numeric;
use crate::Projection;
use crate::Row;
use crate::Timestamp;
use crate::Uuid;
use crate::cell::CellReader;

use super::script::Script;

/// Events of one aggregate that a message shows.
const SHOWN_EVENTS: usize = 20;

/// The row's cells, without their lengths.
pub(super) fn cells<R: Row>(row: &R) -> Vec<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    row.encode(&mut bytes);
    let mut reader = CellReader::new(&bytes);
    R::COLUMNS
        .iter()
        .map(|_| reader.next_cell().ok().flatten().map(<[u8]>::to_vec))
        .collect()
}

/// Equal as values and equal as bytes: the proof sees bytes.
pub(super) fn same_row<R: Row>(a: Option<&R>, b: Option<&R>) -> bool {
    a == b && a.map(cells) == b.map(cells)
}

/// The columns in which two rows differ, under a heading.
pub(super) fn difference<R: Row>(expected: Option<&R>, found: Option<&R>) -> String {
    match (expected, found) {
        (Some(expected), None) => format!("  expected {expected:?}\n  found    no row\n"),
        (None, Some(found)) => format!("  expected no row\n  found    {found:?}\n"),
        (None, None) => "  no row on either side\n".to_owned(),
        (Some(expected), Some(found)) => {
            let (left, right) = (cells(expected), cells(found));
            let mut lines = String::new();
            for (index, column) in R::COLUMNS.iter().enumerate() {
                if left[index] != right[index] {
                    lines.push_str(&line(
                        column,
                        left[index].as_deref(),
                        right[index].as_deref(),
                    ));
                }
            }
            if lines.is_empty() {
                format!("  equal cells, but expected {expected:?}\n  and found {found:?}\n")
            } else {
                headed(&lines)
            }
        }
    }
}

/// Puts the heading above the lines of columns.
pub(super) fn headed(lines: &str) -> String {
    format!("  {:<31}  {:<31}  found\n{lines}", "column", "expected")
}

/// One column of a difference.
pub(super) fn line(column: &Column, expected: Option<&[u8]>, found: Option<&[u8]>) -> String {
    let (expected, found) = (value(column.ty, expected), value(column.ty, found));
    format!("  {:<31}  {expected:<31}  {found}\n", column.name)
}

/// The events of one aggregate up to a version, the latest ones if they are many.
pub(super) fn history<P: Projection>(script: &Script<P>, key: &P::Key, version: u64) -> String {
    let events: Vec<_> = script
        .events()
        .iter()
        .filter(|e| e.key == *key && e.version <= version)
        .collect();
    let mut out = format!("  events of key {}:\n", key.borrow());
    let skipped = events.len().saturating_sub(SHOWN_EVENTS);
    if skipped > 0 {
        out.push_str(&format!("    ... {skipped} earlier ones\n"));
    }
    for event in &events[skipped..] {
        let time = Timestamp(event.ts_micros);
        let (offset, version) = (event.offset, event.version);
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "    offset {offset}  v{version}  {time}  {}",
            event.shown
        );
    }
    out
}

/// A cell as text.
fn value(ty: ColumnType, cell: Option<&[u8]>) -> String {
    let Some(bytes) = cell else {
        return "null".to_owned();
    };
    let mut whole = Vec::with_capacity(bytes.len() + 4);
    crate::cell::write_bytes(&mut whole, bytes);
    let cells = &mut CellReader::new(&whole);
    let text = match ty {
        ColumnType::Int8 => i64::read(cells).map(|v| v.to_string()),
        ColumnType::Int4 => i32::read(cells).map(|v| v.to_string()),
        ColumnType::Bool => bool::read(cells).map(|v| v.to_string()),
        ColumnType::Text => String::read(cells).map(|v| format!("{v:?}")),
        ColumnType::Timestamptz => Timestamp::read(cells).map(|v| v.to_string()),
        ColumnType::Numeric => Numeric::read(cells).map(|v| v.to_string()),
        ColumnType::Jsonb => Json::read(cells).map(|v| v.to_string()),
        ColumnType::Uuid => Uuid::read(cells).map(|v| v.to_string()),
        ColumnType::Bytea => Ok(hex(bytes)),
    };
    text.unwrap_or_else(|error| format!("{} ({error})", hex(bytes)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold("\\x".to_owned(), |mut out, byte| {
        // Writing to a String cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown<T: CellValue>(value: T) -> String {
        let mut cell = Vec::new();
        value.write(&mut cell);
        let bytes = CellReader::new(&cell).next_cell().expect("a cell");
        super::value(T::TYPE, bytes)
    }

    #[test]
    fn cells_are_shown_as_an_author_writes_them() {
        assert_eq!(shown(-7_i64), "-7");
        assert_eq!(shown(7_i32), "7");
        assert_eq!(shown(true), "true");
        assert_eq!(shown("a\"b".to_owned()), r#""a\"b""#);
        assert_eq!(shown(Timestamp(0)), "1970-01-01T00:00:00Z");
        assert_eq!(shown(Numeric::new(-150, 2)), "-1.50");
        let json = Json::parse("[1,2]").expect("it is JSON");
        assert_eq!(shown(json), "[1, 2]");
        let uuid = "550e8400-e29b-41d4-a716-446655440000";
        assert_eq!(shown(Uuid::parse(uuid).expect("it is a UUID")), uuid);
        assert_eq!(shown(vec![0_u8, 255]), "\\x00ff");
        assert_eq!(shown(None::<i64>), "null");
        let broken = super::value(ColumnType::Int8, Some(&[1, 2]));
        assert_eq!(broken, "\\x0102 (cell 0: 2 bytes where 8 belong)");
    }
}
