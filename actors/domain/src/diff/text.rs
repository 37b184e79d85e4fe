//! Cells as people read them.

use std::fmt::Write;

use refold_projection::Column;
use refold_projection::ColumnType;
use refold_projection::KeyType;
use refold_projection::cell::CellReader;

/// The text of a key's cell.
pub(super) fn key_text(key_type: KeyType, cell: &[u8]) -> String {
    cell_text(key_type.column_type(), cell)
}

/// The text of a column's cell: numbers and texts as they are, times as microseconds
/// since 2000-01-01 00:00 UTC, everything else as hex digits.
pub fn cell_text(ty: ColumnType, cell: &[u8]) -> String {
    let bytes = match CellReader::new(cell).next_cell() {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return "null".to_owned(),
        Err(error) => return error.to_string(),
    };
    let shown = match ty {
        ColumnType::Int8 | ColumnType::Timestamptz => {
            let value = bytes.try_into().map(i64::from_be_bytes);
            value.ok().map(|v| v.to_string())
        }
        ColumnType::Int4 => {
            let value = bytes.try_into().map(i32::from_be_bytes);
            value.ok().map(|v| v.to_string())
        }
        ColumnType::Bool => match bytes {
            [value] => Some((*value != 0).to_string()),
            _ => None,
        },
        ColumnType::Text => std::str::from_utf8(bytes).ok().map(short),
        ColumnType::Jsonb => {
            let text = bytes.get(1..).and_then(|b| std::str::from_utf8(b).ok());
            text.map(short)
        }
        ColumnType::Numeric | ColumnType::Bytea | ColumnType::Uuid => None,
    };
    shown.unwrap_or_else(|| hex(bytes))
}

/// Each column of a row as [`cell_text`] tells it, in table order; what cannot be cut into cells
/// ends with the reason.
pub fn row_text(columns: &[Column], cells: &[u8]) -> Vec<String> {
    let mut reader = CellReader::new(cells);
    let mut texts = Vec::with_capacity(columns.len());
    for column in columns {
        match reader.next_raw() {
            Ok(cell) => texts.push(cell_text(column.ty, cell)),
            Err(error) => {
                texts.push(error.to_string());
                break;
            }
        }
    }
    texts
}

/// A text, quoted, cut after 80 characters.
fn short(text: &str) -> String {
    let head: String = text.chars().take(80).collect();
    let rest = if head.len() < text.len() { "..." } else { "" };
    format!("{head:?}{rest}")
}

fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(2 + 2 * bytes.len().min(40));
    out.push_str("0x");
    for byte in bytes.iter().take(40) {
        // Writing into a String does not fail.
        let _ = write!(out, "{byte:02x}");
    }
    if bytes.len() > 40 {
        out.push_str("...");
    }
    out
}
