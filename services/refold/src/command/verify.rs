//! `verify`: a version against another one, or against the known final state.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::Arc;

use refold_domain::fold::AnyProjection;
use refold_domain::position::Partition;
use refold_domain::spec::ProjectionSpec;
use refold_seed::oracle::Oracle;
use refold_store_postgres::PairReport;
use refold_store_postgres::PgVerifier;
use refold_store_postgres::SessionOptions;
use refold_store_postgres::VerifyOptions;
use refold_system::barrier::comparable_columns;
use serde_json::Value;
use serde_json::json;

use super::seed::params;
use crate::cli::Count;
use crate::cli::Failure;
use crate::cli::Format;
use crate::cli::Kind;
use crate::cli::StreamArgs;
use crate::cli::VerifyArgs;
use crate::connect;
use crate::demo::Comparison;
use crate::oracle;
use crate::oracle::Outcome;
use crate::oracle::Rules;
use crate::oracle::TableRow;
use crate::run::Projections;
use crate::run::find;

/// What `-against` calls the known final state.
const EXPECTED: &str = "expected";

pub(crate) async fn run(args: VerifyArgs, projections: &Projections) -> Result<ExitCode, Failure> {
    let session = connect::session(&args.store)?;
    let version = find(projections, &args.version)?;
    refold_store_postgres::migrate(&session).await?;
    let comparison = if args.against == EXPECTED {
        with_oracle(&session, &version, &args.stream, Format::Proto).await?
    } else {
        let against = find(projections, &args.against)?;
        with_version(&session, &version, &against, &args.stream, Format::Proto).await?
    };
    if args.json {
        println!("{}", to_json(&args.version, &args.against, &comparison));
    } else {
        tell(&args.version, &args.against, &comparison);
    }
    let wrong = comparison.differences > 0 || comparison.intended != comparison.intended_expected;
    let code = if wrong { Kind::Differences.code() } else { 0 };
    Ok(ExitCode::from(code))
}

/// The columns in which two versions are meant to differ, in either direction.
fn differing_columns(left: &ProjectionSpec, right: &ProjectionSpec) -> Vec<&'static str> {
    if left.code == right.code {
        return Vec::new();
    }
    let newer = if left.replaces == Some(right.number) {
        left
    } else {
        right
    };
    newer.differing_columns()
}

/// Compares two versions on the columns that they share, positions included.
pub(crate) async fn with_version(
    session: &SessionOptions,
    left: &Arc<dyn AnyProjection>,
    right: &Arc<dyn AnyProjection>,
    stream: &StreamArgs,
    format: Format,
) -> Result<Comparison, Failure> {
    let (left, right) = (left.spec(), right.spec());
    let equal = comparable_columns(left, right)?;
    let differing = differing_columns(left, right);
    let verifier = PgVerifier::new(session);
    let report = verifier
        .verify_pair(left, right, &VerifyOptions::of(equal))
        .await?;
    let (mut intended, mut intended_expected) = (0, 0);
    if !differing.is_empty() {
        // At vectors of its own: the tail moves on between the two comparisons.
        let options = VerifyOptions::of(differing);
        let meant = verifier.verify_pair(left, right, &options).await?;
        intended = meant.differences().unsigned_abs();
        let known = Rules::of(left).is_some() && Rules::of(right).is_some();
        intended_expected = match known {
            // Only a seeded log has an oracle; any other is reported, not judged.
            true => differing_keys(stream, format, &offsets(&meant)).await?,
            false => intended,
        };
    }
    let samples = report.partitions.iter().flat_map(|p| {
        let sample = |text: &String| format!("p{}: {text}", p.partition);
        p.sample.iter().map(sample)
    });
    Ok(Comparison {
        rows: report.rows_compared().unsigned_abs(),
        columns: report.columns.clone(),
        differences: report.differences().unsigned_abs(),
        intended,
        intended_expected,
        offsets: offsets(&report),
        samples: samples.take(10).collect(),
    })
}

fn offsets(report: &PairReport) -> BTreeMap<i32, i64> {
    let partitions = report.partitions.iter();
    partitions.map(|p| (p.partition, p.at)).collect()
}

async fn differing_keys(
    stream: &StreamArgs,
    format: Format,
    offsets: &BTreeMap<i32, i64>,
) -> Result<u64, Failure> {
    let params = params(stream, format)?;
    let next: Vec<u64> = offsets.values().map(|o| o.unsigned_abs()).collect();
    if next.len() != params.partitions as usize {
        return Err(Failure::usage(format!(
            "the versions have {} partitions, but -partitions says {}",
            next.len(),
            params.partitions
        )));
    }
    blocking(move || Ok(Oracle::new(&params)?.differing_at(&next).differing)).await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Failure::error("ask the oracle", error))?
}

