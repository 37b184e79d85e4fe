//! Numbers as people type them: `1e9`, `20k`, `2M`, `512MiB`.

use std::fmt;
use std::str::FromStr;

/// A whole number of things or bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count(pub u64);

/// Text that is not a [`Count`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a whole number such as 5000, 20k, 2M, 1e9 or 512MiB")]
pub struct CountError(String);

impl FromStr for Count {
    type Err = CountError;

    fn from_str(text: &str) -> Result<Self, CountError> {
        let error = || CountError(text.to_owned());
        let (number, factor) = split_unit(text);
        let number = number.replace('_', "");
        if let Ok(whole) = number.parse::<u64>() {
            return whole.checked_mul(factor).map(Self).ok_or_else(error);
        }
        let value = number.parse::<f64>().map_err(|_| error())? * factor as f64;
        // Above 2^53 a float no longer holds every whole number.
        let whole = value >= 0.0 && value.fract() == 0.0 && value <= 9.0e15;
        whole.then_some(Self(value as u64)).ok_or_else(error)
    }
}

fn split_unit(text: &str) -> (&str, u64) {
    const UNITS: [(&str, u64); 7] = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("k", 1_000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
        ("B", 1),
    ];
    let found = UNITS
        .iter()
        .find_map(|(unit, factor)| text.strip_suffix(unit).map(|rest| (rest, *factor)));
    found.unwrap_or((text, 1))
}

impl fmt::Display for Count {
    /// With thousands separators, for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        let mut out = String::with_capacity(digits.len() * 4 / 3 + 1);
        for (i, digit) in digits.chars().enumerate() {
            if i > 0 && (digits.len() - i).is_multiple_of(3) {
                out.push(',');
            }
            out.push(digit);
        }
        f.pad(&out)
    }
}

/// Partitions as `3`, `0-7` or `0-3,8,10-11`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share(pub Vec<i32>);

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let error = || format!("{text:?} is not a list of partitions such as 0-7 or 0-3,8");
        let mut partitions = Vec::new();
        for part in text.split(',') {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            let from: i32 = from.trim().parse().map_err(|_| error())?;
            let to: i32 = to.trim().parse().map_err(|_| error())?;
            if from < 0 || to < from || to > 1_000_000 {
                return Err(error());
            }
            partitions.extend(from..=to);
        }
        partitions.sort_unstable();
        partitions.dedup();
        Ok(Self(partitions))
    }
}

/// A share as `1%` or `0.1%`: between 0 and 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Percent(pub f64);

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_suffix('%').and_then(|n| n.parse::<f64>().ok());
        let share = number.map(|n| n / 100.0);
        let share = share.filter(|share| (0.0..=1.0).contains(share));
        share
            .map(Self)
            .ok_or_else(|| format!("{text:?} is not a share such as 1% or 0.1%"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_as_people_type_them() {
        for (text, value) in [
            ("0", 0),
            ("5000", 5_000),
            ("2_000_000", 2_000_000),
            ("20k", 20_000),
            ("1e9", 1_000_000_000),
            ("1.5M", 1_500_000),
            ("512MiB", 512 << 20),
        ] {
            assert_eq!(text.parse(), Ok(Count(value)), "{text}");
        }
        for text in ["", "-1", "1.5", "x", "1e300", "NaN"] {
            assert!(text.parse::<Count>().is_err(), "{text}");
        }
    }

    #[test]
    fn counts_print_with_separators() {
        assert_eq!(Count(0).to_string(), "0");
        assert_eq!(Count(1_234_567).to_string(), "1,234,567");
    }

    #[test]
    fn shares_are_read_in_percent() {
        assert_eq!("1%".parse(), Ok(Percent(0.01)));
        assert_eq!("100%".parse(), Ok(Percent(1.0)));
        for text in ["", "1", "101%", "-1%", "x%", "NaN%"] {
            assert!(text.parse::<Percent>().is_err(), "{text}");
        }
    }

    #[test]
    fn partitions_are_read_as_ranges() {
        assert_eq!("0-2,7,1".parse(), Ok(Share(vec![0, 1, 2, 7])));
        for text in ["", "a", "3-1", "-1"] {
            assert!(text.parse::<Share>().is_err(), "{text}");
        }
    }
}
