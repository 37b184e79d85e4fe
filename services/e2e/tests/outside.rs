//! A user's crate: it depends on the author's API and on the binary's library, and nothing
//! of this workspace depends on it.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use refold_domain::partitioner::partition_of;
use refold_e2e::Api;
use refold_e2e::Exit;
use refold_e2e::Launch;
use refold_e2e::Mode;
use refold_e2e::Record;
use refold_e2e::Stream;
use refold_e2e::Topic;
use refold_e2e::World;
use serde_json::json;

const BOUND: Duration = Duration::from_secs(90);
const PARTITIONS: u32 = 3;
const ARTICLES: u32 = 40;

/// Builds the crate into the directory that everything here is built into.
fn build() -> PathBuf {
    let test = env::current_exe().expect("the path of this test program");
    // target/PROFILE/deps/TEST
    let profile = test.ancestors().nth(2).expect("a Cargo build directory");
    let target = profile.parent().expect("a Cargo build directory");
    let outside = Path::new(env!("CARGO_MANIFEST_DIR")).join("outside");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build
        .current_dir(&outside)
        // With the features of tests, as everything here: see its Cargo.toml.
        .args(["build", "--quiet", "--locked", "--bins", "--tests"])
        .env("CARGO_TARGET_DIR", target);
    if profile.file_name().is_some_and(|name| name == "release") {
        build.arg("--release");
    }
    let status = build.status().expect("cargo starts");
    assert!(status.success(), "the user's crate does not build");
    profile.join("refold-outside")
}

fn article(n: u32) -> String {
    format!("9f3a1c2e-0000-4000-8000-{n:012x}")
}

/// What the shelf of an article must look like.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Shelf {
    version: u64,
    on_hand: i64,
    shipped: i64,
    counted_at: Option<i64>,
    delisted: bool,
}

/// The log of all articles so far.
#[derive(Debug)]
struct Warehouse {
    shelves: Vec<Shelf>,
    micros: i64,
}

impl Warehouse {
    fn empty() -> Self {
        Self {
            shelves: vec![Shelf::default(); ARTICLES as usize],
            micros: 1_700_000_000_000_000,
        }
    }

    /// Every article moves once more, `round` deciding how. The envelope is the public
    /// one, written by hand as another team's service would.
    fn round(&mut self, round: u32) -> Vec<Record> {
        let mut records = Vec::new();
        for n in 0..ARTICLES {
            self.micros += 1_000;
            let shelf = &mut self.shelves[n as usize];
            shelf.version += 1;
            let quantity = i64::from(n * 7 + round * 3 + 1);
            let kind = shelf.fold((n + round) % 7, quantity, self.micros);
            let id = article(n);
            let value = json!({
                "format": 1,
                "aggregate_id": id,
                "version": shelf.version,
                "type": kind,
                "ts": self.micros,
                "payload": quantity,
            });
            records.push(Record {
                partition: partition_of(id.as_bytes(), PARTITIONS as i32).0,
                key: id.into_bytes(),
                value: Some(value.to_string().into_bytes()),
            });
        }
        records
    }
}

impl Shelf {
    fn fold(&mut self, what: u32, quantity: i64, micros: i64) -> &'static str {
        if what == 6 {
            *self = Self {
                version: self.version,
                delisted: true,
                ..Self::default()
            };
            return "Delisted";
        }
        self.delisted &= what == 5;
        match what {
            0..=2 => {
                self.on_hand += quantity;
                "Received"
            }
            3 => {
                self.on_hand -= quantity;
                self.shipped += quantity;
                "Shipped"
            }
            4 => {
                self.on_hand = quantity;
                self.counted_at = Some(micros);
                "Counted"
            }
            // Not folded by anybody: the position moves, the row stays.
            _ => "Photographed",
        }
    }
}