/// Compares every row and every column of a version with the oracle.
pub(crate) async fn with_oracle(
    session: &SessionOptions,
    version: &Arc<dyn AnyProjection>,
    stream: &StreamArgs,
    format: Format,
) -> Result<Comparison, Failure> {
    let spec = Arc::new(version.spec().clone());
    let label = spec.label();
    let rules = Rules::of(&spec).ok_or_else(|| {
        Failure::usage(format!(
            "{label} is not a version that the known final state knows"
        ))
    })?;
    let params = params(stream, format)?;
    let oracle = Arc::new(Oracle::new(&params)?);
    let verifier = PgVerifier::new(session);
    let mut total = Outcome::default();
    let mut offsets = BTreeMap::new();
    for partition in 0..stream.partitions {
        let leaf = read_leaf(&verifier, &spec, Partition(partition)).await?;
        offsets.insert(partition, leaf.next);
        let (spec, oracle) = (Arc::clone(&spec), Arc::clone(&oracle));
        let compared = move || Ok(compare(&spec, rules, &oracle, partition, leaf));
        total.add(blocking(compared).await?);
    }
    Ok(Comparison {
        rows: total.compared,
        columns: spec.columns.iter().map(|c| c.name.to_owned()).collect(),
        differences: total.differences,
        intended: 0,
        intended_expected: 0,
        offsets,
        samples: total.samples,
    })
}

/// A partition's rows and mark in one snapshot.
struct Leaf {
    next: i64,
    rows: HashMap<i64, TableRow>,
    sums_agree: bool,
}

async fn read_leaf(
    verifier: &PgVerifier,
    spec: &ProjectionSpec,
    partition: Partition,
) -> Result<Leaf, Failure> {
    let export = verifier.open_export(spec, partition).await?;
    let mut rows = HashMap::new();
    let mut strange = 0u64;
    let report = export
        .read(|row| {
            // A bigint's cell: four bytes of length, eight of value.
            let key = row.key.get(4..).and_then(|bytes| bytes.try_into().ok());
            let Some(key) = key.map(i64::from_be_bytes) else {
                strange += 1;
                return;
            };
            let row = TableRow {
                cells: row.cells.into(),
                applied_seq: row.applied_seq,
                off: row.off.0,
            };
            rows.insert(key, row);
        })
        .await?;
    if strange > 0 {
        let sentence = format!("{strange} rows of {partition} have no bigint key");
        return Err(Failure::new(Kind::Error, sentence));
    }
    Ok(Leaf {
        next: report.next.0,
        rows,
        sums_agree: report.sums_agree(),
    })
}

fn compare(
    spec: &ProjectionSpec,
    rules: Rules,
    oracle: &Oracle,
    partition: i32,
    leaf: Leaf,
) -> Outcome {
    let mut expected = Vec::with_capacity(leaf.rows.len());
    let next = leaf.next.unsigned_abs();
    oracle.for_each_in_partition(partition.unsigned_abs(), next, |row| expected.push(row));
    let mut outcome = oracle::compare(spec, rules, leaf.rows, expected);
    if !leaf.sums_agree {
        outcome.differ(format!(
            "p{partition}: the stored checksums are not those of the rows"
        ));
    }
    outcome
}

fn to_json(version: &str, against: &str, found: &Comparison) -> Value {
    json!({
        "schema": "refold.verify/1",
        "version": version,
        "against": against,
        "rows_compared": found.rows,
        "columns": found.columns,
        "differences": found.differences,
        "intended_differences": found.intended,
        "intended_differences_expected": found.intended_expected,
        "offsets": found.offsets,
        "samples": found.samples,
    })
}

fn tell(version: &str, against: &str, found: &Comparison) {
    for (partition, offset) in &found.offsets {
        println!("p{partition:<4} both at {}", Count(offset.unsigned_abs()));
    }
    for sample in &found.samples {
        println!("  {sample}");
    }
    println!(
        "{version} against {against}: {} rows, columns {}: {} differences",
        Count(found.rows),
        found.columns.join(", "),
        Count(found.differences)
    );
    if found.intended > 0 || found.intended_expected > 0 {
        println!(
            "{} keys differ in columns that are declared to differ, {} are expected to",
            Count(found.intended),
            Count(found.intended_expected)
        );
    }
    if found.differences == 0 {
        println!("Next: refold cutover -version {version} -n");
    }
}
