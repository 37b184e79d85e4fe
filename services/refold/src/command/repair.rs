//! `repair`: rows that are not what the log gives are put right, key by key.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::Arc;

use refold_domain::diff::cell_text;
use refold_domain::fold::AnyProjection;
use refold_domain::fold::WitnessRow;
use refold_domain::partitioner::partition_of;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_domain::spec::ProjectionSpec;
use refold_store_postgres::PgRepairer;
use refold_store_postgres::PgVerifier;
use refold_store_postgres::RepairOrder;
use refold_store_postgres::RowChange;
use refold_store_postgres::SessionOptions;
use refold_store_postgres::Wanted;
use refold_store_postgres::changes_of;
use serde_json::Value;
use serde_json::json;

use super::diff::other;
use crate::cli::Failure;
use crate::cli::Kind;
use crate::cli::RepairArgs;
use crate::connect;
use crate::run::Projections;
use crate::run::find;
use crate::witness;

/// Keys by partition, each given as its cell.
type Keys = BTreeMap<Partition, BTreeSet<Vec<u8>>>;

pub(crate) async fn run(args: RepairArgs, projections: &Projections) -> Result<ExitCode, Failure> {
    let version = find(projections, &args.version)?;
    let session = connect::session(&args.store)?;
    refold_store_postgres::migrate(&session).await?;
    let log = connect::witnessed(&args.log, &args.kafka)?;
    let partitions = witness::same_log(&session, &log, &[Arc::clone(&version)]).await?;
    let keys = match args.from_verify {
        true => {
            let against = other(projections, &version, args.against.as_deref())?;
            from_verify(&session, &version, &against).await?
        }
        false => named(version.spec(), &args.keys, partitions)?,
    };
    let mut done = Vec::new();
    for (partition, keys) in keys {
        let part = Part {
            session: &session,
            log: &log,
            version: &version,
            partition,
            keys: keys.into_iter().collect(),
        };
        done.push(part.repair(&args).await?);
    }
    let changes: usize = done.iter().map(|part| part.changes.len()).sum();
    match args.json {
        true => println!("{}", to_json(version.spec(), &args, &done)),
        false => tell(version.spec(), &args, &done),
    }
    let pending = args.dry_run && changes > 0;
    let code = if pending { Kind::Differences.code() } else { 0 };
    Ok(ExitCode::from(code))
}

/// The keys of the command line, each in the partition where the usual partitioner puts it.
fn named(spec: &ProjectionSpec, keys: &[String], partitions: i32) -> Result<Keys, Failure> {
    let mut by_partition = Keys::new();
    for text in keys {
        let key = spec.key_type.parse(text);
        let key = key.map_err(|error| Failure::usage(format!("-key {text}: {error}")))?;
        let mut cell = Vec::new();
        key.write_cell(&mut cell);
        let partition = partition_of(key.to_string().as_bytes(), partitions);
        by_partition.entry(partition).or_default().insert(cell);
    }
    Ok(by_partition)
}

/// The keys that the last scan named and those that the log contradicted.
async fn from_verify(
    session: &SessionOptions,
    version: &Arc<dyn AnyProjection>,
    against: &Arc<dyn AnyProjection>,
) -> Result<Keys, Failure> {
    let verifier = PgVerifier::new(session);
    let pair = (against.spec(), version.spec());
    let scan = verifier.recorded_scan(pair, None).await?;
    let mut keys = Keys::new();
    let mut named = 0;
    for partition in &scan.partitions {
        let of = keys.entry(Partition(partition.partition)).or_default();
        let wrong = partition.found.iter().filter(|found| found.is_wrong());
        let cells: Vec<_> = wrong.filter_map(|found| found.key_cell()).collect();
        named += cells.len() as u64;
        of.extend(cells);
    }
    let counted: u64 = scan.partitions.iter().map(|p| p.wrong_keys()).sum();
    if counted > named {
        eprintln!(
            "scan {} counted {counted} wrong keys and named {named}: `refold verify -sample` with a larger number names more",
            scan.id
        );
    }
    for (partition, cell) in verifier.contradicted(&scan, version.spec()).await? {
        keys.entry(partition).or_default().insert(cell);
    }
    keys.retain(|_, keys| !keys.is_empty());
    Ok(keys)
}

/// Keys of one partition.
struct Part<'a> {
    session: &'a SessionOptions,
    log: &'a witness::Log,
    version: &'a Arc<dyn AnyProjection>,
    partition: Partition,
    keys: Vec<Vec<u8>>,
}

/// What was done in a partition, or would be.
struct Done {
    partition: Partition,
    at: Offset,
    /// Keys that were folded again.
    keys: usize,
    changes: Vec<RowChange>,
}

