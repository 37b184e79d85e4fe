//! The past of single aggregates as a port.

use async_trait::async_trait;
use refold_domain::as_of::Gone;
use refold_domain::as_of::Past;
use refold_domain::as_of::Point;
use refold_domain::log::TopicIdentity;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_projection::Column;

use crate::source::SourceError;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The version whose fold and columns count.
    pub version: String,
    /// The aggregate's key in its canonical text.
    pub key: String,
    /// When.
    pub point: Point,
    /// Whether each event is wanted with the row around it.
    pub trace: bool,
}

/// What an aggregate was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    /// The state and the events at its edges.
    pub past: Past,
    /// The columns of the state's cells.
    pub columns: &'static [Column],
    /// The partition that the aggregate lives in.
    pub partition: Partition,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// The version is not in this binary.
    #[error("version {0} is not in this binary")]
    UnknownVersion(String),
    /// The text is no key of the projection.
    #[error("{0}")]
    BadKey(String),
    /// The offset is one of another partition.
    #[error("the offset is of {asked}, but the aggregate lives in {home}")]
    OtherPartition {
        /// The partition of the question.
        asked: Partition,
        /// Where the aggregate lives.
        home: Partition,
    },
    /// The point has not come yet, so that more events may come in front of it.
    #[error("{point} has not come yet: {reason}")]
    NotYet {
        /// The point.
        point: Point,
        /// Where the log or the clock stands.
        reason: String,
    },
    /// The log does not hold what the answer needs.
    #[error("the log cannot answer for {point}: {gone}")]
    Gone {
        /// The point.
        point: Point,
        /// Where the aggregate lives.
        partition: Partition,
        /// What is not there.
        gone: Gone,
        /// The last event up to which the log shows the aggregate's history whole.
        whole_to: Option<Offset>,
    },
    /// As many questions as can be are being answered.
    #[error("{0} questions about the past are being answered already")]
    Busy(usize),
    /// The log.
    #[error(transparent)]
    Log(#[from] SourceError),
}

/// Answers what an aggregate was at a point of its log.
///
/// # Promise
/// The answer is the fold of exactly the events that the point takes in, each once and in the
/// order of their offsets; or it is an error. What compaction or retention took away is noticed.
#[async_trait]
pub trait History: Send + Sync {
    /// The log that is asked.
    ///
    /// # Errors
    /// [`HistoryError::Log`].
    async fn log(&self) -> Result<TopicIdentity, HistoryError>;

    /// The state of an aggregate as of a point. Dropping the future ends the work.
    ///
    /// # Errors
    /// [`HistoryError`].
    async fn as_of(&self, question: &Question) -> Result<Remembered, HistoryError>;
}
