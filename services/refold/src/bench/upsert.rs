//! `bench upsert`: what a changed row costs the database, by the shape of the statement, the size
//! of the batch and the settings of the log.
//!
//! Each run is a process of its own (`-program`, the example `upsert_cost`) over a table of its
//! own, without fence and checksums: only the statement is measured.

use std::process::ExitCode;

use refold_bench::chart::Along;
use refold_bench::chart::Chart;
use refold_bench::chart::Scale;
use refold_bench::chart::Series;
use refold_bench::record::Record;
use serde_json::Value;
use serde_json::json;

use super::report::Report;
use super::site::Site;
use super::sweep::Setting;
use super::sweep::Sweep;
use crate::cli::BenchUpsertArgs;
use crate::cli::Failure;
use crate::run::Projections;

const NAME: &str = "upsert";

/// The shapes that the program knows; the first is the product's.
const SHAPES: [&str; 11] = [
    "composites-merge",
    "unnest",
    "unnest-unsorted",
    "values",
    "copied",
    "update-insert",
    "merge",
    "composites",
    "composites-update-insert",
    "copied-merge",
    "row-by-row",
];

/// Free space in a leaf's pages, see `Leaf::create` of the store.
const FILLFACTOR: u64 = 85;

/// Settings of every session: those of the store's writers that a plan depends on.
const SESSION: [&str; 2] = ["plan_cache_mode=force_generic_plan", "enable_seqscan=off"];

/// Settings of the session that are varied.
const IN_SESSION: [(&str, &str); 3] = [
    ("synchronous_commit", "off"),
    ("wal_compression", "off"),
    ("wal_compression", "zstd"),
];

/// A server that checkpoints all the time: each page that is touched for the first time after a
/// checkpoint goes into the log as a whole.
const OFTEN: &[&str] = &[
    "alter system set max_wal_size = '128MB'",
    "alter system set min_wal_size = '64MB'",
    "alter system set checkpoint_timeout = '30s'",
    "select pg_reload_conf()",
];

/// The server as it was started.
const AS_BEFORE: &[&str] = &["alter system reset all", "select pg_reload_conf()"];

/// The figures that only this experiment has; their medians go into the result.
const MEDIANS: [&str; 4] = [
    "backend_cpu_us_per_row",
    "wal_bytes_per_row",
    "full_page_images_per_row",
    "hot_share",
];

pub(crate) async fn run(
    args: BenchUpsertArgs,
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
    let report = Report {
        sweep: &sweep,
        record: outcome?,
    };
    let charts = [
        (
            "shapes",
            chart(&report, "shape", "by the statement's shape"),
        ),
        (
            "settings",
            chart(&report, "server", "by the log's settings"),
        ),
        ("sizes", chart(&report, "size", "by rows a transaction")),
    ];
    let lines = sweep.settings.iter().map(|setting| {
        let medians = MEDIANS.iter().map(|name| {
            let median = report.median(&setting.name, name);
            ((*name).to_owned(), json!(median))
        });
        let mut line: serde_json::Map<String, Value> = medians.collect();
        line.insert("setting".to_owned(), json!(setting.name));
        line.insert(
            "rows_per_second".to_owned(),
            json!(report.median(&setting.name, "events_per_second")),
        );
        Value::Object(line)
    });
    let extra = json!({ "by_setting": lines.collect::<Vec<_>>(), "table_rows": args.rows.0 });
    report.finish(&charts, &extra)
}

/// What is told of a setting: what it varies, its shape, its rows a transaction, the free space,
/// the session's settings, and whether the server checkpoints often.
fn setting(varies: &str, name: &str, change: &Value, args: &BenchUpsertArgs) -> Setting {
    let mut about = json!({
        "varies": varies,
        "shape": SHAPES[0],
        "batch": args.batch.0,
        "fillfactor": FILLFACTOR,
        "session": [],
        "often": false,
    });
    if let (Some(about), Some(change)) = (about.as_object_mut(), change.as_object()) {
        about.extend(change.clone());
    }
    Setting::new(name, about)
}

fn settings(args: &BenchUpsertArgs) -> Vec<Setting> {
    let mut all = Vec::new();
    for shape in SHAPES {
        all.push(setting("shape", shape, &json!({ "shape": shape }), args));
    }
    for size in args.sizes.iter().filter(|size| size.0 != args.batch.0) {
        let name = format!("{} rows", size.0);
        all.push(setting("size", &name, &json!({ "batch": size.0 }), args));
    }
    for (name, value) in IN_SESSION {
        let text = format!("{name}={value}");
        all.push(setting(
            "server",
            &text,
            &json!({ "session": [text] }),
            args,
        ));
    }
    let full = json!({ "fillfactor": 100 });
    all.push(setting("server", "fillfactor=100", &full, args));
    let often = json!({ "often": true });
    all.push(setting("server", "checkpoints", &often, args));
    let raw = json!({ "often": true, "session": ["wal_compression=off"] });
    all.push(setting("server", "checkpoints, uncompressed", &raw, args));
    all
}

async fn measure(args: &BenchUpsertArgs, sweep: &Sweep, site: &Site) -> Result<Record, Failure> {
    sweep
        .run(async |setting| {
            let often = setting.about["often"] == true;
            // Told before every run: one that was stopped on the way has left the server as it was.
            site.tell_server(if often { OFTEN } else { AS_BEFORE })?;
            let database = site.create_database()?;
            let mut words = vec![
                database.clone(),
                setting.text("shape").to_owned(),
                setting.number("batch").to_string(),
                args.rows.0.to_string(),
                args.seconds.to_string(),
                setting.number("fillfactor").to_string(),
            ];
            words.extend(SESSION.map(str::to_owned));
            let session = setting.about["session"].as_array();
            let session = session.into_iter().flatten().filter_map(Value::as_str);
            words.extend(session.map(str::to_owned));
            let figures = site.run_program(&args.program, &words).await;
            site.drop_database(&database)?;
            figures
        })
        .await
}

/// The settings of which one thing differs from the product's way, with that one in front.
fn chart(report: &Report<'_>, varies: &str, label: &str) -> Chart {
    let own = |setting: &&Setting| setting.text("varies") == varies || setting.name == SHAPES[0];
    let names: Vec<String> = report
        .sweep
        .settings
        .iter()
        .filter(own)
        .map(|setting| setting.name.clone())
        .collect();
    let points = names.iter().enumerate().filter_map(|(at, name)| {
        let spread = report.spread(name, "events_per_second")?;
        Some((at as f64, spread))
    });
    let series = vec![Series {
        name: "rows/s".to_owned(),
        points: points.collect(),
    }];
    Chart {
        title: format!("changed rows a second, {label}"),
        along: Along::Names(names),
        height: "rows/s".to_owned(),
        scale: Scale::Linear,
        series,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        args: BenchUpsertArgs,
    }

    #[test]
    fn every_setting_differs_from_the_products_way_in_what_it_is_named_for() {
        let flags = ["upsert", "--out", "o", "--program", "p"];
        let args = Flags::try_parse_from(flags).expect("flags").args;
        let all = settings(&args);
        let mut names: Vec<_> = all.iter().map(|setting| setting.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all.len(), "names are told apart");
        let without_group = |setting: &Setting| {
            let mut about = setting.about.clone();
            about["varies"] = Value::Null;
            about
        };
        let product = without_group(&all[0]);
        assert_eq!(product["shape"], SHAPES[0]);
        let same = all.iter().filter(|other| without_group(other) == product);
        assert_eq!(same.count(), 1);
    }
}
