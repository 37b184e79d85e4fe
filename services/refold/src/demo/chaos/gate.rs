//! The marks of both versions, and the gate that a fault has to leave them through.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use refold_domain::version::VersionId;
use refold_ports::Registry;
use refold_store_postgres::PgRegistry;

use crate::demo::LIVE;
use crate::demo::NEW;

/// How long the database may take to tell the marks; after it, it is asked again.
const ANSWER: Duration = Duration::from_secs(2);

/// The marks of all versions at a moment: the mark by version and partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Marks(BTreeMap<(&'static str, i32), i64>);

impl Marks {
    fn of(&self, version: &str) -> impl Iterator<Item = (&(&'static str, i32), i64)> {
        let all = self.0.iter().map(|(at, next)| (at, *next));
        all.filter(move |((label, _), _)| *label == version)
    }

    /// Events below the marks of a version.
    pub(super) fn sum(&self, version: &str) -> i64 {
        self.of(version).map(|(_, next)| next).sum()
    }

    /// Partitions of a version that somebody has taken over.
    pub(super) fn owned(&self, version: &str) -> usize {
        self.of(version).count()
    }

    /// The marks of a version by partition.
    pub(super) fn vector(&self, version: &str) -> BTreeMap<i32, i64> {
        let all = self
            .of(version)
            .map(|((_, partition), next)| (*partition, next));
        all.collect()
    }

    /// The partitions that stand where they stood `before`, a sentence per version.
    pub(super) fn still_since(&self, before: &Self) -> Vec<String> {
        let still = |version| {
            let same = self
                .of(version)
                .filter(|(at, next)| before.0.get(at) == Some(next));
            let told: Vec<_> = same
                .map(|((_, p), next)| format!("p{p} at {next}"))
                .collect();
            (!told.is_empty()).then(|| format!("{version} stands still in {}", told.join(", ")))
        };
        [LIVE, NEW].into_iter().filter_map(still).collect()
    }
}

/// What a version has to do for a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    /// Commit so many offsets, in whichever partitions: a partition that is built commits once.
    Sum,
    /// Commit so many offsets, and some in every partition.
    EveryPartition,
}

/// A gate: what has to be committed since a moment.
#[derive(Debug)]
pub(super) struct Gate(Marks);

impl Gate {
    /// From these marks on.
    pub(super) fn from(marks: Marks) -> Self {
        Self(marks)
    }

    /// Where it began.
    pub(super) const fn marks(&self) -> &Marks {
        &self.0
    }

    /// Whether every version has committed `offsets` since, as it is expected to.
    pub(super) fn is_passed(
        &self,
        now: &Marks,
        expected: &[(&'static str, Expected)],
        offsets: i64,
    ) -> bool {
        expected.iter().all(|(version, expected)| {
            let enough = now.sum(version) - self.0.sum(version) >= offsets;
            let before = self.0.vector(version);
            let mut all = now.of(version);
            let moved = *expected == Expected::Sum
                || all.all(|((_, partition), next)| before.get(partition) < Some(&next));
            enough && moved
        })
    }
}

/// Looks at the marks, and whether one ever moves back.
pub(super) struct MarkWatch {
    registry: Arc<PgRegistry>,
    ids: BTreeMap<&'static str, VersionId>,
    highest: Marks,
    moved_back: u64,
}

impl MarkWatch {
    pub(super) fn new(registry: Arc<PgRegistry>) -> Self {
        Self {
            registry,
            ids: BTreeMap::new(),
            highest: Marks::default(),
            moved_back: 0,
        }
    }

    /// How often a mark was seen below an earlier one.
    pub(super) fn moved_back(&self) -> u64 {
        self.moved_back
    }

    /// The marks now; `None` while the database does not tell.
    pub(super) async fn look(&mut self) -> Option<Marks> {
        let asked = tokio::time::timeout(ANSWER, self.ask()).await;
        let marks = asked.ok().flatten()?;
        for (at, next) in &marks.0 {
            let highest = self.highest.0.entry(*at).or_insert(*next);
            self.moved_back += u64::from(next < highest);
            *highest = (*highest).max(*next);
        }
        Some(marks)
    }

    async fn ask(&mut self) -> Option<Marks> {
        let mut marks = Marks::default();
        for version in [LIVE, NEW] {
            let id = match self.ids.get(version) {
                Some(id) => *id,
                None => match self.registry.version(version).await {
                    Ok(row) => *self.ids.entry(version).or_insert(row.id),
                    // Registered by its first projector.
                    Err(refold_ports::registry::RegistryError::UnknownVersion(_)) => continue,
                    Err(_) => return None,
                },
            };
            for mark in self.registry.marks(id).await.ok()? {
                marks.0.insert((version, mark.partition.0), mark.next.0);
            }
        }
        Some(marks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(live: [i64; 2], new: [i64; 2]) -> Marks {
        let of = |version, [one, two]: [i64; 2]| [((version, 0), one), ((version, 1), two)];
        Marks(of(LIVE, live).into_iter().chain(of(NEW, new)).collect())
    }

    #[test]
    fn a_gate_wants_enough_of_each_version_and_something_of_each_partition() {
        let gate = Gate::from(marks([10, 10], [0, 5]));
        let every = [
            (LIVE, Expected::EveryPartition),
            (NEW, Expected::EveryPartition),
        ];
        let built = [(LIVE, Expected::EveryPartition), (NEW, Expected::Sum)];
        for (now, passes_every, passes_built) in [
            (marks([10, 10], [0, 5]), false, false),
            (marks([15, 15], [5, 10]), true, true),
            (marks([15, 14], [5, 10]), false, false),
            (marks([20, 10], [5, 10]), false, false),
            (marks([15, 15], [10, 5]), false, true),
            (marks([15, 15], [4, 10]), false, false),
        ] {
            assert_eq!(gate.is_passed(&now, &every, 10), passes_every, "{now:?}");
            assert_eq!(gate.is_passed(&now, &built, 10), passes_built, "{now:?}");
        }
    }

    #[test]
    fn partitions_that_stand_still_are_named_by_version() {
        let before = marks([10, 10], [0, 5]);
        let after = marks([10, 11], [0, 5]);
        assert_eq!(
            after.still_since(&before),
            [
                format!("{LIVE} stands still in p0 at 10"),
                format!("{NEW} stands still in p0 at 0, p1 at 5"),
            ]
        );
        assert!(marks([11, 11], [1, 6]).still_since(&before).is_empty());
    }

    #[test]
    fn a_version_that_is_not_there_passes_no_gate() {
        let gate = Gate::from(Marks::default());
        let expected = [(LIVE, Expected::EveryPartition)];
        assert!(!gate.is_passed(&Marks::default(), &expected, 1));
        assert!(gate.is_passed(&marks([1, 1], [0, 0]), &expected, 1));
    }
}
