//! Commits in the stream of a Postgres connection.

use std::sync::Mutex;

use super::lock;

/// How a commit that is in is tagged, with the zero that ends the tag.
const COMMITTED: &[u8] = b"COMMIT\0";

/// A server that is ready for the next query: type and length.
const READY: &[u8] = b"Z\0\0\0\x05";

/// How the query of a commit begins.
const COMMIT: &[u8] = b"commit";

/// Code of a request for TLS or GSSAPI, `[first, last]`, behind which the start-up message still comes.
const ENCRYPTION: [u32; 2] = [80_877_103, 80_877_104];

/// Watches one connection, both its directions.
#[derive(Debug, Default)]
pub(super) struct CommitWatch {
    up: Mutex<Messages>,
    /// What the server has said since its answer is withheld; `None` while it is not.
    withheld: Mutex<Option<Vec<u8>>>,
}

impl CommitWatch {
    /// Whether a commit is recognised in what the client sends next.
    pub(super) fn commits(&self, bytes: &[u8]) -> bool {
        lock(&self.up).feed(bytes) > 0
    }

    /// Withholds the answers from now on.
    pub(super) fn withhold(&self) {
        *lock(&self.withheld) = Some(Vec::new());
    }

    /// What becomes of what the server says next. While its answers are withheld they stay here,
    /// until they say that the commit is in, or end without saying so.
    pub(super) fn answers(&self, bytes: &[u8]) -> Answer {
        let mut withheld = lock(&self.withheld);
        let Some(all) = withheld.as_mut() else {
            return Answer::Passes;
        };
        all.extend_from_slice(bytes);
        let says = |what: &[u8]| all.windows(what.len()).any(|window| window == what);
        match (says(COMMITTED), says(READY)) {
            (true, _) => Answer::Committed,
            (false, true) => Answer::NotCommitted,
            (false, false) => Answer::Incomplete,
        }
    }
}

/// What a server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// Nothing is withheld.
    Passes,
    /// Withheld, and not at its end.
    Incomplete,
    /// Withheld: the commit is in.
    Committed,
    /// Withheld: the server is ready for the next query, and no commit is in.
    NotCommitted,
}

/// Cuts the client's stream into messages and looks at the beginning of each query.
///
/// A message is a type, a length that counts itself, and the rest; the first ones of a connection
/// have no type. Only the simple protocol's `commit` is recognised, as the product sends it.
#[derive(Debug, Default)]
struct Messages {
    started: bool,
    /// What is known of the head of the message: type and length, then the query's first bytes.
    head: Vec<u8>,
    /// Bytes of the message that are still to come behind its head.
    rest: usize,
}

impl Messages {
    /// Takes the next bytes; how many commits were recognised in them.
    fn feed(&mut self, mut bytes: &[u8]) -> usize {
        let mut commits = 0;
        while let Some((&byte, later)) = bytes.split_first() {
            if self.rest > 0 {
                let passed = self.rest.min(bytes.len());
                self.rest -= passed;
                bytes = &bytes[passed..];
                continue;
            }
            self.head.push(byte);
            bytes = later;
            commits += usize::from(self.judge());
        }
        commits
    }

    /// Looks at the head, which grew by a byte; whether it is a commit's.
    fn judge(&mut self) -> bool {
        let typed = usize::from(self.started);
        let Some(length) = self.number(typed) else {
            return false;
        };
        let body = (length as usize).saturating_sub(4);
        let known = self.head.len() - typed - 4;
        let wanted = match (self.started, self.head[0]) {
            (false, _) => 4,
            (true, b'Q') => COMMIT.len(),
            (true, _) => 0,
        };
        if known < wanted.min(body) {
            return false;
        }
        let commits =
            self.started && self.head[0] == b'Q' && self.head[5..].eq_ignore_ascii_case(COMMIT);
        if !self.started {
            let code = self.number(4).unwrap_or_default();
            self.started = !(ENCRYPTION[0]..=ENCRYPTION[1]).contains(&code);
        }
        self.rest = body - known;
        self.head.clear();
        commits
    }

    /// The number of four bytes at `at`.
    fn number(&self, at: usize) -> Option<u32> {
        let bytes = self.head.get(at..at + 4)?;
        Some(u32::from_be_bytes(bytes.try_into().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn startup() -> Vec<u8> {
        let mut message = vec![0, 0, 0, 17, 0, 3, 0, 0];
        message.extend(b"user\0me\0\0");
        message
    }

    fn query(text: &str) -> Vec<u8> {
        let length = text.len() as u32 + 5;
        [
            b"Q",
            length.to_be_bytes().as_slice(),
            text.as_bytes(),
            b"\0",
        ]
        .concat()
    }

    #[test]
    fn commits_are_recognised_however_the_stream_is_cut() {
        let request = [0, 0, 0, 8, 4, 210, 22, 47];
        let stream = [
            request.to_vec(),
            startup(),
            query("begin"),
            query("select 'commit'"),
            query("commit; select pg_xact_status('7')"),
            query("c"),
            query(""),
            query("COMMIT"),
            [b"X".as_slice(), &4_u32.to_be_bytes()].concat(),
        ]
        .concat();
        for cut in 1..=stream.len() {
            let mut messages = Messages::default();
            let count: usize = stream.chunks(cut).map(|c| messages.feed(c)).sum();
            assert_eq!(count, 2, "cut by {cut}");
        }
    }

    #[test]
    fn an_answer_is_withheld_and_seen_to_be_in_across_pieces() {
        let watch = CommitWatch::default();
        assert_eq!(watch.answers(b"COMMIT\0"), Answer::Passes);
        watch.withhold();
        assert_eq!(watch.answers(b"C\0\0\0\x0bCOM"), Answer::Incomplete);
        assert_eq!(watch.answers(b"MIT\0"), Answer::Committed);
        watch.withhold();
        let rolled_back = b"C\0\0\0\x0dROLLBACK\0Z\0\0\0\x05I";
        assert_eq!(watch.answers(rolled_back), Answer::NotCommitted);
    }
}
