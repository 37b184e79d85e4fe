//! What an event table is, and what has to hold for it to be a log.

use refold_domain::log::TopicIdentity;
use refold_ports::source::SourceError;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::session::Session;

const FACTS: &str = include_str!("sql/facts.sql");

/// A table that is fit to be a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The table's id in the catalogue; another one when it is made anew.
    pub(crate) id: Uuid,
    /// The table's oid, by which locks name it.
    pub(crate) events: u32,
    /// The oid of the sequence that positions come from.
    pub(crate) sequence: u32,
    pub(crate) partitions: i32,
    cluster_id: String,
}

impl Facts {
    /// Asks what the table is.
    ///
    /// # Errors
    /// [`SourceError::TopicMissing`] when there is no such event table, [`SourceError::Fatal`]
    /// when there is one that cannot be read as a log, and what to do.
    pub(crate) async fn ask(session: &Session, table: &str) -> Result<Self, SourceError> {
        let what = "ask what the event table is";
        let row = session
            .within(what, session.client().query_opt(FACTS, &[&table]))
            .await?;
        let Some(row) = row else {
            return Err(SourceError::TopicMissing(table.to_owned()));
        };
        Self::of(&row, table)
    }

    fn of(row: &Row, table: &str) -> Result<Self, SourceError> {
        let read = |error: tokio_postgres::Error| {
            SourceError::Fatal(format!("read what event table {table} is: {error}"))
        };
        let system: i64 = row.try_get("system_identifier").map_err(read)?;
        let database: u32 = row.try_get("database").map_err(read)?;
        let events: Option<u32> = row.try_get("events").map_err(read)?;
        let Some(events) = events else {
            return Err(SourceError::TopicMissing(table.to_owned()));
        };
        if let Some(why) = Fitness::of(row).map_err(read)?.refusal() {
            return Err(SourceError::Fatal(format!(
                "event table {table} cannot be read as a log: {why}"
            )));
        }
        Ok(Self {
            id: row.try_get("id").map_err(read)?,
            events,
            sequence: row.try_get("sequence").map_err(read)?,
            partitions: row.try_get("partitions").map_err(read)?,
            cluster_id: format!("postgres-{system}-{database}"),
        })
    }

    /// The table as the log that it is.
    pub(crate) fn identity(&self, table: &str) -> TopicIdentity {
        TopicIdentity {
            cluster_id: self.cluster_id.clone(),
            topic: table.to_owned(),
            topic_id: Some(self.id.to_string()),
            partitions: self.partitions,
        }
    }
}

/// What a table has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fitness {
    recovering: bool,
    kind: String,
    persistence: String,
    sequence_persistence: String,
    sequence_readable: bool,
    inherits: bool,
    ruled: bool,
    /// Triggers of ours that always fire, of three.
    always: i64,
    /// Triggers that may give a row its position, of one.
    placing: i64,
    cache: i64,
    increment: i64,
    cycle: bool,
}

impl Fitness {
    fn of(row: &Row) -> Result<Self, tokio_postgres::Error> {
        let of_sequence = |column| row.try_get::<_, Option<i64>>(column);
        Ok(Self {
            recovering: row.try_get("recovering")?,
            kind: row.try_get("kind")?,
            persistence: row.try_get("persistence")?,
            sequence_persistence: row.try_get("sequence_persistence")?,
            sequence_readable: row.try_get("sequence_readable")?,
            inherits: row.try_get("inherits")?,
            ruled: row.try_get("ruled")?,
            always: row.try_get("always")?,
            placing: row.try_get("placing")?,
            cache: of_sequence("cache")?.unwrap_or_default(),
            increment: of_sequence("increment")?.unwrap_or_default(),
            cycle: row.try_get::<_, Option<bool>>("cycle")?.unwrap_or_default(),
        })
    }

    /// What is wrong and what to do about it, as the end of a sentence.
    fn refusal(&self) -> Option<String> {
        let why = if self.recovering {
            "the server is in recovery, and a standby does not know which positions were handed out: read it from the primary"
        } else if self.kind != "r" {
            "it is not a plain table: create it with `refold event-table create`"
        } else if self.persistence != "p" {
            "it is unlogged, and a crash empties it: `alter table .. set logged`"
        } else if self.inherits {
            "it inherits or is inherited from: `alter table .. no inherit`"
        } else if self.ruled {
            "it has a rewrite rule: `drop rule`"
        } else if self.sequence_persistence != "p" {
            "its sequence is missing or not logged: create the table with `refold event-table create`"
        } else if !self.sequence_readable {
            "its sequence may not be read: `grant select on sequence`"
        } else if self.cache != 1 {
            "its sequence is cached, so that a session may use a position long after it took it: `alter sequence .. cache 1`"
        } else if self.increment != 1 || self.cycle {
            "its sequence does not ascend one by one for ever: `alter sequence .. increment 1 no cycle`"
        } else if self.always != 3 {
            "a trigger that keeps it a log does not always fire: `alter table .. enable always trigger` for place, refuse and refuse_above_low"
        } else if self.placing != 1 {
            "another trigger is fired for each row before it is inserted, and may give it another position: `drop trigger`"
        } else {
            return None;
        };
        Some(why.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit() -> Fitness {
        Fitness {
            recovering: false,
            kind: "r".to_owned(),
            persistence: "p".to_owned(),
            sequence_persistence: "p".to_owned(),
            sequence_readable: true,
            inherits: false,
            ruled: false,
            always: 3,
            placing: 1,
            cache: 1,
            increment: 1,
            cycle: false,
        }
    }

    type Change = fn(&mut Fitness);

    #[test]
    fn everything_that_would_make_a_table_no_log_is_refused_with_what_to_do() {
        assert_eq!(fit().refusal(), None);
        let changes: [(&str, Change); 11] = [
            ("primary", |f| f.recovering = true),
            ("plain table", |f| f.kind = "p".to_owned()),
            ("set logged", |f| f.persistence = "u".to_owned()),
            ("no inherit", |f| f.inherits = true),
            ("drop rule", |f| f.ruled = true),
            ("missing", |f| f.sequence_persistence = String::new()),
            ("grant select", |f| f.sequence_readable = false),
            ("cache 1", |f| f.cache = 20),
            ("no cycle", |f| f.cycle = true),
            ("enable always", |f| f.always = 2),
            ("drop trigger", |f| f.placing = 2),
        ];
        for (word, change) in changes {
            let mut facts = fit();
            change(&mut facts);
            let why = facts.refusal().expect("it is refused");
            assert!(why.contains(word), "{why}");
        }
    }
}
