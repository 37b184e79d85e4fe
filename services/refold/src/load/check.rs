//! Whether an answer is what a caller may expect.

/// What an accepted answer said of its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The version that answered; `None` when a 404 does not name it.
    pub(crate) version: Option<String>,
    /// The registry's generation.
    pub(crate) generation: Option<i64>,
}

/// Whether a failed read was answered, but not with the truth.
pub(super) fn is_wrong(reason: &str) -> bool {
    reason.starts_with("200 ") || reason.starts_with("404 ")
}

/// Accepts 200 with the aggregate that was asked for, and 404 where none exists.
///
/// # Errors
/// One sentence: anything else is a failed read, also a 404 for an aggregate
/// that is known to exist, which is what a half-built table would answer.
pub(super) fn judge(status: u16, body: &[u8], id: i64, exists: bool) -> Result<Seen, String> {
    let json: serde_json::Value =
        serde_json::from_slice(body).map_err(|error| format!("{status} without JSON: {error}"))?;
    let seen = Seen {
        version: json["projection_version"].as_str().map(str::to_owned),
        generation: json["generation"].as_i64(),
    };
    match status {
        200 if json["aggregate_id"].as_i64() == Some(id) && seen.version.is_some() => Ok(seen),
        200 => Err(format!("200 for another aggregate: {json}")),
        404 if !exists => Ok(seen),
        404 => Err(format!("404 for an aggregate that exists: {json}")),
        _ => Err(format!("{status}: {json}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: &[u8] = br#"{"aggregate_id":7,"projection_version":"accounts_v3","generation":1}"#;

    #[test]
    fn the_row_that_was_asked_for_is_accepted() {
        let seen = judge(200, ROW, 7, true).expect("a good answer");
        assert_eq!(seen.version.as_deref(), Some("accounts_v3"));
        assert_eq!(seen.generation, Some(1));
    }

    #[test]
    fn torn_missing_and_broken_answers_are_failures() {
        assert!(judge(200, ROW, 8, true).is_err());
        assert!(judge(404, b"{}", 7, true).is_err());
        assert!(judge(404, b"{}", 7, false).is_ok());
        assert!(judge(503, b"{}", 7, false).is_err());
        assert!(judge(200, b"<html>", 7, true).is_err());
        for (status, body, wrong) in [
            (200, ROW, true),
            (404, b"{}".as_slice(), true),
            (503, b"{}".as_slice(), false),
        ] {
            let reason = judge(status, body, 8, true).expect_err("a failed read");
            assert_eq!(is_wrong(&reason), wrong, "{reason}");
        }
    }
}
