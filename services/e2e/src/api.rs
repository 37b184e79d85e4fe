//! A running `api`.

use std::io;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;

use crate::http;
use crate::http::Reply;
use crate::process::Process;
use crate::world::World;

/// How long an api may take to answer its first request.
const START: Duration = Duration::from_secs(20);

/// An `api` process on a port of its own.
#[derive(Debug)]
pub struct Api {
    process: Process,
}

impl World {
    /// Starts an api that answers from `projection` where a request names none.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn api(&self, projection: &str) -> Api {
        let launch = self.api_launch().flag("projection", projection);
        Api::of(launch.start())
    }
}

impl Api {
    /// Waits until the process answers.
    ///
    /// # Panics
    /// When it does not.
    pub fn of(process: Process) -> Self {
        let api = Self { process };
        let path = "/livez";
        let answers = || http::send(api.address(), "GET", path, &[], None);
        let alive = refold_local::testing::wait_until(START, || {
            answers().is_ok_and(|reply| reply.status == 200)
        });
        assert!(alive, "no answer: {}", api.process.stderr().text());
        api
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// SIGSTOP: what it has begun stands still, and so does what is asked of it, until
    /// [`Api::resume`].
    pub fn pause(&self) {
        self.process.stop();
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.process.resume();
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        self.process.address()
    }

    /// Its URL, as `-api` takes it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// `GET path`.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn get(&self, path: &str) -> Reply {
        let reply = http::send(self.address(), "GET", path, &[], None);
        reply.unwrap_or_else(|e| panic!("GET {path}: {e}"))
    }

    /// `GET path`, if it answers.
    ///
    /// # Errors
    /// When it does not.
    pub fn try_get(&self, path: &str) -> io::Result<Reply> {
        http::send(self.address(), "GET", path, &[], None)
    }

    /// `DELETE path`.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn delete(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        let reply = http::send(self.address(), "DELETE", path, headers, None);
        reply.unwrap_or_else(|e| panic!("DELETE {path}: {e}"))
    }

    /// `POST path` with a JSON body.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn post(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Reply {
        let reply = http::send(self.address(), "POST", path, headers, Some(body));
        reply.unwrap_or_else(|e| panic!("POST {path}: {e}"))
    }

    /// `POST /cutover` to a version.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn cutover(&self, version: &str) -> Reply {
        self.post("/cutover", &[], &json!({ "version": version }))
    }
}
