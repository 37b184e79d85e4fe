//! Microseconds since 1970 and their RFC 3339 text, without a calendar crate:
//! the JSON form needs one shape to write and a few to read.

const MICROS_PER_SECOND: i64 = 1_000_000;
const SECONDS_PER_DAY: i64 = 86_400;
/// 0000-01-01T00:00:00Z and the first microsecond after the year 9999.
const FIRST_MICROS: i64 = -62_167_219_200 * MICROS_PER_SECOND;
const END_MICROS: i64 = 253_402_300_800 * MICROS_PER_SECOND;

/// Writes `micros` as `2024-03-01T12:00:00.000123Z`. Outside of the years 0000
/// to 9999 the number itself is written, which [`parse`] reads as well.
pub(crate) fn write(micros: i64, out: &mut Vec<u8>) {
    if !(FIRST_MICROS..END_MICROS).contains(&micros) {
        out.extend_from_slice(micros.to_string().as_bytes());
        return;
    }
    let seconds = micros.div_euclid(MICROS_PER_SECOND);
    let (year, month, day) = date_of_day(seconds.div_euclid(SECONDS_PER_DAY));
    let of_day = seconds.rem_euclid(SECONDS_PER_DAY);
    out.push(b'"');
    digits(out, year, 4);
    for (mark, value, width) in [
        (b'-', month, 2),
        (b'-', day, 2),
        (b'T', of_day / 3600, 2),
        (b':', of_day / 60 % 60, 2),
        (b':', of_day % 60, 2),
        (b'.', micros.rem_euclid(MICROS_PER_SECOND), 6),
    ] {
        out.push(mark);
        digits(out, value, width);
    }
    out.extend_from_slice(b"Z\"");
}

/// Reads RFC 3339 text in UTC (`Z`, or an offset of zero): microseconds since
/// 1970, or `None`. Digits of the fraction beyond the sixth are cut off.
#[inline]
pub fn parse(text: &str) -> Option<i64> {
    let written = <&[u8; WRITTEN]>::try_from(text.as_bytes()).ok();
    written
        .and_then(parse_written)
        .or_else(|| parse_any(text.as_bytes()))
}

/// Length of what [`write`] writes, without the quotes.
const WRITTEN: usize = 27;

/// Reads a moment as [`write`] writes it, eight characters at a time; `None` for what has
/// another shape and for what does not exist, which [`parse_any`] tells apart.
#[inline(always)]
fn parse_written(text: &[u8; WRITTEN]) -> Option<i64> {
    const EACH: u64 = 0x0101_0101_0101_0101;
    // Compared with its shape, a digit becomes its value and a mark becomes 0.
    let word = |at: usize, shape: &[u8; 8]| {
        let word = text[at..].first_chunk().copied().map(u64::from_le_bytes);
        word.unwrap_or(u64::MAX) ^ u64::from_le_bytes(*shape)
    };
    let date = word(0, b"0000-00-");
    let hour = word(8, b"00T00:00");
    let second = word(12, b"0:00:00.");
    let micros = word(19, b".000000Z");
    let others = |word: u64| word.wrapping_add(EACH * 0x76) | word;
    let no_digit = (others(date) | others(hour) | others(second) | others(micros)) & (EACH * 0x80);
    let no_mark = date & 0xff00_00ff_0000_0000
        | hour & 0x0000_ff00_00ff_0000
        | second & 0xff00_00ff_0000_ff00
        | micros & 0xff00_0000_0000_00ff;
    if no_digit | no_mark != 0 {
        return None;
    }
    // The number that the digits at `at` and behind it make; none of them carries into another.
    let pair = |word: u64, at: u32| (word.wrapping_mul(10) + (word >> 8)) >> (8 * at) & 0xff;
    let (year, month) = (pair(date, 0) * 100 + pair(date, 2), pair(date, 5));
    let (day, minute) = (pair(hour, 0), pair(hour, 6));
    let (hour, second) = (pair(hour, 3), pair(second, 5));
    let micros = pair(micros, 1) * 10_000 + pair(micros, 3) * 100 + pair(micros, 5);
    let before = *DAYS_BEFORE.get(month.wrapping_sub(1) as usize)?;
    let exists = day <= 28 || is_day(year as i64, month as i64, day as i64);
    if day == 0 || !exists || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    // As `day_of_date`, four hundred years later, so that nothing is below 0.
    let year = year + 400 - u64::from(month <= 2);
    let days = year * 365 + year / 4 - year / 100 + year / 400 + before + day - 1;
    let days = days as i64 - 719_468 - 146_097;
    let of_day = (hour * 60 + minute) * 60 + second;
    Some((days * SECONDS_PER_DAY + of_day as i64) * MICROS_PER_SECOND + micros as i64)
}

