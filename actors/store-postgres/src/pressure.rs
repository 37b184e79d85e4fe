//! What a rebuild bears on: the write-ahead log, its slots and its standbys, and the reads.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use refold_domain::duty::ReadLatency;
use refold_domain::throttle::Reading;
use refold_domain::throttle::Readings;
use refold_domain::throttle::Reason;
use refold_ports::Pressure;
use refold_ports::ReadReport;
use refold_ports::pressure::ReadTimes;
use refold_ports::pressure::SILENT_AFTER;
use refold_ports::registry::RegistryError;
use refold_ports::sink::StoreError;
use tokio::sync::Mutex;
use tokio_postgres::Row;

use crate::parameter::Parameter;
use crate::registry::PgRegistry;
use crate::session::Session;
use crate::session::SessionOptions;

/// Standbys and slots. A standby that sends no position (`pg_receivewal`, a base backup) has no
/// lag, a reader of a logical slot is no standby, and a slot that was given up holds nothing.
const LOOK: &str = include_str!("sql/pressure.sql");
/// The segments up to the current one. Those behind it are old ones that were renamed to be used
/// next: with them the figure would not fall at a checkpoint, and a rebuild not go on.
const WAL: &str = include_str!("sql/pressure_wal.sql");

/// What was told since a moment, and the moment of the last that was told at all.
const READS: &str = include_str!("sql/pressure_reads.sql");
const TELL_READS: &str = include_str!("sql/tell_reads.sql");

/// Longest wait for an answer. A look that takes longer is given up with its connection.
const DEADLINE: Duration = Duration::from_secs(2);

/// Looks at a server, on a connection of its own: the others may be waited for just when the
/// server has too much to do.
pub struct PgPressure {
    options: SessionOptions,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    session: Option<Session>,
    /// The youngest report that was taken into account, in microseconds of the server's clock.
    seen: i64,
}

impl PgPressure {
    /// Connects with the first look.
    pub fn new(options: &SessionOptions) -> Self {
        let mut options = options.clone();
        options.deadline = options.deadline.min(DEADLINE);
        Self {
            options,
            state: Mutex::default(),
        }
    }

    /// The session, taken out of its place: an answer that fails or is dropped leaves nothing
    /// behind to be used again.
    async fn session(&self, state: &mut State) -> Result<Session, StoreError> {
        match state.session.take() {
            Some(session) => Ok(session),
            None => Session::open(&self.options, "refold throttle").await,
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
        let mut state = self.state.lock().await;
        let session = self.session(&mut state).await?;
        let readings = readings(&session).await?;
        state.session = Some(session);
        Ok(readings)
    }

    async fn reads(&self) -> Result<ReadLatency, StoreError> {
        let mut state = self.state.lock().await;
        let session = self.session(&mut state).await?;
        let silent_after = SILENT_AFTER.as_secs_f64();
        let row = session
            .one_typed(
                "look at what reads take",
                READS,
                &[&state.seen, &silent_after],
            )
            .await?;
        state.session = Some(session);
        state.seen = field(&row, "stamp")?;
        let p99: Option<i64> = field(&row, "p99_micros")?;
        Ok(match p99 {
            Some(micros) => {
                ReadLatency::P99(Duration::from_micros(micros.try_into().unwrap_or_default()))
            }
            None if field(&row, "is_told")? => ReadLatency::Unchanged,
            None => ReadLatency::Silent,
        })
    }
}

#[async_trait]
impl ReadReport for PgRegistry {
    async fn tell(&self, api: &str, times: ReadTimes) -> Result<(), RegistryError> {
        let reads = i64::try_from(times.reads).unwrap_or(i64::MAX);
        let p99 = i64::try_from(times.p99.as_micros()).unwrap_or(i64::MAX);
        let values: [&dyn Parameter; 3] = [&api, &reads, &p99];
        let told = self
            .sessions()
            .query("tell what reads take", TELL_READS, &values);
        told.await.map(drop)
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
