//! What each round does: where a projector is stopped, and when it goes on. One seed decides all.

use refold_bench::order;

/// The points of a bulk load, in the order in which a partition meets them.
const BULK_POINTS: [&str; 15] = [
    "takeover::before",
    "takeover::after",
    "fold::before",
    "fold::after",
    "write::before",
    "write::after",
    "copy::before",
    "copy::after",
    "index::before",
    "index::after",
    "commit::before",
    "send::before",
    "send::after",
    "answer::after",
    "commit::after",
];

/// The points of a batch.
const APPLY_POINTS: [&str; 9] = [
    "takeover::before",
    "takeover::after",
    "fold::before",
    "fold::after",
    "write::before",
    "send::before",
    "send::after",
    "answer::after",
    "commit::after",
];

/// A batch fails at the first to this time that its point is reached. The smallest partition has
/// more batches than that, so that the stopped one always leaves something to its successor.
const MOST_BATCHES: u64 = 8;

/// How rows are written when the projector is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Path {
    /// From nothing.
    Bulk,
    /// Onto what is loaded already.
    Apply,
}

/// What the projectors are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Replay,
    Live,
}

/// When the stopped process goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// As soon as its successor owns all partitions: both are at work.
    AtOnce,
    /// When the successor has moved a mark.
    BehindProgress,
    /// When the successor has applied the whole log.
    BehindTheEnd,
}

impl Path {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Bulk => "bulk",
            Self::Apply => "apply",
        }
    }
}

impl Mode {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Replay => "replay",
            Self::Live => "live",
        }
    }
}

impl Moment {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::AtOnce => "at once",
            Self::BehindProgress => "behind progress",
            Self::BehindTheEnd => "behind the end",
        }
    }
}

/// A point on a write path in a mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) path: Path,
    pub(super) mode: Mode,
    pub(super) point: &'static str,
}

/// All cells.
pub(super) fn cells() -> Vec<Cell> {
    let paths = [
        (Path::Bulk, &BULK_POINTS[..]),
        (Path::Apply, &APPLY_POINTS[..]),
    ];
    let mut all = Vec::new();
    for (path, points) in paths {
        for mode in [Mode::Replay, Mode::Live] {
            all.extend(points.iter().map(|point| Cell { path, mode, point }));
        }
    }
    all
}

/// One round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    /// Counted from 1.
    pub(super) number: usize,
    pub(super) cell: Cell,
    /// The partition whose point stops the process.
    pub(super) partition: i32,
    /// The how manieth time that the point is reached.
    pub(super) nth: u64,
    pub(super) moment: Moment,
}

impl Plan {
    /// The failpoint, as `REFOLD_FAILPOINTS` takes it.
    pub(super) fn failpoint(&self) -> String {
        let Self { partition, nth, .. } = self;
        format!("{}:{partition}=stop@{nth}", self.cell.point)
    }
}

/// `rounds` rounds over all cells, each of which comes as often as any other or once more.
pub(super) fn plans(rounds: usize, partitions: i32, seed: u64) -> Vec<Plan> {
    let cells = cells();
    let mut dice = fastrand::Rng::with_seed(seed);
    let turns = order::rounds(cells.len(), rounds.div_ceil(cells.len()), seed);
    let turns = turns.into_iter().take(rounds);
    turns
        .zip(1..)
        .map(|(turn, number)| {
            let cell = cells[turn.setting];
            // A load meets each of its points once; so does a batch's process its take-over.
            let once = cell.path == Path::Bulk || cell.point.starts_with("takeover");
            let moments = [Moment::AtOnce, Moment::BehindProgress, Moment::BehindTheEnd];
            Plan {
                number,
                cell,
                partition: dice.i32(0..partitions.max(1)),
                nth: if once { 1 } else { dice.u64(1..=MOST_BATCHES) },
                moment: moments[dice.usize(0..moments.len())],
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_hundred_rounds_meet_each_of_48_cells_four_or_five_times() {
        let plans = plans(200, 2, 1);
        assert_eq!((plans.len(), cells().len()), (200, 48));
        for cell in cells() {
            let met = plans.iter().filter(|plan| plan.cell == cell).count();
            assert!((4..=5).contains(&met), "{cell:?}: {met}");
        }
    }

    #[test]
    fn the_seed_decides_every_round() {
        assert_eq!(plans(50, 2, 7), plans(50, 2, 7));
        assert_ne!(plans(50, 2, 7), plans(50, 2, 8));
    }

    #[test]
    fn a_plan_is_spelled_as_a_failpoint() {
        let plan = Plan {
            number: 1,
            cell: Cell {
                path: Path::Apply,
                mode: Mode::Live,
                point: "send::after",
            },
            partition: 1,
            nth: 3,
            moment: Moment::AtOnce,
        };
        assert_eq!(plan.failpoint(), "send::after:1=stop@3");
    }
}