/// Days of a year that begins with March in front of each month, from January on.
const DAYS_BEFORE: [u64; 12] = [306, 337, 0, 31, 61, 92, 122, 153, 184, 214, 245, 275];

fn parse_any(bytes: &[u8]) -> Option<i64> {
    if bytes.len() < 20
        || bytes[4] != b'-'
        || bytes[7] != b'-'
        || !matches!(bytes[10], b'T' | b't' | b' ')
        || bytes[13] != b':'
        || bytes[16] != b':'
    {
        return None;
    }
    let year = number(&bytes[0..4])?;
    let month = number(&bytes[5..7])?;
    let day = number(&bytes[8..10])?;
    let hour = number(&bytes[11..13])?;
    let minute = number(&bytes[14..16])?;
    let second = number(&bytes[17..19])?;
    if !is_day(year, month, day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let fraction = match bytes[19..] {
        // As `write` writes it.
        [b'.', ref micros @ .., b'Z'] if micros.len() == 6 => number(micros)?,
        ref rest => {
            let (fraction, zone) = fraction(rest)?;
            if !matches!(zone, b"Z" | b"z" | b"+00:00" | b"-00:00") {
                return None;
            }
            fraction
        }
    };
    let days = day_of_date(year, month, day);
    let seconds = days * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second;
    Some(seconds * MICROS_PER_SECOND + fraction)
}

/// The fraction in microseconds, and what follows it.
fn fraction(rest: &[u8]) -> Option<(i64, &[u8])> {
    let Some((b'.', tail)) = rest.split_first() else {
        return Some((0, rest));
    };
    let len = tail.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if len == 0 {
        return None;
    }
    let digits = tail[..len].iter().chain(std::iter::repeat(&b'0'));
    let micros = digits
        .take(6)
        .fold(0, |micros, digit| micros * 10 + i64::from(digit - b'0'));
    Some((micros, &tail[len..]))
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |value, byte| {
        byte.is_ascii_digit()
            .then(|| value * 10 + i64::from(byte - b'0'))
    })
}

