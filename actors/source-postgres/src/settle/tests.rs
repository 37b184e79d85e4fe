//! The rule on a model of a table, step by step, and on what locks look like.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use super::*;

fn writer(transaction: &str, first: Option<i64>) -> Writer {
    Writer {
        transaction: transaction.to_owned(),
        first,
    }
}

#[test]
fn nobody_writes_and_the_end_is_one_past_the_last_position() {
    assert_eq!(Candidate::new(None).look(&[]), Some(Offset(0)));
    assert_eq!(Candidate::new(Some(0)).look(&[]), Some(Offset(1)));
}

#[cfg(not(feature = "mutation-no-settled-end"))]
#[test]
fn the_end_is_the_first_position_that_is_announced() {
    let mut candidate = Candidate::new(Some(9));
    let writers = [writer("3/1", Some(7)), writer("4/1", Some(5))];
    assert_eq!(candidate.look(&writers), Some(Offset(5)));
    // Taken after the last position was read: it holds nothing back.
    assert_eq!(
        Candidate::new(Some(9)).look(&[writer("3/1", Some(12))]),
        Some(Offset(10))
    );
}

#[cfg(not(feature = "mutation-no-settled-end"))]
#[test]
fn who_announced_nothing_is_waited_for_and_who_came_later_is_not() {
    let mut candidate = Candidate::new(Some(9));
    assert_eq!(candidate.look(&[writer("3/1", None)]), None);
    assert_eq!(candidate.waits_for(), "3/1");
    let both = [writer("3/1", None), writer("4/1", None)];
    assert_eq!(candidate.look(&both), None);
    assert_eq!(candidate.waits_for(), "3/1");
    let announced = [writer("3/1", Some(8)), writer("4/1", None)];
    assert_eq!(candidate.look(&announced), Some(Offset(8)));
}

#[cfg(not(feature = "mutation-no-settled-end"))]
#[test]
fn a_prepared_transaction_without_its_old_name_is_waited_for() {
    let mut candidate = Candidate::new(Some(9));
    assert_eq!(candidate.look(&[writer("3/1", None)]), None);
    assert_eq!(candidate.look(&[writer("-1/742", None)]), None);
    assert_eq!(candidate.look(&[]), Some(Offset(10)));
}

#[test]
fn the_low_bits_of_a_position_stand_for_the_nearest_one() {
    for (position, bound) in [
        (0, 5),
        (5_000_000_000, 5_000_000_010),
        (4_294_967_295, 4_294_967_300),
        (4_294_967_296, 4_294_967_295),
        (0x1_7fff_ffff, 0x1_8000_0001),
    ] {
        assert_eq!(whole(position & LOW_BITS, bound), position, "{position}");
    }
}

/// One transaction of the model.
#[derive(Debug, Clone, Default)]
struct Transaction {
    /// Whether it holds the table.
    holds: bool,
    /// What it announced, at the depth of savepoints it did it at.
    first: Option<i64>,
    /// A position that was taken and neither announced nor written yet.
    taken: Option<i64>,
    /// Rows that it wrote.
    rows: BTreeSet<i64>,
    /// What it was when its savepoint was set.
    savepoint: Option<(bool, Option<i64>, BTreeSet<i64>)>,
}

/// A table, its sequence and the locks on it.
#[derive(Debug, Default)]
struct Model {
    handed_out: i64,
    running: BTreeMap<String, Transaction>,
    committed: BTreeSet<i64>,
    begun: usize,
}

impl Model {
    fn last(&self) -> Option<i64> {
        (self.handed_out > 0).then(|| self.handed_out - 1)
    }

    fn writers(&self) -> Vec<Writer> {
        let held = self.running.iter().filter(|(_, t)| t.holds);
        held.map(|(name, t)| writer(name, t.first)).collect()
    }

    /// One step of one transaction.
    fn step(&mut self, rng: &mut fastrand::Rng) {
        if self.running.len() < 4 && rng.u8(..4) == 0 {
            self.begun += 1;
            let name = format!("{}/{}", self.begun % 7, self.begun);
            self.running.insert(name, Transaction::default());
            return;
        }
        let names: Vec<String> = self.running.keys().cloned().collect();
        let Some(name) = rng.choice(names) else {
            return;
        };
        let Some(transaction) = self.running.get_mut(&name) else {
            return;
        };
        if let Some(position) = transaction.taken.take() {
            transaction.first.get_or_insert(position);
            transaction.rows.insert(position);
            return;
        }
        match rng.u8(..10) {
            0..5 if transaction.holds => {
                transaction.taken = Some(self.handed_out);
                self.handed_out += 1;
            }
            0..5 => transaction.holds = true,
            5 if transaction.savepoint.is_none() => {
                let now = (
                    transaction.holds,
                    transaction.first,
                    transaction.rows.clone(),
                );
                transaction.savepoint = Some(now);
            }
            6 => {
                if let Some((holds, first, rows)) = transaction.savepoint.take() {
                    (transaction.holds, transaction.first, transaction.rows) = (holds, first, rows);
                }
            }
            7 => transaction.savepoint = None,
            8 => {
                // Rows can be seen before the locks are gone: a step of its own changes nothing.
                self.committed.extend(transaction.rows.iter().copied());
                self.running.remove(&name);
            }
            9 => {
                self.running.remove(&name);
            }
            _ => {}
        }
    }
}

#[cfg(not(feature = "mutation-no-settled-end"))]
#[test]
fn below_a_settled_end_nothing_is_missing_and_no_later_end_is_below_it() {
    let mut settled_ends = 0;
    for seed in 0..2_000 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut model = Model::default();
        // Each observer knows nothing of the others, as processes do.
        let mut observers: [Option<(Candidate, Option<i64>)>; 3] = [None, None, None];
        let mut settled: Vec<(i64, BTreeSet<i64>)> = Vec::new();
        for _ in 0..300 {
            if rng.u8(..3) > 0 {
                model.step(&mut rng);
                continue;
            }
            let observer = &mut observers[rng.usize(..3)];
            let Some((candidate, before)) = observer else {
                let highest = settled.iter().map(|(end, _)| *end).max();
                *observer = Some((Candidate::new(model.last()), highest));
                continue;
            };
            if let Some(end) = candidate.look(&model.writers()) {
                assert!(before.is_none_or(|before| before <= end.0), "seed {seed}");
                *observer = None;
                let seen = model.committed.range(..end.0).copied().collect();
                settled.push((end.0, seen));
            }
        }
        for (end, seen) in &settled {
            let there: BTreeSet<i64> = model.committed.range(..*end).copied().collect();
            assert_eq!(*seen, there, "seed {seed}, end {end}");
        }
        settled_ends += settled.len();
    }
    assert!(settled_ends > 20_000, "{settled_ends} ends were settled");
}
