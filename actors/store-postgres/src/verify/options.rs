//! What a scan is asked for, and how far it is.

use std::time::Duration;

use refold_domain::cutover::CONFIRMED_ROWS;

/// How the tables of two versions are compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanOptions {
    /// Keys to name per partition and kind of difference.
    pub sample: usize,
    /// Pairs that differ as expected to keep for the log, over all partitions.
    pub chosen: usize,
    /// How long a version may take to reach the offset at which a partition is held.
    pub hold: Duration,
    /// Bytes of rows that all workers keep at most while they wait for their partners. A
    /// partition that needs more is read several times, a class of its keys each time.
    pub memory: usize,
    /// Rows a second that each worker reads at most; `None` for as many as there come.
    pub rate: Option<u64>,
    /// Partitions that are compared at a time.
    pub workers: usize,
    /// The id of a scan that was stopped: partitions that it finished are not read again.
    pub resume: Option<String>,
}

impl Default for ScanOptions {
    /// A hundred keys, the pairs that a promotion wants confirmed, 10 s to reach an offset, 1 GiB, any rate, two partitions at a time.
    fn default() -> Self {
        Self {
            sample: 100,
            chosen: CONFIRMED_ROWS as usize,
            hold: Duration::from_secs(10),
            memory: 1 << 30,
            rate: None,
            workers: 2,
            resume: None,
        }
    }
}

/// How far a scan is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScanProgress {
    /// The scan's id, by which it can be resumed.
    pub id: String,
    /// Partitions that are compared.
    pub done: usize,
    /// Partitions in all.
    pub partitions: usize,
    /// Rows of both versions that were read.
    pub rows_read: u64,
    /// Rows of both versions, as their marks said when the scan began.
    pub rows_all: u64,
    /// Findings so far.
    pub findings: u64,
}
