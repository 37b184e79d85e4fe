//! What ended a process that had been stopped: read from what it says once it goes on.

/// How the line begins in which a process says why it ends.
const EXIT_LINE: &str = "refold: ";

/// What ended the first process in the partition at whose point it was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// The fence: its write was refused.
    Fence,
    /// Its session was ended by the successor or by the server, and it saw another owner.
    DeadSession,
    /// It was told by the registry before it wrote anything.
    Told,
    /// It had nothing left to write: its last commit was in before the take-over.
    Done,
    /// It was stopped in front of its own take-over and is the later of the two.
    Later,
    /// Nothing that it says.
    Unknown,
}

impl Ending {
    pub(super) const ALL: [Self; 6] = [
        Self::Fence,
        Self::DeadSession,
        Self::Told,
        Self::Done,
        Self::Later,
        Self::Unknown,
    ];

    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Fence => "fenced",
            Self::DeadSession => "dead_session",
            Self::Told => "told",
            Self::Done => "nothing_left",
            Self::Later => "later",
            Self::Unknown => "unknown",
        }
    }
}

/// What a process gave as the reason of its end, its exit line without `refold: `; nothing of one
/// that ended in good order.
///
/// It need not be the last line: a thread that ends behind it may still say something.
pub(super) fn last_words(said: &str) -> Option<&str> {
    let mut backwards = said.lines().rev();
    backwards.find_map(|line| line.strip_prefix(EXIT_LINE))
}

/// Finds the first line about the partition that says what ended it.
pub(super) fn ended_by(said: &str, partition: i32) -> Ending {
    let of_partition = format!("partition=p{partition} ");
    let own = said.lines().filter(|line| line.contains(&of_partition));
    let ending = |line: &str| {
        let has = |part: &str| line.contains(part);
        if has("belongs to epoch") || has("this batch begins at") {
            Some(Ending::Fence)
        } else if has("held back") {
            Some(Ending::DeadSession)
        } else if has("was taken over by another process") {
            Some(Ending::Told)
        } else if has("projector ended") {
            Some(Ending::Done)
        } else {
            None
        }
    };
    own.filter_map(ending).next().unwrap_or(Ending::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_behind_the_exit_line_hides_no_reason() {
        let log = " INFO refold_system: partition=p1 projector ended: fenced off\n";
        let exit = "refold: p1 was fenced off: taken over\n";
        let behind = " INFO opentelemetry_sdk: name=\"MeterProvider.Drop\"\n";
        let said = [log, exit, behind].concat();
        assert_eq!(last_words(&said), Some("p1 was fenced off: taken over"));
        assert_eq!(last_words(&[log, behind].concat()), None);
    }

    #[test]
    fn what_came_first_is_what_ended_it() {
        let line = |partition: i32, text: &str| {
            format!("WARN refold_system: {text} version=1 partition=p{partition} more\n")
        };
        let dead = line(1, "held back") + &line(1, "p1 was taken over by another process");
        assert_eq!(ended_by(&dead, 1), Ending::DeadSession);
        assert_eq!(ended_by(&dead, 0), Ending::Unknown);
        let fenced = line(0, "projector ended") + &line(1, "partition 1 belongs to epoch 3");
        assert_eq!(ended_by(&fenced, 1), Ending::Fence);
        assert_eq!(ended_by(&fenced, 0), Ending::Done);
        let told = line(1, "projector ended: p1 was taken over by another process");
        assert_eq!(ended_by(&told, 1), Ending::Told);
    }
}
