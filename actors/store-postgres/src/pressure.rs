//! What a rebuild bears on: the write-ahead log, its slots and its standbys.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use refold_domain::throttle::Reading;
use refold_domain::throttle::Readings;
use refold_domain::throttle::Reason;
use refold_ports::Pressure;
use refold_ports::sink::StoreError;
use tokio::sync::Mutex;
use tokio_postgres::Row;

use crate::session::Session;
use crate::session::SessionOptions;

/// Standbys and slots. A standby that sends no position (`pg_receivewal`, a base backup) has no
/// lag, a reader of a logical slot is no standby, and a slot that was given up holds nothing.
const LOOK: &str = include_str!("sql/pressure.sql");
/// The segments up to the current one. Those behind it are old ones that were renamed to be used
/// next: with them the figure would not fall at a checkpoint, and a rebuild not go on.
const WAL: &str = include_str!("sql/pressure_wal.sql");

/// Longest wait for an answer. A look that takes longer is given up with its connection.
const DEADLINE: Duration = Duration::from_secs(2);

/// Looks at a server, on a connection of its own: the others may be waited for just when the
/// server has too much to do.
pub struct PgPressure {
    options: SessionOptions,
    session: Mutex<Option<Session>>,
}

impl PgPressure {
    /// Connects with the first look.
    pub fn new(options: &SessionOptions) -> Self {
        let mut options = options.clone();
        options.deadline = options.deadline.min(DEADLINE);
        Self {
            options,
            session: Mutex::new(None),
        }
    }
}

impl fmt::Debug for PgPressure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgPressure").finish_non_exhaustive()
    }
}

#[async_trait]
impl Pressure for PgPressure {
    async fn look(&self) -> Result<Readings, StoreError> {
        let mut place = self.session.lock().await;
        // Taken out: a look that fails or is dropped leaves nothing behind to be used again.
        let session = match place.take() {
            Some(session) => session,
            None => Session::open(&self.options, "refold throttle").await?,
        };
        let readings = readings(&session).await?;
        *place = Some(session);
        Ok(readings)
    }
}

async fn readings(session: &Session) -> Result<Readings, StoreError> {
    let row = session
        .one_typed("look at standbys and slots", LOOK, &[])
        .await?;
    let wal = match field(&row, "sees_wal")? {
        false => Reading::Hidden,
        true => {
            let row = session.one_typed("look at pg_wal", WAL, &[]).await?;
            bytes(&row, "wal")?
        }
    };
    let replay_lag = match field(&row, "sees_standbys")? {
        false => Reading::Hidden,
        true => bytes(&row, "replay_lag")?,
    };
    Ok(Readings::default()
        .with(Reason::ReplayLag, replay_lag)
        .with(Reason::SlotWal, bytes(&row, "slot_wal")?)
        .with(Reason::Wal, wal))
}

fn bytes(row: &Row, column: &str) -> Result<Reading, StoreError> {
    let bytes: Option<i64> = field(row, column)?;
    let bytes = bytes.map(|bytes| u64::try_from(bytes).unwrap_or_default());
    Ok(bytes.map_or(Reading::Nothing, Reading::Bytes))
}

fn field<'a, T: tokio_postgres::types::FromSql<'a>>(
    row: &'a Row,
    column: &str,
) -> Result<T, StoreError> {
    row.try_get(column)
        .map_err(|e| StoreError::Refused(format!("read {column}: {e}")))
}
