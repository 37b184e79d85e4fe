//! Feeds the unpacker of the raw reader with inputs that nobody wrote.
//!
//! ```text
//! cargo run --release -p refold-source-kafka --example unpack_fuzz -- [INPUTS [SEED]]
//! ```
//!
//! Of every ten inputs six are answers of a realistic log that were damaged
//! and whose CRCs were then made right again, so that the damage reaches
//! codecs and walk; one more is damaged and left so; three are arbitrary
//! bytes, bare or behind a header. Each is read with limits, offsets and
//! aborted transactions drawn at random.
//!
//! An input fails when reading it panics, when the chunk's buffer grows
//! beyond what the input's bytes can unpack to, or when a record comes out
//! that lies in no batch of the input with the right CRC (found out by a frame
//! walk and a CRC of the harness' own). The last line of the output is a JSON
//! object; one seed always makes the same inputs.

mod check;
#[path = "../../tests/unpack/encode.rs"]
#[allow(dead_code, reason = "the tests use all of it")]
mod encode;
mod input;
mod random;

use std::error::Error;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::time::Instant;

use check::Checker;
use input::Inputs;
use input::Kind;
use rustix::time::ClockId;
use rustix::time::clock_gettime;

/// Failing inputs that are printed before the rest are only counted.
const PRINTED: u64 = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let count = args.next().map_or(Ok(10_000_000), |n| n.parse::<u64>())?;
    let seed = args.next().map_or(Ok(42), |n| n.parse::<u64>())?;
    let begun = Instant::now();
    let mut inputs = Inputs::new(seed);
    let mut checker = Checker::new(seed);
    let mut kinds = [0_u64; Kind::COUNT];
    let (mut panics, mut violations) = (0_u64, 0_u64);
    for number in 0..count {
        let (kind, bytes) = inputs.draw();
        kinds[kind as usize] += 1;
        let failure = match catch_unwind(AssertUnwindSafe(|| checker.check(bytes))) {
            Ok(Ok(())) => continue,
            Ok(Err(violation)) => {
                violations += 1;
                violation
            }
            Err(_) => {
                panics += 1;
                checker.renew();
                "panicked".to_owned()
            }
        };
        if panics + violations <= PRINTED {
            println!("input {number} of seed {seed}, {kind:?}: {failure}");
            println!("  {}", hex(bytes));
        }
    }
    let damaged = kinds[Kind::Damaged as usize] + kinds[Kind::Repacked as usize];
    let arbitrary = kinds[Kind::Arbitrary as usize] + kinds[Kind::ArbitraryInBatch as usize];
    let report = serde_json::json!({
        "schema": "refold.reader-fuzz/1",
        "inputs": count,
        "mutated_with_crc": damaged,
        "mutated_plain_and_packed_again": kinds[Kind::Repacked as usize],
        "mutated_without_crc": kinds[Kind::DamagedUnsealed as usize],
        "arbitrary": arbitrary,
        "arbitrary_behind_a_header": kinds[Kind::ArbitraryInBatch as usize],
        "panics": panics,
        "violations": violations,
        "records_delivered": checker.delivered,
        "inputs_with_records": checker.fruitful,
        "inputs_refused": checker.refused,
        "refusals": checker.refusals,
        "largest_buffer_bytes": checker.largest_buffer,
        "seed": seed,
        "seconds": rounded(begun.elapsed().as_secs_f64()),
        "cpu_seconds": rounded(cpu_seconds()),
    });
    println!("{report}");
    if panics + violations > 0 {
        return Err(format!("{} inputs failed", panics + violations).into());
    }
    Ok(())
}

fn rounded(seconds: f64) -> f64 {
    (seconds * 10.0).round() / 10.0
}

/// CPU time of this process so far: on a machine that others use, the better measure.
fn cpu_seconds() -> f64 {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
