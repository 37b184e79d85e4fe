//! How fast two versions go on while one of them is waited for.

use std::time::Duration;

use refold_domain::barrier::OffsetVector;
use refold_domain::version::VersionId;
use refold_ports::Registry;
use refold_ports::registry::RegistryError;
use tokio::time::Instant;

/// The durable marks of two versions at one moment.
pub(super) struct Pace {
    since: Instant,
    serving: OffsetVector,
    candidate: OffsetVector,
}

/// Offsets that both versions went through in the same time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Went {
    time: Duration,
    serving: u64,
    candidate: u64,
    /// What the candidate had in front of it in the end, to where the other stood.
    apart: u64,
}

impl Pace {
    /// Reads the marks of both.
    ///
    /// # Errors
    /// What the registry says.
    pub(super) async fn read(
        registry: &dyn Registry,
        serving: VersionId,
        candidate: VersionId,
    ) -> Result<Self, RegistryError> {
        Ok(Self {
            since: Instant::now(),
            serving: marks(registry, serving).await?,
            candidate: marks(registry, candidate).await?,
        })
    }

    /// How far both went since, `now` being read in the same order.
    pub(super) fn until(&self, now: &Self) -> Went {
        Went {
            time: now.since - self.since,
            serving: distance(&self.serving, &now.serving),
            candidate: distance(&self.candidate, &now.candidate),
            apart: distance(&now.candidate, &now.serving),
        }
    }
}

impl Went {
    /// Both rates in words, and what they mean for the candidate.
    pub(super) fn sentence(&self, serving: &str, candidate: &str) -> String {
        let seconds = self.time.as_secs_f64().max(f64::EPSILON);
        let rate = |went: u64| went as f64 / seconds;
        let (slow, fast) = (rate(self.candidate), rate(self.serving));
        let outlook = if self.candidate <= self.serving {
            "it does not catch up at this pace".to_owned()
        } else {
            let rest = self.apart as f64 / (slow - fast);
            format!("it catches up in {rest:.0} s at this pace")
        };
        format!(
            "in the last {seconds:.1} s {candidate} went through {slow:.1} and {serving}, which \
             serves, through {fast:.1} offsets a second: {outlook}"
        )
    }
}

/// The durable marks of a version.
pub(super) async fn marks(
    registry: &dyn Registry,
    version: VersionId,
) -> Result<OffsetVector, RegistryError> {
    let rows = registry.marks(version).await?;
    Ok(rows.into_iter().map(|m| (m.partition, m.next)).collect())
}

/// Offsets in `[from, to)` over all partitions. One that is behind its `from`, which a reset brings
/// about, counts nothing.
fn distance(from: &OffsetVector, to: &OffsetVector) -> u64 {
    let distances = to.iter().map(|(partition, end)| {
        let begin = from.get(partition).copied().unwrap_or_default();
        begin.lag_to(*end)
    });
    distances.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn went(serving: u64, candidate: u64) -> String {
        let went = Went {
            time: Duration::from_secs(10),
            serving,
            candidate,
            apart: 3_000,
        };
        went.sentence("ledger_v1", "ledger_v2")
    }

    #[test]
    fn a_candidate_that_is_no_faster_than_the_log_is_told_so_with_both_rates() {
        let expected = "in the last 10.0 s ledger_v2 went through 400.0 and ledger_v1, which \
                        serves, through 500.0 offsets a second: it does not catch up at this pace";
        assert_eq!(went(5_000, 4_000), expected);
        assert!(went(0, 0).ends_with("it does not catch up at this pace"));
    }

    #[test]
    fn a_candidate_that_is_faster_is_told_when_it_would_be_there() {
        let outlook = "it catches up in 30 s at this pace";
        assert!(went(5_000, 6_000).ends_with(outlook));
    }
}
