//! `verify`: a version against another one, or against the known final state.

mod keys;
mod telling;

use std::collections::BTreeMap;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use refold_domain::diff::KeyShare;
use refold_domain::diff::comparable_columns;
use refold_domain::fold::AnyProjection;
use refold_domain::spec::ProjectionSpec;
use refold_seed::oracle::Oracle;
use refold_store_postgres::FoundKey;
use refold_store_postgres::PartitionScan;
use refold_store_postgres::PgVerifier;
use refold_store_postgres::ScanOptions;
use refold_store_postgres::ScanProgress;
use refold_store_postgres::ScanReport;
use refold_store_postgres::SessionOptions;
use tokio::sync::watch;

use self::telling::tell;
use self::telling::to_json;
use super::seed::params;
use crate::cli::Count;
use crate::cli::Failure;
use crate::cli::Format;
use crate::cli::Kind;
use crate::cli::LogAddress;
use crate::cli::StreamArgs;
use crate::cli::VerifyArgs;
use crate::connect;
use crate::demo::Comparison;
use crate::oracle::Outcome;
use crate::oracle::Rules;
use crate::oracle::Trial;
use crate::run::Projections;
use crate::run::find;
use crate::witness;
use crate::witness::Standing;

/// What `-against` calls the log itself.
const LOG: &str = "log";

/// What `-against` calls the known final state.
const EXPECTED: &str = "expected";

/// What `-against` calls the keys of the other partitions.
const KEYS: &str = "keys";

pub(crate) async fn run(args: VerifyArgs, projections: &Projections) -> Result<ExitCode, Failure> {
    let version = find(projections, &args.version)?;
    if args.sql {
        let against = find(projections, &args.against)?;
        print!("{}", except_sql(version.spec(), against.spec())?);
        return Ok(ExitCode::SUCCESS);
    }
    let session = connect::session(&args.store)?;
    refold_store_postgres::migrate(&session).await?;
    let comparison = if args.against == LOG {
        with_log(&session, &version, &args).await?
    } else if args.against == KEYS {
        keys::apart(&session, version.spec(), args.memory.0).await?
    } else if args.against == EXPECTED {
        with_oracle(&session, &version, &args.stream, Format::Proto).await?
    } else {
        let against = find(projections, &args.against)?;
        let pair = (&version, &against);
        match args.every {
            Some(every) => return again_and_again(&session, pair, &args, every).await,
            None => scan_and_ask(&session, pair, &args, None).await?,
        }
    };
    Ok(told_and_judged(&args, &comparison))
}

/// Tells what was found; the exit code.
fn told_and_judged(args: &VerifyArgs, comparison: &Comparison) -> ExitCode {
    if args.json {
        println!("{}", to_json(&args.version, &args.against, comparison));
    } else {
        tell(&args.version, &args.against, comparison);
    }
    let wrong = comparison.differences > 0
        || comparison.intended != comparison.intended_expected
        || comparison.contradicted() > 0;
    ExitCode::from(if wrong { Kind::Differences.code() } else { 0 })
}

/// Keeps a proof young: compares again and again, until it is told to stop or something is wrong.
/// The log is read from its first event once; from then on only what has come since.
async fn again_and_again(
    session: &SessionOptions,
    pair: (&Arc<dyn AnyProjection>, &Arc<dyn AnyProjection>),
    args: &VerifyArgs,
    every: Duration,
) -> Result<ExitCode, Failure> {
    let mut standing = Standing::default();
    let mut stopped = pin!(connect::shutdown());
    loop {
        let next = tokio::time::Instant::now() + every;
        let compared = scan_and_ask(session, pair, args, Some(&mut standing));
        let comparison = tokio::select! {
            compared = compared => compared?,
            () = &mut stopped => return Ok(ExitCode::SUCCESS),
        };
        let code = told_and_judged(args, &comparison);
        if code != ExitCode::SUCCESS {
            return Ok(code);
        }
        tokio::select! {
            () = tokio::time::sleep_until(next) => {}
            () = &mut stopped => return Ok(ExitCode::SUCCESS),
        }
    }
}

/// Scans both tables, or takes the last scan, and lets the log say what it gives for the keys
/// that differ as expected, where there are any and it is known where the log is.
async fn scan_and_ask(
    session: &SessionOptions,
    pair: (&Arc<dyn AnyProjection>, &Arc<dyn AnyProjection>),
    args: &VerifyArgs,
    standing: Option<&mut Standing>,
) -> Result<Comparison, Failure> {
    let named = args.log.address_if_any()?.is_some();
    if args.confirm_only && !named {
        return Err(Failure::usage(
            "-confirm-only asks the log: name it by -brokers or -event-store",
        ));
    }
    let log = match named && !args.no_log {
        true => Some(connect::witnessed(&args.log, &args.kafka)?),
        false => None,
    };
    let mut comparison = if args.confirm_only {
        recorded(session, pair).await?
    } else {
        let size = |count: Count| usize::try_from(count.0).unwrap_or(usize::MAX);
        let options = ScanOptions {
            sample: size(args.sample),
            chosen: size(args.log_rows),
            memory: size(args.memory),
            rate: args.rate.map(|rate| rate.0),
            workers: args.workers,
            resume: args.resume.clone(),
            ..ScanOptions::default()
        };
        let report = told(session, pair.0, pair.1, &options).await?;
        // An oracle gives the whole stream again, every time.
        let stream = match standing {
            Some(_) => None,
            None => seeded(args)?,
        };
        judged(&report, pair.0, pair.1, stream, Format::Proto).await?
    };
    if let Some(log) = log {
        comparison.ask(session, &log, pair, standing).await?;
    }
    Ok(comparison)
}

