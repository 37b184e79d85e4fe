//! A version's life: `building -> ready -> active <-> previous -> retired -> dropped`.

use std::fmt;

/// The id that tables and control rows of a version carry. Labels never reach SQL text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionId(pub i64);

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The state of one version of a projection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VersionState {
    /// Its projectors work through history; nobody reads it.
    Building,
    /// Every partition reached the tail once; it may be promoted.
    Ready,
    /// It serves reads. One version of a projection at most.
    Active,
    /// It served reads before; it keeps projecting so that a rollback is warm.
    Previous,
    /// Its build cannot go on; the reason is stored.
    Failed,
    /// It projects no more and waits for its last readers.
    Retired,
    /// Its tables are gone.
    Dropped,
}

impl VersionState {
    /// All states, in the order of a version's life.
    pub const ALL: [Self; 7] = [
        Self::Building,
        Self::Ready,
        Self::Active,
        Self::Previous,
        Self::Failed,
        Self::Retired,
        Self::Dropped,
    ];

    /// The word in tables, answers and metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Building => "building",
            Self::Ready => "ready",
            Self::Active => "active",
            Self::Previous => "previous",
            Self::Failed => "failed",
            Self::Retired => "retired",
            Self::Dropped => "dropped",
        }
    }

    /// The state of a word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.word() == word)
    }

    /// Whether the state machine allows the step. Active versions are never
    /// retired or failed: another version must be promoted first.
    pub const fn may_become(self, next: Self) -> bool {
        use VersionState::{Active, Building, Dropped, Failed, Previous, Ready, Retired};
        matches!(
            (self, next),
            (Building, Ready | Failed | Retired)
                | (Ready, Active | Failed | Retired)
                | (Active, Previous)
                | (Previous, Active | Failed | Retired)
                | (Failed, Building | Retired)
                | (Retired, Dropped)
        )
    }

    /// Whether a version in this state is a build that can be given up: finished or not, or
    /// failed. One that serves or served is retired instead.
    pub const fn may_be_aborted(self) -> bool {
        matches!(self, Self::Building | Self::Ready | Self::Failed)
    }

    /// Whether a version in this state is a rebuild, which may stand still for the sake of what
    /// serves. One that serves or served goes on: readers, or a rollback, wait for its rows.
    pub const fn may_be_held(self) -> bool {
        matches!(self, Self::Building | Self::Ready)
    }

    /// Whether projectors write to a version in this state.
    pub const fn is_projected(self) -> bool {
        matches!(
            self,
            Self::Building | Self::Ready | Self::Active | Self::Previous
        )
    }

    /// Whether the read statement may have to answer from it.
    pub const fn is_readable(self) -> bool {
        matches!(self, Self::Ready | Self::Active | Self::Previous)
    }
}

impl fmt::Display for VersionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_active_version_only_steps_down_to_previous() {
        for next in VersionState::ALL {
            assert_eq!(
                VersionState::Active.may_become(next),
                next == VersionState::Previous
            );
        }
    }

    #[test]
    fn nothing_becomes_active_without_having_been_ready() {
        for state in VersionState::ALL {
            let allowed = matches!(state, VersionState::Ready | VersionState::Previous);
            assert_eq!(state.may_become(VersionState::Active), allowed, "{state}");
        }
    }

    /// The table of the architecture page says the same as [`VersionState::may_become`].
    #[test]
    fn the_life_that_is_drawn_is_the_one_that_is_lived() {
        let page = include_str!("../../ARCHITECTURE.md");
        let (_, life) = page.split_once("## A version's life").expect("the section");
        let mut seen = 0;
        for line in life.lines().take_while(|line| !line.starts_with("## ")) {
            let cells: Vec<_> = line.split('|').map(str::trim).collect();
            let Some(state) = cells.get(1).and_then(|word| VersionState::parse(word)) else {
                continue;
            };
            let drawn: Vec<_> = cells[2]
                .split(", ")
                .filter_map(VersionState::parse)
                .collect();
            let lived: Vec<_> = VersionState::ALL
                .into_iter()
                .filter(|next| state.may_become(*next))
                .collect();
            let same = drawn.len() == lived.len() && lived.iter().all(|s| drawn.contains(s));
            assert!(same, "{state}: drawn {drawn:?}, lived {lived:?}");
            seen += 1;
        }
        assert_eq!(seen, VersionState::ALL.len());
    }

    #[test]
    fn words_read_back() {
        for state in VersionState::ALL {
            assert_eq!(VersionState::parse(state.word()), Some(state));
        }
    }

    #[test]
    fn each_state_says_what_may_be_done_to_a_version() {
        let table = VersionState::ALL.map(|state| {
            let may = [
                (state.is_projected(), "projected"),
                (state.is_readable(), "readable"),
                (state.may_be_aborted(), "aborted"),
                (state.may_be_held(), "held"),
            ];
            let may = may.iter().filter(|(may, _)| *may).map(|(_, word)| *word);
            format!("{state}: {}", may.collect::<Vec<_>>().join(" "))
        });
        assert_eq!(
            table,
            [
                "building: projected aborted held",
                "ready: projected readable aborted held",
                "active: projected readable",
                "previous: projected readable",
                "failed: aborted",
                "retired: ",
                "dropped: ",
            ]
        );
        assert_eq!(VersionId(12).to_string(), "12");
    }
}
