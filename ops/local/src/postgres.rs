//! A private Postgres server: own directory, own user, loopback only, fsync on.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::machine::{self, Identity};
use crate::port::{self, Purpose};
use crate::process::{Launch, ServerProcess, Signal};
use crate::settings::{self, WalLevel};
use crate::watchdog::Watchdog;
use crate::{Error, Result, locate};

/// Recovery after a crash reads up to `max_wal_size` of log before the server is ready.
const START_PATIENCE: Duration = Duration::from_secs(120);
const STOP_PATIENCE: Duration = Duration::from_secs(60);
const PORT_ATTEMPTS: usize = 4;

/// The superuser, who needs no password from loopback, and the database made for it.
const ROLE: &str = "refold";

/// The kernel's limit for a socket's path is 107 bytes; Postgres appends about 20.
const MAX_SOCKET_DIR: usize = 80;

/// How a private server differs from the default.
#[derive(Clone, Debug, Default)]
pub struct PostgresOptions {
    /// How much the write-ahead log carries.
    pub wal_level: WalLevel,
    /// Further settings, stronger than the table's, e.g. `("log_statement", "all")`. Addresses
    /// and port stay what this crate chose.
    pub settings: Vec<(String, String)>,
    /// Variables in the server's environment, name and value.
    pub env: Vec<(String, OsString)>,
}

/// A server as it is written down.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PostgresState {
    /// Where its files are: under the stack's directory, or elsewhere when the user that the
    /// server runs as cannot get there.
    pub(crate) home: PathBuf,
    pub(crate) bin: PathBuf,
    pub(crate) port: u16,
    pub(crate) wal_level: String,
    pub(crate) process: Option<ServerProcess>,
}

impl PostgresState {
    /// Finds or installs Postgres and decides where the files go.
    pub(crate) fn plan(dir: &Path, options: &PostgresOptions) -> Result<Self> {
        let bin = locate::postgres_bin()?;
        Ok(Self {
            home: prepare_home(dir, machine::unprivileged())?,
            bin,
            port: port::free(Purpose::Postgres, 1)?[0],
            wal_level: options.wal_level.name().to_owned(),
            process: None,
        })
    }

    pub(crate) fn is_running(&self) -> bool {
        self.process.as_ref().is_some_and(ServerProcess::is_running)
    }

    fn data(&self) -> PathBuf {
        self.home.join("data")
    }

    /// Starts the server unless it runs, and waits until it accepts connections.
    ///
    /// `record` is called after a start, before anything is waited for.
    pub(crate) fn ensure(
        &mut self,
        options: &PostgresOptions,
        record: &mut dyn FnMut(&Self) -> Result<()>,
    ) -> Result<()> {
        if self.is_running() {
            return self.await_ready();
        }
        self.initialise()?;
        let mut attempts_left = PORT_ATTEMPTS;
        loop {
            if !port::is_free(self.port) {
                self.port = port::free(Purpose::Postgres, 1)?[0];
            }
            self.start(options)?;
            record(self)?;
            attempts_left -= 1;
            match self.await_ready() {
                Ok(()) => return self.create_database_once(),
                Err(e) => {
                    self.stop(Signal::Quit)?;
                    let clash = e.to_string().contains("Address already in use");
                    if !clash || attempts_left == 0 {
                        return Err(e);
                    }
                    drop(fs::remove_file(self.home.join("server.log")));
                }
            }
        }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        command
            .current_dir(&self.home)
            .env("LC_ALL", "C")
            .stdin(Stdio::null());
        if let Some(identity) = machine::unprivileged() {
            command.uid(identity.uid).gid(identity.gid);
        }
        command
    }