/// The stream that a log was seeded with. An event table was not: its offsets are not the stream's.
fn seeded(args: &VerifyArgs) -> Result<Option<&StreamArgs>, Failure> {
    let address = args.log.address_if_any()?;
    let is_table = matches!(address, Some(LogAddress::EventStore(_)));
    Ok((!is_table).then_some(&args.stream))
}

/// What the last scan of both versions found.
async fn recorded(
    session: &SessionOptions,
    (left, right): (&Arc<dyn AnyProjection>, &Arc<dyn AnyProjection>),
) -> Result<Comparison, Failure> {
    let specs = (left.spec(), right.spec());
    let scan = PgVerifier::new(session).recorded_scan(specs, None).await?;
    let same = comparable_columns(specs.0, specs.1).map_err(|e| Failure::usage(e.to_string()))?;
    let sum = |of: fn(&PartitionScan) -> u64| scan.partitions.iter().map(of).sum();
    Ok(Comparison {
        rows: sum(PartitionScan::keys),
        columns: same.into_iter().map(str::to_owned).collect(),
        differences: sum(PartitionScan::findings),
        intended: scan.expected,
        intended_expected: scan.expected,
        offsets: scan
            .partitions
            .iter()
            .map(|p| (p.partition, p.at))
            .collect(),
        samples: samples(&scan.partitions).take(10).collect(),
        rule: (sum(|p| p.rule_tried), sum(|p| p.rule_accepted)),
        scan: Some(scan.id),
        log: None,
    })
}

impl Comparison {
    /// Asks the log about the keys that the scan counted as rightly different, if there are any.
    pub(crate) async fn ask(
        &mut self,
        session: &SessionOptions,
        log: &witness::Log,
        pair: (&Arc<dyn AnyProjection>, &Arc<dyn AnyProjection>),
        standing: Option<&mut Standing>,
    ) -> Result<(), Failure> {
        if self.intended > 0 {
            let scan = self.scan.as_deref();
            let confirmation = witness::confirm(session, log, pair, scan, standing).await?;
            self.samples.extend(confirmation.sentences());
            self.log = Some(confirmation);
        }
        Ok(())
    }

    /// Rows that the log contradicts among those that differ as expected.
    pub(crate) fn contradicted(&self) -> u64 {
        self.log
            .as_ref()
            .map_or(0, witness::Confirmation::contradicted)
    }
}

/// Folds a share of the keys again from the log's first event on.
async fn with_log(
    session: &SessionOptions,
    version: &Arc<dyn AnyProjection>,
    args: &VerifyArgs,
) -> Result<Comparison, Failure> {
    if args.class >= args.one_of {
        let (class, one_of) = (args.class, args.one_of);
        return Err(Failure::usage(format!(
            "-class {class} is none of the {one_of} classes of -one-of; -one-of 1 folds every key again"
        )));
    }
    let log = connect::witnessed(&args.log, &args.kafka)?;
    let share = KeyShare::new(args.class, args.one_of);
    let testimony = witness::testify(session, &log, &[Arc::clone(version)], share).await?;
    let columns = version.spec().columns.iter().map(|c| c.name.to_owned());
    let offsets = testimony.marks.iter().map(|(_, p, mark)| (*p, *mark));
    Ok(Comparison {
        rows: testimony.keys,
        columns: columns.collect(),
        differences: testimony.wrong_keys,
        intended: 0,
        intended_expected: 0,
        offsets: offsets.collect(),
        samples: testimony.wrong.iter().map(ToString::to_string).collect(),
        scan: None,
        rule: (0, 0),
        log: None,
    })
}