fn assert_reads(api: &Api, warehouse: &Warehouse, version: &str) {
    for (n, shelf) in (0..).zip(&warehouse.shelves) {
        let reply = api.get(&format!("/aggregate/{}", article(n)));
        if shelf.delisted {
            assert_eq!(reply.status, 404, "{shelf:?}: {reply:?}");
            continue;
        }
        assert_eq!(reply.status, 200, "{shelf:?}: {reply:?}");
        let row = reply.json();
        assert_eq!(row["projection_version"], version, "{row}");
        assert_eq!(row["applied_seq"], shelf.version, "{row}");
        assert_eq!(row["on_hand"], shelf.on_hand, "{row}");
        if version == "stock_v2" {
            assert_eq!(row["shipped"], shelf.shipped, "{row}");
            assert_eq!(
                row["counted_at"].is_null(),
                shelf.counted_at.is_none(),
                "{row}"
            );
        }
    }
}

fn has_all(world: &World, version: &str, topic: &Topic) {
    let end: i64 = (0..PARTITIONS as i32).map(|p| topic.end(p)).sum();
    world.wait(&format!("{version} has the whole log"), BOUND, || {
        world.applied(version) == end
    });
}

/// Name and version of every package in a lock file.
fn locked(path: &str) -> BTreeSet<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let text = fs::read_to_string(path).expect("a lock file");
    let packages = text.split("[[package]]").skip(1);
    let field = |package: &str, name: &str| {
        let start = format!("{name} = ");
        let line = package.lines().find_map(|line| line.strip_prefix(&start));
        line.expect("a field").trim_matches('"').to_owned()
    };
    packages
        .map(|package| (field(package, "name"), field(package, "version")))
        .collect()
}

#[test]
fn the_users_crate_is_locked_to_the_versions_of_the_workspace() {
    let workspace = locked("../../Cargo.lock");
    let outside = locked("outside/Cargo.lock");
    let strange: Vec<_> = outside.difference(&workspace).collect();
    let own = ("refold-outside".to_owned(), "0.1.0".to_owned());
    assert_eq!(
        strange,
        [&own],
        "copy Cargo.lock to outside/ and run cargo update --workspace"
    );
}

#[test]
fn a_projection_of_a_crate_outside_the_workspace_is_built_run_and_promoted() {
    let binary = build();
    let stream = Stream {
        partitions: PARTITIONS,
        format: "json",
        ..Stream::default()
    };
    let world = World::unseeded("outside", stream);
    let topic = Topic::on(world.brokers(), world.topic());
    topic.create(PARTITIONS as i32);
    let mut warehouse = Warehouse::empty();
    for round in 0..8 {
        topic.write(&warehouse.round(round));
    }

    let projector = |mode, version| world.projector(mode, version).of(&binary);
    let mut v1 = projector(Mode::Live, "stock_v1").start();
    let is = |version, state| world.state(version).as_deref() == Some(state);
    world.wait("v1 serves", BOUND, || is("stock_v1", "active"));
    let api = world.api_launch().flag("projection", "stock").of(&binary);
    let mut api = Api::of(api.start());
    has_all(&world, "stock_v1", &topic);
    assert_reads(&api, &warehouse, "stock_v1");

    let mut v2 = projector(Mode::Replay, "stock_v2")
        .arg("--catch-up")
        .start();
    world.wait("v2 is ready", BOUND, || is("stock_v2", "ready"));
    for round in 8..13 {
        topic.write(&warehouse.round(round));
    }
    let scan = Launch::new(["verify", "-version=stock_v2", "-against=stock_v1"])
        .args(world.log_flags())
        .args(world.store_flags())
        .of(&binary);
    scan.start().succeed(BOUND);
    let cutover = Launch::new(["cutover", "-version=stock_v2", "-json"])
        .of(&binary)
        .flag("api", api.url());
    let mut promoted = cutover.start();
    promoted.succeed(BOUND);
    assert!(promoted.stdout().text().contains("\"changed\":true"));
    has_all(&world, "stock_v2", &topic);
    assert_reads(&api, &warehouse, "stock_v2");
    let counted = world.sql(
        "select extract(epoch from counted_at)::bigint > 1600000000 from stock_v2
         where counted_at is not null limit 1",
    );
    assert_eq!(counted, [["t"]]);

    // The reference binary holds other projections, and says so.
    let stranger = world.projector(Mode::Live, "stock_v2").start().exit(BOUND);
    assert_eq!(stranger, Exit::Code(64));
    for process in [&mut v1, &mut v2] {
        process.drain(BOUND);
    }
    api.process().drain(BOUND);
}
