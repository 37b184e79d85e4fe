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

#[cfg(test)]
mod tests {
    use refold_projection::CellValue;
    use refold_projection::Compare;
    use refold_projection::Json;
    use refold_projection::Timestamp;
    use refold_projection::Uuid;

    use super::*;

    fn shown<T: CellValue>(value: T) -> String {
        let mut cell = Vec::new();
        value.write(&mut cell);
        cell_text(T::TYPE, &cell)
    }

    #[test]
    fn values_are_shown_as_people_read_them() {
        assert_eq!(shown(-7_i64), "-7");
        assert_eq!(shown(7_i32), "7");
        assert_eq!([shown(true), shown(false)], ["true", "false"]);
        assert_eq!(shown("na\"ve".to_owned()), r#""na\"ve""#);
        assert_eq!(shown(Timestamp(946_684_800_000_005)), "5");
        let json = Json::parse(r#"{"a":1}"#).expect("it is JSON");
        assert_eq!(shown(json), r#""{\"a\": 1}""#);
        assert_eq!(shown(vec![0_u8, 255]), "0x00ff");
        assert_eq!(shown(Uuid([7; 16])), format!("0x{}", "07".repeat(16)));
        assert_eq!(shown(None::<i64>), "null");
        assert_eq!(key_text(KeyType::Text, b"\0\0\0\x01k"), "\"k\"");
    }

    #[test]
    fn long_values_are_cut_where_they_pass_the_limit() {
        assert_eq!(shown("é".repeat(80)), format!("{:?}", "é".repeat(80)));
        assert_eq!(shown("é".repeat(81)), format!("{:?}...", "é".repeat(80)));
        assert_eq!(shown(vec![1_u8; 40]), format!("0x{}", "01".repeat(40)));
        assert_eq!(shown(vec![1_u8; 41]), format!("0x{}...", "01".repeat(40)));
    }

    #[test]
    fn what_is_no_such_value_is_shown_as_its_bytes_and_a_broken_row_by_the_reason() {
        let two = b"\0\0\0\x02\xff\xfe";
        for ty in [
            ColumnType::Int8,
            ColumnType::Int4,
            ColumnType::Bool,
            ColumnType::Text,
        ] {
            assert_eq!(cell_text(ty, two), "0xfffe", "{ty:?}");
        }
        let column = |ty| Column {
            name: "a",
            ty,
            nullable: true,
            compare: Compare::Same,
        };
        let columns = [ColumnType::Bool, ColumnType::Int4, ColumnType::Int8].map(column);
        let mut cells = Vec::new();
        true.write(&mut cells);
        None::<i32>.write(&mut cells);
        8_i64.write(&mut cells);
        assert_eq!(row_text(&columns, &cells), ["true", "null", "8"]);
        let cut = &cells[..cells.len() - 1];
        assert_eq!(
            row_text(&columns, cut),
            ["true", "null", "cell 2: 8 bytes announced, 7 left"]
        );
    }
}
