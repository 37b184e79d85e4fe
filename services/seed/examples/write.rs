//! What writing costs: `cargo run --release -p refold-seed --example write
//! EVENTS AGGREGATES PARTITIONS CODEC[@KIB]...`, as in `zstd:3@512`. Starts a broker of its own, writes the log
//! once with each codec, and prints events per second, CPU of this process, its peak
//! memory so far, and bytes per event on the broker's disk.

use std::error::Error;
use std::fs;
use std::path::Path;

use refold_local::KafkaCluster;
use refold_local::testing::ScratchDir;
use refold_seed::{Progress, SeedOptions, SeedParams, Target, seed};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let mut number = |default: u64| args.next().map_or(Ok(default), |text| text.parse());
    let (events, aggregates) = (number(10_000_000)?, number(1_000_000)?);
    let params = SeedParams {
        events,
        aggregates,
        partitions: number(16)?.try_into()?,
        ..SeedParams::default()
    };
    let dir = ScratchDir::new("seed-write")?;
    let cluster = KafkaCluster::start(dir.path(), 1)?;
    for (index, codec) in args.enumerate() {
        let (name, kib) = codec.split_once('@').unwrap_or((&codec, "128"));
        let target = Target::new(cluster.bootstrap(), format!("log-{index}"));
        let options = SeedOptions {
            codec: name.parse()?,
            batch_bytes: kib.parse::<usize>()? << 10,
            progress: Progress::Silent,
            ..SeedOptions::new(target, params.clone())
        };
        let before = cpu_seconds("self")?;
        let report = seed(&options)?;
        let cpu = cpu_seconds("self")? - before;
        let seconds = report.elapsed.as_secs_f64();
        let bytes = log_bytes(dir.path(), &format!("log-{index}-"))?;
        println!(
            "{codec:<12} {seconds:7.1} s  {:.2} M events/s  {:4.0} ns CPU an event  {:.1} bytes an event  {} peak",
            report.written as f64 / seconds / 1e6,
            cpu / report.written as f64 * 1e9,
            bytes as f64 / report.written as f64,
            peak_memory()?,
        );
    }
    Ok(())
}

/// User and system time of a process, from its accounting in `/proc`.
fn cpu_seconds(process: &str) -> Result<f64, Box<dyn Error>> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    let fields = stat.rsplit(") ").next().unwrap_or_default();
    let ticks: Vec<u64> = fields
        .split(' ')
        .skip(11)
        .take(2)
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    Ok(ticks.iter().sum::<u64>() as f64 / 100.0)
}

fn peak_memory() -> Result<String, Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    Ok(line.unwrap_or_default().trim().to_owned())
}

/// Bytes of the segments in all directories whose name begins with `prefix`.
fn log_bytes(dir: &Path, prefix: &str) -> Result<u64, Box<dyn Error>> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let (path, name) = entry.map(|e| (e.path(), e.file_name()))?;
        if !path.is_dir() {
            continue;
        }
        if !name.to_string_lossy().starts_with(prefix) {
            bytes += log_bytes(&path, prefix)?;
            continue;
        }
        for file in fs::read_dir(path)? {
            let file = file?;
            if file.path().extension().is_some_and(|e| e == "log") {
                bytes += file.metadata()?.len();
            }
        }
    }
    Ok(bytes)
}