fn digits(out: &mut Vec<u8>, value: i64, width: usize) {
    let start = out.len();
    out.resize(start + width, b'0');
    let mut rest = value;
    for slot in out[start..].iter_mut().rev() {
        *slot = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
}

/// Days since 1970-01-01 of a proleptic Gregorian date. Years are counted from
/// March, so that the leap day is the last day of its year.
fn day_of_date(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn is_day(year: i64, month: i64, day: i64) -> bool {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        2 => 28 + i64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return false,
    };
    (1..=last).contains(&day)
}

fn date_of_day(day: i64) -> (i64, i64, i64) {
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = (shifted_month + 2) % 12 + 1;
    (year + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(micros: i64) -> String {
        let mut out = Vec::new();
        write(micros, &mut out);
        String::from_utf8(out).expect("ascii")
    }

    #[test]
    fn known_moments_have_their_known_text() {
        assert_eq!(text_of(0), "\"1970-01-01T00:00:00.000000Z\"");
        assert_eq!(text_of(-1), "\"1969-12-31T23:59:59.999999Z\"");
        assert_eq!(
            text_of(1_709_208_000_000_123),
            "\"2024-02-29T12:00:00.000123Z\""
        );
        assert_eq!(text_of(FIRST_MICROS), "\"0000-01-01T00:00:00.000000Z\"");
        assert_eq!(text_of(END_MICROS - 1), "\"9999-12-31T23:59:59.999999Z\"");
        assert_eq!(text_of(END_MICROS), END_MICROS.to_string());
    }

    #[test]
    fn text_reads_back_as_the_moment_it_was_written_for() {
        let mut micros = FIRST_MICROS;
        while micros < END_MICROS {
            let text = text_of(micros);
            assert_eq!(parse(text.trim_matches('"')), Some(micros), "{text}");
            // A step that is no multiple of anything in the calendar.
            micros += 86_399_123_457 * 97;
        }
    }

    /// Either way to read it, where the short one reads it.
    fn read_alike(text: &[u8]) -> bool {
        let written = text.try_into().ok().and_then(parse_written);
        let any = parse_any(text);
        assert!(written.is_none() || written == any, "{text:?}");
        written.is_some()
    }

    #[test]
    fn what_was_written_is_read_alike_both_ways_in_all_years() {
        let days = (END_MICROS - FIRST_MICROS) / MICROS_PER_SECOND / SECONDS_PER_DAY;
        for day in (0..days).step_by(3) {
            // Another moment of each day.
            let of_day = day * 7_907 % SECONDS_PER_DAY * MICROS_PER_SECOND + day % 1_000_003;
            let micros = FIRST_MICROS + day * SECONDS_PER_DAY * MICROS_PER_SECOND + of_day;
            let text = text_of(micros);
            assert!(read_alike(text.trim_matches('"').as_bytes()), "{text}");
        }
    }

    #[test]
    fn any_byte_in_any_place_is_read_alike_both_ways() {
        for text in ["2024-02-29T12:34:56.789012Z", "1999-12-31T23:59:59.999999Z"] {
            assert!(read_alike(text.as_bytes()));
            for at in 0..text.len() {
                for byte in 0..=u8::MAX {
                    let mut bytes = text.as_bytes().to_vec();
                    bytes[at] = byte;
                    let read = read_alike(&bytes);
                    assert!(!read || byte.is_ascii_digit() || bytes == text.as_bytes());
                }
            }
        }
        // Two digits at a time: every month, day, hour, minute and second that text can name.
        for (at, value) in [5, 8, 11, 14, 17]
            .into_iter()
            .flat_map(|at| (0..100).map(move |value| (at, value)))
        {
            for year in ["2023", "2024"] {
                let mut bytes = format!("{year}-02-28T00:00:00.000000Z").into_bytes();
                bytes[at..at + 2].copy_from_slice(format!("{value:02}").as_bytes());
                let exists = parse_any(&bytes).is_some();
                assert_eq!(read_alike(&bytes), exists, "{value} at {at} of {year}");
            }
        }
    }

    #[test]
    fn days_are_those_that_the_calendar_has() {
        for year in [0, 1600, 1900, 1999, 2000, 2023, 2024, 9999] {
            for (month, day) in (0..=13).flat_map(|month| (0..=32).map(move |day| (month, day))) {
                // A day that does not exist comes back as another date.
                let back = date_of_day(day_of_date(year, month, day)) == (year, month, day);
                assert_eq!(is_day(year, month, day), back, "{year}-{month}-{day}");
            }
        }
    }

    #[test]
    fn several_spellings_of_utc_are_read() {
        let noon = Some(1_709_208_000_000_000);
        for text in [
            "2024-02-29T12:00:00Z",
            "2024-02-29t12:00:00z",
            "2024-02-29 12:00:00+00:00",
            "2024-02-29T12:00:00.0Z",
            "2024-02-29T12:00:00.0000009Z",
        ] {
            assert_eq!(parse(text), noon, "{text}");
        }
    }

    #[test]
    fn moments_that_do_not_exist_are_refused() {
        for text in [
            "",
            "2024-02-29",
            "2023-02-29T12:00:00Z",
            "2024-13-01T12:00:00Z",
            "2024-00-01T12:00:00Z",
            "2024-02-30T12:00:00Z",
            "2024-02-28T24:00:00Z",
            "2024-02-28T23:60:00Z",
            "2024-02-28T23:59:60Z",
            "2024-02-28T23:59:59",
            "2024-02-28T23:59:59.Z",
            "2024-02-28T23:59:59+02:00",
            "2024-02-28T23:59:59Zx",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
