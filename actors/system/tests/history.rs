//! The past of single aggregates.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use refold_domain::as_of::Gone;
use refold_domain::as_of::Point;
use refold_domain::as_of::TimeOrder;
use refold_domain::decode::WireFormat;
use refold_domain::fold::erase;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_ports::History;
use refold_ports::LogSource;
use refold_ports::history::HistoryError;
use refold_ports::history::Question;
use refold_ports::history::Remembered;
use refold_ports::memory::log::MemoryLog;
use refold_ports::memory::log::NewRecord;
use refold_ports::source::SourceError;
use refold_projection::Row as _;
use refold_projection::Timestamp;
use refold_projection::cell::CellReader;
use refold_system::LogHistory;

use crate::world::Ledger;
use crate::world::PARTITIONS;
use crate::world::Total;
use crate::world::World;
use crate::world::add;

const MINUTE: i64 = 60_000_000;

/// 2024-02-29, in microseconds.
const BEGIN: i64 = 1_709_164_800_000_000;

/// One event as the test knows it.
#[derive(Clone, Copy)]
struct Written {
    offset: Offset,
    time: i64,
    amount: i64,
}

/// A log whose times are out of order now and then, and the events of each aggregate.
struct Scene {
    log: MemoryLog,
    events: BTreeMap<i64, Vec<Written>>,
}

impl Scene {
    /// `events` events, a second apart; every twentieth of them, by chance, up to ten minutes
    /// early or late.
    fn with(events: i64, dice: &mut fastrand::Rng) -> Self {
        let mut scene = Self {
            log: MemoryLog::new("events", PARTITIONS),
            events: BTreeMap::new(),
        };
        for i in 0..events {
            let shift = match dice.u8(..20) {
                0 => dice.i64(-10 * MINUTE..=10 * MINUTE),
                _ => 0,
            };
            let time = BEGIN + i * 1_000_000 + shift;
            scene.write(dice.i64(1..=30), time, i);
        }
        scene
    }

    fn write(&mut self, id: i64, time: i64, amount: i64) {
        let events = self.events.entry(id).or_default();
        let (version, ts) = (events.len() + 1, Timestamp(time));
        let value = format!(
            r#"{{"format":1,"aggregate_id":{id},"version":{version},"type":"Added","ts":"{ts}","payload":{amount}}}"#
        );
        let record = NewRecord::new(id.to_string(), value);
        let offset = self.log.append(World::home(id), record);
        events.push(Written {
            offset,
            time,
            amount,
        });
    }

    fn history(&self) -> LogHistory {
        let log: Arc<dyn LogSource> = Arc::new(self.log.clone());
        LogHistory::new(log, WireFormat::Json, vec![erase(Ledger::<1>)])
    }

    /// What the aggregate was, when only some of its events count.
    fn oracle(&self, id: i64, counts: impl Fn(usize, &Written) -> bool) -> Option<i64> {
        let events = self.events.get(&id).into_iter().flatten().enumerate();
        let counted = events.filter(|(at, event)| counts(*at, event));
        counted.fold(None, |total, (_, event)| {
            Some(add(total.unwrap_or(0), event.amount))
        })
    }

    fn is_monotone(&self, id: i64) -> bool {
        let events = self.events.get(&id).map_or(&[][..], Vec::as_slice);
        events.is_sorted_by_key(|event| event.time)
    }
}

fn question(id: i64, point: Point) -> Question {
    Question {
        version: "ledger_v1".to_owned(),
        key: id.to_string(),
        point,
        trace: false,
    }
}

fn total(found: &Remembered) -> Option<i64> {
    let cells = found.past.cells.as_deref()?;
    let row = Total::decode(&mut CellReader::new(cells));
    Some(row.expect("a row").0)
}

#[tokio::test]
async fn ten_thousand_questions_about_a_log_of_disordered_times_are_answered_as_by_the_oracle() {
    let mut dice = fastrand::Rng::with_seed(10);
    let scene = Scene::with(600, &mut dice);
    let history = scene.history();
    let mut disordered = 0;
    for _ in 0..10_000 {
        let id = dice.i64(1..=31);
        let moment = BEGIN + dice.i64(-11 * MINUTE..=21 * MINUTE);
        let asked = question(id, Point::Time(Timestamp(moment)));
        let found = history.as_of(&asked).await.expect("an answer");
        let wanted = scene.oracle(id, |_, event| event.time <= moment);
        assert_eq!(total(&found), wanted, "{id} at {moment}");
        let is_monotone = found.past.order == TimeOrder::Monotone;
        assert_eq!(is_monotone, scene.is_monotone(id), "{id}");
        disordered += u32::from(!is_monotone);
    }
    // A generator that shuffles nothing would show nothing.
    assert!(disordered > 1_000, "{disordered}");
}

#[tokio::test]
async fn offsets_and_numbers_are_exact() {
    let mut dice = fastrand::Rng::with_seed(11);
    let scene = Scene::with(300, &mut dice);
    let history = scene.history();
    for id in 1..=30 {
        let events = &scene.events[&id];
        let home = World::home(id);
        let high = scene.log.watermarks(home).await.expect("an answer").high;
        for offset in (0..high.0).map(Offset) {
            let asked = question(id, Point::At(home, offset));
            let found = history.as_of(&asked).await.expect("an answer");
            let wanted = scene.oracle(id, |_, event| event.offset <= offset);
            assert_eq!(total(&found), wanted, "{id} at {offset}");
        }
        for number in 1..=events.len() {
            let asked = question(id, Point::Seq(number as u64));
            let found = history.as_of(&asked).await.expect("an answer");
            assert_eq!(total(&found), scene.oracle(id, |at, _| at < number));
            let stopped = found.past.stopped_at.map(|event| event.offset);
            assert_eq!(stopped, Some(events[number - 1].offset));
        }
    }
}

