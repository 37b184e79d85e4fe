//! The lines that a process writes, as they come.

use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::thread;
use std::time::Duration;
use std::time::Instant;

/// Lines of a stream, read by a thread of its own. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Lines(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<String>,
    ended: bool,
}

impl Lines {
    /// Reads `stream` to its end.
    pub(crate) fn of(stream: impl Read + Send + 'static) -> Self {
        let lines = Self(Arc::new(Shared {
            state: Mutex::new(State::default()),
            news: Condvar::new(),
        }));
        let reader = lines.clone();
        thread::spawn(move || {
            for line in BufReader::new(stream).lines() {
                let Ok(line) = line else { break };
                reader.lock().lines.push(line);
                reader.0.news.notify_all();
            }
            reader.lock().ended = true;
            reader.0.news.notify_all();
        });
        lines
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All lines so far.
    pub fn all(&self) -> Vec<String> {
        self.lock().lines.clone()
    }

    /// All lines so far, as one text.
    pub fn text(&self) -> String {
        self.lock().lines.join("\n")
    }

    /// The lines that contain `part`.
    pub fn with(&self, part: &str) -> Vec<String> {
        let state = self.lock();
        let found = state.lines.iter().filter(|line| line.contains(part));
        found.cloned().collect()
    }

    /// Waits for a line that contains `part`; `None` when the stream ended or the time is over.
    pub fn wait_for(&self, part: &str, bound: Duration) -> Option<String> {
        let deadline = Instant::now() + bound;
        let mut state = self.lock();
        let mut seen = 0;
        loop {
            if let Some(line) = state.lines[seen..].iter().find(|line| line.contains(part)) {
                return Some(line.clone());
            }
            seen = state.lines.len();
            let left = deadline.checked_duration_since(Instant::now())?;
            if state.ended {
                return None;
            }
            let waited = self.0.news.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until the stream ended: everything that was written is here then.
    pub(crate) fn wait_for_end(&self, bound: Duration) {
        let state = self.lock();
        let waited = self
            .0
            .news
            .wait_timeout_while(state, bound, |state| !state.ended);
        drop(waited);
    }
}