/// The question as SQL that anyone can run, over the views that every version has. It is
/// exact where nothing moves, and slow.
pub(crate) fn except_sql(left: &ProjectionSpec, right: &ProjectionSpec) -> Result<String, Failure> {
    let same = comparable_columns(left, right).map_err(|e| Failure::usage(e.to_string()))?;
    let mut columns = vec!["aggregate_id"];
    columns.extend(same);
    let columns = [columns, vec!["applied_offset", "partition"]]
        .concat()
        .join(", ");
    let (left, right) = (left.label(), right.label());
    let one_way = |a: &str, b: &str| {
        format!(
            "select '{a}' as only_in, d.* from (\n  select {columns} from {a}\n  except\n  select {columns} from {b}) d"
        )
    };
    Ok(format!(
        "-- Both versions have to stand still at one vector: compare their marks first.\n\
         select partition, array_agg(next_offset order by version) as marks\n\
         from refold.offsets where version in (select id from refold.versions where label in ('{left}', '{right}'))\n\
         group by partition having count(distinct next_offset) > 1;\n\
         {}\nunion all\n{};\n",
        one_way(&left, &right),
        one_way(&right, &left)
    ))
}

/// Scans both tables and says on stderr how far it is.
async fn told(
    session: &SessionOptions,
    left: &Arc<dyn AnyProjection>,
    right: &Arc<dyn AnyProjection>,
    options: &ScanOptions,
) -> Result<ScanReport, Failure> {
    let (progress, mut seen) = watch::channel(ScanProgress::default());
    let began = Instant::now();
    let teller = tokio::spawn(async move {
        let mut done = 0;
        while seen.changed().await.is_ok() {
            let now = seen.borrow_and_update().clone();
            if now.done != done {
                done = now.done;
                eprintln!("{}", progress_line(&now, began.elapsed()));
            }
        }
    });
    let verifier = PgVerifier::new(session);
    let report = verifier.scan_pair(left.spec(), right.spec(), options, Some(progress));
    let report = report.await;
    // It ends with the sender, which the scan dropped.
    let _ended = teller.await;
    Ok(report?)
}

fn progress_line(now: &ScanProgress, took: Duration) -> String {
    let left = now.rows_all.saturating_sub(now.rows_read) as f64;
    let eta = left * took.as_secs_f64() / now.rows_read.max(1) as f64;
    format!(
        "scan {}: {} of {} partitions, {} of {} rows, {} findings, about {eta:.0} s left",
        now.id,
        now.done,
        now.partitions,
        Count(now.rows_read),
        Count(now.rows_all),
        now.findings
    )
}

/// Scans both tables once, silently.
pub(crate) async fn scan_once(
    session: &SessionOptions,
    left: &Arc<dyn AnyProjection>,
    right: &Arc<dyn AnyProjection>,
) -> Result<ScanReport, Failure> {
    let verifier = PgVerifier::new(session);
    let options = ScanOptions::default();
    let report = verifier.scan_pair(left.spec(), right.spec(), &options, None);
    Ok(report.await?)
}

/// Compares two versions row by row, at one offset per partition, and lets the log confirm
/// what differs as expected.
pub(crate) async fn with_version(
    session: &SessionOptions,
    log: &witness::Log,
    (left, right): (&Arc<dyn AnyProjection>, &Arc<dyn AnyProjection>),
    stream: &StreamArgs,
    format: Format,
) -> Result<Comparison, Failure> {
    let report = scan_once(session, left, right).await?;
    let mut comparison = judged(&report, left, right, Some(stream), format).await?;
    comparison.ask(session, log, (left, right), None).await?;
    Ok(comparison)
}

/// What a scan says, beside what the oracle expects of a seeded log.
async fn judged(
    report: &ScanReport,
    left: &Arc<dyn AnyProjection>,
    right: &Arc<dyn AnyProjection>,
    stream: Option<&StreamArgs>,
    format: Format,
) -> Result<Comparison, Failure> {
    let offsets: BTreeMap<i32, i64> = report
        .partitions
        .iter()
        .map(|p| (p.partition, p.at))
        .collect();
    let known = Rules::of(left.spec()).is_some() && Rules::of(right.spec()).is_some();
    let intended = report.expected();
    let intended_expected = match stream.filter(|_| known && !report.differing.is_empty()) {
        Some(stream) => differing_keys(stream, format, &offsets).await?,
        // Only a seeded log has an oracle; any other is reported, not judged.
        None => intended,
    };
    Ok(Comparison {
        rows: report.rows(),
        columns: report.same.clone(),
        differences: report.findings(),
        intended,
        intended_expected,
        offsets,
        samples: samples(&report.partitions).take(10).collect(),
        scan: Some(report.id.clone()),
        rule: report.rule_tried(),
        log: None,
    })
}

/// What speaks against the new version, a sentence each.
pub(crate) fn samples(partitions: &[PartitionScan]) -> impl Iterator<Item = String> {
    partitions.iter().flat_map(|p| {
        let untied = p.untied.iter().map(|column| {
            format!(
                "p{}: the rows do not add up to the sums of {column}",
                p.partition
            )
        });
        let wrong = p.found.iter().filter(|found| found.kind != "expected");
        let keys = wrong.map(|found| {
            let FoundKey {
                kind, key, detail, ..
            } = found;
            format!("p{} key {key} {kind}: {detail}", p.partition)
        });
        untied.chain(keys).collect::<Vec<_>>()
    })
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
        scan: None,
        rule: (0, 0),
        log: None,
    })
}
