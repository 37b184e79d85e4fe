//! Simulates seeds and says what they came to: `cargo x simulate --help`.

use std::path::PathBuf;
use std::process::ExitCode;

use refold_simulation::Branch;
use refold_simulation::Campaign;
use refold_simulation::Ended;
use refold_simulation::Mutation;
use refold_simulation::find_mutation;
use refold_simulation::run_seeds;
use refold_simulation::simulate;
use serde_json::Value;
use serde_json::json;
use tokio::runtime::Builder;
use tokio::runtime::Runtime;

const USAGE: &str = "\
usage: cargo x simulate [--seeds N] [--from S] [--out DIR] [--mutations N]
       cargo x simulate --seed S [--trace] [--mutation NAME]

  --seeds N         seeds to simulate, from S on (default: 50 from 0)
  --out DIR         write result.json there; a branch that no seed took is then a failure
  --mutations N     look for each planted bug in at most N seeds
  --seed S          one seed alone; --trace prints every step
  --mutation NAME   with this bug planted, as the table of --mutations names it
";

/// Seconds of a year.
const YEAR: f64 = 365.25 * 86_400.0;

fn runtime() -> std::io::Result<Runtime> {
    Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
}

#[derive(Default)]
struct Args {
    seeds: Option<u64>,
    from: u64,
    out: Option<PathBuf>,
    mutations: Option<u64>,
    seed: Option<u64>,
    trace: bool,
    mutation: Option<Mutation>,
}

fn parse() -> Option<Args> {
    let mut args = Args::default();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--trace" => args.trace = true,
            "--seeds" => args.seeds = Some(words.next()?.parse().ok()?),
            "--from" => args.from = words.next()?.parse().ok()?,
            "--out" => args.out = Some(words.next()?.into()),
            "--mutations" => args.mutations = Some(words.next()?.parse().ok()?),
            "--seed" => args.seed = Some(words.next()?.parse().ok()?),
            "--mutation" => {
                let name = words.next()?;
                let found = Mutation::ALL.into_iter().find(|m| m.name() == name);
                args.mutation = Some(found?);
            }
            _ => return None,
        }
    }
    Some(args)
}

fn main() -> ExitCode {
    let Some(args) = parse() else {
        eprint!("{USAGE}");
        return ExitCode::from(64);
    };
    let done = match args.seed {
        Some(seed) => one(seed, &args),
        None => many(&args),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("simulate: {error}");
            ExitCode::FAILURE
        }
    }
}

fn one(seed: u64, args: &Args) -> std::io::Result<bool> {
    let ended = simulate(runtime, seed, args.mutation, args.trace)?;
    println!(
        "seed {seed}: {} steps, {} faults, {:.0} simulated seconds, hash {:016x}",
        ended.steps,
        ended.faults,
        ended.simulated.as_secs_f64(),
        ended.hash
    );
    show(&ended);
    Ok(ended.findings.is_empty())
}

fn show(ended: &Ended) {
    for finding in &ended.findings {
        println!(
            "seed {} at {:.3} s: {}: {}",
            ended.seed,
            finding.at.as_secs_f64(),
            finding.check,
            finding.detail
        );
    }
}

fn many(args: &Args) -> std::io::Result<bool> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let campaign = run_seeds(runtime, (args.from, args.seeds.unwrap_or(50)), threads)?;
    println!(
        "{} seeds, {} failures, {} faults, {:.2} simulated years, {} steps, {:.1} s",
        campaign.seeds,
        campaign.failures.len(),
        campaign.faults,
        campaign.simulated.as_secs_f64() / YEAR,
        campaign.steps,
        campaign.took.as_secs_f64()
    );
    campaign.failures.iter().take(20).for_each(|failure| {
        show(failure);
        println!("  again: cargo x simulate --seed {} --trace", failure.seed);
    });
    for branch in Branch::ALL {
        println!("{:>10} {}", campaign.branches.of(branch), branch.name());
    }
    let found = match args.mutations {
        Some(seeds) => mutations(seeds)?,
        None => Vec::new(),
    };
    let caught = found.iter().all(|m| m["caught"] == json!(true));
    let never = campaign.branches.never();
    if let Some(out) = &args.out {
        std::fs::create_dir_all(out)?;
        let result = result(&campaign, args.mutations, &found);
        std::fs::write(out.join("result.json"), format!("{result:#}\n"))?;
    }
    let covered = args.out.is_none() || never.is_empty();
    Ok(campaign.failures.is_empty() && caught && covered)
}

fn mutations(seeds: u64) -> std::io::Result<Vec<Value>> {
    let mut found = Vec::new();
    for mutation in Mutation::ALL {
        let ended = find_mutation(runtime, mutation, seeds)?;
        let finding = ended.as_ref().and_then(|ended| ended.findings.first());
        println!(
            "{:<28} {}",
            mutation.name(),
            match (&ended, finding) {
                (Some(ended), Some(finding)) =>
                    format!("seed {:>3}: {}", ended.seed, finding.check),
                _ => "NOT FOUND".to_owned(),
            }
        );
        found.push(json!({
            "mutation": mutation.name(),
            "caught": finding.is_some(),
            "seed": ended.as_ref().map(|ended| ended.seed),
            "check": finding.map(|finding| finding.check),
            "detail": finding.map(|finding| &finding.detail),
        }));
    }
    Ok(found)
}

fn result(campaign: &Campaign, mutation_seeds: Option<u64>, found: &[Value]) -> Value {
    let branches = Branch::ALL.map(|b| (b.name(), campaign.branches.of(b)));
    let never: Vec<_> = campaign.branches.never().iter().map(|b| b.name()).collect();
    let failures = campaign.failures.iter().map(|failure| {
        let findings = failure.findings.iter();
        let findings: Vec<_> = findings.map(|f| json!([f.check, f.detail])).collect();
        json!({ "seed": failure.seed, "findings": findings })
    });
    let caught = found.iter().filter(|m| m["caught"] == json!(true)).count();
    json!({
        "schema": "refold.simulation/1",
        "seeds": campaign.seeds,
        "failures": failures.collect::<Vec<_>>(),
        "branches": branches.into_iter().collect::<std::collections::BTreeMap<_, _>>(),
        "branches_never_hit": never,
        "simulated_seconds": campaign.simulated.as_secs(),
        "simulated_years": campaign.simulated.as_secs_f64() / YEAR,
        "faults": campaign.faults,
        "steps": campaign.steps,
        "seconds": campaign.took.as_secs_f64(),
        "mutations": found.len(),
        "mutations_caught": caught,
        "mutation_seeds": mutation_seeds,
        "found": found,
    })
}
