//! A private PgBouncer in transaction mode in front of a Postgres of ours.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::port::{self, Purpose};
use crate::process::{Launch, ServerProcess, Signal};
use crate::watchdog::Watchdog;
use crate::{Error, Result, locate, machine};

const START_PATIENCE: Duration = Duration::from_secs(20);
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// A pooler that lends a session for one transaction at a time, and lives as long as this value.
#[derive(Debug)]
pub struct PgBouncer {
    port: u16,
    process: ServerProcess,
    _watchdog: Watchdog,
}

impl PgBouncer {
    /// Starts a pooler with its files under `dir` and `sessions` server sessions for each
    /// database, in front of the server of the connection URL `dsn`.
    ///
    /// # Errors
    /// When PgBouncer cannot be found or fetched, or does not come up (with its log's end).
    pub fn start(dir: &Path, dsn: &str, sessions: u32) -> Result<Self> {
        let files = locate::pgbouncer()?;
        let home = dir.join("pgbouncer");
        let program = copy(&files, &home)?;
        let port = port::free(Purpose::Pooler, 1)?[0];
        let settings = home.join("pgbouncer.ini");
        write(&settings, &configuration(dsn, port, sessions)?)?;
        own(&home)?;
        let process = ServerProcess::start(Launch {
            name: "PgBouncer".into(),
            program,
            args: vec![settings.into()],
            env: vec![("LD_LIBRARY_PATH".into(), home.clone().into())],
            working_dir: home.clone(),
            log: home.join("server.log"),
            identity: machine::unprivileged(),
        })?;
        let watchdog = Watchdog::over([(&process, Signal::Kill)])?;
        let pooler = Self {
            port,
            process,
            _watchdog: watchdog,
        };
        pooler.process.await_ready(START_PATIENCE, || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        })?;
        Ok(pooler)
    }

    /// The connection URL that leads through the pooler to the database of `dsn`.
    pub fn dsn(&self, dsn: &str) -> String {
        let database = dsn.rsplit_once('/').map_or("refold", |(_, name)| name);
        format!("postgresql://refold@127.0.0.1:{}/{database}", self.port)
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        if let Err(e) = self.process.stop(Signal::Kill, STOP_PATIENCE) {
            eprintln!("{e}");
        }
    }
}

/// PgBouncer refuses to run as root, and another user may not reach the cache: program and
/// libraries are copied to where it runs.
fn copy(files: &[PathBuf], home: &Path) -> Result<PathBuf> {
    let failed = |e| Error::io(format_args!("could not prepare {}", home.display()), &e);
    fs::create_dir_all(home).map_err(failed)?;
    for file in files {
        let name = file.file_name().unwrap_or_default();
        fs::copy(file, home.join(name)).map_err(failed)?;
    }
    Ok(home.join("pgbouncer"))
}

fn own(home: &Path) -> Result<()> {
    let failed = |e| Error::io(format_args!("could not prepare {}", home.display()), &e);
    let Some(user) = machine::unprivileged() else {
        return Ok(());
    };
    let within = fs::read_dir(home).map_err(failed)?;
    let within = within.filter_map(std::result::Result::ok).map(|e| e.path());
    for path in within.chain([home.to_owned()]) {
        chown(&path, Some(user.uid), Some(user.gid)).map_err(failed)?;
    }
    fs::set_permissions(home, fs::Permissions::from_mode(0o700)).map_err(failed)
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)
        .map_err(|e| Error::io(format_args!("could not write {}", path.display()), &e))
}

/// Nobody is asked for a password: the pooler listens on loopback, as the server does.
fn configuration(dsn: &str, port: u16, sessions: u32) -> Result<String> {
    let server = dsn.split_once('@').and_then(|(_, rest)| {
        let (server, _) = rest.split_once('/')?;
        server.split_once(':')
    });
    let (host, server_port) =
        server.ok_or_else(|| Error::new(format!("{dsn} names no user, host and port")))?;
    Ok(format!(
        "[databases]\n\
         * = host={host} port={server_port} user=refold\n\
         [pgbouncer]\n\
         listen_addr = 127.0.0.1\n\
         listen_port = {port}\n\
         unix_socket_dir =\n\
         auth_type = any\n\
         pool_mode = transaction\n\
         default_pool_size = {sessions}\n\
         server_login_retry = 1\n\
         max_client_conn = 200\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_names_the_server_and_the_mode() {
        let dsn = "postgresql://refold@127.0.0.1:28123/e2e_x";
        let text = configuration(dsn, 18_001, 3).expect("a configuration");
        assert!(
            text.contains("* = host=127.0.0.1 port=28123 user=refold\n"),
            "{text}"
        );
        assert!(text.contains("pool_mode = transaction\n"), "{text}");
        assert!(configuration("nowhere", 1, 1).is_err());
    }
}
