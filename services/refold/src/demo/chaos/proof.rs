//! The proof at the end of a run: nothing is lost, nothing is doubled, every row is right.

use std::collections::BTreeMap;
use std::time::Instant;

use refold_domain::position::Partition;
use refold_seed::oracle::Oracle;

use super::Chaos;
use super::LOOK;
use super::STEP_BOUND;
use crate::cli::Failure;
use crate::cli::Format;
use crate::command::seed::params;
use crate::demo::Comparison;
use crate::demo::LIVE;
use crate::demo::NEW;

/// Deposits that the rows of the new version have counted, by partition.
const DEPOSITS: &str =
    "select partition, sum(deposits_count) from accounts_v4 group by partition order by partition";

/// What was compared when the log stood still.
#[derive(Debug, Clone)]
pub(super) struct Proof {
    /// Events in the log.
    pub(super) log: u64,
    /// Events of the log that a version had not applied when it was waited for no longer.
    pub(super) unapplied: u64,
    /// The new version against the old one: their sums, and each row.
    pub(super) versions: Comparison,
    /// Each version against the known final state.
    pub(super) oracle: [Comparison; 2],
    /// Deposits that rows should have counted and have not.
    pub(super) lost: u64,
    /// Deposits that rows have counted too often.
    pub(super) doubled: u64,
}

impl Proof {
    /// Stops what appends, waits until both versions are at the end of the log, and compares.
    pub(super) async fn of(chaos: &mut Chaos) -> Result<Self, Failure> {
        chaos
            .scene
            .step("stop appending, and wait for the end of the log");
        chaos.scene.stop_tail().await?;
        let ends = ends(chaos).await?;
        let log: i64 = ends.values().sum();
        let unapplied = wait_end(chaos, &ends).await?;
        let (found, expected) = deposits(chaos, &ends).await?;
        let surplus = |more: &BTreeMap<i32, i64>, less: &BTreeMap<i32, i64>| -> u64 {
            let of = |(p, count): (&i32, &i64)| count - less.get(p).copied().unwrap_or_default();
            more.iter()
                .map(of)
                .filter(|n| *n > 0)
                .sum::<i64>()
                .unsigned_abs()
        };
        chaos
            .scene
            .step("compare every row with the other version and with the known final state");
        Ok(Self {
            log: log.unsigned_abs(),
            unapplied,
            lost: surplus(&expected, &found),
            doubled: surplus(&found, &expected),
            versions: chaos.scene.verify_against(NEW, LIVE).await?,
            oracle: [
                chaos.scene.verify_expected(NEW).await?,
                chaos.scene.verify_expected(LIVE).await?,
            ],
        })
    }

    /// Rows that differ from what they have to be, over all comparisons, and keys that differ
    /// as intended in another number than expected.
    pub(super) fn differences(&self) -> u64 {
        let [new, live] = &self.oracle;
        let unintended = self
            .versions
            .intended
            .abs_diff(self.versions.intended_expected);
        self.versions.differences + new.differences + live.differences + unintended
    }

    /// The first differences, a sentence each.
    pub(super) fn samples(&self) -> impl Iterator<Item = &String> {
        let [new, live] = &self.oracle;
        [&self.versions, new, live]
            .into_iter()
            .flat_map(|c| &c.samples)
    }

    /// Rows that were compared.
    pub(super) fn rows(&self) -> u64 {
        self.versions.rows + self.oracle.iter().map(|c| c.rows).sum::<u64>()
    }
}

/// Where each partition of the log ends.
async fn ends(chaos: &Chaos) -> Result<BTreeMap<i32, i64>, Failure> {
    let log = chaos.scene.log();
    let source = log.place.log(&log.name)?;
    let mut ends = BTreeMap::new();
    for partition in 0..chaos.scenario.partitions.cast_signed() {
        let marks = source.watermarks(Partition(partition)).await?;
        ends.insert(partition, marks.high.0);
    }
    Ok(ends)
}

/// Waits until both versions have applied the whole log; how much one of them has not.
async fn wait_end(chaos: &mut Chaos, ends: &BTreeMap<i32, i64>) -> Result<u64, Failure> {
    let deadline = Instant::now() + STEP_BOUND;
    let all: i64 = ends.values().sum();
    let mut behind = all;
    while Instant::now() < deadline {
        chaos.check()?;
        if let Some(marks) = chaos.watch.look().await {
            if [LIVE, NEW].iter().all(|v| marks.vector(v) == *ends) {
                return Ok(0);
            }
            behind = [LIVE, NEW]
                .map(|v| all - marks.sum(v))
                .into_iter()
                .max()
                .unwrap_or(all);
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(behind.unsigned_abs())
}

type Counts = BTreeMap<i32, i64>;

/// Deposits by partition as the rows count them, and as the oracle does at the end of the log.
async fn deposits(chaos: &Chaos, ends: &Counts) -> Result<(Counts, Counts), Failure> {
    let url = chaos.scene.postgres().to_owned();
    let params = params(&chaos.scene.args().stream, Format::Proto)?;
    let ends = ends.clone();
    let counted = tokio::task::spawn_blocking(move || {
        let told = refold_local::testing::query(&url, DEPOSITS);
        let told = told.map_err(|error| Failure::error("count the deposits", error))?;
        let cells = told.lines().filter_map(|line| line.split_once('|'));
        let found = cells.filter_map(|(p, n)| Some((p.parse().ok()?, n.parse().ok()?)));
        let found: Counts = found.collect();
        let oracle = Oracle::new(&params)?;
        let mut expected = Counts::new();
        for (partition, end) in ends {
            let mut count = 0;
            oracle.for_each_in_partition(partition.unsigned_abs(), end.unsigned_abs(), |row| {
                count += row.v4.deposits_count;
            });
            if count > 0 {
                expected.insert(partition, count);
            }
        }
        Ok((found, expected))
    });
    counted
        .await
        .map_err(|error| Failure::error("count the deposits", error))?
}
