//! Times the bulk fold alone, without broker and database: nanoseconds of CPU
//! per event (the thread's own clock), for one partition of a seeded log.
//!
//! `cargo run --release -p refold --example fold_rate [EVENTS] [AGGREGATES] [RECORDS_A_CHUNK] [FORMAT]`

use std::hint::black_box;

use refold_accounts::AccountsV4;
use refold_domain::decode;
use refold_domain::decode::WireFormat;
use refold_domain::fold::FoldOptions;
use refold_domain::fold::erase;
use refold_domain::log::Chunk;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_seed::Encoder;
use refold_seed::Layout;
use refold_seed::PartitionStream;
use refold_seed::SeedParams;
use refold_seed::key_of;

/// Records per chunk when nothing is said.
const CHUNK: u64 = 1_024;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let formats = match std::env::args().nth(4) {
        Some(format) => vec![format.parse()?],
        None => vec![WireFormat::Proto, WireFormat::Json],
    };
    let numbers = std::env::args().skip(1).take(3);
    let mut args = numbers.map(|a| a.parse::<u64>());
    let events = args.next().transpose()?.unwrap_or(2_000_000);
    let aggregates = args.next().transpose()?.unwrap_or(events / 10);
    let chunk = args.next().transpose()?.unwrap_or(CHUNK);
    for format in formats {
        let params = SeedParams {
            events,
            aggregates,
            partitions: 1,
            format,
            ..SeedParams::default()
        };
        let (decode, fold) = measure(&params, chunk)?;
        println!("{format}: {decode:.0} ns an event to decode alone, {fold:.0} ns decode and fold");
    }
    Ok(())
}

/// Nanoseconds of CPU an event: to decode it (envelope, key and body), and for the whole fold,
/// which decodes too.
fn measure(params: &SeedParams, records: u64) -> Result<(f64, f64), Box<dyn std::error::Error>> {
    let layout = Layout::new(params)?;
    let mut stream = PartitionStream::new(&layout, 0).ok_or("no partition 0")?;
    let mut encoder = Encoder::new(params);
    let options = FoldOptions {
        wire: params.format,
        complete_log: true,
    };
    let mut fold = erase(AccountsV4).bulk_fold(options);
    let (mut decoding, mut folding) = (0, 0);
    let mut value = Vec::new();
    let mut next = 0;
    while next < params.events {
        let mut chunk = Chunk::new(Partition(0), Offset(next as i64));
        for _ in 0..records.min(params.events - next) {
            let event = stream.next_event();
            value.clear();
            encoder.encode(&event, &mut value);
            let key = key_of(i64::from(event.id));
            chunk.push(Offset(event.offset as i64), 0, key.as_ref(), Some(&value));
        }
        next += chunk.len() as u64;
        let began = thread_nanos();
        for record in chunk.records() {
            let envelope = decode::envelope(params.format, &record)?;
            black_box(decode::key::<i64>(&envelope.id)?);
            black_box(decode::event::<AccountsV4>(&envelope)?);
        }
        decoding += thread_nanos() - began;
        let began = thread_nanos();
        let report = fold.fold(&chunk, 0, Offset(i64::MAX));
        folding += thread_nanos() - began;
        if let Some(halt) = report.halt {
            return Err(halt.reason.into());
        }
    }
    let events = params.events as f64;
    Ok((decoding as f64 / events, folding as f64 / events))
}

fn thread_nanos() -> i64 {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    spent.tv_sec * 1_000_000_000 + spent.tv_nsec
}
