//! `verify`: a version against another one, or against the known final state.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use refold_domain::fold::AnyProjection;
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
use crate::oracle::Outcome;
use crate::oracle::Rules;
use crate::oracle::Trial;
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

/// Compares every row and every column of a version with the oracle, on all cores.
pub(crate) async fn with_oracle(
    session: &SessionOptions,
    version: &Arc<dyn AnyProjection>,
    stream: &StreamArgs,
    format: Format,
) -> Result<Comparison, Failure> {
    let params = params(stream, format)?;
    let (session, spec) = (session.clone(), version.spec().clone());
    let trial = blocking(move || Trial::new(&session, &spec, &params)).await?;
    let verdicts = Arc::new(trial).all().await?;
    let mut total = Outcome::default();
    let mut offsets = BTreeMap::new();
    for verdict in verdicts {
        offsets.insert(verdict.partition, verdict.next);
        total.add(verdict.outcome);
    }
    Ok(Comparison {
        rows: total.compared,
        columns: version
            .spec()
            .columns
            .iter()
            .map(|c| c.name.to_owned())
            .collect(),
        differences: total.differences,
        intended: 0,
        intended_expected: 0,
        offsets,
        samples: total.samples,
    })
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
