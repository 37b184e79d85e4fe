//! What integration tests need: one shared stack, and names of their own in it.

use std::env;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::{Error, Result, Stack, StackOptions, locate, postgres, process};

/// Brokers for tests, `host:port,host:port`; overrides the stack of our own.
pub const KAFKA_VARIABLE: &str = "REFOLD_TEST_KAFKA";
/// Connection URL of a superuser for tests; overrides the stack of our own.
pub const POSTGRES_VARIABLE: &str = "REFOLD_TEST_POSTGRES";

/// A file that collects the tests which this machine cannot run.
pub const UNSUPPORTED_VARIABLE: &str = "REFOLD_TEST_UNSUPPORTED";

/// Addresses that tests use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestStack {
    /// `host:port,host:port` of the brokers.
    pub kafka: String,
    /// Connection URL of a superuser; make a database of your own with [`fresh_database`].
    pub postgres: String,
}

/// The stack for tests: from [`KAFKA_VARIABLE`] and [`POSTGRES_VARIABLE`] when both are set,
/// else one under the build directory that is started once and kept for the next run.
///
/// # Panics
/// When the stack cannot be started: no integration test means anything without it.
pub fn stack() -> &'static TestStack {
    static STACK: OnceLock<TestStack> = OnceLock::new();
    STACK.get_or_init(|| match find_or_start() {
        Ok(stack) => stack,
        Err(e) => panic!("no stack for the tests: {e}"),
    })
}

fn find_or_start() -> Result<TestStack> {
    if let (Ok(kafka), Ok(postgres)) = (env::var(KAFKA_VARIABLE), env::var(POSTGRES_VARIABLE)) {
        return Ok(TestStack { kafka, postgres });
    }
    let dir = build_directory()?.join("refold-test-stack");
    eprintln!(
        "using the test stack in {dir}; it stays up, end it with: cargo x stack down --dir {dir}",
        dir = dir.display()
    );
    let addresses = Stack::up(&StackOptions::new(dir))?.addresses();
    match (addresses.kafka, addresses.postgres) {
        (Some(kafka), Some(postgres)) => Ok(TestStack { kafka, postgres }),
        _ => Err(Error::new("the test stack has no Kafka or no Postgres")),
    }
}

/// Cargo's build directory: the nearest one above this executable that carries Cargo's tag.
fn build_directory() -> Result<PathBuf> {
    let program = env::current_exe()
        .map_err(|e| Error::io("could not find the path of this executable", &e))?;
    program
        .ancestors()
        .find(|dir| dir.join("CACHEDIR.TAG").exists())
        .map(Path::to_path_buf)
        .ok_or_else(|| {
            Error::new(format!(
                "{} is not in a Cargo build directory",
                program.display()
            ))
        })
}

/// Creates an empty database in the test stack and returns its connection URL.
///
/// # Errors
/// When there is no `psql`, or the server refuses.
pub fn fresh_database(prefix: &str) -> Result<String> {
    create_database(&stack().postgres, prefix)
}

/// Creates an empty database, named after `prefix` and like no other, on the server of the
/// connection URL `base`, and returns its URL.
///
/// # Errors
/// When there is no `psql`, or the server refuses.
pub fn create_database(base: &str, prefix: &str) -> Result<String> {
    let name = unique(prefix, '_');
    postgres::psql(&find_psql()?, base, &format!("create database {name}"))?;
    let (server, _) = base
        .rsplit_once('/')
        .ok_or_else(|| Error::new(format!("{base} is not a connection URL")))?;
    Ok(format!("{server}/{name}"))
}

/// Creates a copy of the database of the connection URL `template`, named after `prefix` and like
/// no other, on the server of `base`, and returns its URL.
///
/// # Errors
/// When there is no `psql`, or the server refuses: as long as somebody has a session in the template.
pub fn copy_database(base: &str, template: &str, prefix: &str) -> Result<String> {
    let (server, original) = template
        .rsplit_once('/')
        .ok_or_else(|| Error::new(format!("{template} is not a connection URL")))?;
    let name = unique(prefix, '_');
    let sql = format!("create database {name} template {original}");
    postgres::psql(&find_psql()?, base, &sql)?;
    Ok(format!("{server}/{name}"))
}

