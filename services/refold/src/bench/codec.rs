//! `bench codec`: what a codec and a wire form cost and save.

use std::process::ExitCode;

use refold_bench::chart::Along;
use refold_bench::chart::Chart;
use refold_bench::chart::Scale;
use refold_bench::chart::Series;
use refold_bench::record::Record;
use serde_json::Value;
use serde_json::json;

use super::report::Report;
use super::site::Manner;
use super::site::SeededLog;
use super::site::Site;
use super::sweep::Setting;
use super::sweep::Sweep;
use crate::cli::BenchCodecArgs;
use crate::cli::Failure;
use crate::cli::word;
use crate::run::Projections;

const NAME: &str = "codec";

pub(crate) async fn run(
    args: BenchCodecArgs,
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
            "rate",
            chart(&report, &args, ("events_per_second", "events/s")),
        ),
        (
            "cost",
            chart(
                &report,
                &args,
                ("client_cpu_ns_per_event", "client CPU, ns an event"),
            ),
        ),
        (
            "size",
            chart(
                &report,
                &args,
                ("log_bytes_per_event", "bytes of log an event"),
            ),
        ),
    ];
    let lines = sweep.settings.iter().map(|setting| {
        let median = |name| report.median(&setting.name, name);
        json!({
            "setting": setting.name,
            "log_bytes_per_event": median("log_bytes_per_event"),
            "events_per_second": median("events_per_second"),
            "client_cpu_ns_per_event": median("client_cpu_ns_per_event"),
        })
    });
    let extra = json!({ "by_codec": lines.collect::<Vec<_>>() });
    report.finish(&charts, &extra)
}

fn settings(args: &BenchCodecArgs) -> Vec<Setting> {
    let each = args.formats.iter().flat_map(|format| {
        args.codecs.iter().map(move |codec| {
            let about = json!({ "codec": codec, "format": word(*format) });
            Setting::new(format!("{} {codec}", word(*format)), about)
        })
    });
    each.collect()
}

fn log(args: &BenchCodecArgs, setting: &Setting) -> SeededLog {
    let form = setting.text("format");
    let format = args.formats.iter().find(|format| word(**format) == form);
    let log = SeededLog::of(args.events.0, setting.text("codec"));
    format.map_or_else(|| log.clone(), |format| log.clone().written_as(*format))
}

async fn measure(args: &BenchCodecArgs, sweep: &Sweep, site: &Site) -> Result<Record, Failure> {
    for setting in &sweep.settings {
        site.seed(&log(args, setting)).await?;
    }
    sweep
        .run(async |setting| {
            let log = log(args, setting);
            let mut figures: Value = site.replay(&log, &Manner::one(&[])).await?;
            let bytes = site.log_bytes(&log) as f64;
            figures["log_bytes_per_event"] = json!(bytes / args.events.0 as f64);
            Ok(figures)
        })
        .await
}

fn chart(report: &Report<'_>, args: &BenchCodecArgs, (name, label): (&str, &str)) -> Chart {
    let lines = args.formats.iter().map(|format| {
        let form = word(*format);
        let points = args.codecs.iter().enumerate().filter_map(|(at, codec)| {
            let spread = report.spread(&format!("{form} {codec}"), name)?;
            Some((at as f64, spread))
        });
        Series {
            name: form.to_owned(),
            points: points.collect(),
        }
    });
    Chart {
        title: format!("{label}, by codec and wire form"),
        along: Along::Names(args.codecs.clone()),
        height: label.to_owned(),
        scale: Scale::Linear,
        series: lines.collect(),
    }
}
