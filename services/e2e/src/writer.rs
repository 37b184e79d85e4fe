//! What a projector's writers do in the database, as the server sees it.

use crate::world::World;

/// The session of one writer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// The server process.
    pub pid: i32,
    /// Its partition.
    pub partition: i32,
    /// `active`, `idle in transaction`, ...
    pub state: String,
    /// Whether it has written in an open transaction.
    pub has_xid: bool,
    /// What it waits for, such as `Client:ClientRead`.
    pub wait: String,
    /// Its statement.
    pub query: String,
}

impl Backend {
    /// Whether its transaction is open and does not end unless the client says so.
    pub fn is_inside_transaction(&self) -> bool {
        self.has_xid && !self.query.trim_start().starts_with("commit")
    }

    /// Whether a copy is open.
    pub fn is_inside_copy(&self) -> bool {
        self.state == "active" && self.query.to_lowercase().starts_with("copy ")
    }
}

/// The owner is recorded in the partition's row, so that a session is the writer of
/// its partition whatever it calls itself.
const BACKENDS: &str = "
    select a.pid, o.partition, coalesce(a.state, ''), a.backend_xid is not null,
        coalesce(a.wait_event_type || ':' || a.wait_event, ''),
        translate(left(a.query, 200), E'\\n\\r', '  ')
    from refold.offsets o
    join refold.versions v on v.id = o.version
    join pg_stat_activity a on a.pid = o.owner_pid and a.backend_start = o.owner_backend_start
    where v.label = ";

impl World {
    /// The sessions of the recorded owners of a version's partitions; none before the first.
    pub fn writers(&self, version: &str) -> Vec<Backend> {
        let rows = self.try_sql(&format!("{BACKENDS} '{version}' order by o.partition"));
        let backends = rows.unwrap_or_default().into_iter().map(|row| Backend {
            pid: row[0].parse().unwrap_or_default(),
            partition: row[1].parse().unwrap_or_default(),
            state: row[2].clone(),
            has_xid: row[3] == "t",
            wait: row[4].clone(),
            query: row[5].clone(),
        });
        backends.collect()
    }
}
