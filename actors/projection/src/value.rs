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
const POSTGRES_EPOCH_MICROS: i64 = 10_957 * DAY_MICROS;

/// A moment in UTC, in microseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

/// RFC 3339 in UTC, with the digits of the second that are not zero.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.rem_euclid(DAY_MICROS);
        let (year, month, day) = civil(self.0.div_euclid(DAY_MICROS));
        let seconds = micros / 1_000_000;
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
        )?;
        match micros % 1_000_000 {
            0 => {}
            fraction => write!(f, ".{}", format!("{fraction:06}").trim_end_matches('0'))?,
        }
        f.write_str("Z")
    }
}

/// Microseconds of a day.
const DAY_MICROS: i64 = 86_400 * 1_000_000;

/// Year, month and day of a day counted from 1970-01-01. Years are counted from
/// March, so that the leap day is the last day of a year of 400.
fn civil(day: i64) -> (i64, i64, i64) {
    const ERA: i64 = 146_097;
    let day = day + 719_468;
    let era = day.div_euclid(ERA);
    let of_era = day.rem_euclid(ERA);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / (ERA - 1)) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let march_month = (5 * of_year + 2) / 153;
    let month_day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    (year + era * 400 + i64::from(month <= 2), month, month_day)
}

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

#[cfg(test)]
mod tests {
    use super::*;

    fn cell<T: CellValue>(value: &T) -> Vec<u8> {
        let mut out = Vec::new();
        value.write(&mut out);
        out
    }

    fn comes_back<T: CellValue + PartialEq + fmt::Debug>(value: T) {
        let bytes = cell(&value);
        let mut cells = CellReader::new(&bytes);
        assert_eq!(T::read(&mut cells), Ok(value));
        assert!(cells.rest().is_empty());
    }

    #[test]
    fn every_value_comes_back_from_its_cell() {
        comes_back(i64::MIN);
        comes_back(-7i32);
        comes_back(true);
        comes_back("naïve".to_owned());
        comes_back(vec![0u8, 255]);
        comes_back(Timestamp(-1));
        comes_back(Uuid([7; 16]));
        comes_back(Some(5i64));
        comes_back(None::<i64>);
    }

    #[test]
    fn null_is_not_a_value_of_a_plain_column() {
        let null = cell(&None::<i64>);
        let error = i64::read(&mut CellReader::new(&null)).expect_err("it is null");
        assert_eq!(
            error.to_string(),
            "cell 0: null in a column that is not an Option"
        );
        let short = cell(&7i32);
        assert!(i64::read(&mut CellReader::new(&short)).is_err());
        assert!(bool::read(&mut CellReader::new(&[0, 0, 0, 1, 2])).is_err());
    }

    #[test]
    fn moments_are_counted_from_the_database_epoch() {
        assert_eq!(cell(&Timestamp(946_684_800_000_000))[4..], [0; 8]);
    }

