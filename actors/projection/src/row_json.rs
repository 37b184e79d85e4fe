//! Rows as JSON text, in the very form in which the database's `row_to_json` writes them.

use std::fmt::Write as _;

use crate::CellValue;
use crate::Column;
use crate::ColumnType;
use crate::Numeric;
use crate::Timestamp;
use crate::Uuid;
use crate::cell::CellError;
use crate::cell::CellReader;
use crate::json::escape;

/// The columns of a row as one JSON object, names in table order. What a caller reads from a
/// table and what is folded for it from the log are then the same text.
///
/// # Errors
/// [`CellError`] when the cells are not what the columns declare.
pub fn row_json(columns: &[Column], cells: &[u8]) -> Result<String, CellError> {
    let mut reader = CellReader::new(cells);
    let mut out = String::from("{");
    for (at, column) in columns.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        escape(column.name, &mut out);
        out.push(':');
        value(column.ty, &mut reader, &mut out)?;
    }
    out.push('}');
    Ok(out)
}

/// A row's columns, each with its value as JSON text.
///
/// # Errors
/// As [`row_json`].
pub fn column_json(
    columns: &[Column],
    cells: &[u8],
) -> Result<Vec<(&'static str, String)>, CellError> {
    let mut reader = CellReader::new(cells);
    let each = columns.iter().map(|column| {
        let mut out = String::new();
        value(column.ty, &mut reader, &mut out)?;
        Ok((column.name, out))
    });
    each.collect()
}

fn value(ty: ColumnType, reader: &mut CellReader<'_>, out: &mut String) -> Result<(), CellError> {
    match ty {
        ColumnType::Int8 => bare(Option::<i64>::read(reader)?, out),
        ColumnType::Int4 => bare(Option::<i32>::read(reader)?, out),
        ColumnType::Bool => bare(Option::<bool>::read(reader)?, out),
        ColumnType::Numeric => bare(Option::<Numeric>::read(reader)?, out),
        ColumnType::Text => quoted(Option::<String>::read(reader)?, out),
        ColumnType::Uuid => quoted(Option::<Uuid>::read(reader)?, out),
        ColumnType::Timestamptz => {
            // The server names the zone by its distance.
            let time = Option::<Timestamp>::read(reader)?;
            let time = time.map(|time| time.to_string().replace('Z', "+00:00"));
            quoted(time, out);
        }
        ColumnType::Bytea => {
            let bytes = Option::<Vec<u8>>::read(reader)?;
            let hex = bytes.map(|bytes| {
                let digits = bytes.iter().fold(String::new(), |mut digits, byte| {
                    // Writing to a string does not fail.
                    let _ = write!(digits, "{byte:02x}");
                    digits
                });
                format!("\\x{digits}")
            });
            quoted(hex, out);
        }
        ColumnType::Jsonb => match reader.next_cell()? {
            None => out.push_str("null"),
            Some(cell) => {
                // One byte of version, then the text as the server itself writes it.
                let text = cell
                    .get(1..)
                    .and_then(|text| std::str::from_utf8(text).ok());
                out.push_str(text.ok_or_else(|| reader.error("not a jsonb value"))?);
            }
        },
    }
    Ok(())
}

fn bare(value: Option<impl std::fmt::Display>, out: &mut String) {
    match value {
        // Writing to a string does not fail.
        Some(value) => drop(write!(out, "{value}")),
        None => out.push_str("null"),
    }
}

fn quoted(value: Option<impl std::fmt::Display>, out: &mut String) {
    match value {
        Some(value) => escape(&value.to_string(), out),
        None => out.push_str("null"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Compare;
    use crate::Json;

    const fn column(name: &'static str, ty: ColumnType) -> Column {
        Column {
            name,
            ty,
            nullable: true,
            compare: Compare::Same,
        }
    }

    const EVERY: [Column; 9] = [
        column("a", ColumnType::Int8),
        column("b", ColumnType::Int4),
        column("c", ColumnType::Bool),
        column("d", ColumnType::Text),
        column("e", ColumnType::Timestamptz),
        column("f", ColumnType::Numeric),
        column("g", ColumnType::Jsonb),
        column("h", ColumnType::Bytea),
        column("i", ColumnType::Uuid),
    ];

    #[test]
    fn a_row_of_every_type_is_the_text_that_the_server_writes() {
        let mut cells = Vec::new();
        (-7_i64).write(&mut cells);
        8_i32.write(&mut cells);
        true.write(&mut cells);
        "say \"x\"\n\u{1}".to_owned().write(&mut cells);
        Timestamp(1_772_356_440_125_000).write(&mut cells);
        Numeric::new(-1_250, 2).write(&mut cells);
        Json::parse("{\"b\":1,\"a\":[true]}")
            .expect("JSON")
            .write(&mut cells);
        vec![0_u8, 255].write(&mut cells);
        Uuid([0x11; 16]).write(&mut cells);
        // What Postgres 15.18 answered to: select row_to_json(r) from (select -7::bigint a, ...) r.
        let wanted = concat!(
            r#"{"a":-7,"b":8,"c":true,"d":"say \"x\"\n\u0001","e":"2026-03-01T09:14:00.125+00:00","#,
            r#""f":-12.50,"g":{"a": [true], "b": 1},"h":"\\x00ff","#,
            r#""i":"11111111-1111-1111-1111-111111111111"}"#
        );
        assert_eq!(row_json(&EVERY, &cells).as_deref(), Ok(wanted));
        let parts = column_json(&EVERY, &cells).expect("cells");
        assert_eq!(parts[1], ("b", "8".to_owned()));
        assert_eq!(parts.len(), EVERY.len());
    }

    #[test]
    fn a_null_is_null_whatever_the_type() {
        let mut cells = Vec::new();
        for _ in EVERY {
            crate::cell::write_null(&mut cells);
        }
        let wanted = EVERY.map(|column| format!("\"{}\":null", column.name));
        let wanted = format!("{{{}}}", wanted.join(","));
        assert_eq!(row_json(&EVERY, &cells), Ok(wanted));
    }

    #[test]
    fn cells_that_end_early_are_an_error() {
        let mut cells = Vec::new();
        7_i64.write(&mut cells);
        assert!(row_json(&EVERY, &cells).is_err());
        assert!(column_json(&EVERY, &cells[..6]).is_err());
    }
}
