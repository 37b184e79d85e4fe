//! Which names a column may have.

/// Columns of the engine's own, in tables, in views and in answers.
const RESERVED: [&str; 9] = [
    "key",
    "off",
    "agg_version",
    "deleted",
    "aggregate_id",
    "applied_seq",
    "applied_offset",
    "partition",
    "projection_version",
];

/// Longest name in bytes.
const LONGEST: usize = 31;

/// Says what is wrong with a column's name.
pub(crate) fn check(name: &str) -> Result<(), String> {
    if RESERVED.contains(&name) {
        return Err(format!(
            "the name `{name}` belongs to the engine (reserved: {})",
            RESERVED.join(", ")
        ));
    }
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_lowercase());
    let rest = bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if first && rest && name.len() <= LONGEST {
        return Ok(());
    }
    Err(format!(
        "`{name}` is not a column name: a lower-case letter and then at most 30 \
         lower-case letters, digits or underscores"
    ))
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn names_follow_one_rule() {
        for good in ["a", "balance", "x1_y", &"a".repeat(31)] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "_a",
            "1a",
            "Balance",
            "größe",
            "off",
            "key",
            "deleted",
            &"a".repeat(32),
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
