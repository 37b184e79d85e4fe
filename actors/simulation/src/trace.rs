//! What happened, as one number that two runs of a seed must share, and as lines for a person.

use std::collections::VecDeque;
use std::fmt;
use std::fmt::Write;
use std::time::Duration;

use xxhash_rust::xxh3::Xxh3;

/// Lines that are kept for a report.
const KEPT: usize = 40;

/// A trace. Every line counts towards its hash, whether it is shown or not.
pub(crate) struct Trace {
    hash: Xxh3,
    line: String,
    lines: u64,
    shown: bool,
    last: VecDeque<String>,
}

impl Trace {
    pub(crate) fn new(shown: bool) -> Self {
        Self {
            hash: Xxh3::new(),
            line: String::new(),
            lines: 0,
            shown,
            last: VecDeque::new(),
        }
    }

    /// Notes what happened at a simulated time.
    pub(crate) fn note(&mut self, now: Duration, what: fmt::Arguments<'_>) {
        self.line.clear();
        // Writing into a string does not fail.
        let _ = write!(self.line, "{:>11.3} {what}", now.as_secs_f64());
        self.hash.update(self.line.as_bytes());
        self.lines += 1;
        if self.shown {
            println!("{}", self.line);
        }
        let mut line = match self.last.len() < KEPT {
            true => String::new(),
            false => self.last.pop_front().unwrap_or_default(),
        };
        line.clone_from(&self.line);
        self.last.push_back(line);
    }

    /// The hash of all lines so far.
    pub(crate) fn hash(&self) -> u64 {
        self.hash.digest()
    }

    /// How many lines there are.
    pub(crate) fn lines(&self) -> u64 {
        self.lines
    }

    /// The last lines.
    pub(crate) fn last(&self) -> Vec<String> {
        self.last.iter().cloned().collect()
    }
}
