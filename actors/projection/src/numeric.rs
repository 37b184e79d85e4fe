//! Decimal numbers as `numeric` cells.

use std::fmt;
use std::str::FromStr;

use crate::ColumnType;
use crate::cell::CellError;
use crate::cell::CellReader;
use crate::value::CellValue;
use crate::value::required;

/// Postgres stores decimal numbers as digits to this base.
const BASE: i128 = 10_000;
/// Decimal digits in one digit to [`BASE`].
const GROUP: i32 = 4;
/// The sign word of numbers from zero up.
const POSITIVE: u16 = 0x0000;
/// The sign word of numbers below zero.
const NEGATIVE: u16 = 0x4000;
/// Digits count, weight, sign and display scale: four 16-bit words.
const HEADER: usize = 8;
/// 39 decimal digits of an `i128` fill at most 11 groups, however they are aligned.
const MOST_GROUPS: usize = 11;

/// An exact decimal number: `unscaled / 10^scale`.
///
/// The scale is part of the value, as it is in Postgres: `1.50` and `1.5` are
/// different rows to the proof. A fold that adds numbers of unequal scale gets
/// the larger one, as in SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Numeric {
    /// The number without its decimal point.
    pub unscaled: i128,
    /// Digits after the decimal point.
    pub scale: u8,
}

impl Numeric {
    /// `unscaled / 10^scale`.
    pub const fn new(unscaled: i128, scale: u8) -> Self {
        Self { unscaled, scale }
    }

    /// The same number with more digits after the point, `None` when it does not
    /// fit or when `scale` is smaller than the number's own.
    pub fn rescale(self, scale: u8) -> Option<Self> {
        let more = scale.checked_sub(self.scale)?;
        let unscaled = if self.unscaled == 0 {
            0
        } else {
            self.unscaled
                .checked_mul(10i128.checked_pow(u32::from(more))?)?
        };
        Some(Self { unscaled, scale })
    }

    /// The sum at the larger scale, `None` on overflow.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        let scale = self.scale.max(other.scale);
        let sum = self
            .rescale(scale)?
            .unscaled
            .checked_add(other.rescale(scale)?.unscaled)?;
        Some(Self::new(sum, scale))
    }

    /// The difference at the larger scale, `None` on overflow.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        let scale = self.scale.max(other.scale);
        let difference = self
            .rescale(scale)?
            .unscaled
            .checked_sub(other.rescale(scale)?.unscaled)?;
        Some(Self::new(difference, scale))
    }
}

impl From<i64> for Numeric {
    fn from(value: i64) -> Self {
        Self::new(i128::from(value), 0)
    }
}

impl fmt::Display for Numeric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scale = usize::from(self.scale);
        let digits = format!("{:0>1$}", self.unscaled.unsigned_abs(), scale + 1);
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        if self.unscaled < 0 {
            f.write_str("-")?;
        }
        f.write_str(whole)?;
        if scale > 0 {
            write!(f, ".{fraction}")?;
        }
        Ok(())
    }
}

/// A text that is not a decimal number of at most 38 digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a decimal number of at most 38 digits")]
pub struct NumericError(pub String);

impl FromStr for Numeric {
    type Err = NumericError;

    /// Reads `-12.340`: digits, at most one point between digits, no exponent.
    /// The digits after the point are the scale.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or_else(|| NumericError(text.chars().take(80).collect()))
    }
}

fn parse(text: &str) -> Option<Numeric> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = match digits.split_once('.') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (digits, ""),
    };
    let scale = u8::try_from(fraction.len()).ok()?;
    if whole.is_empty() {
        return None;
    }
    let negative = digits.len() < text.len();
    let mut unscaled: i128 = 0;
    for byte in whole.bytes().chain(fraction.bytes()) {
        let digit = i128::from(char::from(byte).to_digit(10)?);
        // Counting away from zero on the right side reaches i128::MIN too.
        let digit = if negative { -digit } else { digit };
        unscaled = unscaled.checked_mul(10)?.checked_add(digit)?;
    }
    Some(Numeric { unscaled, scale })
}

impl CellValue for Numeric {
    const TYPE: ColumnType = ColumnType::Numeric;