    /// `initdb` beside the final place, renamed when complete.
    fn initialise(&self) -> Result<()> {
        let data = self.data();
        if data.join("PG_VERSION").exists() {
            return Ok(());
        }
        let partial = self.home.join("data.partial");
        if partial.exists() {
            fs::remove_dir_all(&partial).map_err(|e| {
                Error::io(format_args!("could not clear {}", partial.display()), &e)
            })?;
        }
        let out = self
            .command("initdb")
            .args(["--username", ROLE, "--auth", "trust", "--no-instructions"])
            .args(settings::POSTGRES_INITDB)
            .arg("--pgdata")
            .arg(&partial)
            .output()
            .map_err(|e| Error::io("could not run initdb", &e))?;
        if !out.status.success() {
            let errors = String::from_utf8_lossy(&out.stderr);
            return Err(Error::new(format!("initdb failed: {}", errors.trim())));
        }
        fs::rename(&partial, &data)
            .map_err(|e| Error::io(format_args!("could not rename to {}", data.display()), &e))
    }

    fn start(&mut self, options: &PostgresOptions) -> Result<()> {
        let sockets = self.home.join("socket");
        let sockets = if sockets.as_os_str().len() <= MAX_SOCKET_DIR {
            sockets.into_os_string()
        } else {
            OsString::new()
        };
        let mut args: Vec<OsString> = vec!["-D".into(), self.data().into()];
        let mut set = |name: &str, value: &std::ffi::OsStr| {
            let mut assignment = OsString::from(format!("{name}="));
            assignment.push(value);
            args.extend(["-c".into(), assignment]);
        };
        for (name, value) in settings::postgres_for_this_machine() {
            set(&name, value.as_ref());
        }
        for &(name, value) in options.wal_level.settings() {
            set(name, value.as_ref());
        }
        for (name, value) in &options.settings {
            set(name, value.as_ref());
        }
        set("listen_addresses", "127.0.0.1".as_ref());
        set("port", self.port.to_string().as_ref());
        set("unix_socket_directories", &sockets);
        set("log_line_prefix", "%m [%p] ".as_ref());
        let mut env = vec![("LC_ALL".into(), "C".into())];
        env.extend(options.env.iter().cloned());
        let process = ServerProcess::start(Launch {
            name: "Postgres".into(),
            program: self.bin.join("postgres"),
            args,
            env,
            working_dir: self.home.clone(),
            log: self.home.join("server.log"),
            identity: machine::unprivileged(),
        })?;
        options.wal_level.name().clone_into(&mut self.wal_level);
        self.process = Some(process);
        Ok(())
    }

    /// Ready when the lock file in *our* data directory says so for *our* process.
    fn await_ready(&self) -> Result<()> {
        let process = self
            .process
            .as_ref()
            .ok_or_else(|| Error::new("Postgres was not started"))?;
        let lock_file = self.data().join("postmaster.pid");
        process.await_ready(START_PATIENCE, || {
            fs::read_to_string(&lock_file).is_ok_and(|text| is_ready(&text, process.pid))
        })
    }

    fn create_database_once(&self) -> Result<()> {
        let found = self.psql(
            "postgres",
            &format!("select 1 from pg_database where datname = '{ROLE}'"),
        )?;
        if found.trim().is_empty() {
            self.psql("postgres", &format!("create database {ROLE}"))?;
        }
        Ok(())
    }

    fn psql(&self, database: &str, sql: &str) -> Result<String> {
        psql(&self.bin.join("psql"), &self.dsn(database), sql)
    }

    /// Where clients connect.
    pub(crate) fn dsn(&self, database: &str) -> String {
        format!("postgresql://{ROLE}@127.0.0.1:{}/{database}", self.port)
    }

    pub(crate) fn stop(&self, first: Signal) -> Result<()> {
        self.process
            .as_ref()
            .map_or(Ok(()), |process| process.stop(first, STOP_PATIENCE))
    }
}

