//! The point of a log that an aggregate is looked at.

use std::fmt;

use refold_projection::Timestamp;
use refold_proto::parse_timestamp;

use crate::position;
use crate::position::Offset;
use crate::position::Partition;

/// Which of an aggregate's events are in the state that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// Those at or below an offset of the aggregate's partition. Exact.
    At(Partition, Offset),
    /// Those whose own time is at or before this one, in the order of their offsets. Where times
    /// are not in that order, an event that is too late is left out and those behind it that are
    /// not stay in.
    Time(Timestamp),
    /// The first ones, up to this number in the aggregate's own history.
    Seq(u64),
}

impl Point {
    /// Reads an offset, `PARTITION:OFFSET`.
    ///
    /// # Errors
    /// [`NotAPoint`].
    pub fn offset(text: &str) -> Result<Self, NotAPoint> {
        let place = position::place(text);
        let parsed = place.map(|(partition, offset)| Self::At(partition, offset));
        parsed.ok_or_else(|| NotAPoint {
            wanted: "PARTITION:OFFSET of an event, like 19:8113902",
            found: short(text),
        })
    }

    /// Reads a moment in UTC: RFC 3339, or the head of it down to the day or the minute.
    ///
    /// # Errors
    /// [`NotAPoint`].
    pub fn time(text: &str) -> Result<Self, NotAPoint> {
        let (head, zone) = match text.strip_suffix(['Z', 'z']) {
            Some(head) => (head, "Z"),
            None => (text, ""),
        };
        let whole = match (head.len(), zone) {
            (10, _) => format!("{head}T00:00:00Z"),
            (16, "Z") => format!("{head}:00Z"),
            _ => text.to_owned(),
        };
        let parsed = text.is_ascii().then(|| parse_timestamp(&whole)).flatten();
        let micros = parsed.ok_or_else(|| NotAPoint {
            wanted: "a moment in UTC, like 2026-03-01 or 2026-03-01T09:14:00Z",
            found: short(text),
        })?;
        Ok(Self::Time(Timestamp(micros)))
    }

    /// Reads the number of an event.
    ///
    /// # Errors
    /// [`NotAPoint`].
    pub fn seq(text: &str) -> Result<Self, NotAPoint> {
        let is_digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let parsed = text.parse().ok();
        let parsed = parsed.filter(|number| is_digits && *number > 0);
        parsed.map(Self::Seq).ok_or_else(|| NotAPoint {
            wanted: "the number of an event in its aggregate, counted from 1",
            found: short(text),
        })
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(partition, offset) => write!(f, "offset {offset} of {partition}"),
            Self::Time(time) => time.fmt(f),
            Self::Seq(number) => write!(f, "its event {number}"),
        }
    }
}

/// A text that names no point.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is not {wanted}")]
pub struct NotAPoint {
    wanted: &'static str,
    found: String,
}

fn short(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_a_partition_and_a_number() {
        let point = Point::At(Partition(19), Offset(8_113_902));
        assert_eq!(Point::offset("19:8113902"), Ok(point));
        assert_eq!(point.to_string(), "offset 8113902 of p19");
        for text in [
            "", "19", "19:", ":5", "-1:5", "1:-5", "+1:5", "a:b", "1:2:3",
        ] {
            let refused = Point::offset(text).expect_err(text);
            let wanted = "PARTITION:OFFSET of an event, like 19:8113902";
            assert_eq!(refused.to_string(), format!("{text:?} is not {wanted}"));
        }
    }

    #[test]
    fn a_moment_may_be_given_down_to_the_day_the_minute_or_the_microsecond() {
        for (text, wanted) in [
            ("2026-03-01", "2026-03-01T00:00:00Z"),
            ("2026-03-01Z", "2026-03-01T00:00:00Z"),
            ("2026-03-01T09:14Z", "2026-03-01T09:14:00Z"),
            ("2026-03-01 09:14:01Z", "2026-03-01T09:14:01Z"),
            (
                "2026-03-01T09:14:01.000125+00:00",
                "2026-03-01T09:14:01.000125Z",
            ),
        ] {
            let point = Point::time(text).expect(text);
            assert_eq!(point.to_string(), wanted, "{text}");
        }
        // A time without a zone, or in another one, is a guess that nobody asked for.
        for text in [
            "",
            "now",
            "2026-03-01T09:14",
            "2026-03-01T09:14:00",
            "2026-03-01T09:14:00+02:00",
            "2026-13-01",
            "€026-03-01",
        ] {
            let refused = Point::time(text).expect_err(text).to_string();
            assert!(refused.contains("is not a moment in UTC"), "{refused}");
        }
    }

    #[test]
    fn an_event_has_a_number_from_one_on() {
        assert_eq!(Point::seq("117"), Ok(Point::Seq(117)));
        assert_eq!(Point::Seq(117).to_string(), "its event 117");
        for text in ["", "0", "-1", "+1", "one", "18446744073709551616"] {
            let refused = Point::seq(text).expect_err(text).to_string();
            assert!(refused.contains("counted from 1"), "{refused}");
        }
    }
}
