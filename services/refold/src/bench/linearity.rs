//! `bench linearity`: does an event cost the same in a log ten times as long?

use std::process::ExitCode;

use refold_bench::chart::Along;
use refold_bench::chart::Chart;
use refold_bench::chart::Scale;
use refold_bench::chart::Series;
use refold_bench::spread::Spread;
use serde_json::Value;
use serde_json::json;

use super::report::Report;
use super::site::Manner;
use super::site::SeededLog;
use super::site::Site;
use super::sweep::Setting;
use super::sweep::Sweep;
use crate::cli::BenchLinearityArgs;
use crate::cli::Failure;
use crate::run::Projections;

const NAME: &str = "linearity";

pub(crate) async fn run(
    args: BenchLinearityArgs,
    projections: &Projections,
) -> Result<ExitCode, Failure> {
    let billion = billion(&args)?;
    let sizes = args.sizes.iter();
    let setting = |size: &crate::cli::Count| {
        let about = json!({ "events": size.0, "aggregates": size.0 / 10, "codec": args.codec });
        Setting::new(format!("{size} events"), about)
    };
    let sweep = Sweep {
        name: NAME,
        settings: sizes.map(setting).collect(),
        common: args.common.clone(),
    };
    let site = Site::open(&args.common, NAME, projections).await?;
    let outcome = measure(&sweep, &site).await;
    site.close(outcome.is_ok()).await?;
    let report = Report {
        sweep: &sweep,
        record: outcome?,
    };
    let charts = [
        ("cost", chart(&report, "client_cpu_ns_per_event", &billion)),
        ("rate", chart(&report, "events_per_second", &billion)),
    ];
    let extra = ratios(&report, &billion);
    report.finish(&charts, &extra)
}

async fn measure(sweep: &Sweep, site: &Site) -> Result<refold_bench::record::Record, Failure> {
    let log = |setting: &Setting| SeededLog::of(setting.number("events"), setting.text("codec"));
    for setting in &sweep.settings {
        site.seed(&log(setting)).await?;
    }
    sweep
        .run(async |setting| site.replay(&log(setting), &Manner::one(&[])).await)
        .await
}

/// What `-with` names; null without it.
fn billion(args: &BenchLinearityArgs) -> Result<Value, Failure> {
    let Some(path) = &args.with else {
        return Ok(Value::Null);
    };
    let wrong = |error: &dyn std::fmt::Display| {
        Failure::usage(format!("-with {}: {error}", path.display()))
    };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
    let result: Value = serde_json::from_str(&text).map_err(|error| wrong(&error))?;
    let (events, seconds) = (&result["events"], &result["seconds"]);
    let Some(projector) = result["core_seconds"]["groups"]["projector"].as_f64() else {
        return Err(wrong(&"it has no core_seconds of a projector"));
    };
    Ok(json!({
        "events": events,
        "seconds": seconds,
        "events_per_second": result["events_per_second"],
        "client_cpu_ns_per_event": projector * 1e9 / events.as_f64().unwrap_or(f64::NAN),
        "beside": "a serving version, reads and a moving tail",
        "revision": result["revision"],
    }))
}

fn chart(report: &Report<'_>, name: &str, billion: &Value) -> Chart {
    let settings = report.sweep.settings.iter();
    let points = settings.filter_map(|setting| {
        let spread = report.spread(&setting.name, name)?;
        Some((setting.number("events") as f64, spread))
    });
    let mut series = vec![Series {
        name: "replay alone".to_owned(),
        points: points.collect(),
    }];
    let one = billion[name]
        .as_f64()
        .and_then(|value| Spread::of(&[value]));
    if let (Some(events), Some(spread)) = (billion["events"].as_f64(), one) {
        series.push(Series {
            name: "beside reads, once".to_owned(),
            points: vec![(events, spread)],
        });
    }
    let height = match name {
        "events_per_second" => "events/s",
        _ => "client CPU, ns an event",
    };
    Chart {
        title: format!("{height}, by the size of the log"),
        along: Along::Numbers {
            label: "events in the log, a tenth as many rows".to_owned(),
            scale: Scale::Log,
        },
        height: height.to_owned(),
        scale: Scale::Linear,
        series,
    }
}

/// Each size's cost over that of the first.
fn ratios(report: &Report<'_>, billion: &Value) -> Value {
    let cost = |setting: &Setting| report.median(&setting.name, "client_cpu_ns_per_event");
    let settings = &report.sweep.settings;
    let first = settings.first().map_or(f64::NAN, cost);
    let ratios: serde_json::Map<_, _> = settings
        .iter()
        .map(|setting| (setting.name.clone(), json!(cost(setting) / first)))
        .collect();
    let of_billion = billion["client_cpu_ns_per_event"].as_f64();
    json!({
        "cost_over_the_first_size": ratios,
        "billion": billion,
        "billion_over_the_first_size": of_billion.map(|cost| cost / first),
    })
}
