//! `bench read`: the log's reader alone, a thread for each partition, events counted and
//! thrown away.

use std::process::ExitCode;
use std::time::Duration;
use std::time::Instant;

use refold_domain::log::Chunk;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_ports::source::ChunkReader;
use refold_ports::source::ReadLimit;
use refold_system::ProjectorOptions;
use serde_json::json;

use super::part::ground;
use crate::cli::BenchReadArgs;
use crate::cli::Failure;
use crate::cli::ReadMode;
use crate::command::bench;
use crate::machine;

pub(crate) async fn run(args: &BenchReadArgs) -> Result<ExitCode, Failure> {
    let (brokers, topic, _) = ground(&args.replay)?;
    let source = bench::source(&args.replay, &brokers, &topic)?;
    let mode = match args.mode {
        ReadMode::Bulk => refold_ports::source::ReadMode::Bulk,
        ReadMode::Tail => refold_ports::source::ReadMode::Tail,
    };
    let cpu = machine::cpu_seconds();
    let began = Instant::now();
    let mut threads = Vec::new();
    for partition in (0..args.replay.stream.partitions).map(Partition) {
        let ends = source.watermarks(partition).await?;
        let reader = source.open(partition, ends.low, mode).await?;
        let read = move || drain(reader, partition, (ends.low, ends.high));
        threads.push(tokio::task::spawn_blocking(read));
    }
    let mut sum = Drained::default();
    for thread in threads {
        let drained = thread.await;
        sum.add(drained.map_err(|error| Failure::error("read a partition", error))??);
    }
    let (seconds, cpu) = (began.elapsed().as_secs_f64(), machine::cpu_seconds() - cpu);
    let figures = json!({
        "events": sum.events,
        "bytes": sum.bytes,
        "chunks": sum.chunks,
        "seconds": seconds,
        "events_per_second": sum.events as f64 / seconds,
        "client_cpu_seconds": cpu,
        "client_cpu_ns_per_event": cpu * 1e9 / sum.events.max(1) as f64,
        "peak_memory_bytes": machine::peak_memory_bytes(),
    });
    println!("{figures}");
    Ok(ExitCode::SUCCESS)
}

#[derive(Default)]
struct Drained {
    events: u64,
    bytes: u64,
    chunks: u64,
}

impl Drained {
    fn add(&mut self, other: Self) {
        self.events += other.events;
        self.bytes += other.bytes;
        self.chunks += other.chunks;
    }
}

/// Reads `[from, until)` in the chunks that a bulk load reads.
fn drain(
    mut reader: Box<dyn ChunkReader>,
    partition: Partition,
    (from, until): (Offset, Offset),
) -> Result<Drained, Failure> {
    let limit: ReadLimit = ProjectorOptions::default().bulk_read;
    let patience = Duration::from_secs(30);
    let mut chunk = Chunk::new(partition, from);
    let mut drained = Drained::default();
    let mut heard = Instant::now();
    while chunk.to() < until {
        reader.read(&mut chunk, limit, Duration::from_millis(100))?;
        if chunk.is_empty() && heard.elapsed() > patience {
            let sentence = format!("{partition}: nothing came in {} s", patience.as_secs());
            return Err(Failure::new(crate::cli::Kind::TimedOut, sentence));
        }
        if !chunk.is_empty() {
            heard = Instant::now();
        }
        drained.add(Drained {
            events: chunk.len() as u64,
            bytes: chunk.bytes() as u64,
            chunks: 1,
        });
    }
    Ok(drained)
}
