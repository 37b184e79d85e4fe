//! How much CPU a record costs between a Fetch answer and a chunk: CRC,
//! decompression and walk, without a broker.
//!
//! ```text
//! cargo run --release -p refold-source-kafka --example unpack_rate -- [EVENTS [RUNS]]
//! ```
//!
//! Makes a log of events of about 250 bytes that compress like real ones, and
//! unpacks it codec by codec and batch size by batch size. Prints the median
//! of the runs in nanoseconds of this thread's CPU time an event, with the
//! fastest and the slowest, and the bytes an event takes in the log.

use std::error::Error;
use std::fmt::Write as _;

use bytes::Bytes;
use refold_domain::log::Chunk;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_ports::source::ReadLimit;
use refold_source_kafka::raw::unpack::Unpacker;
use rustix::time::ClockId;
use rustix::time::clock_gettime;

#[path = "../tests/unpack/encode.rs"]
#[allow(dead_code, reason = "the tests write more than plain batches")]
mod encode;

use encode::BatchSpec;
use encode::Entry;
use encode::Packing;

const PARTITION: Partition = Partition(0);

/// As the bulk path reads.
const LIMIT: ReadLimit = ReadLimit {
    records: 2_048,
    bytes: 2 << 20,
};

/// Bytes of records in a batch before compression.
const BATCH_BYTES: [usize; 3] = [64 << 10, 256 << 10, 1 << 20];

/// Bytes that a Fetch answer has room for.
const ANSWER_BYTES: usize = 1 << 20;

const PACKINGS: [Packing; 6] = [
    Packing::None,
    Packing::Lz4,
    Packing::Lz4Linked,
    Packing::Zstd,
    Packing::SnappyFramed,
    Packing::Gzip,
];

/// One answer: its bytes and the offset behind it.
struct Answer {
    bytes: Bytes,
    events: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let events = args.next().map_or(Ok(400_000), |n| n.parse::<u64>())?;
    let runs = args.next().map_or(Ok(5), |n| n.parse::<usize>())?;
    for packing in PACKINGS {
        for batch_bytes in BATCH_BYTES {
            let log = log(events, packing, batch_bytes);
            let bytes: usize = log.iter().map(|answer| answer.bytes.len()).sum();
            let mut unpacker = Unpacker::new(PARTITION, Offset(0));
            let mut chunk = Chunk::new(PARTITION, Offset(0));
            unpack(&log, &mut unpacker, &mut chunk)?;
            let mut nanos = Vec::new();
            for _ in 0..runs.max(1) {
                let before = cpu_nanos();
                let unpacked = unpack(&log, &mut unpacker, &mut chunk)?;
                nanos.push((cpu_nanos() - before) as f64 / unpacked as f64);
            }
            nanos.sort_by(f64::total_cmp);
            println!(
                "{packing:?}, batches of {} KiB: {:.1} ns an event ({:.1} to {:.1}), {:.1} B an event in the log",
                batch_bytes >> 10,
                nanos[nanos.len() / 2],
                nanos[0],
                nanos[nanos.len() - 1],
                bytes as f64 / events as f64,
            );
        }
    }
    Ok(())
}

/// Unpacks the whole log; answers the records it delivered.
fn unpack(
    log: &[Answer],
    unpacker: &mut Unpacker,
    chunk: &mut Chunk,
) -> Result<u64, Box<dyn Error>> {
    unpacker.restart(Offset(0));
    let mut delivered = 0;
    for answer in log {
        unpacker.accept(answer.bytes.clone(), Vec::new());
        while !unpacker.is_exhausted() {
            chunk.recycle(PARTITION, unpacker.position());
            unpacker.fill(chunk, LIMIT)?;
            delivered += chunk.len() as u64;
        }
    }
    let written: u64 = log.iter().map(|answer| answer.events).sum();
    if delivered != written {
        return Err(format!("{delivered} of {written} records were delivered").into());
    }
    Ok(delivered)
}

fn log(events: u64, packing: Packing, batch_bytes: usize) -> Vec<Answer> {
    let mut log = Vec::new();
    let (mut bytes, mut in_answer) = (Vec::new(), 0);
    let (mut entries, mut size, mut base) = (Vec::new(), 0, 0_u64);
    for number in 0..events {
        let (key, value) = event(number);
        size += key.len() + value.len();
        entries.push(Entry::new((number - base) as i32, &key, value.as_bytes()));
        if size < batch_bytes && number + 1 < events {
            continue;
        }
        in_answer += entries.len() as u64;
        let batch = BatchSpec::new(base as i64, packing, std::mem::take(&mut entries));
        bytes.extend(batch.encode());
        (size, base) = (0, number + 1);
        if bytes.len() >= ANSWER_BYTES || base == events {
            log.push(Answer {
                bytes: Bytes::from(std::mem::take(&mut bytes)),
                events: std::mem::take(&mut in_answer),
            });
        }
    }
    log
}

/// An event of about 250 bytes: some of it random, most of it as in every other.
fn event(number: u64) -> ([u8; 8], String) {
    let random = mix(number);
    let account = mix(random % 100_000);
    let mut value = String::with_capacity(260);
    // Writing to a string does not fail.
    let _ = write!(
        value,
        "{{\"account\":\"DE{:020}\",\"version\":{},\"type\":\"{}\",\"at\":\"2026-03-01T10:{:02}:{:02}.{:03}Z\",\
         \"amount\":\"{}.{:02}\",\"currency\":\"EUR\",\"channel\":\"{}\",\"status\":\"settled\",\
         \"reference\":\"{:08x}\",\"note\":\"monthly standing order, rent and utilities\"}}",
        account,
        number % 97,
        ["deposited", "withdrawn", "booked"][(random >> 8) as usize % 3],
        number / 60_000 % 60,
        number / 1_000 % 60,
        number % 1_000,
        random % 911,
        random % 100,
        ["card", "transfer", "branch"][(random >> 16) as usize % 3],
        random >> 32,
    );
    (account.to_be_bytes(), value)
}

/// Spreads a number over 64 bits.
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn cpu_nanos() -> u64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