impl Part<'_> {
    async fn repair(self, args: &RepairArgs) -> Result<Done, Failure> {
        let repairer = PgRepairer::new(self.session);
        let spec = self.version.spec();
        let (at, stored) = repairer.look(spec, self.partition, &self.keys).await?;
        let wanted = self.fold(at).await?;
        let changes = match args.dry_run {
            true => changes_of(&wanted, &stored),
            false => {
                let order = RepairOrder {
                    partition: self.partition,
                    at,
                    wanted: &wanted,
                    actor: &args.actor,
                };
                repairer.repair(spec, &order).await?
            }
        };
        Ok(Done {
            partition: self.partition,
            at,
            keys: wanted.len(),
            changes,
        })
    }

    /// What the log gives for each key at the mark.
    async fn fold(&self, at: Offset) -> Result<Vec<Wanted>, Failure> {
        let part = witness::part_of(self.session, self.version, self.partition, at).await?;
        let (log, partition, keys) = (self.log.clone(), self.partition, self.keys.clone());
        let folded =
            tokio::task::spawn_blocking(move || witness::fold_keys(&log, partition, part, keys));
        let folded = folded.await;
        let rows = folded.map_err(|error| Failure::error("fold the log again", error))??;
        let mut rows: HashMap<_, _> = rows.into_iter().map(|r| (r.key.clone(), r)).collect();
        let keys = self.keys.iter();
        Ok(keys.map(|key| (key.clone(), rows.remove(key))).collect())
    }
}

/// The columns that a repair changes: name, before, after.
fn changed(spec: &ProjectionSpec, change: &RowChange) -> Vec<(&'static str, String, String)> {
    let texts = |row: Option<&WitnessRow>| {
        let cells = row.and_then(|row| row.cells.as_deref());
        cells.map(|cells| witness::columns_of(spec, cells))
    };
    let (before, after) = (texts(change.before.as_ref()), texts(change.after.as_ref()));
    let of = |row: &Option<BTreeMap<&'static str, String>>, name| {
        let text = row.as_ref().and_then(|row| row.get(name));
        text.cloned().unwrap_or_else(|| "-".to_owned())
    };
    let columns = spec.columns.iter().map(|column| {
        let name = column.name;
        (name, of(&before, name), of(&after, name))
    });
    columns.filter(|(_, a, b)| a != b).collect()
}

fn key_of(spec: &ProjectionSpec, change: &RowChange) -> String {
    cell_text(spec.key_type.column_type(), &change.key)
}

/// What happens to the row, in a few words.
fn what(change: &RowChange) -> &'static str {
    let is_there = |row: &Option<WitnessRow>| row.as_ref().is_some_and(|r| r.cells.is_some());
    match (is_there(&change.before), is_there(&change.after)) {
        (false, true) => "is missing",
        (true, false) => "is there and must not be",
        (true, true) => "is wrong",
        (false, false) => "is deleted, and does not say so as it should",
    }
}

fn tell(spec: &ProjectionSpec, args: &RepairArgs, done: &[Done]) {
    let label = spec.label();
    for part in done {
        for change in &part.changes {
            println!(
                "{label} {} key {} {} at offset {}:",
                part.partition,
                key_of(spec, change),
                what(change),
                part.at
            );
            for (name, before, after) in changed(spec, change) {
                println!("    {name}: {before} -> {after}");
            }
            let (before, after) = (position(&change.before), position(&change.after));
            println!("    last event: {before} -> {after}");
        }
    }
    let keys: usize = done.iter().map(|part| part.keys).sum();
    let changes: usize = done.iter().map(|part| part.changes.len()).sum();
    match (changes, args.dry_run) {
        (0, _) => println!("{keys} keys folded again: nothing to do"),
        (_, true) => println!("{changes} of {keys} rows would be put right. No changes made."),
        (_, false) => println!(
            "{changes} of {keys} rows put right. Start the projector again, then: refold verify"
        ),
    }
}

fn position(row: &Option<WitnessRow>) -> String {
    match row {
        Some(row) => format!("number {} at offset {}", row.applied_seq, row.off),
        None => "none".to_owned(),
    }
}

fn to_json(spec: &ProjectionSpec, args: &RepairArgs, done: &[Done]) -> Value {
    let columns = |row: Option<&WitnessRow>| {
        let cells = row.and_then(|row| row.cells.as_deref());
        cells.map(|cells| witness::columns_of(spec, cells))
    };
    let changes = done.iter().flat_map(|part| {
        part.changes.iter().map(move |change| {
            json!({
                "partition": part.partition.0,
                "at": part.at.0,
                "key": key_of(spec, change),
                "before": columns(change.before.as_ref()),
                "after": columns(change.after.as_ref()),
                "changed": changed(spec, change).iter().map(|(name, ..)| *name).collect::<Vec<_>>(),
            })
        })
    });
    json!({
        "schema": "refold.repair/1",
        "version": spec.label(),
        "dry_run": args.dry_run,
        "keys": done.iter().map(|part| part.keys).sum::<usize>(),
        "changes": changes.collect::<Vec<_>>(),
    })
}
