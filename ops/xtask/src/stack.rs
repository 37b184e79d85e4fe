//! `cargo x stack`: the local servers.

use std::path::PathBuf;

use refold_local::settings::WalLevel;
use refold_local::{Addresses, PrometheusOptions, Stack, StackOptions};

use crate::outcome::{Failure, Outcome};
use crate::workspace::Workspace;

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    action: Action,
    dir: PathBuf,
    nodes: usize,
    wal_minimal: bool,
    prometheus: bool,
    purge: bool,
    json: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Action {
    Up,
    Down,
    Status,
}

/// Where the stack lives unless the command line says otherwise, below the workspace.
const DEFAULT_DIR: &str = ".refold/stack";

pub(crate) fn run(workspace: &Workspace, args: &[String]) -> Outcome {
    let request = parse(workspace.path(DEFAULT_DIR), args)?;
    match request.action {
        Action::Up => up(&request),
        Action::Down => down(&request),
        Action::Status => status(&request),
    }
}

fn parse(default_dir: PathBuf, args: &[String]) -> Outcome<Request> {
    let usage = |text: String| Failure::Usage(format!("{text} (see: cargo x help)"));
    let mut rest = args.iter();
    let action = match rest.next().map(String::as_str) {
        Some("up") => Action::Up,
        Some("down") => Action::Down,
        Some("status") => Action::Status,
        _ => return Err(usage("cargo x stack up|down|status".into())),
    };
    let mut request = Request {
        action,
        dir: default_dir,
        nodes: 1,
        wal_minimal: false,
        prometheus: false,
        purge: false,
        json: false,
    };
    while let Some(arg) = rest.next() {
        let mut value = || {
            rest.next()
                .ok_or_else(|| usage(format!("{arg} needs a value")))
        };
        match arg.as_str() {
            "--dir" => request.dir = value()?.into(),
            "--nodes" => {
                request.nodes = value()?
                    .parse()
                    .map_err(|_| usage("--nodes is 1 or 3".into()))?;
            }
            "--wal-minimal" => request.wal_minimal = true,
            "--prometheus" => request.prometheus = true,
            "--purge" => request.purge = true,
            "--json" => request.json = true,
            other => return Err(usage(format!("unknown argument `{other}`"))),
        }
    }
    Ok(request)
}

fn up(request: &Request) -> Outcome {
    let wal_level = if request.wal_minimal {
        WalLevel::Minimal
    } else {
        WalLevel::Replica
    };
    let stack = Stack::up(&StackOptions {
        kafka_nodes: request.nodes,
        wal_level,
        prometheus: request.prometheus.then(PrometheusOptions::default),
        ..StackOptions::new(&request.dir)
    })?;
    if request.json {
        return print_json(&stack.status());
    }
    print_addresses(&stack.addresses());
    println!("Next: cargo x stack down --dir {}", request.dir.display());
    Ok(())
}

fn down(request: &Request) -> Outcome {
    let stopped = match Stack::find(&request.dir)? {
        Some(stack) if request.purge => stack.purge()?,
        Some(stack) => stack.down()?,
        None => Vec::new(),
    };
    if request.json {
        return print_json(&serde_json::json!({ "stopped": stopped }));
    }
    if stopped.is_empty() {
        println!("nothing was running in {}", request.dir.display());
    } else {
        println!("stopped {}", stopped.join(", "));
    }
    Ok(())
}

fn status(request: &Request) -> Outcome {
    let Some(stack) = Stack::find(&request.dir)? else {
        if request.json {
            return print_json(&serde_json::json!({ "servers": [] }));
        }
        println!("no stack in {}", request.dir.display());
        return Ok(());
    };
    let status = stack.status();
    if request.json {
        return print_json(&status);
    }
    print_addresses(&status.addresses);
    for server in status.servers {
        let state = if server.running { "running" } else { "stopped" };
        println!(
            "{:<12} {state}  pid {}  log {}",
            server.name,
            server.pid,
            server.log.display()
        );
    }
    Ok(())
}

fn print_addresses(addresses: &Addresses) {
    let lines = [
        ("kafka", &addresses.kafka),
        ("cluster id", &addresses.kafka_cluster_id),
        ("postgres", &addresses.postgres),
        ("prometheus", &addresses.prometheus),
    ];
    for (name, address) in lines {
        if let Some(address) = address {
            println!("{name:<12} {address}");
        }
    }
}

fn print_json(value: &impl serde::Serialize) -> Outcome {
    let text = serde_json::to_string(value)
        .map_err(|e| Failure::failed(format!("could not encode the answer: {e}")))?;
    println!("{text}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn every_flag_is_understood() {
        let request = parse(
            "/default".into(),
            &words("up --dir /d --nodes 3 --wal-minimal --prometheus --json"),
        );
        let expected = Request {
            action: Action::Up,
            dir: "/d".into(),
            nodes: 3,
            wal_minimal: true,
            prometheus: true,
            purge: false,
            json: true,
        };
        assert_eq!(request.expect("a request"), expected);
    }

    #[test]
    fn a_wrong_command_line_is_a_usage_error() {
        for line in ["", "sideways", "up --dir", "up --nodes many", "up --fast"] {
            let refused = parse("/default".into(), &words(line));
            assert!(matches!(refused, Err(Failure::Usage(_))), "{line}");
        }
    }
}
