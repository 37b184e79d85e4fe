//! Rows as the JSON text that a reader gets.

use std::fmt::Write;

use refold_domain::spec::ProjectionSpec;
use refold_projection::CellValue;
use refold_projection::ColumnType;
use refold_projection::Numeric;
use refold_projection::Timestamp;
use refold_projection::Uuid;
use refold_projection::cell::CellError;
use refold_projection::cell::CellReader;
use refold_projection::cell::write_bytes;

/// The row as a JSON object, `None` for a tombstone.
pub(super) fn render_row(spec: &ProjectionSpec, cells: &[u8]) -> Result<Option<String>, CellError> {
    let mut reader = CellReader::new(cells);
    reader.next_cell()?;
    let mut out = String::from("{");
    for column in spec.columns {
        push_name(&mut out, column.name);
        match reader.next_cell()? {
            None => out.push_str("null"),
            Some(bytes) => push_value(&mut out, column.ty, bytes)?,
        }
    }
    for name in ["applied_seq", "applied_offset"] {
        push_name(&mut out, name);
        push_display(&mut out, &i64::read(&mut reader)?);
    }
    let deleted = bool::read(&mut reader)?;
    out.push('}');
    Ok((!deleted).then_some(out))
}

fn push_name(out: &mut String, name: &str) {
    out.push_str(if out.len() > 1 { ", \"" } else { "\"" });
    out.push_str(name);
    out.push_str("\": ");
}

fn push_value(out: &mut String, ty: ColumnType, bytes: &[u8]) -> Result<(), CellError> {
    let mut cell = Vec::with_capacity(bytes.len() + 4);
    write_bytes(&mut cell, bytes);
    let mut reader = CellReader::new(&cell);
    match ty {
        ColumnType::Int8 => push_display(out, &i64::read(&mut reader)?),
        ColumnType::Int4 => push_display(out, &i32::read(&mut reader)?),
        ColumnType::Bool => push_display(out, &bool::read(&mut reader)?),
        ColumnType::Numeric => push_display(out, &Numeric::read(&mut reader)?),
        ColumnType::Text => push_string(out, &String::read(&mut reader)?),
        ColumnType::Uuid => push_string(out, &Uuid::read(&mut reader)?.to_string()),
        ColumnType::Timestamptz => push_string(out, &timestamp(Timestamp::read(&mut reader)?)),
        ColumnType::Jsonb => out.push_str(&String::from_utf8_lossy(bytes.get(1..).unwrap_or(&[]))),
        ColumnType::Bytea => {
            let mut hex = String::from("\\x");
            bytes.iter().for_each(|b| push_hex(&mut hex, *b));
            push_string(out, &hex);
        }
    }
    Ok(())
}

fn push_display(out: &mut String, value: &dyn std::fmt::Display) {
    write!(out, "{value}").expect("a string takes every write");
}

fn push_hex(out: &mut String, byte: u8) {
    write!(out, "{byte:02x}").expect("a string takes every write");
}

fn push_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if c < ' ' => write!(out, "\\u{:04x}", c as u32).expect("a string takes every write"),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// A moment as Postgres writes it in JSON with the time zone UTC:
/// `2026-01-31T07:05:00.25+00:00`, without trailing zeros in the fraction.
fn timestamp(at: Timestamp) -> String {
    const DAY: i64 = 86_400_000_000;
    let (days, micros) = (at.0.div_euclid(DAY), at.0.rem_euclid(DAY));
    let (year, month, day) = civil(days);
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let mut text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    if fraction > 0 {
        let digits = format!(".{fraction:06}");
        text.push_str(digits.trim_end_matches('0'));
    }
    text.push_str("+00:00");
    text
}

/// Year, month and day of a day counted from 1970-01-01, by the Gregorian
/// calendar. Years begin in March here, so that the leap day is a year's last.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_the_server_writes_them() {
        let cases = [
            (0, "1970-01-01T00:00:00+00:00"),
            (951_782_400_250_000, "2000-02-29T00:00:00.25+00:00"),
            (1_769_843_100_000_001, "2026-01-31T07:05:00.000001+00:00"),
            (-1, "1969-12-31T23:59:59.999999+00:00"),
        ];
        for (micros, text) in cases {
            assert_eq!(timestamp(Timestamp(micros)), text);
        }
    }
}