    fn write(&self, out: &mut Vec<u8>) {
        let scale = i32::from(self.scale);
        let mut groups = [0u16; MOST_GROUPS];
        let mut rest = self.unscaled.unsigned_abs();
        // The point lies between two groups, so the last group may be padded.
        let padding = (GROUP - scale % GROUP) % GROUP;
        let kept = 10u128.pow((GROUP - padding) as u32);
        groups[0] = ((rest % kept) * 10u128.pow(padding as u32)) as u16;
        rest /= kept;
        let mut count = 1;
        while rest > 0 {
            groups[count] = (rest % BASE as u128) as u16;
            rest /= BASE as u128;
            count += 1;
        }
        let fraction_groups = (scale + GROUP - 1) / GROUP;
        let weight = count as i32 - 1 - fraction_groups;
        let zeros = groups[..count].iter().take_while(|&&g| g == 0).count();
        let digits = &groups[zeros..count];
        let weight = if digits.is_empty() { 0 } else { weight };
        let sign = if self.unscaled < 0 {
            NEGATIVE
        } else {
            POSITIVE
        };
        out.extend_from_slice(&((HEADER + 2 * digits.len()) as i32).to_be_bytes());
        out.extend_from_slice(&(digits.len() as u16).to_be_bytes());
        out.extend_from_slice(&(weight as i16).to_be_bytes());
        out.extend_from_slice(&sign.to_be_bytes());
        out.extend_from_slice(&u16::from(self.scale).to_be_bytes());
        for group in digits.iter().rev() {
            out.extend_from_slice(&group.to_be_bytes());
        }
    }

    fn read(cells: &mut CellReader<'_>) -> Result<Self, CellError> {
        let bytes = required(cells)?;
        decode(bytes).map_err(|reason| cells.error(reason))
    }
}