/// Removes the database of the connection URL `url`, which [`create_database`] made on the
/// server of `base`, and ends the sessions that are still in it.
///
/// # Errors
/// When there is no `psql`, or the server refuses.
pub fn drop_database(base: &str, url: &str) -> Result<()> {
    let (_, name) = url
        .rsplit_once('/')
        .ok_or_else(|| Error::new(format!("{url} is not a connection URL")))?;
    let sql = format!("drop database {name} with (force)");
    postgres::psql(&find_psql()?, base, &sql).map(drop)
}

/// The answer of the server of `url` to `sql`: fields separated by `|`, a row a line.
///
/// # Errors
/// When there is no `psql`, or the server refuses.
pub fn query(url: &str, sql: &str) -> Result<String> {
    postgres::psql(&find_psql()?, url, sql)
}

fn find_psql() -> Result<PathBuf> {
    locate::find_postgres_bin()
        .map(|bin| bin.join("psql"))
        .or_else(|| locate::on_path("psql"))
        .ok_or_else(|| Error::new("no `psql` found to ask the database"))
}

/// A topic name that no other test and no other run uses.
pub fn unique_topic(prefix: &str) -> String {
    unique(prefix, '-')
}

/// Prefix, process, time and a counter: distinct within a process, between processes, and
/// between runs that happen to get the same pid. Short enough for a Postgres name.
fn unique(prefix: &str, separator: char) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let count = NEXT.fetch_add(1, Ordering::Relaxed);
    let seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_secs());
    let process = std::process::id();
    let s = separator;
    format!("{prefix}{s}{seconds:x}{s}{process:x}{s}{count:x}")
}

/// Says that this machine cannot run a test, in one line: `unsupported here: TEST: REASON`.
/// The test run compares the names with the committed list `ops/unsupported-tests.txt`, so a
/// test that is missing somewhere is never missing silently.
///
/// # Panics
/// When the line cannot be handed to the test run.
pub fn unsupported(test: &str, reason: &str) {
    let line = format!("unsupported here: {test}: {reason}");
    println!("{line}");
    if let Some(path) = env::var_os(UNSUPPORTED_VARIABLE) {
        let written = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .and_then(|mut file| writeln!(file, "{line}"));
        assert!(
            written.is_ok(),
            "could not write {}",
            Path::new(&path).display()
        );
    }
}

/// Looks at `condition` every few milliseconds until it holds or `patience` is over; tells
/// whether it held. For tests that would otherwise sleep and hope.
pub fn wait_until(patience: Duration, condition: impl FnMut() -> bool) -> bool {
    process::wait_until(patience, condition)
}

/// A directory for one test, removed with everything in it when the value is dropped.
#[derive(Debug)]
pub struct ScratchDir {
    path: PathBuf,
}

impl ScratchDir {
    /// A new, empty directory under the system's directory for temporary files.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn new(prefix: &str) -> Result<Self> {
        let path = env::temp_dir().join(unique(prefix, '-'));
        fs::create_dir_all(&path)
            .map_err(|e| Error::io(format_args!("could not create {}", path.display()), &e))?;
        Ok(Self { path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        // Left-over files in a temporary directory are no reason to fail a test that passed.
        drop(fs::remove_dir_all(&self.path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_and_fit_a_postgres_identifier() {
        let one = unique("accounts_registry", '_');
        let two = unique("accounts_registry", '_');
        assert_ne!(one, two);
        assert!(one.len() <= 63);
        assert!(one.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'));
    }

    #[test]
    fn a_scratch_directory_is_gone_after_its_value() {
        let scratch = ScratchDir::new("refold-scratch").expect("a directory");
        let path = scratch.path().to_path_buf();
        fs::write(path.join("file"), "x").expect("a file");
        drop(scratch);
        assert!(!path.exists());
    }
}
