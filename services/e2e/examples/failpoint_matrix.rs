//! Every failpoint with every action, on both write paths and in both modes:
//! `failpoint_matrix [PART_OF_A_CELL'S_NAME]`. A cell that did not fire, or whose table is not
//! that of an undisturbed pass, ends the run. Prints a line a cell and a JSON object at the end.

use std::time::Instant;

use refold_e2e::Failpoint;
use refold_e2e::Mode;
use refold_e2e::Stream;
use refold_e2e::World;
use refold_e2e::failpoints::ACTIONS;
use refold_e2e::failpoints::APPLY_POINTS;
use refold_e2e::failpoints::BULK_POINTS;
use serde_json::json;

const VERSION: &str = "accounts_v4";

fn main() {
    let only = std::env::args().nth(1).unwrap_or_default();
    let began = Instant::now();
    let log = World::seeded(
        "matrix",
        Stream {
            events: 60_000,
            aggregates: 6_000,
            partitions: 4,
            ..Stream::default()
        },
    );
    let (mut cells, mut fired) = (0, 0);
    let paths = [("bulk", &BULK_POINTS[..]), ("apply", &APPLY_POINTS[..])];
    for (path, points) in paths {
        for mode in [Mode::Replay, Mode::Live] {
            for point in points {
                for action in ACTIONS {
                    let name = format!("{path} {mode:?} {point} {action}");
                    if !name.contains(&only) {
                        continue;
                    }
                    let count = cell(&log, path, mode, point, action);
                    println!("{name}: fired {count}, equal to the oracle");
                    assert!(count > 0, "{name} did not fire");
                    cells += 1;
                    fired += count;
                }
            }
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{}",
        json!({
            "schema": "refold.failpoint-matrix/1",
            "cells": cells,
            "fired": fired,
            "events": log.stream().events,
            "seconds": seconds,
        })
    );
}

fn cell(log: &World, path: &str, mode: Mode, point: &str, action: &str) -> usize {
    let world = log.with_fresh_database("matrix");
    let mut failpoint = Failpoint {
        point,
        partition: 1,
        action,
        nth: 1,
    };
    if path == "apply" {
        world.load_all_but(VERSION, 0.5);
        if !point.starts_with("takeover") {
            failpoint.nth = 2;
        }
    }
    let fired = world.fail_and_finish(mode, VERSION, &failpoint);
    world.assert_equals_oracle(VERSION);
    fired
}
