//! `load`: reads at a fixed rate and reports.

use std::process::ExitCode;

use tokio::sync::watch;

use crate::cli::Count;
use crate::cli::Failure;
use crate::cli::Kind;
use crate::cli::LoadArgs;
use crate::load;
use crate::load::FreshIds;
use crate::load::LoadPlan;
use crate::load::LoadProgress;
use crate::load::Span;
use crate::load::SpanMark;

pub(crate) async fn run(args: LoadArgs) -> Result<ExitCode, Failure> {
    if args.rate.0 == 0 || args.aggregates.0 == 0 {
        return Err(Failure::usage("-rate and -aggregates must be above 0"));
    }
    let plan = LoadPlan {
        api: args.api.trim_end_matches('/').to_owned(),
        rate: args.rate.0,
        aggregates: args.aggregates.0,
        seed: 1,
    };
    let (stop, stopped) = watch::channel(false);
    let reading = tokio::spawn(load::run(
        plan,
        FreshIds::default(),
        SpanMark::default(),
        LoadProgress::default(),
        stopped,
    ));
    tokio::select! {
        () = tokio::time::sleep(args.duration) => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    stop.send_replace(true);
    let report = reading
        .await
        .map_err(|error| Failure::error("read the api", error))?;
    for failure in &report.failures {
        let at = failure.at.as_secs_f64();
        eprintln!(
            "failed read at {at:.3} s: {} {}",
            failure.uri, failure.reason
        );
    }
    if args.json {
        println!("{}", report.to_json());
    } else {
        let quantile = |q| report.quantile_ms(Span::Baseline, q).unwrap_or_default();
        println!(
            "{} reads, {} failed; p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
            Count(report.reads),
            Count(report.failed),
            quantile(0.5),
            quantile(0.99),
            quantile(1.0)
        );
    }
    if report.failed > 0 {
        return Ok(ExitCode::from(Kind::Error.code()));
    }
    Ok(ExitCode::SUCCESS)
}