    #[test]
    fn moments_are_shown_as_rfc_3339() {
        for (micros, shown) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59.999999Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00Z"),
            (1_709_164_800_500_000, "2024-02-29T00:00:00.5Z"),
            (4_107_542_399_000_000, "2100-02-28T23:59:59Z"),
            (-62_135_596_800_000_000, "0001-01-01T00:00:00Z"),
        ] {
            assert_eq!(Timestamp(micros).to_string(), shown);
        }
    }

    #[test]
    fn uuids_are_read_in_their_hyphenated_form_only() {
        let text = "550e8400-e29b-41d4-a716-446655440000";
        assert_eq!(Uuid::parse(text).expect("it is a UUID").to_string(), text);
        for bad in [
            "",
            "550e8400e29b41d4a716446655440000",
            &text[1..],
            &text.replace('0', "-"),
        ] {
            assert_eq!(Uuid::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_day_has_the_date_that_counting_from_1970_gives_it() {
        let days_of = |year: i64, month: i64| match month {
            2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        // A whole cycle of the calendar to either side, and some days.
        let (mut later, mut earlier) = ((1970, 1, 1), (1970, 1, 1));
        for day in 0..146_097 + 800 {
            assert_eq!(civil(day), later, "{day}");
            assert_eq!(civil(-day), earlier, "-{day}");
            later = match later {
                (year, 12, 31) => (year + 1, 1, 1),
                (year, month, day) if day == days_of(year, month) => (year, month + 1, 1),
                (year, month, day) => (year, month, day + 1),
            };
            earlier = match earlier {
                (year, 1, 1) => (year - 1, 12, 31),
                (year, month, 1) => (year, month - 1, days_of(year, month - 1)),
                (year, month, day) => (year, month, day - 1),
            };
        }
    }

    #[test]
    fn a_time_of_day_is_shown_to_its_last_digit_that_is_not_zero() {
        for (micros, shown) in [
            (45_296_000_000, "1970-01-01T12:34:56Z"),
            (45_296_000_001, "1970-01-01T12:34:56.000001Z"),
            (45_296_120_300, "1970-01-01T12:34:56.1203Z"),
            (3_600_000_000, "1970-01-01T01:00:00Z"),
            (60_000_000, "1970-01-01T00:01:00Z"),
        ] {
            assert_eq!(Timestamp(micros).to_string(), shown);
        }
    }

    #[test]
    fn texts_and_bytes_own_what_they_have_room_for_and_other_values_own_nothing() {
        let (text, bytes) = (String::with_capacity(40), Vec::<u8>::with_capacity(50));
        let (has_text, has_bytes) = (text.capacity(), bytes.capacity());
        assert_eq!(text.heap_bytes(), has_text);
        assert_eq!(bytes.heap_bytes(), has_bytes);
        assert_eq!(Some(text).heap_bytes(), has_text);
        assert_eq!(None::<String>.heap_bytes(), 0);
        assert_eq!([7_i64.heap_bytes(), true.heap_bytes()], [0, 0]);
        assert_eq!(
            [Timestamp(7).heap_bytes(), Uuid([7; 16]).heap_bytes()],
            [0, 0]
        );
    }

    #[test]
    fn each_value_has_the_bytes_that_the_database_sends() {
        assert_eq!(cell(&258_i64), b"\0\0\0\x08\0\0\0\0\0\0\x01\x02");
        assert_eq!(cell(&-2_i32), b"\0\0\0\x04\xff\xff\xff\xfe");
        assert_eq!(
            [cell(&false), cell(&true)],
            [b"\0\0\0\x01\0", b"\0\0\0\x01\x01"]
        );
        assert_eq!(cell(&"é".to_owned()), b"\0\0\0\x02\xc3\xa9");
        assert_eq!(cell(&vec![0_u8, 255]), b"\0\0\0\x02\0\xff");
        assert_eq!(cell(&None::<String>), b"\xff\xff\xff\xff");
        let uuid = [&[0, 0, 0, 16][..], &[9; 16]].concat();
        assert_eq!(cell(&Uuid([9; 16])), uuid);
    }

    #[test]
    fn a_uuid_may_have_capitals_and_nothing_else_out_of_place() {
        let text = "550E8400-E29B-41D4-A716-44665544ABCD";
        let uuid = Uuid::parse(text).expect("it is a UUID");
        assert_eq!(uuid.to_string(), text.to_lowercase());
        assert_eq!(uuid.0[..3], [0x55, 0x0e, 0x84]);
        for bad in [
            "550E84000E29B-41D4-A716-44665544ABC",
            "550E8400-E29B041D4-A716-44665544ABCD",
            "550E840--E29B-41D4-A716-44665544ABCD",
            "550E840G-E29B-41D4-A716-44665544ABCD",
            "550E8400-E29B-41D4-A716-44665544ABC-",
            "550E8400-E29B-41D4-A716-44665544ABCDE",
        ] {
            assert_eq!(Uuid::parse(bad), None, "{bad}");
        }
    }
}