/// Runs one statement outside a transaction block and returns its unaligned output.
pub(crate) fn psql(psql: &Path, dsn: &str, sql: &str) -> Result<String> {
    let out = Command::new(psql)
        .args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-d",
            dsn,
            "-c",
            sql,
        ])
        .stdin(Stdio::null())
        .output()
        .map_err(|e| Error::io(format_args!("could not run {}", psql.display()), &e))?;
    if out.status.success() {
        return Ok(String::from_utf8_lossy(&out.stdout).into_owned());
    }
    Err(Error::new(format!(
        "`{sql}` failed: {}",
        String::from_utf8_lossy(&out.stderr).trim()
    )))
}

/// `postmaster.pid`: the first line is the pid, the eighth the status.
fn is_ready(lock_file: &str, pid: u32) -> bool {
    let mut lines = lock_file.lines();
    lines.next() == Some(pid.to_string().as_str())
        && lines.nth(6).is_some_and(|status| status.trim() == "ready")
}

/// A directory that the server's user owns and can reach.
fn prepare_home(dir: &Path, identity: Option<Identity>) -> Result<PathBuf> {
    let wanted = dir.join("postgres");
    make_home(&wanted, identity)?;
    let Some(user) = identity else {
        return Ok(wanted);
    };
    if can_enter(&wanted, user) {
        return Ok(wanted);
    }
    let elsewhere = PathBuf::from(format!("/var/tmp/refold-{:016x}", fnv1a(dir)));
    make_home(&elsewhere, identity)?;
    if !can_enter(&elsewhere, user) {
        return Err(Error::new(format!(
            "user {} can reach neither {} nor {}",
            user.uid,
            wanted.display(),
            elsewhere.display()
        )));
    }
    eprintln!(
        "Postgres' files are in {}: its user cannot reach {}",
        elsewhere.display(),
        wanted.display()
    );
    Ok(elsewhere)
}

fn make_home(home: &Path, identity: Option<Identity>) -> Result<()> {
    let failed = |e| Error::io(format_args!("could not prepare {}", home.display()), &e);
    fs::create_dir_all(home.join("socket")).map_err(failed)?;
    let Some(user) = identity else {
        return Ok(());
    };
    // A directory with a guessable name under /var/tmp may have been made by somebody else.
    let owner = fs::symlink_metadata(home).map_err(failed)?;
    if !owner.is_dir() || (owner.uid() != 0 && owner.uid() != user.uid) {
        return Err(Error::new(format!(
            "{} belongs to user {}, not to us",
            home.display(),
            owner.uid()
        )));
    }
    for path in [home, &home.join("socket")] {
        chown(path, Some(user.uid), Some(user.gid)).map_err(failed)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(failed)?;
    }
    Ok(())
}

