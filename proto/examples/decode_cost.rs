//! What decoding costs: `cargo run --release -p refold-proto --example decode_cost`.
//!
//! Prints nanoseconds per event, the best of many short rounds over the golden
//! events that make up most of a log, for the borrowed decoders and for prost.

use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use prost::Message;
use refold_proto::accounts::decode_event;
use refold_proto::{WireFormat, decode, pb};

const ROUNDS: usize = 2_000;
const REPEATS: usize = 500;

fn time(name: &str, values: &[Vec<u8>], mut work: impl FnMut(&[u8])) {
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for _ in 0..REPEATS {
            for value in values {
                work(black_box(value));
            }
        }
        let events = (REPEATS * values.len()) as f64;
        best = best.min(start.elapsed().as_nanos() as f64 / events);
    }
    let bytes: usize = values.iter().map(Vec::len).sum();
    println!("{name:<28} {best:7.1} ns  ({} bytes)", bytes / values.len());
}

fn golden(format: WireFormat) -> std::io::Result<Vec<Vec<u8>>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let extension = match format {
        WireFormat::Proto => "bin",
        WireFormat::Json => "json",
    };
    ["deposited", "withdrawn"]
        .iter()
        .map(|name| std::fs::read(directory.join(name).with_extension(extension)))
        .collect()
}

fn main() -> std::io::Result<()> {
    for format in [WireFormat::Proto, WireFormat::Json] {
        let values = golden(format)?;
        time(&format!("{format} envelope"), &values, |value| {
            black_box(decode(format, value).is_ok());
        });
        time(&format!("{format} envelope + event"), &values, |value| {
            let event = decode(format, value).and_then(|envelope| {
                decode_event(&envelope.kind, envelope.payload)
                    .map(|event| black_box(event).is_some())
            });
            black_box(event.is_ok());
        });
        if format == WireFormat::Proto {
            time("prost envelope, owned", &values, |value| {
                black_box(pb::v1::Envelope::decode(value).is_ok());
            });
            time("prost envelope + event", &values, |value| {
                let event = pb::v1::Envelope::decode(value)
                    .and_then(|event| pb::accounts::Deposited::decode(event.payload.as_slice()));
                black_box(event.is_ok());
            });
        }
    }
    Ok(())
}
