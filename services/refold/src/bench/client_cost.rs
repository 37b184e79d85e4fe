//! `bench client-cost`: what the log's readers cost by themselves, an event.

use std::process::ExitCode;

use refold_bench::chart::Along;
use refold_bench::chart::Chart;
use refold_bench::chart::Scale;
use refold_bench::chart::Series;
use refold_bench::record::Record;
use serde_json::json;

use super::report::Report;
use super::site::SeededLog;
use super::site::Site;
use super::sweep::Setting;
use super::sweep::Sweep;
use crate::cli::BenchClientCostArgs;
use crate::cli::Failure;
use crate::cli::Kind;
use crate::run::Projections;

const NAME: &str = "client-cost";

pub(crate) async fn run(
    args: BenchClientCostArgs,
    projections: &Projections,
) -> Result<ExitCode, Failure> {
    let sweep = Sweep {
        name: NAME,
        settings: settings(&args)?,
        common: args.common.clone(),
    };
    let site = Site::open(&args.common, NAME, projections).await?;
    let outcome = measure(&args, &sweep, &site).await;
    site.close(outcome.is_ok()).await?;
    let report = Report {
        sweep: &sweep,
        record: outcome?,
    };
    let charts = [("cost", chart(&report, &args))];
    report.finish(&charts, &json!({}))
}

/// What opens the log when no flag says it.
const READERS: [&str; 2] = ["bulk:mode=bulk", "tail:mode=tail"];

/// A name and the flag that makes it.
fn reader(text: &str) -> Result<(String, String), Failure> {
    match text.split_once(':') {
        Some((name, flag)) => Ok((name.to_owned(), format!("--{flag}"))),
        None => {
            let sentence = format!("-reader {text}: write NAME:FLAG=VALUE");
            Err(Failure::usage(sentence))
        }
    }
}

/// The readers by name, each with the flag of `bench read`; none for a client of `-program`.
fn readers(args: &BenchClientCostArgs) -> Result<Vec<(String, Option<String>)>, Failure> {
    let mut all = Vec::new();
    let flagless = args.readers.is_empty() && args.program.is_none();
    let given = args.readers.iter().map(String::as_str);
    let defaults = READERS.into_iter().filter(|_| flagless);
    for text in given.chain(defaults) {
        let (name, flag) = reader(text)?;
        all.push((name, Some(flag)));
    }
    if args.program.is_some() {
        all.extend(args.clients.iter().map(|client| (client.clone(), None)));
    }
    Ok(all)
}

fn settings(args: &BenchClientCostArgs) -> Result<Vec<Setting>, Failure> {
    let mut settings = Vec::new();
    for (name, flag) in readers(args)? {
        for codec in &args.codecs {
            let about = json!({ "reader": name, "flag": flag, "codec": codec });
            settings.push(Setting::new(format!("{name} {codec}"), about));
        }
    }
    Ok(settings)
}

async fn measure(
    args: &BenchClientCostArgs,
    sweep: &Sweep,
    site: &Site,
) -> Result<Record, Failure> {
    let log = |codec: &str| SeededLog::of(args.events.0, codec);
    for codec in &args.codecs {
        site.seed(&log(codec)).await?;
    }
    sweep
        .run(async |setting| {
            let log = log(setting.text("codec"));
            let figures = match (&args.program, setting.text("flag")) {
                (Some(program), "") => {
                    site.run_client(&log, program, setting.text("reader"))
                        .await?
                }
                (_, flag) => site.read(&log, &[flag.to_owned()]).await?,
            };
            // There is no state to compare: a reader is right when it delivers the whole log.
            match figures["events"].as_u64() {
                Some(events) if events == args.events.0 => Ok(figures),
                other => {
                    let wanted = args.events;
                    let sentence = format!("{}: read {other:?} of {wanted} events", setting.name);
                    Err(Failure::new(Kind::Differences, sentence))
                }
            }
        })
        .await
}

fn chart(report: &Report<'_>, args: &BenchClientCostArgs) -> Chart {
    let mut names: Vec<String> = Vec::new();
    for setting in &report.sweep.settings {
        let name = setting.text("reader").to_owned();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let lines = args.codecs.iter().map(|codec| {
        let points = names.iter().enumerate().filter_map(|(at, name)| {
            let spread = report.spread(&format!("{name} {codec}"), "client_cpu_ns_per_event")?;
            Some((at as f64, spread))
        });
        Series {
            name: codec.clone(),
            points: points.collect(),
        }
    });
    Chart {
        title: "CPU of the log's readers alone".to_owned(),
        height: "client CPU, ns an event".to_owned(),
        scale: Scale::Linear,
        series: lines.collect(),
        along: Along::Names(names),
    }
}
