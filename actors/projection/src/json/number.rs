//! JSON numbers as `numeric` writes them.

/// Digits that `numeric` holds before its point.
const MOST_WHOLE: i64 = 131_072;
/// Digits that `numeric` holds after its point.
const MOST_FRACTION: i64 = 16_383;
/// Beyond this the server does not read an exponent.
const MOST_EXPONENT: i64 = 1_000_000_000;

/// The parts of a JSON number that matches the grammar.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parts<'a> {
    pub(super) negative: bool,
    /// At least one digit, without superfluous zeros.
    pub(super) whole: &'a str,
    /// Any digits.
    pub(super) fraction: &'a str,
    /// Sign and digits, or empty.
    pub(super) exponent: &'a str,
}

/// Appends the number without an exponent, `None` when `numeric` cannot hold it.
pub(super) fn write(number: Parts<'_>, out: &mut String) -> Option<()> {
    let exponent: i64 = match number.exponent {
        "" => 0,
        text => text.parse().ok()?,
    };
    if exponent.abs() > MOST_EXPONENT {
        return None;
    }
    let scale = (number.fraction.len() as i64 - exponent).max(0);
    if scale > MOST_FRACTION {
        return None;
    }
    let digits = || number.whole.bytes().chain(number.fraction.bytes());
    let zeros = digits().take_while(|&d| d == b'0').count();
    let significant = digits().count() - zeros;
    // Where the point stands, counted from the first significant digit.
    let point = number.whole.len() as i64 + exponent - zeros as i64;
    if significant == 0 {
        out.push('0');
        push_point(scale, out);
        push_zeros(scale, out);
        return Some(());
    }
    if point > MOST_WHOLE {
        return None;
    }
    if number.negative {
        out.push('-');
    }
    if point <= 0 {
        out.push('0');
        push_point(scale, out);
        push_zeros(-point, out);
    }
    for (index, digit) in digits().skip(zeros).enumerate() {
        if index as i64 == point && index > 0 {
            push_point(scale, out);
        }
        out.push(char::from(digit));
    }
    push_zeros(point - significant as i64, out);
    Some(())
}

fn push_point(scale: i64, out: &mut String) {
    if scale > 0 {
        out.push('.');
    }
}

fn push_zeros(count: i64, out: &mut String) {
    out.extend(std::iter::repeat_n(
        '0',
        usize::try_from(count).unwrap_or(0),
    ));
}

#[cfg(test)]
mod tests {
    use super::super::Json;

    #[test]
    fn numbers_are_written_out_with_the_scale_that_they_were_given() {
        let cases = [
            ("0", "0"),
            ("-0", "0"),
            ("-0.0", "0.0"),
            ("0e5", "0"),
            ("0e-3", "0.000"),
            ("1.50", "1.50"),
            ("-1.50", "-1.50"),
            ("1e2", "100"),
            ("1E+2", "100"),
            ("1.5e1", "15"),
            ("1.50e1", "15.0"),
            ("1.5e3", "1500"),
            ("1e-2", "0.01"),
            ("12e-1", "1.2"),
            ("120e-1", "12.0"),
            ("0.012", "0.012"),
            ("0.012e1", "0.12"),
            ("0.012e2", "1.2"),
            ("0.012e4", "120"),
            ("0.10e3", "100"),
            ("10.010", "10.010"),
            (
                "123456789012345678901234567890",
                "123456789012345678901234567890",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(Json::parse(text).expect(text).as_str(), expected, "{text}");
        }
    }

    #[test]
    fn numbers_are_held_up_to_the_limits_of_numeric_and_not_beyond() {
        let digits = |text: &str| Json::parse(text).map(|number| number.as_str().len());
        assert_eq!(digits("1e131071"), Ok(131_072));
        assert!(digits("1e131072").is_err());
        assert!(digits("10e131071").is_err());
        assert_eq!(digits("1e-16383"), Ok(2 + 16_383));
        assert!(digits("1e-16384").is_err());
        assert!(digits("0.0e-16383").is_err());
        // A zero stays one whatever its exponent, as long as that is read at all.
        assert_eq!(digits("0e1000000000"), Ok(1));
        assert!(digits("0e1000000001").is_err());
        assert!(digits("0e99999999999999999999").is_err());
        let refused = Json::parse("[1e131072]").expect_err("too large");
        assert_eq!(
            refused.to_string(),
            "byte 1: the number is beyond the range of numeric"
        );
    }
}
