//! What generating costs: `cargo run --release -p refold-seed --example
//! generate [EVENTS AGGREGATES]`. Prints the log's profile, then events per
//! second of one core for drawing, drawing with the oracle, and drawing with
//! encoding.

use std::hint::black_box;
use std::time::Instant;

use refold_seed::oracle::Oracle;
use refold_seed::{Encoder, PartitionStream, SeedParams, describe};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut params = SeedParams::default();
    let mut numbers = std::env::args().skip(1);
    if let (Some(events), Some(aggregates)) = (numbers.next(), numbers.next()) {
        params.events = events.parse()?;
        params.aggregates = aggregates.parse()?;
    }
    println!("{}", describe(&params)?);
    let start = Instant::now();
    let oracle = Oracle::new(&params)?;
    println!(
        "layout               {:.2} s",
        start.elapsed().as_secs_f64()
    );
    let layout = oracle.layout();
    let partition = layout.largest_first()[0];
    let events = layout.events(partition);
    let rate = |name: &str, start: Instant| {
        let per_second = events as f64 / start.elapsed().as_secs_f64() / 1e6;
        println!("{name:<20} {per_second:.2} M events/s a core ({events} events)");
    };

    let start = Instant::now();
    let mut stream = PartitionStream::new(layout, partition).ok_or("no aggregates")?;
    println!(
        "table                {:.2} s",
        start.elapsed().as_secs_f64()
    );
    let start = Instant::now();
    for _ in 0..events {
        black_box(stream.next_event());
    }
    rate("draw", start);

    let start = Instant::now();
    oracle.for_each_in_partition(partition, events, |row| {
        black_box(row);
    });
    rate("draw + oracle", start);

    let mut stream = PartitionStream::new(layout, partition).ok_or("no aggregates")?;
    let mut encoder = Encoder::new(&params);
    let mut value = Vec::new();
    let start = Instant::now();
    for _ in 0..events {
        value.clear();
        encoder.encode(&stream.next_event(), &mut value);
        black_box(&value);
    }
    rate("draw + encode", start);
    Ok(())
}