#[tokio::test]
async fn of_a_compacted_log_no_question_is_answered_wrongly() {
    let mut dice = fastrand::Rng::with_seed(12);
    let scene = Scene::with(400, &mut dice);
    // Of every aggregate the last event stays, and of the others about half.
    for (id, events) in &scene.events {
        let (_, old) = events.split_last().expect("an event");
        for event in old.iter().filter(|_| dice.bool()) {
            scene.log.compact_away(World::home(*id), event.offset);
        }
    }
    let history = scene.history();
    let (mut answered, mut refused) = (0, 0);
    for _ in 0..2_000 {
        let id = dice.i64(1..=30);
        let home = World::home(id);
        let high = scene.log.watermarks(home).await.expect("an answer").high;
        let offset = Offset(dice.i64(0..high.0));
        match history.as_of(&question(id, Point::At(home, offset))).await {
            Ok(found) => {
                answered += 1;
                let wanted = scene.oracle(id, |_, event| event.offset <= offset);
                assert_eq!(total(&found), wanted, "{id} at {offset}");
            }
            Err(HistoryError::Gone { gone, whole_to, .. }) => {
                refused += 1;
                assert!(matches!(gone, Gone::Missing { .. }), "{gone}");
                // What it says is whole is answered.
                if let Some(whole_to) = whole_to {
                    let asked = question(id, Point::At(home, whole_to));
                    let again = history.as_of(&asked).await;
                    let sure = again.ok().map(|found| total(&found));
                    let wanted = scene.oracle(id, |_, event| event.offset <= whole_to);
                    assert!(sure.is_none_or(|sure| sure == wanted), "{id} at {whole_to}");
                }
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(answered > 50 && refused > 500, "{answered} {refused}");
}

#[tokio::test]
async fn a_point_that_has_not_come_or_is_none_is_refused_by_name() {
    let mut scene = Scene::with(0, &mut fastrand::Rng::with_seed(13));
    scene.write(7, BEGIN, 1);
    let history = scene.history();
    let ask = async |question: &Question| history.as_of(question).await.expect_err("no answer");
    let home = World::home(7);
    let other = Partition((home.0 + 1) % PARTITIONS);
    let soon = SystemTime::now() + Duration::from_secs(60);
    let soon = soon.duration_since(UNIX_EPOCH).expect("after 1970");
    let soon = Timestamp(soon.as_micros() as i64);

    let behind = ask(&question(7, Point::At(home, Offset(1)))).await;
    let wanted =
        format!("offset 1 of {home} has not come yet: the partition ends in front of offset 1");
    assert_eq!(behind.to_string(), wanted);
    let behind = ask(&question(7, Point::Seq(2))).await;
    let wanted = "its event 2 has not come yet: the aggregate has 1 events";
    assert_eq!(behind.to_string(), wanted);
    let behind = ask(&question(7, Point::Time(soon))).await;
    assert!(matches!(behind, HistoryError::NotYet { .. }), "{behind}");
    let elsewhere = ask(&question(7, Point::At(other, Offset(0)))).await;
    let wanted = HistoryError::OtherPartition { asked: other, home };
    assert_eq!(elsewhere, wanted);
    let mut unknown = question(7, Point::Seq(1));
    unknown.key = "seven".to_owned();
    let refused = ask(&unknown).await;
    assert!(matches!(refused, HistoryError::BadKey(_)), "{refused}");
    unknown.version = "ledger_v9".to_owned();
    let wanted = HistoryError::UnknownVersion("ledger_v9".to_owned());
    assert_eq!(ask(&unknown).await, wanted);
    // An aggregate that nobody has written of has no state, which is an answer.
    let nobody = history.as_of(&question(8, Point::Seq(1))).await;
    let nobody = nobody.expect("an answer").past;
    assert_eq!((nobody.cells, nobody.stopped_at), (None, None));
}

#[tokio::test]
async fn a_log_that_hiccups_is_asked_again_and_one_that_rots_is_told() {
    let mut scene = Scene::with(0, &mut fastrand::Rng::with_seed(14));
    for amount in 1..=3 {
        scene.write(7, BEGIN, amount);
    }
    let (home, history) = (World::home(7), scene.history());
    let away = SourceError::Unreachable("on purpose".to_owned());
    scene.log.fail_reads(home, 2, &away);
    let found = history.as_of(&question(7, Point::Seq(3))).await;
    assert_eq!(
        total(&found.expect("an answer")),
        scene.oracle(7, |_, _| true)
    );
    scene.log.delete_below(home, Offset(1));
    let gone = history.as_of(&question(7, Point::Seq(3))).await;
    let gone = gone.expect_err("no answer").to_string();
    let wanted = "the log cannot answer for its event 3: event 1 of the aggregate is not in the \
         log, in front of 2 at offset 1";
    assert_eq!(gone, wanted);
    scene.log.corrupt(home, Offset(1), "its checksum is wrong");
    let gone = history.as_of(&question(7, Point::Seq(3))).await;
    let gone = gone.expect_err("no answer").to_string();
    assert!(gone.contains("its checksum is wrong"), "{gone}");
}
