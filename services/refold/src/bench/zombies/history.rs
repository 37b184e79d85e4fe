//! Every state that a mark's row has had: a trigger keeps each as it is committed, so that what
//! the rounds promise is asked of all writes and not of samples.

use std::collections::BTreeMap;

use crate::cli::Failure;

/// Keeps each state of a mark's row. Numbers are drawn under the row's lock, so that of one
/// partition they are in the order of the commits.
pub(super) const KEEP: &str = "create table public.mark_history (id bigint generated always as \
    identity primary key, partition integer, epoch bigint, next_offset bigint); \
    create function public.keep_mark() returns trigger language plpgsql as $$ begin \
    insert into public.mark_history (partition, epoch, next_offset) \
    values (new.partition, new.epoch, new.next_offset); return new; end $$; \
    create trigger keep_mark after insert or update on refold.offsets \
    for each row execute function public.keep_mark()";

/// All of them.
pub(super) const ASK: &str =
    "select partition, epoch, next_offset from public.mark_history order by id";

/// The marks as they are.
pub(super) const MARKS: &str =
    "select partition, epoch, next_offset from refold.offsets order by partition";

/// A state of a mark's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) epoch: i64,
    /// The mark, exclusive.
    pub(super) next: i64,
}

/// The marks by partition; one that nobody has taken over yet is not there.
pub(super) type Marks = BTreeMap<i32, Mark>;

/// Reads the lines of an answer.
///
/// # Errors
/// A line that is no mark.
pub(super) fn read(answer: &str) -> Result<Vec<(i32, Mark)>, Failure> {
    let line = |line: &str| {
        let mut fields = line.split('|');
        let partition = fields.next()?.parse().ok()?;
        let epoch = fields.next()?.parse().ok()?;
        let next = fields.next()?.parse().ok()?;
        Some((partition, Mark { epoch, next }))
    };
    let wrong = |text: &str| Failure::error("read a mark", format!("{text:?} is none"));
    let lines = answer.lines().filter(|text| !text.trim().is_empty());
    lines
        .map(|text| line(text).ok_or_else(|| wrong(text)))
        .collect()
}

/// The sum of all marks.
pub(super) fn applied(marks: &Marks) -> i64 {
    marks.values().map(|mark| mark.next).sum()
}

/// What the history says of the writes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Audit {
    /// States whose mark is below one before it.
    pub(super) moved_back: u64,
    /// States under an epoch that an earlier one had left behind: writes behind a take-over.
    pub(super) older_epoch: u64,
}

/// Goes through a history in its order.
pub(super) fn audit(history: &[(i32, Mark)]) -> Audit {
    let mut last = Marks::new();
    let mut audit = Audit::default();
    for (partition, mark) in history {
        if let Some(before) = last.insert(*partition, *mark) {
            audit.moved_back += u64::from(mark.next < before.next);
            audit.older_epoch += u64::from(mark.epoch < before.epoch);
        }
    }
    audit
}

/// The mark with which a partition was taken over first behind `epoch`.
pub(super) fn taken_over(history: &[(i32, Mark)], partition: i32, epoch: i64) -> Option<Mark> {
    let mut own = history.iter().filter(|(p, _)| *p == partition);
    own.find(|(_, mark)| mark.epoch > epoch)
        .map(|(_, mark)| *mark)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HISTORY: &str = "0|1|0\n1|1|0\n1|1|500\n1|2|500\n1|2|900\n0|1|40\n";

    #[test]
    fn a_history_without_a_zombies_write_is_clean() {
        let history = read(HISTORY).expect("marks");
        assert_eq!(audit(&history), Audit::default());
        let taken = taken_over(&history, 1, 1).expect("taken over");
        assert_eq!((taken.epoch, taken.next), (2, 500));
        assert_eq!(taken_over(&history, 0, 1), None);
    }

    #[test]
    fn a_write_behind_a_take_over_and_a_mark_that_moves_back_are_counted() {
        let history = read(&format!("{HISTORY}1|1|1000\n1|2|700\n")).expect("marks");
        let expected = Audit {
            moved_back: 1,
            older_epoch: 1,
        };
        assert_eq!(audit(&history), expected);
    }

    #[test]
    fn what_is_no_mark_is_refused() {
        assert!(read("1|2").is_err());
    }
}
