//! Durations as people type them: `500ms`, `30s`, `10m`, `2h`.

use std::time::Duration;

/// Reads `500ms`, `30s`, `10m` or `2h`.
///
/// # Errors
/// A sentence for anything else.
pub fn parse(text: &str) -> Result<Duration, String> {
    let error = || format!("{text:?} is not a duration such as 500ms, 30s, 10m or 2h");
    let split = text
        .find(|c: char| c.is_ascii_alphabetic())
        .ok_or_else(error)?;
    let (number, unit) = text.split_at(split);
    let number: f64 = number.parse().map_err(|_| error())?;
    let seconds = match unit {
        "ms" => number / 1_000.0,
        "s" => number,
        "m" => number * 60.0,
        "h" => number * 3_600.0,
        _ => return Err(error()),
    };
    Duration::try_from_secs_f64(seconds).map_err(|_| error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_their_unit() {
        assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse("10m"), Ok(Duration::from_secs(600)));
        for text in ["10", "s", "-1s", "1d", ""] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn each_unit_is_worth_what_its_name_says() {
        for (text, seconds) in [
            ("30s", 30.0),
            ("2h", 7_200.0),
            ("1.5m", 90.0),
            ("0.5h", 1_800.0),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_secs_f64(seconds)), "{text}");
        }
        let refused = parse("3 days").expect_err("no such unit");
        assert_eq!(
            refused,
            "\"3 days\" is not a duration such as 500ms, 30s, 10m or 2h"
        );
    }
}
