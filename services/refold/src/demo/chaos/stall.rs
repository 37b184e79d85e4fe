//! What can be told of projectors behind a gate that was not passed, while they are still there.
//!
//! A stall is worth more than the run that found it, and its processes end with the run.

use std::time::Duration;

use hyper::Method;

use super::Chaos;
use super::gate::Marks;
use crate::demo::Role;
use crate::http;

/// How long a projector may take to tell how its partitions are.
const ANSWER: Duration = Duration::from_secs(2);

/// Last lines of a process's log that are told.
const LINES: usize = 30;

/// What a projector writes in front of the address of its health.
const ADDRESS: &str = "metrics and health address=";

impl Chaos {
    /// Notes which partitions have not moved since `before`, and how each projector is: its own
    /// word, its threads, the end of its log.
    pub(super) async fn tell_stall(&self, before: Option<&Marks>, now: Option<&Marks>) {
        match before.zip(now) {
            Some((before, now)) => {
                for line in now.still_since(before) {
                    self.scene.note(&line);
                }
            }
            None => self.scene.note("the database did not tell the marks"),
        }
        for role in self.crew.roles() {
            self.scene.note(&format!("{}:", role.name()));
            let said = role.said();
            for line in health(&said).await.lines().chain(threads(role).lines()) {
                self.scene.note(&format!("  {line}"));
            }
            let lines: Vec<_> = said.lines().collect();
            for line in &lines[lines.len().saturating_sub(LINES)..] {
                self.scene.note(&format!("  log: {line}"));
            }
        }
    }
}

/// What a projector says of its partitions, where its log says it can be asked.
async fn health(said: &str) -> String {
    let address = said.split(ADDRESS).nth(1);
    let Some(address) = address.and_then(|rest| rest.split_whitespace().next()) else {
        return "has not said where it can be asked".to_owned();
    };
    let uri = format!("http://{address}/readyz?verbose");
    match http::send(Method::GET, &uri, &[], None, ANSWER).await {
        Ok(answer) => answer.text(),
        Err(failure) => failure.sentence,
    }
}

/// Name, state and system call of each thread, those that are alike in one line.
fn threads(role: &Role) -> String {
    let mut alike = std::collections::BTreeMap::<String, usize>::new();
    for thread in role.threads() {
        *alike.entry(thread).or_default() += 1;
    }
    let line = |(what, count): (String, usize)| format!("{count} x {what}\n");
    alike.into_iter().map(line).collect()
}
