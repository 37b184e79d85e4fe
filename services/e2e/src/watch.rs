//! Looks at all marks all the time: none may ever move back, but by a reset, and no epoch at all.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::psql::Psql;

/// Between two looks.
const EVERY: Duration = Duration::from_millis(10);

const MARKS: &str =
    "select o.version, o.partition, o.next_offset, o.epoch, coalesce(v.reset_at::text, '')
    from refold.offsets o join refold.versions v on v.id = o.version";

/// The highest mark since the version was reset, and the highest epoch ever.
struct Highest {
    reset: String,
    mark: i64,
    epoch: i64,
}

/// A thread that watches `refold.offsets` of one database.
#[derive(Debug)]
pub struct MarkWatch {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<Seen>,
    over: Condvar,
}

#[derive(Debug, Default)]
struct Seen {
    over: bool,
    looks: u64,
    complaints: Vec<String>,
}

impl MarkWatch {
    /// Begins to look.
    pub fn over(dsn: &str) -> Self {
        let shared = Arc::new(Shared::default());
        let (seen, dsn) = (Arc::clone(&shared), dsn.to_owned());
        let thread = thread::spawn(move || watch(&seen, Psql::connect(&dsn)));
        Self {
            shared,
            thread: Some(thread),
        }
    }

    /// How often the marks were seen.
    pub fn looks(&self) -> u64 {
        self.lock(|seen| seen.looks)
    }

    /// # Panics
    /// When a mark or an epoch moved back.
    pub fn assert_none_moved_back(&self) {
        let complaints = self.lock(|seen| seen.complaints.clone());
        assert!(complaints.is_empty(), "marks moved back: {complaints:#?}");
    }

    fn lock<T>(&self, read: impl FnOnce(&mut Seen) -> T) -> T {
        let mut seen = self
            .shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        read(&mut seen)
    }
}

impl Drop for MarkWatch {
    fn drop(&mut self) {
        self.lock(|seen| seen.over = true);
        self.shared.over.notify_all();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
        if !thread::panicking() {
            self.assert_none_moved_back();
        }
    }
}

fn watch(shared: &Shared, mut session: Psql) {
    let mut highest: BTreeMap<(String, String), Highest> = BTreeMap::new();
    loop {
        // There is no such table before the first process came.
        let rows = session.ask(MARKS).unwrap_or_default();
        let mut complaints = Vec::new();
        for row in &rows {
            let [version, partition, next, epoch, reset] = row.as_slice() else {
                continue;
            };
            let (mark, epoch) = (next.parse().unwrap_or(-1), epoch.parse().unwrap_or(-1));
            let key = (version.clone(), partition.clone());
            let before = highest.entry(key).or_insert_with(|| Highest {
                reset: reset.clone(),
                mark,
                epoch,
            });
            if before.reset != *reset && epoch > before.epoch {
                before.reset.clone_from(reset);
                before.mark = mark;
            }
            let highest = (before.mark, before.epoch);
            if mark < highest.0 || epoch < highest.1 {
                complaints.push(format!(
                    "version {version} p{partition}: (mark, epoch) from {highest:?} to {:?}",
                    (mark, epoch)
                ));
            }
            (before.mark, before.epoch) = (mark.max(highest.0), epoch.max(highest.1));
        }
        let mut seen = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        seen.looks += u64::from(!rows.is_empty());
        seen.complaints.append(&mut complaints);
        let waited = shared
            .over
            .wait_timeout_while(seen, EVERY, |seen| !seen.over);
        if waited.unwrap_or_else(PoisonError::into_inner).0.over {
            return;
        }
    }
}
