//! What the shadow reads found, as an answer.

use poem::http::StatusCode;
use poem_openapi::Object;
use refold_telemetry::ShadowResult;

use crate::problem::Problem;
use crate::rfc3339;
use crate::shadow::Differing;
use crate::state::ApiState;

/// An aggregate that was found to differ.
#[derive(Debug, Clone, Object)]
#[oai(skip_serializing_if_is_none)]
pub(crate) struct DifferingAnswer {
    /// The aggregate's id.
    aggregate_id: String,
    /// The version that served it.
    serving_version: String,
    /// Its partition.
    partition: i32,
    /// unexpected, missing-expected, only-old or only-new.
    kind: String,
    /// What differs.
    detail: String,
    /// Offset of the last event in the row of the version that is replaced.
    offset_old: Option<i64>,
    /// Offset of the last event in the row of the version that replaces it.
    offset_new: Option<i64>,
    /// When it was seen.
    seen_at: String,
}

impl From<&Differing> for DifferingAnswer {
    fn from(found: &Differing) -> Self {
        Self {
            aggregate_id: found.key.clone(),
            serving_version: found.serving.clone(),
            partition: found.partition.0,
            kind: found.sample.kind.word().to_owned(),
            detail: found.sample.detail.clone(),
            offset_old: found.sample.off_old.map(|off| off.0),
            offset_new: found.sample.off_new.map(|off| off.0),
            seen_at: rfc3339::text(found.at),
        }
    }
}

/// What the shadow reads of this server found since it started.
#[derive(Debug, Clone, Object)]
pub(crate) struct ShadowAnswer {
    /// The candidate.
    version: String,
    /// Share of the answered reads that are compared, 0 to 1.
    share: f64,
    /// Both versions have the same, in every column that has to agree.
    equal: u64,
    /// They differ as the author's rule says, or, without a rule, where they may.
    expected: u64,
    /// They differ and should not, or should and do not, or only one of them has it.
    differs: u64,
    /// One version knows an event of the aggregate that the other one has not reached; nothing
    /// is said about the rest.
    not_caught_up: u64,
    /// Not compared: the queue was full, or the candidate gave no answer in time.
    dropped: u64,
    /// The latest aggregates that differ, newest last; at most 20.
    differing: Vec<DifferingAnswer>,
}

/// What was found of one version.
pub(crate) fn of(state: &ApiState, label: &str) -> Result<ShadowAnswer, Box<Problem>> {
    let shadow = state.shadow.as_ref().filter(|s| s.version() == label);
    let Some(shadow) = shadow else {
        let detail =
            format!("this server compares no reads with {label}; start it with -shadow {label}");
        let title = "No shadow reads of this version";
        let status = StatusCode::NOT_FOUND;
        return Err(Problem::new(status, "not-shadowed", title, detail).into());
    };
    let found = shadow.found();
    let count = |result: ShadowResult| found.counts[result as usize];
    Ok(ShadowAnswer {
        version: label.to_owned(),
        share: shadow.share(),
        equal: count(ShadowResult::Equal),
        expected: count(ShadowResult::Expected),
        differs: count(ShadowResult::Differs),
        not_caught_up: count(ShadowResult::NotCaughtUp),
        dropped: count(ShadowResult::Dropped),
        differing: found.differing.iter().map(DifferingAnswer::from).collect(),
    })
}