/// Asks the kernel instead of computing permissions: a shell of that user changes into it.
fn can_enter(dir: &Path, user: Identity) -> bool {
    Command::new("/bin/sh")
        .args(["-c", "cd \"$1\"", "sh"])
        .arg(dir)
        .current_dir("/")
        .uid(user.uid)
        .gid(user.gid)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// A short, stable name for a path.
fn fnv1a(path: &Path) -> u64 {
    path.as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
}

/// A Postgres server that lives as long as this value.
#[derive(Debug)]
pub struct PostgresServer {
    state: PostgresState,
    options: PostgresOptions,
    watchdog: Option<Watchdog>,
}

impl PostgresServer {
    /// Starts a server with its files under `dir` and waits until it accepts connections.
    ///
    /// # Errors
    /// When Postgres cannot be found or installed, or the server does not come up (with its
    /// log's end).
    pub fn start(dir: &Path, options: PostgresOptions) -> Result<Self> {
        let mut server = Self {
            state: PostgresState::plan(dir, &options)?,
            options,
            watchdog: None,
        };
        server.ensure()?;
        Ok(server)
    }

    /// Starts a streaming standby of this server with its files under `dir`, and waits until it
    /// can be read.
    ///
    /// # Errors
    /// When the copy cannot be made, or the server does not come up (with its log's end).
    pub fn standby(&self, dir: &Path) -> Result<Self> {
        let options = self.options.clone();
        let state = PostgresState::plan(dir, &options)?;
        let out = state
            .command("pg_basebackup")
            .args(["--host", "127.0.0.1", "--username", ROLE])
            .args(["--port", &self.state.port.to_string()])
            .args(["--write-recovery-conf", "--wal-method", "stream"])
            .args(["--checkpoint", "fast", "--pgdata"])
            .arg(state.data())
            .output()
            .map_err(|e| Error::io("could not run pg_basebackup", &e))?;
        if !out.status.success() {
            let errors = String::from_utf8_lossy(&out.stderr);
            return Err(Error::new(format!(
                "pg_basebackup failed: {}",
                errors.trim()
            )));
        }
        let mut server = Self {
            state,
            options,
            watchdog: None,
        };
        server.ensure()?;
        Ok(server)
    }

    /// A server and a streaming standby of it, both below `dir`.
    ///
    /// # Errors
    /// When one of them does not come up.
    pub fn with_standby(dir: &Path, options: PostgresOptions) -> Result<(Self, Self)> {
        let primary = Self::start(&dir.join("primary"), options)?;
        let standby = primary.standby(&dir.join("standby"))?;
        Ok((primary, standby))
    }

    /// Starts the server again after [`Self::crash`] or [`Self::stop`], on the same data and,
    /// if nobody took it, the same port.
    ///
    /// # Errors
    /// When the server does not come up.
    pub fn ensure(&mut self) -> Result<()> {
        let watchdog = &mut self.watchdog;
        self.state.ensure(&self.options, &mut |state| {
            let next = Watchdog::over(state.process.iter().map(|p| (p, Signal::Quit)))?;
            if let Some(old) = watchdog.replace(next) {
                old.dismiss();
            }
            Ok(())
        })
    }

    /// Ends all sessions and the server without a checkpoint; the next start recovers.
    ///
    /// # Errors
    /// When the server survives SIGKILL.
    pub fn crash(&self) -> Result<()> {
        self.state.stop(Signal::Quit)
    }

    /// Disconnects all sessions, writes a checkpoint and ends.
    ///
    /// # Errors
    /// When the server survives SIGKILL.
    pub fn stop(&self) -> Result<()> {
        self.state.stop(Signal::Interrupt)
    }

    /// Connection URL of the superuser for its own database.
    pub fn dsn(&self) -> String {
        self.state.dsn(ROLE)
    }

    /// Connection URL of the superuser for some database.
    pub fn dsn_of(&self, database: &str) -> String {
        self.state.dsn(database)
    }

    /// Runs one statement with `psql` and returns its unaligned output.
    ///
    /// # Errors
    /// When the statement fails, with the server's message.
    pub fn psql(&self, sql: &str) -> Result<String> {
        self.state.psql(ROLE, sql)
    }

    /// Where the server's files are; its log is `server.log` there.
    pub fn home(&self) -> &Path {
        &self.state.home
    }
}

impl Drop for PostgresServer {
    /// No checkpoint: what a guarded server stores is not needed after it.
    fn drop(&mut self) {
        if let Err(e) = self.state.stop(Signal::Quit) {
            eprintln!("{e}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_ready_line_counts() {
        let text = "42\n/d\n1\n28000\n/s\n127.0.0.1\n  1 2\nready   \n";
        assert!(is_ready(text, 42));
        assert!(!is_ready(text, 43));
        assert!(!is_ready(&text.replace("ready   ", "starting"), 42));
        assert!(!is_ready("42\n", 42));
    }

    #[test]
    fn a_path_has_one_short_name() {
        assert_eq!(fnv1a(Path::new("/a")), fnv1a(Path::new("/a")));
        assert_ne!(fnv1a(Path::new("/a")), fnv1a(Path::new("/b")));
    }
}