fn decode(bytes: &[u8]) -> Result<Numeric, &'static str> {
    let Some((header, digits)) = bytes.split_first_chunk::<HEADER>() else {
        return Err("numeric is shorter than its header");
    };
    let word = |i: usize| u16::from_be_bytes([header[2 * i], header[2 * i + 1]]);
    let (count, weight) = (usize::from(word(0)), i32::from(word(1) as i16));
    let sign = match word(2) {
        POSITIVE => 1,
        NEGATIVE => -1,
        _ => return Err("numeric is not a number or infinite"),
    };
    let Ok(scale) = u8::try_from(word(3)) else {
        return Err("numeric has more than 255 digits after its point");
    };
    if digits.len() != 2 * count {
        return Err("numeric does not have the digits that it announces");
    }
    const TOO_LARGE: &str = "numeric does not fit 128 bits";
    let mut unscaled: i128 = 0;
    // Power of ten of the next group, counted from the number's last decimal.
    let mut power = GROUP * weight + i32::from(scale);
    for pair in digits.chunks_exact(2) {
        let group = i128::from(u16::from_be_bytes([pair[0], pair[1]]));
        if group >= BASE {
            return Err("numeric has a digit above 9999");
        }
        let value = if power >= 0 {
            let factor = 10i128.checked_pow(power as u32);
            match factor {
                Some(factor) => group.checked_mul(factor).ok_or(TOO_LARGE)?,
                None if group == 0 => 0,
                None => return Err(TOO_LARGE),
            }
        } else {
            let divisor = 10i128.checked_pow(power.unsigned_abs()).unwrap_or(BASE);
            if group % divisor != 0 {
                return Err("numeric has digits below its scale");
            }
            group / divisor
        };
        unscaled = unscaled.checked_add(sign * value).ok_or(TOO_LARGE)?;
        power -= GROUP;
    }
    Ok(Numeric { unscaled, scale })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(number: Numeric) -> Vec<u8> {
        let mut out = Vec::new();
        number.write(&mut out);
        out
    }

    fn words(number: Numeric) -> Vec<i16> {
        cell(number)[4..]
            .chunks_exact(2)
            .map(|w| i16::from_be_bytes([w[0], w[1]]))
            .collect()
    }

    #[test]
    fn digits_are_grouped_around_the_point_and_stripped_of_zeros() {
        assert_eq!(words(Numeric::new(0, 0)), [0, 0, 0, 0]);
        assert_eq!(words(Numeric::new(0, 3)), [0, 0, 0, 3]);
        assert_eq!(words(Numeric::new(1, 0)), [1, 0, 0, 0, 1]);
        assert_eq!(words(Numeric::new(10_000, 0)), [1, 1, 0, 0, 1]);
        assert_eq!(words(Numeric::new(150, 2)), [2, 0, 0, 2, 1, 5000]);
        assert_eq!(words(Numeric::new(-5, 1)), [1, -1, 0x4000, 1, 5000]);
        assert_eq!(words(Numeric::new(7, 6)), [1, -2, 0, 6, 700]);
        assert_eq!(words(Numeric::new(100, 2)), [1, 0, 0, 2, 1]);
        assert_eq!(
            words(Numeric::new(123_456_789_012, 4)),
            [3, 1, 0, 4, 1234, 5678, 9012]
        );
    }

    #[test]
    fn every_number_comes_back_from_its_cell() {
        let numbers = [
            0,
            1,
            -1,
            9999,
            10_000,
            -10_001,
            1 << 90,
            i128::MAX,
            i128::MIN,
        ];
        for unscaled in numbers {
            for scale in (0..=44).chain([254, 255]) {
                let number = Numeric::new(unscaled, scale);
                let bytes = cell(number);
                let mut cells = CellReader::new(&bytes);
                assert_eq!(Numeric::read(&mut cells), Ok(number), "{number}");
                assert!(cells.rest().is_empty());
            }
        }
    }

    #[test]
    fn every_number_comes_back_from_its_text() {
        for unscaled in [0, 5, -5, 1234, -1234, i128::MAX, i128::MIN] {
            for scale in 0..=45 {
                let number = Numeric::new(unscaled, scale);
                assert_eq!(number.to_string().parse(), Ok(number));
            }
        }
    }

    #[test]
    fn texts_that_are_no_numbers_are_refused() {
        for text in [
            "", "-", ".", "1.", ".5", "+1", "1e3", "1.2.3", "- 1", "NaN", "١",
        ] {
            assert!(text.parse::<Numeric>().is_err(), "{text}");
        }
        assert!("9".repeat(39).parse::<Numeric>().is_err());
    }

    #[test]
    fn sums_have_the_larger_scale() {
        let sum = Numeric::new(15, 1).checked_add(Numeric::new(25, 2));
        assert_eq!(sum, Some(Numeric::new(175, 2)));
        let difference = Numeric::new(1, 0).checked_sub(Numeric::new(25, 2));
        assert_eq!(difference, Some(Numeric::new(75, 2)));
        assert_eq!(Numeric::new(i128::MAX, 0).checked_add(1.into()), None);
        assert_eq!(Numeric::new(0, 0).rescale(200), Some(Numeric::new(0, 200)));
    }

    #[test]
    fn cells_that_are_no_finite_decimal_are_refused() {
        for words in [
            &[0u16, 0, 0xC000, 0][..],
            &[1, 0, 0, 0],
            &[1, 0, 0, 0, 10_000],
            &[1, 0, 0, 256, 1],
            &[2, 0, 0, 1, 1, 1],
            &[1, 20, 0, 0, 1],
            &[1, -9i16 as u16, 0, 0, 1],
        ] {
            let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_be_bytes()).collect();
            assert!(decode(&bytes).is_err(), "{words:?}");
        }
        assert!(decode(&[0; 7]).is_err());
    }

    #[test]
    fn a_number_is_shown_with_all_digits_of_its_scale() {
        for (unscaled, scale, shown) in [
            (0, 0, "0"),
            (0, 2, "0.00"),
            (-5, 2, "-0.05"),
            (150, 2, "1.50"),
            (-1_234, 0, "-1234"),
            (7, 1, "0.7"),
        ] {
            assert_eq!(Numeric::new(unscaled, scale).to_string(), shown);
        }
        let refused = "1e3".parse::<Numeric>().expect_err("no exponents");
        assert_eq!(
            refused.to_string(),
            "\"1e3\" is not a decimal number of at most 38 digits"
        );
    }

    #[test]
    fn a_zero_is_one_wherever_its_digits_stand() {
        for words in [
            &[0_u16, 0, 0, 0][..],
            &[1, 0, 0, 0, 0],
            &[1, 20, 0, 0, 0],
            &[1, 20, NEGATIVE, 0, 0],
        ] {
            let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_be_bytes()).collect();
            assert_eq!(decode(&bytes), Ok(Numeric::new(0, 0)), "{words:?}");
        }
        assert_eq!(Numeric::from(-7), Numeric::new(-7, 0));
        assert_eq!(Numeric::new(1, 2).rescale(1), None);
        assert_eq!(Numeric::new(1, 2).rescale(2), Some(Numeric::new(1, 2)));
    }
}
