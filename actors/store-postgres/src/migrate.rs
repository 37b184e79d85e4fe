//! Numbered migrations of the control schema.

use refold_ports::sink::StoreError;

use crate::error::store_error;
use crate::parameter::typed;
use crate::session::Session;
use crate::session::SessionOptions;

struct Migration {
    number: i32,
    name: &'static str,
    sql: &'static str,
}

const MIGRATIONS: [Migration; 16] = [
    Migration {
        number: 1,
        name: "control",
        sql: include_str!("../migrations/0001_control.sql"),
    },
    Migration {
        number: 2,
        name: "fence",
        sql: include_str!("../migrations/0002_fence.sql"),
    },
    Migration {
        number: 3,
        name: "views",
        sql: include_str!("../migrations/0003_views.sql"),
    },
    Migration {
        number: 4,
        name: "registry",
        sql: include_str!("../migrations/0004_registry.sql"),
    },
    Migration {
        number: 5,
        name: "checkpoints",
        sql: include_str!("../migrations/0005_checkpoints.sql"),
    },
    Migration {
        number: 6,
        name: "scans",
        sql: include_str!("../migrations/0006_scans.sql"),
    },
    Migration {
        number: 7,
        name: "retire",
        sql: include_str!("../migrations/0007_retire.sql"),
    },
    Migration {
        number: 8,
        name: "proofs",
        sql: include_str!("../migrations/0008_proofs.sql"),
    },
    Migration {
        number: 9,
        name: "parking",
        sql: include_str!("../migrations/0009_parking.sql"),
    },
    Migration {
        number: 10,
        name: "take_over",
        sql: include_str!("../migrations/0010_take_over.sql"),
    },
    Migration {
        number: 11,
        name: "readers",
        sql: include_str!("../migrations/0011_readers.sql"),
    },
    Migration {
        number: 12,
        name: "read_latency",
        sql: include_str!("../migrations/0012_read_latency.sql"),
    },
    Migration {
        number: 13,
        name: "switches",
        sql: include_str!("../migrations/0013_switches.sql"),
    },
    Migration {
        number: 14,
        name: "keys",
        sql: include_str!("../migrations/0014_keys.sql"),
    },
    Migration {
        number: 15,
        name: "scan_partitions",
        sql: include_str!("../migrations/0015_scan_partitions.sql"),
    },
    Migration {
        number: 16,
        name: "reset",
        sql: include_str!("../migrations/0016_reset.sql"),
    },
];

/// The oldest server that knows `merge`, as it counts its versions.
const OLDEST: i32 = 150_000;

const SERVER: &str =
    "select current_setting('server_version_num')::integer, current_setting('server_version')";
const LEDGER: &str = include_str!("sql/migration_ledger.sql");
const FIND: &str = "select encode(sha256(convert_to($2, 'UTF8')), 'hex') as running,
    (select checksum from refold.migrations where number = $1) as stored";
const NEWEST: &str =
    "select coalesce(max(number), 0), pg_current_xact_id()::text from refold.migrations";
const RECORD: &str = "insert into refold.migrations (number, name, checksum) values ($1, $2, $3)";

/// Brings the control schema up to date and returns how many migrations ran.
/// All of them are one transaction; whoever comes second waits and finds nothing to do.
///
/// # Errors
/// [`StoreError::Refused`] when the server is too old, or the database was migrated by a newer
/// program or by migrations that were changed since; [`StoreError::Disconnected`] when the store is away.
pub async fn migrate(options: &SessionOptions) -> Result<usize, StoreError> {
    let mut options = options.clone();
    options.synchronous_commit = true;
    let session = Session::open(&options, "refold migrate").await?;
    let what = "ask for the server's version";
    let server = session.one_typed(what, SERVER, &[]).await?;
    let number = server.try_get(0).map_err(|e| store_error(what, &e))?;
    let version: String = server.try_get(1).map_err(|e| store_error(what, &e))?;
    young_enough(number, &version)?;
    session.batch("begin the migration", LEDGER).await?;
    let what = "read the newest migration";
    let newest = session.one_typed(what, NEWEST, &[]).await?;
    let number: i32 = newest.try_get(0).map_err(|e| store_error(what, &e))?;
    let xid: String = newest.try_get(1).map_err(|e| store_error(what, &e))?;
    if number > MIGRATIONS[MIGRATIONS.len() - 1].number {
        return Err(StoreError::Refused(format!(
            "the database is at migration {number}, this program knows {}: run a newer one",
            MIGRATIONS.len()
        )));
    }
    let mut ran = 0;
    for migration in &MIGRATIONS {
        ran += usize::from(run(&session, migration).await?);
    }
    session.commit(&xid).await?;
    Ok(ran)
}

fn young_enough(number: i32, version: &str) -> Result<(), StoreError> {
    if number >= OLDEST {
        return Ok(());
    }
    Err(StoreError::Refused(format!(
        "the server is PostgreSQL {version}, and rows are written by merge, which {} was the first to know: upgrade the server",
        OLDEST / 10_000
    )))
}

/// Runs a migration that is not in the ledger. `true` when it ran.
async fn run(session: &Session, migration: &Migration) -> Result<bool, StoreError> {
    let what = format!("run migration {} ({})", migration.number, migration.name);
    let found = session
        .one_typed(&what, FIND, &[&migration.number, &migration.sql])
        .await?;
    let running: String = found.try_get(0).map_err(|e| store_error(&what, &e))?;
    match found
        .try_get::<_, Option<String>>(1)
        .map_err(|e| store_error(&what, &e))?
    {
        Some(stored) if stored == running => return Ok(false),
        Some(_) => {
            return Err(StoreError::Refused(format!(
                "{what}: it ran here in another form; make a new migration instead of changing one"
            )));
        }
        None => {}
    }
    session.batch(&what, migration.sql).await?;
    let record = typed(&[&migration.number, &migration.name, &running]);
    let recorded = session.client().query_typed(RECORD, &record);
    session.within(&what, recorded).await?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_without_merge_is_refused_and_told_what_to_do() {
        assert_eq!(young_enough(150_000, "15.0"), Ok(()));
        let old = young_enough(140_019, "14.19").expect_err("too old");
        let sentence = old.to_string();
        assert!(sentence.contains("PostgreSQL 14.19"), "{sentence}");
        assert!(
            sentence.contains("15") && sentence.contains("upgrade"),
            "{sentence}"
        );
    }
}
