//! The sessions that rows are read by.

use std::sync::Arc;

use refold_ports::source::SourceError;
use tokio::sync::Mutex;
use tokio_postgres::Statement;

use crate::options::EventStoreOptions;
use crate::session::Session;

const READ: &str = include_str!("sql/read.sql");

/// What stands in the statement for the table.
const EVENTS: &str = "{events}";

/// A session with the statement that reads events.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) session: Session,
    pub(crate) read: Statement,
}

/// A session, opened when it is wanted and again when it broke. Tail readers share one: their
/// statements are sent together and answered in turn.
#[derive(Debug)]
pub(crate) struct Lines {
    options: EventStoreOptions,
    table: String,
    slot: Mutex<Option<Arc<Line>>>,
}

impl Lines {
    /// For a table whose name was checked. Connects to nothing yet.
    pub(crate) fn new(options: &EventStoreOptions, table: &str) -> Self {
        Self {
            options: options.clone(),
            table: table.to_owned(),
            slot: Mutex::default(),
        }
    }

    /// The table's name.
    pub(crate) fn table(&self) -> &str {
        &self.table
    }

    /// A session that stands; the one before, where it does.
    pub(crate) async fn line(&self) -> Result<Arc<Line>, SourceError> {
        let mut slot = self.slot.lock().await;
        if let Some(line) = &*slot
            && !line.session.is_closed()
        {
            return Ok(Arc::clone(line));
        }
        let session = Session::open(&self.options, &self.table).await?;
        let sql = READ.replace(EVENTS, &quoted(&self.table));
        let read = session.prepare("prepare to read events", &sql).await?;
        let line = Arc::new(Line { session, read });
        *slot = Some(Arc::clone(&line));
        Ok(line)
    }

    /// Gives a session up that an answer did not come by; the next read opens another.
    pub(crate) async fn give_up(&self, line: &Arc<Line>) {
        let mut slot = self.slot.lock().await;
        if slot.as_ref().is_some_and(|kept| Arc::ptr_eq(kept, line)) {
            *slot = None;
        }
    }
}

/// A table whose name was checked, for a statement.
pub(crate) fn quoted(table: &str) -> String {
    format!("refold_events.\"{table}\"")
}
