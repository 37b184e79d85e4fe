//! What a scan found.

use refold_domain::diff::DiffCounts;
use refold_domain::diff::Kind;
use refold_domain::diff::Sample;
use serde::Deserialize;
use serde::Serialize;

/// A key that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundKey {
    /// Why it is named: `expected`, `unexpected`, `missing-expected`, `only-old`, `only-new`.
    pub kind: String,
    /// The key as text.
    pub key: String,
    /// The key's cell as hex digits; empty in records that are older than it.
    #[serde(default)]
    pub cell: String,
    /// One sentence.
    pub detail: String,
    /// Offset of the last event in the old version's row.
    pub off_old: Option<i64>,
    /// Offset of the last event in the new version's row.
    pub off_new: Option<i64>,
    /// The old version's row, each column as text, in table order.
    #[serde(default)]
    pub old: Option<Vec<String>>,
    /// The new version's row, likewise.
    #[serde(default)]
    pub new: Option<Vec<String>>,
}

impl From<Sample> for FoundKey {
    fn from(sample: Sample) -> Self {
        Self {
            kind: sample.kind.word().to_owned(),
            key: sample.key,
            cell: hex(&sample.cell),
            detail: sample.detail,
            off_old: sample.off_old.map(|off| off.0),
            off_new: sample.off_new.map(|off| off.0),
            old: sample.old,
            new: sample.new,
        }
    }
}

impl FoundKey {
    /// The key's cell, if it is on record.
    pub fn key_cell(&self) -> Option<Vec<u8>> {
        let digits = self.cell.as_bytes();
        let byte = |pair: &[u8]| {
            let text = std::str::from_utf8(pair).ok()?;
            u8::from_str_radix(text, 16).ok()
        };
        (!digits.is_empty() && digits.len().is_multiple_of(2))
            .then(|| digits.chunks(2).map(byte).collect())
            .flatten()
    }

    /// Whether it speaks against the new version.
    pub fn is_wrong(&self) -> bool {
        self.kind != Kind::Expected.word()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One partition of two versions, compared at one offset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartitionScan {
    /// The partition.
    pub partition: i32,
    /// The offset X, exclusive: everything below is in both, nothing at or above.
    pub at: i64,
    /// Rows of the old version.
    pub rows_old: u64,
    /// Rows of the new version.
    pub rows_new: u64,
    /// Keys that are equal, and rightly so.
    pub equal: u64,
    /// Keys that differ as they are meant to.
    pub expected: u64,
    /// Keys that differ and are not meant to.
    pub unexpected: u64,
    /// Keys that are equal and are meant to differ.
    pub missing_expected: u64,
    /// Keys without a row in the new version.
    pub only_old: u64,
    /// Keys without a row in the old version.
    pub only_new: u64,
    /// Pairs of rows of different aggregates that the author's rule was asked about.
    pub rule_tried: u64,
    /// How many of them it let pass.
    pub rule_accepted: u64,
    /// Columns of each version whose rows on disk do not add up to the sums of its mark,
    /// as `accounts_v4.balance`.
    pub untied: Vec<String>,
    /// Some keys of each kind.
    pub found: Vec<FoundKey>,
    /// How often the rows were read, because not all fitted into the memory.
    pub passes: u32,
    /// How long the projection of this partition was held, in milliseconds.
    pub held_ms: f64,
    /// How long its snapshot was open, in seconds.
    pub seconds: f64,
}

impl PartitionScan {
    /// What was found in a partition at an offset.
    pub(super) fn new(partition: i32, at: i64, counts: &DiffCounts, samples: Vec<Sample>) -> Self {
        Self {
            partition,
            at,
            rows_old: counts.rows_old,
            rows_new: counts.rows_new,
            equal: counts.equal,
            expected: counts.expected,
            unexpected: counts.unexpected,
            missing_expected: counts.missing_expected,
            only_old: counts.only_old,
            only_new: counts.only_new,
            rule_tried: counts.rule_tried,
            rule_accepted: counts.rule_accepted,
            untied: Vec::new(),
            found: samples.into_iter().map(FoundKey::from).collect(),
            passes: 1,
            held_ms: 0.0,
            seconds: 0.0,
        }
    }

    /// Keys that were compared.
    pub fn keys(&self) -> u64 {
        self.equal + self.expected + self.wrong_keys()
    }

    /// Keys that speak against the new version.
    pub fn wrong_keys(&self) -> u64 {
        self.unexpected + self.missing_expected + self.only_old + self.only_new
    }

    /// Keys that speak against the new version, and columns that do not add up.
    pub fn findings(&self) -> u64 {
        self.wrong_keys() + self.untied.len() as u64
    }
}

/// Two versions compared over all partitions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScanReport {
    /// Its id in `refold.verifications`.
    pub id: String,
    /// The version that is replaced.
    pub old: String,
    /// The version that replaces it.
    pub new: String,
    /// The columns that must be equal.
    pub same: Vec<String>,
    /// The columns that may differ.
    pub differing: Vec<String>,
    /// Whether the author's rule says how.
    pub has_rule: bool,
    /// Each partition at its own offset.
    pub partitions: Vec<PartitionScan>,
    /// How long it took, in seconds; what an earlier part of a resumed scan took is not in it.
    pub seconds: f64,
}

impl ScanReport {
    fn sum(&self, of: impl Fn(&PartitionScan) -> u64) -> u64 {
        self.partitions.iter().map(of).sum()
    }

    /// Keys that were compared.
    pub fn rows(&self) -> u64 {
        self.sum(PartitionScan::keys)
    }

    /// Everything that speaks against the new version.
    pub fn findings(&self) -> u64 {
        self.sum(PartitionScan::findings)
    }

    /// Keys that differ as they are meant to.
    pub fn expected(&self) -> u64 {
        self.sum(|p| p.expected)
    }

    /// Pairs of rows of different aggregates that the author's rule was asked about, and
    /// how many it let pass.
    pub fn rule_tried(&self) -> (u64, u64) {
        (self.sum(|p| p.rule_tried), self.sum(|p| p.rule_accepted))
    }

    /// Columns that do not add up to the sums of their marks.
    pub fn untied(&self) -> u64 {
        self.sum(|p| p.untied.len() as u64)
    }

    /// Sum of the offsets at which the partitions were compared.
    pub fn offset_sum(&self) -> i64 {
        self.partitions.iter().map(|p| p.at).sum()
    }
}
