//! `diff`: the keys whose rows differ between two versions, one by one.
//!
//! What differs is what the scan says: there is no second way to compare.

use std::process::ExitCode;
use std::sync::Arc;

use refold_bench::table::csv;
use refold_domain::fold::AnyProjection;
use refold_domain::spec::ProjectionSpec;
use refold_store_postgres::FoundKey;
use refold_store_postgres::PartitionScan;
use refold_store_postgres::PgVerifier;
use refold_store_postgres::ScanOptions;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::cli::DiffArgs;
use crate::cli::DiffFormat;
use crate::cli::Failure;
use crate::cli::Kind;
use crate::connect;
use crate::run::Projections;
use crate::run::find;

pub(crate) async fn run(args: DiffArgs, projections: &Projections) -> Result<ExitCode, Failure> {
    let version = find(projections, &args.version)?;
    let against = other(projections, &version, args.against.as_deref())?;
    let session = connect::session(&args.store)?;
    refold_store_postgres::migrate(&session).await?;
    let verifier = PgVerifier::new(&session);
    let (old, new) = (against.spec(), version.spec());
    let (id, partitions) = if args.fresh {
        let options = ScanOptions {
            sample: usize::try_from(args.limit.0).unwrap_or(usize::MAX),
            ..ScanOptions::default()
        };
        let report = verifier.scan_pair(old, new, &options, None).await?;
        (report.id, report.partitions)
    } else {
        let scan = verifier.recorded_scan((old, new), None).await?;
        (scan.id, scan.partitions)
    };
    let sides = sides(old, new);
    let told = tell(&args, sides, &partitions);
    print!("{}", told.text);
    eprintln!("{}", told.summary(&id, &partitions, &args));
    let wrong = partitions.iter().any(|p| p.findings() > 0);
    let code = if wrong { Kind::Differences.code() } else { 0 };
    Ok(ExitCode::from(code))
}

/// The version that another one is compared with: the named one, or the one that it replaces.
pub(crate) fn other(
    projections: &Projections,
    version: &Arc<dyn AnyProjection>,
    named: Option<&str>,
) -> Result<Arc<dyn AnyProjection>, Failure> {
    if let Some(label) = named {
        return find(projections, label);
    }
    let spec = version.spec();
    let replaced = spec.replaces.ok_or_else(|| {
        let label = spec.label();
        Failure::usage(format!(
            "{label} replaces no other version; name one with -against"
        ))
    })?;
    find(projections, &format!("{}_v{replaced}", spec.name))
}

/// The older version and the newer one, as the scan calls them.
fn sides<'a>(
    one: &'a ProjectionSpec,
    other: &'a ProjectionSpec,
) -> (&'a ProjectionSpec, &'a ProjectionSpec) {
    match one.replaces == Some(other.number) {
        true => (other, one),
        false => (one, other),
    }
}

/// What is told, and how many differences are in it.
struct Told {
    text: String,
    keys: usize,
}

impl Told {
    fn summary(&self, id: &str, partitions: &[PartitionScan], args: &DiffArgs) -> String {
        let sum = |of: fn(&PartitionScan) -> u64| partitions.iter().map(of).sum::<u64>();
        let more = match args.fresh {
            true => "a larger -limit tells more",
            false => "-fresh with a -limit tells more than a scan recorded",
        };
        format!(
            "scan {id}: {} keys speak against the new version, {} columns do not add up, {} keys differ as expected; told {}; {more}",
            sum(PartitionScan::wrong_keys),
            sum(|p| p.untied.len() as u64),
            sum(|p| p.expected),
            self.keys
        )
    }
}

fn tell(
    args: &DiffArgs,
    sides: (&ProjectionSpec, &ProjectionSpec),
    partitions: &[PartitionScan],
) -> Told {
    let wanted = |found: &&FoundKey| args.expected || found.is_wrong();
    let found = partitions.iter().flat_map(|p| {
        let of = p.found.iter().filter(wanted);
        of.map(move |found| (p, found))
    });
    let limit = usize::try_from(args.limit.0).unwrap_or(usize::MAX);
    let found: Vec<_> = found.take(limit).collect();
    let text = match (args.keys, args.format) {
        (true, _) => lines(found.iter().map(|(_, found)| found.key.clone())),
        (false, DiffFormat::Table) => lines(
            found
                .iter()
                .map(|(p, found)| table(sides, p.partition, found)),
        ),
        (false, DiffFormat::Json) => lines(
            found
                .iter()
                .map(|(p, found)| json_line(sides, p, found).to_string()),
        ),
        (false, DiffFormat::Csv) => {
            let rows: Vec<_> = found.iter().map(|(p, found)| fields(p, found)).collect();
            csv(&FIELDS, &rows)
        }
    };
    Told {
        keys: found.len(),
        text,
    }
}

fn lines(of: impl Iterator<Item = String>) -> String {
    of.map(|line| line + "\n").collect()
}

fn table(sides: (&ProjectionSpec, &ProjectionSpec), partition: i32, found: &FoundKey) -> String {
    let mut out = format!("p{partition} key {} {}", found.key, found.kind);
    if !found.detail.is_empty() {
        out.push_str(&format!(": {}", found.detail));
    }
    for (spec, row) in [(sides.0, &found.old), (sides.1, &found.new)] {
        let text = match row {
            None => "no row".to_owned(),
            Some(texts) => {
                let names = spec.columns.iter().map(|column| column.name);
                let pairs = names
                    .zip(texts)
                    .map(|(name, text)| format!("{name}={text}"));
                pairs.collect::<Vec<_>>().join(" ")
            }
        };
        out.push_str(&format!("\n    {}: {text}", spec.label()));
    }
    out
}

fn json_line(
    sides: (&ProjectionSpec, &ProjectionSpec),
    partition: &PartitionScan,
    found: &FoundKey,
) -> Value {
    let row = |spec: &ProjectionSpec, texts: &Option<Vec<String>>| {
        let texts = texts.as_ref()?;
        let names = spec.columns.iter().map(|column| column.name.to_owned());
        let texts = texts.iter().cloned().map(Value::String);
        Some(Value::Object(names.zip(texts).collect::<Map<_, _>>()))
    };
    json!({
        "partition": partition.partition,
        "at": partition.at,
        "kind": found.kind,
        "key": found.key,
        "detail": found.detail,
        "old": row(sides.0, &found.old),
        "new": row(sides.1, &found.new),
        "offset_old": found.off_old,
        "offset_new": found.off_new,
    })
}

/// The columns of the CSV form.
const FIELDS: [&str; 7] = ["partition", "at", "kind", "key", "detail", "old", "new"];

fn fields(partition: &PartitionScan, found: &FoundKey) -> Vec<String> {
    let row = |texts: &Option<Vec<String>>| texts.as_ref().map(|t| t.join(" ")).unwrap_or_default();
    vec![
        partition.partition.to_string(),
        partition.at.to_string(),
        found.kind.clone(),
        found.key.clone(),
        found.detail.clone(),
        row(&found.old),
        row(&found.new),
    ]
}
