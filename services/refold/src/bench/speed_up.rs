//! `bench speed-up`: workers, partitions and processes against a single writer.

use std::process::ExitCode;

use refold_bench::chart::Along;
use refold_bench::chart::Chart;
use refold_bench::chart::Scale;
use refold_bench::chart::Series;
use serde_json::Value;
use serde_json::json;

use super::report::Report;
use super::site::Manner;
use super::site::SeededLog;
use super::site::Site;
use super::sweep::Setting;
use super::sweep::Sweep;
use crate::cli::BenchSpeedUpArgs;
use crate::cli::Failure;
use crate::run::Projections;

const NAME: &str = "speed-up";

pub(crate) async fn run(
    args: BenchSpeedUpArgs,
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
    let charts = [("rate", chart(&report))];
    let extra = speed_ups(&report);
    report.finish(&charts, &extra)
}

/// The single writer first: one partition, one worker, one process.
fn settings(args: &BenchSpeedUpArgs) -> Vec<Setting> {
    let mut settings = Vec::new();
    for &partitions in &args.partitions {
        // More workers than partitions would have nothing to do.
        let busy = |workers: &&usize| **workers <= partitions.unsigned_abs() as usize;
        for &workers in args.workers.iter().filter(busy) {
            settings.push(setting(partitions, workers, 1));
        }
    }
    let most = args.partitions.iter().max().copied().unwrap_or(1);
    for &processes in &args.processes {
        settings.push(setting(most, 1, processes));
    }
    settings
}

fn setting(partitions: i32, workers: usize, processes: usize) -> Setting {
    let name = match processes {
        1 => format!("{partitions} partitions, {workers} workers"),
        _ => format!("{partitions} partitions, {processes} processes"),
    };
    let about = json!({ "partitions": partitions, "workers": workers, "processes": processes });
    Setting::new(name, about)
}

fn log(args: &BenchSpeedUpArgs, setting: &Setting) -> SeededLog {
    let partitions = setting.number("partitions") as i32;
    SeededLog::of(args.events.0, &args.codec).over(partitions)
}

async fn measure(
    args: &BenchSpeedUpArgs,
    sweep: &Sweep,
    site: &Site,
) -> Result<refold_bench::record::Record, Failure> {
    for setting in &sweep.settings {
        if setting.number("workers") == 1 && setting.number("processes") == 1 {
            site.seed(&log(args, setting)).await?;
        }
    }
    sweep
        .run(async |setting| {
            let log = log(args, setting);
            let workers = format!("--workers={}", setting.number("workers"));
            let shares = log.split(setting.number("processes") as usize)?;
            let flags = |share: String| vec![workers.clone(), format!("--only={share}")];
            let manner = Manner {
                processes: shares.into_iter().map(flags).collect(),
                pinned: false,
            };
            site.replay(&log, &manner).await
        })
        .await
}

fn chart(report: &Report<'_>) -> Chart {
    let settings = &report.sweep.settings;
    let points = settings.iter().enumerate().filter_map(|(at, setting)| {
        let spread = report.spread(&setting.name, "events_per_second")?;
        Some((at as f64, spread))
    });
    Chart {
        title: "Rate by partitions, workers and processes".to_owned(),
        along: Along::Names(
            settings
                .iter()
                .map(|setting| setting.name.clone())
                .collect(),
        ),
        height: "events/s".to_owned(),
        scale: Scale::Linear,
        series: vec![Series {
            name: "replay".to_owned(),
            points: points.collect(),
        }],
    }
}

/// Each setting's rate over the single writer's, and who took the processors there.
fn speed_ups(report: &Report<'_>) -> Value {
    let settings = &report.sweep.settings;
    let rate = |setting: &Setting| report.median(&setting.name, "events_per_second");
    let single = settings.first().map_or(f64::NAN, rate);
    let lines: Vec<Value> = settings
        .iter()
        .map(|setting| {
            let median = |name| report.median(&setting.name, name);
            json!({
                "setting": setting.name,
                "speed_up": rate(setting) / single,
                "client_cpu_seconds": median("client_cpu_seconds"),
                "broker_cpu_seconds": median("broker_cpu_seconds"),
                "postgres_cpu_seconds": median("postgres_cpu_seconds"),
                "bound": report.bound(&setting.name),
            })
        })
        .collect();
    json!({
        "single_writer": settings.first().map(|setting| setting.name.clone()),
        "speed_ups": lines,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::Parser;

    #[test]
    fn the_single_writer_comes_first_and_no_worker_is_idle() {
        let line = ["refold", "bench", "speed-up", "--out=x"];
        let Ok(Cli {
            command:
                crate::cli::Command::Bench(crate::cli::BenchArgs {
                    what: crate::cli::Bench::SpeedUp(args),
                }),
        }) = Cli::try_parse_from(line)
        else {
            unreachable!("speed-up parses")
        };
        let settings = settings(&args);
        let names: Vec<_> = settings
            .iter()
            .map(|setting| setting.name.as_str())
            .collect();
        assert_eq!(names[0], "1 partitions, 1 workers");
        assert_eq!(names.len(), 1 + 3 + 3 + 2);
        assert!(names.contains(&"16 partitions, 3 processes"));
    }
}
