//! Read your writes: an answer that is no older than an offset that the caller knows.
//!
//! Whoever wrote an event knows its partition and offset. A read that names them is answered
//! from a snapshot in which the serving version's mark has passed the offset, or not at all.
//! Mark, version and row are of one snapshot, so a switch in the middle of the wait changes
//! which version is waited for and never makes an answer older.

use std::time::Duration;

use poem::http::StatusCode;
use refold_domain::duration;
use refold_domain::position;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_ports::registry::MarkedAnswer;
use refold_ports::registry::ReadAnswer;
use tokio::time::Instant;

use crate::problem::Problem;
use crate::state::ApiState;

/// The longest wait, whatever a caller asks for.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// What a caller has to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fresh {
    partition: Partition,
    offset: Offset,
    wait: Duration,
}

impl Fresh {
    /// Reads `min_offset=P:O` and `wait=500ms`; `None` when no offset is asked for.
    pub(crate) fn parse(
        min_offset: Option<&str>,
        wait: Option<&str>,
    ) -> Result<Option<Self>, Box<Problem>> {
        let wait = wait.map(duration::parse).transpose();
        let wait = wait.map_err(|e| Problem::unreadable(format!("wait is {e}")))?;
        let Some(text) = min_offset else {
            return match wait {
                None => Ok(None),
                Some(_) => {
                    let detail = "wait is for min_offset, which is missing";
                    Err(Problem::unreadable(detail).into())
                }
            };
        };
        let (partition, offset) = position::place(text).ok_or_else(|| {
            invalid_offset(format!(
                "min_offset is {text:?}; it wants PARTITION:OFFSET of an event, like 19:8113902"
            ))
        })?;
        Ok(Some(Self {
            partition,
            offset,
            wait: wait.unwrap_or_default().min(LONGEST_WAIT),
        }))
    }
}

/// Reads an aggregate once the serving version's mark has passed the offset.
pub(crate) async fn read(
    state: &ApiState,
    name: &str,
    id: &str,
    fresh: Fresh,
) -> Result<ReadAnswer, Problem> {
    let deadline = Instant::now() + fresh.wait;
    loop {
        let found = state.reads.read_marked(name, id).await?;
        let of_key = found.answer.partition;
        if of_key != fresh.partition {
            return Err(invalid_offset(format!(
                "min_offset is of partition {}, but aggregate {id} lives in partition {}",
                fresh.partition.0, of_key.0
            )));
        }
        if found.next > fresh.offset {
            return Ok(found.answer);
        }
        if Instant::now() >= deadline {
            return Err(not_caught_up(state, &found, fresh).await?);
        }
        // Seen or not, the next look decides.
        let passed = state.reads.mark_passes(name, fresh.partition, fresh.offset);
        let _ = tokio::time::timeout_at(deadline, passed).await;
    }
}

fn invalid_offset(detail: String) -> Problem {
    let title = "Not an offset of this aggregate";
    Problem::new(StatusCode::BAD_REQUEST, "invalid-offset", title, detail)
}

async fn not_caught_up(
    state: &ApiState,
    found: &MarkedAnswer,
    fresh: Fresh,
) -> Result<Problem, Problem> {
    let version = state.label(found.answer.version).await?;
    let (partition, offset) = (fresh.partition.0, fresh.offset);
    let detail = format!(
        "{version} has everything below offset {} of partition {partition}, and not yet {offset}",
        found.next
    );
    let title = "The read model has not reached this offset";
    Ok(Problem {
        retryable: true,
        projection_version: Some(version.to_string()),
        generation: Some(found.answer.generation),
        partition: Some(partition),
        position: Some(found.next.0),
        ..Problem::new(StatusCode::CONFLICT, "not-caught-up", title, detail)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_a_partition_and_a_number_and_the_wait_has_a_cap() {
        let parsed = Fresh::parse(Some("19:8113902"), Some("10m")).expect("an offset");
        let wanted = Fresh {
            partition: Partition(19),
            offset: Offset(8_113_902),
            wait: LONGEST_WAIT,
        };
        assert_eq!(parsed, Some(wanted));
        let at_once = Fresh::parse(Some("0:0"), None).expect("an offset");
        assert_eq!(at_once.map(|f| f.wait), Some(Duration::ZERO));
        assert_eq!(Fresh::parse(None, None), Ok(None));
        for text in ["", "19", "19:", ":5", "-1:5", "1:-5", "a:b", "1:2:3"] {
            let refused = Fresh::parse(Some(text), None).expect_err(text);
            assert_eq!(
                (refused.status, refused.code.as_str()),
                (400, "invalid_offset")
            );
        }
        for (offset, wait) in [(None, Some("1s")), (Some("1:2"), Some("soon"))] {
            let refused = Fresh::parse(offset, wait).expect_err("no wait");
            assert_eq!(refused.code, "bad_request");
        }
    }
}
