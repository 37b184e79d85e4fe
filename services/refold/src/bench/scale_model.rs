//! `bench scale-model`: unit costs from a small log, predictions for a larger one, and what
//! pinned processes then take.

use std::process::ExitCode;

use refold_bench::chart::Along;
use refold_bench::chart::Chart;
use refold_bench::chart::Scale;
use refold_bench::chart::Series;
use refold_bench::model;
use refold_bench::model::Prediction;
use refold_bench::model::UnitCosts;
use refold_bench::model::Work;
use refold_bench::record::Record;
use refold_bench::spread::Spread;
use refold_local::testing;
use refold_seed::oracle::Oracle;
use serde_json::Value;
use serde_json::json;

use super::report::Report;
use super::site::Manner;
use super::site::SeededLog;
use super::site::Site;
use super::sweep::Setting;
use super::sweep::Sweep;
use crate::cli::BenchScaleModelArgs;
use crate::cli::Failure;
use crate::command::seed::params;
use crate::run::Projections;

const NAME: &str = "scale-model";

/// So few events that a replay of them is all start and end.
const TINY: u64 = 16_000;

pub(crate) async fn run(
    args: BenchScaleModelArgs,
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
    let costs = unit_costs(&report);
    let work = work(&log(&args))?;
    let rows: Vec<Value> = args
        .processes
        .iter()
        .map(|processes| compare(&report, &costs, &work, *processes))
        .collect();
    let far = far(&costs);
    tell(&rows, &far);
    let zipf = Work::zipf(args.events.0 as f64, args.events.0 as f64 / 10.0, 16, 1.1);
    let extra = json!({
        "unit_costs": costs,
        "largest_share": { "of_the_log": work.largest_share(), "of_the_model": zipf.largest_share() },
        "predictions": rows,
        "extrapolation": far,
    });
    let charts = [
        ("predicted", near_chart(&report, &args, &rows)),
        ("machines", far_chart(&far)),
    ];
    report.finish(&charts, &extra)
}

fn log(args: &BenchScaleModelArgs) -> SeededLog {
    SeededLog::of(args.events.0, &args.codec)
}

/// The runs that unit costs come from, and the ones that predictions are held against.
fn settings(args: &BenchScaleModelArgs) -> Vec<Setting> {
    let calibration = json!({ "events": args.calibration_events.0, "processes": 1 });
    let mut settings = vec![
        Setting::new("calibration", calibration),
        Setting::new("tiny", json!({ "events": TINY, "processes": 1 })),
    ];
    settings.extend(args.processes.iter().map(|processes| {
        let about = json!({ "events": args.events.0, "processes": processes });
        Setting::new(pinned(*processes), about)
    }));
    settings
}

fn pinned(processes: usize) -> String {
    format!("{processes} pinned processes")
}

async fn measure(
    args: &BenchScaleModelArgs,
    sweep: &Sweep,
    site: &Site,
) -> Result<Record, Failure> {
    let log = |setting: &Setting| SeededLog::of(setting.number("events"), &args.codec);
    for setting in sweep
        .settings
        .iter()
        .filter(|setting| setting.number("processes") == 1)
    {
        site.seed(&log(setting)).await?;
    }
    site.seed(&SeededLog::of(args.events.0, &args.codec))
        .await?;
    sweep
        .run(async |setting| {
            let log = log(setting);
            let shares = log.split(setting.number("processes") as usize)?;
            let flags = |share: String| vec!["--workers=1".to_owned(), format!("--only={share}")];
            let manner = Manner {
                processes: shares.into_iter().map(flags).collect(),
                pinned: true,
            };
            let database = site.create_database()?;
            let mut figures = site.replay_into(&log, &manner, &database).await?;
            site.compare(&log, &database, &mut figures).await?;
            let sql = "select pg_database_size(current_database())";
            let size = testing::query(&database, sql)
                .map_err(|error| Failure::error("ask for the database's size", error))?;
            site.drop_database(&database)?;
            figures["database_bytes"] = json!(size.trim().parse::<u64>().unwrap_or_default());
            figures["log_bytes"] = json!(site.log_bytes(&log));
            let written = figures["stages"]["write"]["cpu_seconds"].clone();
            figures["encode_cpu_seconds"] = written;
            Ok(figures)
        })
        .await
}

fn unit_costs(report: &Report<'_>) -> UnitCosts {
    let of = |name| report.median("calibration", name);
    let (events, rows) = (of("events").max(1.0), of("rows").max(1.0));
    let encode = of("encode_cpu_seconds");
    let empty = report.median("tiny", "database_bytes");
    UnitCosts {
        client_ns_per_event: (of("client_cpu_seconds") - encode) * 1e9 / events,
        client_ns_per_row: encode * 1e9 / rows,
        broker_ns_per_event: of("broker_cpu_seconds") * 1e9 / events,
        store_ns_per_row: of("postgres_cpu_seconds") * 1e9 / rows,
        log_bytes_per_event: of("log_bytes") / events,
        store_bytes_per_row: (of("database_bytes") - empty).max(0.0) / rows,
        fixed_seconds: report.median("tiny", "seconds"),
    }
}

/// The partitions of a log as they are.
fn work(log: &SeededLog) -> Result<Work, Failure> {
    let oracle = Oracle::new(&params(&log.stream, log.format)?)?;
    let layout = oracle.layout();
    let partitions = 0..layout.params().partitions;
    let sizes = partitions.map(|p| (layout.events(p) as f64, layout.ids(p).len() as f64));
    Ok(Work {
        partitions: sizes.collect(),
    })
}

