//! A database session: one `psql` that is fed statements through a pipe.

use std::fmt;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::path::PathBuf;
use std::process::Child;
use std::process::ChildStdin;
use std::process::ChildStdout;
use std::process::Command;
use std::process::Stdio;

use crate::leash;

/// Between cells, and in front of what ends an answer: nothing that a table here holds.
const CELL: char = '\u{1f}';
const END: &str = "\u{1e}end";

/// What the server said instead of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlError {
    /// The five characters.
    pub sqlstate: String,
    /// The sentence.
    pub message: String,
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.sqlstate)
    }
}

/// One session. Transactions stay open between statements; all ends with the value.
#[derive(Debug)]
pub struct Psql {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Psql {
    /// Connects.
    ///
    /// # Panics
    /// When there is no `psql`.
    pub fn connect(dsn: &str) -> Self {
        let mut child = Command::new(program())
            .args(["-X", "-q", "-A", "-t", "-P", "null=null", "-F"])
            .arg(CELL.to_string())
            .args(["-d", dsn])
            .env("PGTZ", "UTC")
            .env("PGAPPNAME", "refold-e2e")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("psql starts");
        leash::hold(child.id());
        let input = child.stdin.take().expect("its input is a pipe");
        let output = child.stdout.take().expect("its output is a pipe");
        Self {
            child,
            input,
            output: BufReader::new(output),
        }
    }

    /// Runs statements and returns the rows of their answers.
    ///
    /// # Errors
    /// What the last statement failed with.
    ///
    /// # Panics
    /// When the session is gone.
    pub fn ask(&mut self, sql: &str) -> Result<Vec<Vec<String>>, SqlError> {
        self.send(sql);
        self.answer()
    }

    /// Sends statements without waiting for the answer, which [`Psql::answer`] reads.
    ///
    /// # Panics
    /// When the session is gone.
    pub fn send(&mut self, sql: &str) {
        let end = format!("\\echo {END} :ERROR :SQLSTATE :LAST_ERROR_MESSAGE");
        // A second semicolon would be a statement of its own, and a success.
        let sql = sql.trim_end().trim_end_matches(';');
        writeln!(self.input, "{sql}\n;\n{end}").expect("psql takes a statement");
    }

    /// Waits for the answer to what was sent.
    ///
    /// # Errors
    /// What the last statement failed with.
    ///
    /// # Panics
    /// When the session is gone.
    pub fn answer(&mut self) -> Result<Vec<Vec<String>>, SqlError> {
        let mut rows = Vec::new();
        loop {
            let mut line = String::new();
            let read = self.output.read_line(&mut line).expect("psql answers");
            assert!(read > 0, "psql ended");
            let line = line.trim_end_matches('\n');
            if let Some(end) = line.strip_prefix(END) {
                let mut words = end.trim_start().splitn(3, ' ');
                let failed = words.next() == Some("true");
                let sqlstate = words.next().unwrap_or_default().to_owned();
                let message = words.next().unwrap_or_default().to_owned();
                return match failed {
                    true => Err(SqlError { sqlstate, message }),
                    false => Ok(rows),
                };
            }
            rows.push(line.split(CELL).map(str::to_owned).collect());
        }
    }
}

impl Drop for Psql {
    fn drop(&mut self) {
        // Its transaction, if any, is rolled back by the server.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// On PATH, or the newest under Debian's directory.
fn program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|dir| dir.join("psql"));
    let mut debian: Vec<_> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin/psql")))
        .collect();
    debian.sort();
    on_path
        .chain(debian.into_iter().rev())
        .find(|program| program.is_file())
        .expect("psql is installed")
}

#[cfg(test)]
mod tests {
    use refold_local::testing;

    use super::*;

    #[test]
    fn rows_errors_and_open_transactions_come_through() {
        let dsn = testing::fresh_database("e2e_psql").expect("a database");
        let mut session = Psql::connect(&dsn);
        let rows = session
            .ask("select 1, null, 'a b'; select 2, '', 'c'")
            .expect("rows");
        assert_eq!(rows, [["1", "null", "a b"], ["2", "", "c"]]);
        let error = session
            .ask("select * from nowhere")
            .expect_err("no such table");
        assert_eq!(error.sqlstate, "42P01");
        assert!(error.message.contains("nowhere"), "{error}");
        session
            .ask("create table t (i int); begin; insert into t values (1)")
            .expect("a table");
        let other = Psql::connect(&dsn)
            .ask("select count(*) from t")
            .expect("rows");
        assert_eq!(other, [["0"]]);
        session.ask("commit").expect("a commit");
        assert_eq!(session.ask("table t;").expect("rows"), [["1"]]);
        session.ask("table nowhere;").expect_err("no such table");
    }
}
