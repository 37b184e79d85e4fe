//! A disk that is full for a while.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::chown;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use refold_e2e::Exit;
use refold_e2e::Mode;
use refold_e2e::Process;
use refold_e2e::Stream;
use refold_e2e::World;
use refold_local::PostgresOptions;
use refold_local::PostgresServer;
use refold_local::testing;
use refold_local::testing::ScratchDir;

use super::BOUND;

/// A file system in memory that ends with the value.
struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// A disk for the test of this name; `None` where that is not supported, which is told.
    fn of(scratch: &ScratchDir, mebibytes: u32, test: &str) -> Option<Self> {
        match Self::mount(scratch.path().join("disk"), mebibytes) {
            Ok(disk) => Some(disk),
            Err(reason) => {
                testing::unsupported(test, &format!("a tmpfs cannot be mounted: {reason}"));
                None
            }
        }
    }

    fn mount(path: PathBuf, mebibytes: u32) -> Result<Self, String> {
        fs::create_dir_all(&path).map_err(|e| e.to_string())?;
        let size = format!("size={mebibytes}m,mode=0755");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "refold-small-disk"])
            .arg(&path)
            .output()
            .map_err(|e| format!("mount: {e}"))?;
        if mount.status.success() {
            return Ok(Self { path });
        }
        Err(String::from_utf8_lossy(&mount.stderr).trim().to_owned())
    }

    /// Leaves no byte free, until the file is removed.
    fn fill(&self) -> PathBuf {
        let ballast = self.path.join("ballast");
        let zeros = vec![0; 1 << 16];
        let mut file = fs::File::create(&ballast).expect("a file");
        while std::io::Write::write_all(&mut file, &zeros).is_ok() {}
        ballast
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the server ends after this, or before, as the values are dropped.
        let unmount = Command::new("umount").arg("-l").arg(&self.path).status();
        drop(unmount);
    }
}

/// New tables go to the small disk; the control tables are there already.
fn use_disk(server: &PostgresServer, disk: &Path) {
    let owner = fs::metadata(server.home()).expect("the server's files");
    let place = disk.join("tables");
    fs::create_dir(&place).expect("a directory");
    chown(&place, Some(owner.uid()), Some(owner.gid())).expect("its owner");
    let place = place.display();
    for sql in [
        &format!("create tablespace small location '{place}'"),
        "alter database refold set default_tablespace = small",
    ] {
        server.psql(sql).expect("a setting");
    }
}

/// Waits until a projector has all of the log, which is more than `history`.
fn wait_for_all(world: &World, live: &Process, version: &str, history: i64) {
    world.wait("the batches go through", BOUND, || {
        let metrics = live.metrics();
        let lag = metrics.map(|m| m.sum("refold_partition_lag_events", &[]));
        lag == Some(0.0) && world.applied(version) > history
    });
}

#[test]
fn a_full_disk_holds_batches_back_until_there_is_space_and_loses_none() {
    let scratch = ScratchDir::new("refold-disk").expect("a directory");
    let name = "a_full_disk_holds_batches_back_until_there_is_space_and_loses_none";
    let Some(disk) = SmallDisk::of(&scratch, 64, name) else {
        return;
    };
    let server = PostgresServer::start(scratch.path(), PostgresOptions::default());
    let server = server.expect("a server");
    let stream = Stream {
        events: 60_000,
        aggregates: 30_000,
        partitions: 2,
        ..Stream::default()
    };
    let world = World::at(&testing::stack().kafka, &server.dsn(), "disk", stream);
    world.seed();
    let listed = world.refold([vec!["list".to_owned()], world.store_flags()].concat());
    assert_eq!(listed.exit, Exit::Code(0), "{listed:?}");
    use_disk(&server, &disk.path);

    // The load meets the full disk, and goes through when there is space.
    let ballast = disk.fill();
    let mut live = world.projector(Mode::Live, "accounts_v4").start();
    live.wait_for_line("no space left", BOUND);
    assert_eq!(world.applied("accounts_v4"), 0, "a mark without its rows");
    fs::remove_file(ballast).expect("space");
    let active = || world.state("accounts_v4").as_deref() == Some("active");
    world.wait("v4 serves", BOUND, active);

    // So do batches, once the room that the leaves' pages keep for them is gone.
    for leaf in world.leaves("accounts_v4") {
        world.sql(&format!("alter table {leaf} set (fillfactor = 100)"));
        world.sql(&format!("vacuum full {leaf}"));
    }
    let before = world.applied("accounts_v4");
    assert_eq!(before, stream.events as i64);
    let ballast = disk.fill();
    let told = live.stderr().with("no space left").len();
    let mut tail = world.tail(2_000, 2 * BOUND).start();
    world.wait("a batch finds no space", BOUND, || {
        live.stderr().with("no space left").len() > told
    });
    assert_eq!(live.try_exit(), None);
    fs::remove_file(ballast).expect("space");
    tail.drain(BOUND);
    let history = stream.events as i64;
    wait_for_all(&world, &live, "accounts_v4", history);
    live.drain(BOUND);
    world.assert_equals_oracle("accounts_v4");
}

/// The write-ahead log goes to the small disk.
fn move_log(server: &mut PostgresServer, disk: &Path) {
    let log = server.home().join("data/pg_wal");
    server.stop().expect("the end of the server");
    let moved = Command::new("cp")
        .arg("-a")
        .args([&log, &disk.join("wal")])
        .status();
    assert!(moved.is_ok_and(|status| status.success()), "copy the log");
    fs::remove_dir_all(&log).expect("its old place");
    std::os::unix::fs::symlink(disk.join("wal"), &log).expect("a link");
    server.ensure().expect("a server with its log elsewhere");
}

#[test]
fn a_server_that_dies_of_a_full_log_disk_is_waited_for_and_loses_no_batch() {
    let scratch = ScratchDir::new("refold-wal").expect("a directory");
    let name = "a_server_that_dies_of_a_full_log_disk_is_waited_for_and_loses_no_batch";
    let Some(disk) = SmallDisk::of(&scratch, 512, name) else {
        return;
    };
    let server = PostgresServer::start(scratch.path(), PostgresOptions::default());
    let mut server = server.expect("a server");
    move_log(&mut server, &disk.path);
    let stream = Stream {
        events: 60_000,
        aggregates: 30_000,
        partitions: 2,
        ..Stream::default()
    };
    let world = World::at(&testing::stack().kafka, &server.dsn(), "wal", stream);
    world.seed();
    let mut live = world.start(Mode::Live, "accounts_v3", "active");
    let mut tail = world.tail(5_000, 10 * BOUND).start();
    let history = stream.events as i64;
    world.wait("batches go through", BOUND, || {
        world.applied("accounts_v3") > history
    });

    // The segment that is being written has its room; the next one does not get it.
    let ballast = disk.fill();
    let log = server.home().join("server.log");
    let says = |what: &str| fs::read_to_string(&log).is_ok_and(|text| text.contains(what));
    world.wait("the server dies of it", BOUND, || {
        says("PANIC") && says("No space left on device")
    });
    assert_eq!(live.try_exit(), None, "the projector waits");
    fs::remove_file(ballast).expect("space");
    // It may have come back by itself, or have given up.
    server.ensure().expect("the server comes back");
    world.wait("the server answers", BOUND, || {
        server.psql("select 1").is_ok()
    });
    tail.drain(BOUND);
    let world = world.reopened();
    wait_for_all(&world, &live, "accounts_v3", history);
    live.drain(BOUND);
    world.assert_equals_oracle("accounts_v3");
}
