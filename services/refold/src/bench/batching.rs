//! `bench batching`: what a batch size is worth, on the way that applies and the way that copies.
//!
//! When events are applied, a batch is a transaction. A bulk load has one transaction for a
//! partition whatever the size: what can be small or large there is the frame of rows that is
//! copied, and the read of events that is folded. Both are swept.

use std::process::ExitCode;

use refold_bench::chart::Along;
use refold_bench::chart::Chart;
use refold_bench::chart::Scale;
use refold_bench::chart::Series;
use refold_bench::knee::knee;
use refold_bench::record::Record;
use serde_json::Value;
use serde_json::json;

use super::evidence;
use super::report::Report;
use super::site::Manner;
use super::site::SeededLog;
use super::site::Site;
use super::sweep::Setting;
use super::sweep::Sweep;
use crate::cli::BenchBatchingArgs;
use crate::cli::Failure;
use crate::run::Projections;

const NAME: &str = "batching";

/// The three ways in which a batch can be of some size.
const WAYS: [(&str, &str); 3] = [
    ("apply", "applied: events a transaction"),
    ("frame", "bulk: rows a frame of COPY"),
    ("read", "bulk: events a read"),
];

/// About what a copied row of version 4 takes: frames are cut by bytes.
const ROW_BYTES: u64 = 120;

/// Transactions that a run of a small batch has at most, over all partitions.
const TRANSACTIONS: u64 = 20_000;

/// The size whose run is looked at more closely, when it is among the swept ones.
const LOOKED_AT: u64 = 10_000;

pub(crate) async fn run(
    args: BenchBatchingArgs,
    projections: &Projections,
) -> Result<ExitCode, Failure> {
    let sweep = Sweep {
        name: NAME,
        settings: settings(&args),
        common: args.common.clone(),
    };
    let site = Site::open(&args.common, NAME, projections).await?;
    let outcome = measure(&args, &sweep, &site).await;
    site.close(outcome.is_ok()).await?;
    let (record, seen) = outcome?;
    let report = Report {
        sweep: &sweep,
        record,
    };
    let charts = [
        ("rate", chart(&report, "events_per_second", "events/s")),
        ("seconds", chart(&report, "seconds", "seconds in all")),
    ];
    let extra = json!({
        "knees": knees(&report),
        "knee_rule": "the first size from which doubling gains less than a tenth of the median rate",
        "evidence": seen,
    });
    report.finish(&charts, &extra)
}

fn settings(args: &BenchBatchingArgs) -> Vec<Setting> {
    let each = WAYS.iter().flat_map(|(way, _)| {
        args.sizes.iter().map(move |size| {
            let events = match *way {
                "apply" => applied(args, size.0),
                _ => args.events.0,
            };
            let about = json!({ "way": way, "size": size.0, "events": events });
            Setting::new(format!("{way} {}", size.0), about)
        })
    });
    each.collect()
}

/// Events that a run applies in batches of `size`: the rate is what counts, and a small batch
/// would take hours over all of them.
fn applied(args: &BenchBatchingArgs, size: u64) -> u64 {
    let enough = size.saturating_mul(TRANSACTIONS);
    enough.min(args.most_applied.0).min(args.events.0 / 2)
}

fn flags(way: &str, size: u64) -> Vec<String> {
    match way {
        "apply" => vec![format!("--batch={size}")],
        "frame" => vec![format!("--copy-frame-bytes={}", size * ROW_BYTES)],
        _ => vec![format!("--chunk-events={size}")],
    }
}

async fn measure(
    args: &BenchBatchingArgs,
    sweep: &Sweep,
    site: &Site,
) -> Result<(Record, Value), Failure> {
    let log = SeededLog::of(args.events.0, &args.codec);
    site.seed(&log).await?;
    let record = sweep
        .run(async |setting| {
            let (database, flags) = prepare(args, site, &log, setting).await?;
            let manner = Manner::one(&flags);
            let mut figures = site.replay_into(&log, &manner, &database).await?;
            site.compare(&log, &database, &mut figures).await?;
            site.drop_database(&database)?;
            Ok(figures)
        })
        .await?;
    let mut seen = serde_json::Map::new();
    for setting in &sweep.settings {
        if setting.number("size") == LOOKED_AT && setting.text("way") != "read" {
            let way = setting.text("way");
            eprintln!("one more run of {}, looked at", setting.name);
            let (database, flags) = prepare(args, site, &log, setting).await?;
            let what = (database.as_str(), flags.as_slice());
            let found = evidence::collect(site, &log, what, &args.common.out.join(way)).await?;
            site.drop_database(&database)?;
            seen.insert(way.to_owned(), found);
        }
    }
    Ok((record, Value::Object(seen)))
}

/// A database in the state that a setting begins with, and the flags of its measured process.
async fn prepare(
    args: &BenchBatchingArgs,
    site: &Site,
    log: &SeededLog,
    setting: &Setting,
) -> Result<(String, Vec<String>), Failure> {
    let database = site.create_database()?;
    let way = setting.text("way");
    if way == "apply" {
        // All but the last events are loaded, so that batches meet a table of the full size.
        let left = setting.number("events") as f64 / args.events.0 as f64;
        let manner = Manner::one(&[format!("--leave-share={left}")]);
        site.replay_into(log, &manner, &database).await?;
    }
    Ok((database, flags(way, setting.number("size"))))
}

fn sizes<'a>(report: &'a Report<'_>, way: &'a str) -> impl Iterator<Item = &'a Setting> {
    let settings = report.sweep.settings.iter();
    settings.filter(move |setting| setting.text("way") == way)
}

fn chart(report: &Report<'_>, name: &str, label: &str) -> Chart {
    let lines = WAYS.iter().map(|(way, words)| {
        let points = sizes(report, way).filter_map(|setting| {
            let spread = report.spread(&setting.name, name)?;
            Some((setting.number("size") as f64, spread))
        });
        Series {
            name: (*words).to_owned(),
            points: points.collect(),
        }
    });
    Chart {
        title: format!("{label}, by batch size"),
        along: Along::Numbers {
            label: "batch size".to_owned(),
            scale: Scale::Log,
        },
        height: label.to_owned(),
        scale: Scale::Log,
        series: lines.collect(),
    }
}

fn knees(report: &Report<'_>) -> Value {
    let each = WAYS.iter().map(|(way, _)| {
        let rates: Vec<(f64, f64)> = sizes(report, way)
            .map(|setting| {
                let rate = report.median(&setting.name, "events_per_second");
                (setting.number("size") as f64, rate)
            })
            .collect();
        ((*way).to_owned(), json!(knee(&rates)))
    });
    Value::Object(each.collect())
}
