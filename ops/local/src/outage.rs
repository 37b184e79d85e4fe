//! Outages of a guarded stack's servers, made on purpose: killed and started again, stopped and
//! continued; and made to give way to others. Only a guard can do it, so only servers that this
//! process answers for are touched.

use std::time::Duration;

use crate::process::{ServerProcess, Signal, signal_all, wait_until};
use crate::stack::{Stack, StackGuard, StackOptions};
use crate::watchdog::Watchdog;
use crate::{Error, Result, session};

/// How long a killed server, and what it had started, may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(10);

/// A kind of server that a stack has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// All brokers.
    Kafka,
    /// The database server with its sessions.
    Postgres,
}

impl StackGuard {
    fn processes(&self, server: Server) -> Vec<&ServerProcess> {
        let state = &self.stack.state;
        match server {
            Server::Kafka => state.kafka.iter().flat_map(|k| k.processes()).collect(),
            Server::Postgres => state
                .postgres
                .iter()
                .filter_map(|p| p.process.as_ref())
                .collect(),
        }
    }

    /// SIGKILL for the server's process. Returns when its ports are free again, and with it the children that
    /// notice its death by themselves, as the sessions of Postgres do: before that a new
    /// server refuses to start on the same files.
    ///
    /// # Errors
    /// When it survives.
    pub fn kill(&self, server: Server) -> Result<()> {
        for process in self.processes(server) {
            let children = process.children();
            process.stop(Signal::Kill, GONE_WITHIN)?;
            if !wait_until(GONE_WITHIN, || process.is_gone()) {
                return Err(Error::new(format!(
                    "{} still holds its ports",
                    process.name
                )));
            }
            let gone = || children.iter().all(|child| !child.is_running());
            if !wait_until(GONE_WITHIN, gone) {
                signal_all(&children, Signal::Kill);
                if !wait_until(GONE_WITHIN, gone) {
                    return Err(Error::new(format!(
                        "children of {} did not end after SIGKILL",
                        process.name
                    )));
                }
            }
        }
        Ok(())
    }

    /// SIGSTOP for the server's process and its children: it answers nothing, and its
    /// connections stay open.
    pub fn pause(&self, server: Server) {
        for process in self.processes(server) {
            process.pause();
        }
    }

    /// SIGCONT for what [`StackGuard::pause`] stopped.
    pub fn resume(&self, server: Server) {
        for process in self.processes(server) {
            process.resume();
        }
    }

    /// Sets the niceness of the server's session, as [`session::set_nice`]. The sessions of
    /// a database's backends keep theirs.
    ///
    /// # Errors
    /// Those of [`session::set_nice`].
    pub fn set_nice(&self, server: Server, nice: u8) -> Result<()> {
        let processes = self.processes(server);
        let mut pids = processes.iter().map(|process| process.pid);
        pids.try_for_each(|pid| session::set_nice(pid, nice))
    }

    /// Starts the servers again that were killed, and waits until they answer. `options` are
    /// those that the stack was started with.
    ///
    /// # Errors
    /// When one does not come up.
    pub fn revive(&mut self, options: &StackOptions) -> Result<()> {
        let stack = Stack::up(options)?;
        // The new one first: no moment without a watchdog over the servers that ran before.
        let watchdog = Watchdog::over(stack.state.processes())?;
        std::mem::replace(&mut self.watchdog, watchdog).dismiss();
        self.stack = stack;
        Ok(())
    }
}