/// This machine: everybody shares its cores, and a process has one of them at most.
fn here(processes: usize) -> model::Site {
    let cores = std::thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64);
    model::Site {
        machines: processes,
        cores_per_machine: (cores / processes as f64).min(1.0),
        workers_per_machine: 1,
        broker_cores: None,
        // Loopback and page cache: the copying is in the broker's CPU.
        broker_bytes_per_second: f64::INFINITY,
        store_cores: None,
        store_bytes_per_second: f64::INFINITY,
        shared_cores: cores,
    }
}

fn compare(report: &Report<'_>, costs: &UnitCosts, work: &Work, processes: usize) -> Value {
    let prediction = model::predict(costs, work, &here(processes));
    let measured = report.median(&pinned(processes), "seconds");
    json!({
        "processes": processes,
        "predicted_seconds": prediction.seconds,
        "measured_seconds": measured,
        "error": prediction.seconds / measured - 1.0,
        "prediction": prediction,
        "measured_bound": report.bound(&pinned(processes)),
    })
}

/// What the far prediction assumes; no machine of this kind was measured.
const FAR_EVENTS: f64 = 1e12;
const FAR_PARTITIONS: usize = 1_000;
const FAR_CORES: usize = 16;
const FAR_BROKERS: f64 = 6.0;
/// 25 Gbit/s for each broker.
const FAR_BROKER_BYTES: f64 = 3.1e9;
const FAR_STORE_CORES: f64 = 64.0;
const FAR_STORE_BYTES: f64 = 2e9;

/// A trillion events into a hundred billion rows, by the number of machines.
fn far(costs: &UnitCosts) -> Value {
    let work = Work::zipf(FAR_EVENTS, FAR_EVENTS / 10.0, FAR_PARTITIONS, 1.1);
    let machines = [1, 2, 4, 8, 16, 32, 64, 128];
    let lines = machines.map(|machines| {
        let site = model::Site {
            machines,
            cores_per_machine: FAR_CORES as f64,
            workers_per_machine: FAR_CORES,
            broker_cores: Some(FAR_BROKERS * FAR_CORES as f64),
            broker_bytes_per_second: FAR_BROKERS * FAR_BROKER_BYTES,
            store_cores: Some(FAR_STORE_CORES),
            store_bytes_per_second: FAR_STORE_BYTES,
            shared_cores: 0.0,
        };
        let prediction: Prediction = model::predict(costs, &work, &site);
        json!({ "machines": machines, "seconds": prediction.seconds, "bound": prediction.bound, "prediction": prediction })
    });
    json!({
        "events": FAR_EVENTS,
        "rows": FAR_EVENTS / 10.0,
        "partitions": FAR_PARTITIONS,
        "largest_share": work.largest_share(),
        "assumed": {
            "cores_per_machine": FAR_CORES,
            "brokers": FAR_BROKERS,
            "bytes_per_second_per_broker": FAR_BROKER_BYTES,
            "store_cores": FAR_STORE_CORES,
            "store_bytes_per_second": FAR_STORE_BYTES,
        },
        "by_machines": lines,
    })
}

fn tell(rows: &[Value], far: &Value) {
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    for row in rows {
        println!(
            "{} pinned processes: predicted {:.2} s ({}), measured {:.2} s, error {:+.0} %",
            row["processes"],
            number(&row["predicted_seconds"]),
            row["prediction"]["bound"].as_str().unwrap_or_default(),
            number(&row["measured_seconds"]),
            100.0 * number(&row["error"])
        );
    }
    println!("1e12 events over {FAR_PARTITIONS} partitions, as the model says:");
    for line in far["by_machines"].as_array().into_iter().flatten() {
        println!(
            "  {:>4} machines of {FAR_CORES} cores: {:>8.0} s, bound by {}",
            line["machines"],
            number(&line["seconds"]),
            line["bound"].as_str().unwrap_or_default()
        );
    }
}

fn near_chart(report: &Report<'_>, args: &BenchScaleModelArgs, rows: &[Value]) -> Chart {
    let measured = args
        .processes
        .iter()
        .enumerate()
        .filter_map(|(at, processes)| {
            Some((at as f64, report.spread(&pinned(*processes), "seconds")?))
        });
    let predicted = rows.iter().enumerate().filter_map(|(at, row)| {
        let seconds = row["predicted_seconds"].as_f64()?;
        Some((at as f64, Spread::of(&[seconds])?))
    });
    Chart {
        title: "Pinned processes: predicted and measured".to_owned(),
        along: Along::Names(args.processes.iter().map(|n| pinned(*n)).collect()),
        height: "seconds".to_owned(),
        scale: Scale::Linear,
        series: vec![
            Series {
                name: "measured".to_owned(),
                points: measured.collect(),
            },
            Series {
                name: "predicted".to_owned(),
                points: predicted.collect(),
            },
        ],
    }
}

fn far_chart(far: &Value) -> Chart {
    let lines = far["by_machines"].as_array().into_iter().flatten();
    let points = lines.filter_map(|line| {
        let seconds = Spread::of(&[line["seconds"].as_f64()?])?;
        Some((line["machines"].as_f64()?, seconds))
    });
    Chart {
        title: "1e12 events over 1,000 partitions, by the model".to_owned(),
        along: Along::Numbers {
            label: format!("machines of {FAR_CORES} cores"),
            scale: Scale::Log,
        },
        height: "seconds".to_owned(),
        scale: Scale::Log,
        series: vec![Series {
            name: "model".to_owned(),
            points: points.collect(),
        }],
    }
}
