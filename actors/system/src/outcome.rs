//! How a projector process ends, and what its exit code is.

use std::collections::BTreeMap;

use refold_domain::position::Partition;

use crate::projector::Ending;

/// A process that did what it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A replay reached its historical end on every partition.
    Finished,
    /// It was told to drain, and everything that was in a transaction is durable or undone.
    Drained,
}

/// A process that cannot go on. Each says which partition and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It was asked for something that cannot be done; nothing was changed.
    #[error("refused: {0}")]
    Refused(String),
    /// The log or the store did not answer at the start.
    #[error("{0}")]
    Unreachable(String),
    /// Another process took over.
    #[error("fenced off: {reason}")]
    Fenced {
        /// The first partition that noticed.
        partition: Partition,
        /// One sentence.
        reason: String,
    },
    /// A projector stands in front of an event, or a log, that it cannot apply.
    #[error("halted: {reason}")]
    Halted {
        /// The first partition that halted.
        partition: Partition,
        /// One sentence, with the offset.
        reason: String,
    },
    /// A projector failed too often, or in a way that a restart does not change.
    #[error("broken: {reason}")]
    Broken {
        /// The first partition that broke; `None` for the supervisor itself.
        partition: Option<Partition>,
        /// One sentence.
        reason: String,
    },
}

impl Failure {
    /// The exit code of a process that ends so.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Refused(_) => 3,
            Self::Unreachable(_) => 69,
            Self::Fenced { .. } | Self::Halted { .. } | Self::Broken { .. } => 1,
        }
    }
}

/// What a process comes to whose projectors have all ended. The gravest ending
/// speaks for all; each of the others stays on the board.
pub(crate) fn judge(endings: &BTreeMap<Partition, Ending>) -> Result<Outcome, Failure> {
    let worst = endings.iter().max_by_key(|(p, e)| (gravity(e), -p.0));
    let Some((&partition, ending)) = worst else {
        return Ok(Outcome::Finished);
    };
    match ending.clone() {
        Ending::Finished => Ok(Outcome::Finished),
        Ending::Drained => Ok(Outcome::Drained),
        Ending::Halted(reason) => Err(Failure::Halted { partition, reason }),
        Ending::Broken(reason) => Err(Failure::Broken {
            partition: Some(partition),
            reason,
        }),
        Ending::Fenced(reason) => Err(Failure::Fenced { partition, reason }),
        Ending::Refused(reason) => Err(Failure::Refused(reason)),
    }
}

fn gravity(ending: &Ending) -> u8 {
    match ending {
        Ending::Finished => 0,
        Ending::Drained => 1,
        Ending::Halted(_) => 2,
        Ending::Broken(_) => 3,
        Ending::Fenced(_) => 4,
        Ending::Refused(_) => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(endings: &[Ending]) -> Result<Outcome, Failure> {
        let numbered = (0..).map(Partition).zip(endings.iter().cloned());
        judge(&numbered.collect())
    }

    #[test]
    fn the_gravest_ending_of_the_lowest_partition_speaks_for_the_process() {
        assert_eq!(
            judged(&[Ending::Finished, Ending::Finished]),
            Ok(Outcome::Finished)
        );
        let mixed = [Ending::Finished, Ending::Drained];
        assert_eq!(judged(&mixed), Ok(Outcome::Drained));
        let halted = |why: &str| Ending::Halted(why.to_owned());
        let two = judged(&[Ending::Finished, halted("a"), halted("b")]);
        let expected = Failure::Halted {
            partition: Partition(1),
            reason: "a".to_owned(),
        };
        assert_eq!(two, Err(expected));
        let fenced = judged(&[halted("a"), Ending::Fenced("b".to_owned())]);
        assert!(matches!(fenced, Err(Failure::Fenced { .. })));
    }

    #[test]
    fn every_failure_has_an_exit_code_that_is_not_success() {
        let failures = [
            Failure::Refused(String::new()),
            Failure::Unreachable(String::new()),
            Failure::Broken {
                partition: None,
                reason: String::new(),
            },
        ];
        assert_eq!(failures.map(|f| f.exit_code()), [3, 69, 1]);
    }
}
