//! Explores the seam and every mutation of it, and writes what came of it:
//! `refold-seam-model DIR [build|switch|rollback|failover|doubt|rebuild|full]...`, all of them by default.

use std::path::PathBuf;
use std::process::ExitCode;

use refold_seam_model::Bounds;
use refold_seam_model::Explored;
use refold_seam_model::Mutation;
use refold_seam_model::Seam;
use refold_seam_model::explore;
use serde_json::Value;
use serde_json::json;

/// The worlds by name, smallest first.
const WORLDS: [(&str, Bounds); 7] = [
    ("build", Bounds::BUILD),
    ("switch", Bounds::SWITCH),
    ("rollback", Bounds::ROLLBACK),
    ("failover", Bounds::FAILOVER),
    ("doubt", Bounds::DOUBT),
    ("rebuild", Bounds::REBUILD),
    ("full", Bounds::FULL),
];

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let Some(out) = args.next().map(PathBuf::from) else {
        eprintln!(
            "usage: refold-seam-model DIR [build|switch|rollback|failover|doubt|rebuild|full]..."
        );
        return ExitCode::from(64);
    };
    let named: Vec<String> = args.collect();
    let unknown = |name: &&String| WORLDS.iter().all(|(world, _)| world != name);
    if let Some(name) = named.iter().find(unknown) {
        eprintln!(
            "there is no world {name:?}: build, switch, rollback, failover, doubt, rebuild, full"
        );
        return ExitCode::from(64);
    }
    let wanted = |world: &&(&str, Bounds)| named.is_empty() || named.iter().any(|n| n == world.0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let worlds: Vec<_> = WORLDS.iter().filter(wanted).collect();
    let explored: Vec<_> = worlds.iter().map(|world| whole(world, threads)).collect();
    let mutations = Mutation::ALL.map(|mutation| without(mutation, threads));
    let result = result(&explored, &mutations);
    let path = out.join("result.json");
    let written =
        std::fs::create_dir_all(&out).and_then(|()| std::fs::write(&path, format!("{result:#}\n")));
    if let Err(error) = written {
        eprintln!("write {}: {error}", path.display());
        return ExitCode::FAILURE;
    }
    let holds = explored.iter().all(|(_, explored)| explored.is_sound());
    let caught = result["mutations"] == result["mutations_caught"];
    match holds && caught {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn whole(world: &(&'static str, Bounds), threads: usize) -> (&'static str, Explored) {
    let explored = explore(Seam::whole(world.1), threads);
    println!(
        "{}: {} unique states, {} steps, depth {}, {:.1} s",
        world.0,
        explored.unique_states,
        explored.steps,
        explored.depth,
        explored.took.as_secs_f64()
    );
    for (property, steps) in &explored.broken {
        println!("  BROKEN: {property}");
        steps.iter().for_each(|step| println!("    {step}"));
    }
    for property in &explored.unreached {
        println!("  never reached: {property}");
    }
    (world.0, explored)
}

fn without(mutation: Mutation, threads: usize) -> Value {
    let explored = explore(Seam::without(mutation, mutation.bounds()), threads);
    let first = explored.broken.first();
    let found = explored.shows(mutation.upholds());
    println!(
        "without {mutation:?}: {} after {} states",
        found.unwrap_or("NOT CAUGHT"),
        explored.unique_states
    );
    json!({
        "mutation": format!("{mutation:?}"),
        "caught": found == Some(mutation.upholds()),
        "broken": found,
        "unique_states": explored.unique_states,
        "steps": first.map(|(_, steps)| steps),
    })
}

fn result(explored: &[(&str, Explored)], mutations: &[Value]) -> Value {
    let largest = explored.iter().max_by_key(|(_, e)| e.unique_states);
    let worlds = explored.iter().map(|(name, explored)| {
        json!({
            "world": name,
            "unique_states": explored.unique_states,
            "steps": explored.steps,
            "depth": explored.depth,
            "seconds": explored.took.as_secs_f64(),
            "broken": explored.broken.iter().map(|(name, _)| name).collect::<Vec<_>>(),
            "never_reached": explored.unreached,
        })
    });
    let caught = mutations.iter().filter(|m| m["caught"] == json!(true));
    json!({
        "schema": "refold.seam-model/1",
        "unique_states": largest.map(|(_, e)| e.unique_states),
        "depth": largest.map(|(_, e)| e.depth),
        "mutations": mutations.len(),
        "mutations_caught": caught.count(),
        "worlds": worlds.collect::<Vec<_>>(),
        "found": mutations,
    })
}
