//! What a chaos run does to a scene: its private servers go away and come back, and its projectors
//! reach them by way of proxies. And what a scene's processes get of the processors.

use std::path::Path;

use refold_local::Server;
use refold_local::StackGuard;

use super::API;
use super::Scene;
use crate::cli::Failure;
use crate::cli::Kind;
use crate::demo::processes::Role;

impl Scene {
    /// From now on projectors are started with these brokers and this database.
    pub(in crate::demo) fn take_detour(&mut self, brokers: String, postgres: String) {
        self.detour = Some((brokers, postgres));
    }

    /// Starts a projector under a name of its own, with variables in its environment.
    pub(in crate::demo) fn start_projector(
        &self,
        name: &str,
        version: &str,
        mode: &[String],
        env: &[(&str, &Path)],
    ) -> Result<Role, Failure> {
        let args = self.projector_args(version, mode);
        Role::start_in(name, &self.logs, &args, env)
    }

    /// SIGKILL for a private server.
    pub(in crate::demo) async fn kill_server(&mut self, server: Server) -> Result<(), Failure> {
        self.with_guard(move |guard| guard.kill(server)).await
    }

    /// Starts again what was killed, and waits until it answers.
    pub(in crate::demo) async fn revive_servers(&mut self) -> Result<(), Failure> {
        let options = self.staging.stack_options(&self.dir);
        self.with_guard(move |guard| guard.revive(&options)).await?;
        let addresses = self.stack().map(refold_local::Stack::addresses);
        let same = addresses.is_some_and(|now| {
            now.postgres.as_ref() == Some(&self.postgres)
                && now.kafka.as_ref() == Some(&self.brokers)
        });
        match same {
            true => Ok(()),
            false => Err(Failure::new(
                Kind::Error,
                "a server came back at another port: another process took its own meanwhile",
            )),
        }
    }

    /// SIGSTOP for a private server.
    pub(in crate::demo) async fn pause_server(&mut self, server: Server) -> Result<(), Failure> {
        let paused = self.with_guard(move |guard| {
            guard.pause(server);
            Ok(())
        });
        paused.await
    }

    /// SIGCONT for it.
    pub(in crate::demo) async fn resume_server(&mut self, server: Server) -> Result<(), Failure> {
        let resumed = self.with_guard(move |guard| {
            guard.resume(server);
            Ok(())
        });
        resumed.await
    }

    /// Lets the broker and every process but the api give way to whoever else wants the processors,
    /// by the niceness of their sessions.
    pub(in crate::demo) async fn let_give_way(&mut self, nice: u8) -> Result<(), Failure> {
        let broker = self.with_guard(move |guard| guard.set_nice(Server::Kafka, nice));
        broker.await?;
        let mut others = self.roles.iter().filter(|role| role.name() != API);
        others.try_for_each(|role| role.set_nice(nice))
    }

    /// Works on the private stack, which takes its time, on a thread of its own.
    async fn with_guard(
        &mut self,
        work: impl FnOnce(&mut StackGuard) -> refold_local::Result<()> + Send + 'static,
    ) -> Result<(), Failure> {
        let missing = || Failure::new(Kind::Error, "only a private stack is done harm to");
        let mut guard = self.stack.take().ok_or_else(missing)?;
        let worked = tokio::task::spawn_blocking(move || {
            let outcome = work(&mut guard);
            (guard, outcome)
        });
        let failed = |error: &dyn std::fmt::Display| Failure::error("handle the stack", error);
        let (guard, outcome) = worked.await.map_err(|error| failed(&error))?;
        self.stack = Some(guard);
        outcome.map_err(|error| failed(&error))
    }
}
