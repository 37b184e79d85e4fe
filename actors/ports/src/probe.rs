//! Addresses for crashes: named places in a projector, and in the writer under it, where a
//! test or a chaos run can wait, fail or kill, so that "mid-batch" is the same place every time.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use refold_domain::position::Partition;

/// A stage that can be stopped before and after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Word {
    /// Taking the partition over.
    TakeOver,
    /// Folding records in memory.
    Fold,
    /// Writing: of a batch its one transaction, of a bulk load the opening of it (fence and leaf).
    Write,
    /// Sending a frame of tuples of a bulk load.
    Copy,
    /// Building the key of a bulk load.
    Index,
    /// The commit: of a bulk load its last statement, of a batch the end of its transaction.
    Commit,
    /// Sending the commit. Before: fence, rows and mark are written in the open transaction.
    /// After: the commit is on its way, and nobody has read its answer.
    Send,
    /// Reading the commit's answer. Before: as behind [`Word::Send`]. After: the server has
    /// said that it is in, and the writer does not act on it yet.
    Answer,
}

impl Word {
    /// All words, in the order in which a partition meets them.
    pub const ALL: [Self; 8] = [
        Self::TakeOver,
        Self::Fold,
        Self::Write,
        Self::Copy,
        Self::Index,
        Self::Commit,
        Self::Send,
        Self::Answer,
    ];

    const fn text(self) -> &'static str {
        match self {
            Self::TakeOver => "takeover",
            Self::Fold => "fold",
            Self::Write => "write",
            Self::Copy => "copy",
            Self::Index => "index",
            Self::Commit => "commit",
            Self::Send => "send",
            Self::Answer => "answer",
        }
    }
}

/// Which side of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Edge {
    /// Nothing of the stage is done.
    Before,
    /// All of it is done.
    After,
}

/// One place of one partition. Written `WORD::EDGE:PARTITION`, such as `commit::before:3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Point {
    /// The stage.
    pub word: Word,
    /// Its side.
    pub edge: Edge,
    /// The partition.
    pub partition: Partition,
}

impl Point {
    /// Reads what [`Point`]'s `Display` wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let (place, partition) = text.rsplit_once(':')?;
        let (word, edge) = place.split_once("::")?;
        Some(Self {
            word: Word::ALL.into_iter().find(|w| w.text() == word)?,
            edge: match edge {
                "before" => Edge::Before,
                "after" => Edge::After,
                _ => return None,
            },
            partition: Partition(partition.parse().ok()?),
        })
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let edge = match self.edge {
            Edge::Before => "before",
            Edge::After => "after",
        };
        write!(f, "{}::{edge}:{}", self.word.text(), self.partition.0)
    }
}

/// A hook at every [`Point`]. Production runs without one.
#[async_trait]
pub trait Probe: Send + Sync {
    /// The projector reached the point and waits for the answer.
    ///
    /// # Errors
    /// A sentence: the projector fails with it as if the stage itself had failed.
    async fn reach(&self, point: Point) -> Result<(), String>;
}

/// A hook, or none.
#[derive(Clone, Default)]
pub struct Probed(Option<Arc<dyn Probe>>);

impl Probed {
    /// With this hook.
    pub fn by(probe: Arc<dyn Probe>) -> Self {
        Self(Some(probe))
    }

    /// Whether there is one.
    pub fn is_some(&self) -> bool {
        self.0.is_some()
    }

    /// Waits at a place, where there is a hook.
    ///
    /// # Errors
    /// As [`Probe::reach`].
    pub async fn reach(&self, word: Word, edge: Edge, partition: Partition) -> Result<(), String> {
        let Some(probe) = &self.0 else { return Ok(()) };
        let point = Point {
            word,
            edge,
            partition,
        };
        probe.reach(point).await
    }
}

impl fmt::Debug for Probed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Probed").field(&self.is_some()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_reads_back() {
        for word in Word::ALL {
            for edge in [Edge::Before, Edge::After] {
                let partition = Partition(12);
                let point = Point {
                    word,
                    edge,
                    partition,
                };
                assert_eq!(Point::parse(&point.to_string()), Some(point));
            }
        }
        for wrong in [
            "",
            "commit",
            "commit::before",
            "commit::beside:1",
            "x::after:1",
        ] {
            assert_eq!(Point::parse(wrong), None, "{wrong}");
        }
    }
}
