//! What a log looks like: how unequal its aggregates are, how large its
//! records, and how far they compress.

use std::fmt;

use serde::Serialize;

use crate::bulk::ZSTD_LEVEL;
use crate::codec::BATCH_BYTES;
use crate::encode::Encoder;
use crate::layout::{Layout, key_digits};
use crate::oracle::{Differing, Oracle};
use crate::parallel;
use crate::params::{InvalidParams, SeedParams};
use crate::record::{BATCH_HEADER, push_record};
use crate::stream::{DrawnEvent, PartitionStream};

/// Sample batches taken from a partition, evenly over its length.
const BATCHES_PER_PARTITION: u64 = 8;

/// The profile of a log, measured by generating it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Profile {
    /// Parameters of the log.
    pub params: SeedParams,
    /// Shares of the aggregates with 1-5, 6-99, 100-999 and at least 1,000
    /// events; they add up to 1.
    pub events_per_aggregate: [f64; 4],
    /// Share of all events that the busiest aggregate has.
    pub top_key: f64,
    /// Share of all events in the busiest partition.
    pub top_partition: f64,
    /// Aggregates, and those that differ between v3 and v4 at the end.
    pub differing: Differing,
    /// Mean bytes of a record's value.
    pub value_bytes: f64,
    /// Mean bytes of a record in an uncompressed batch, key and framing
    /// included.
    pub record_bytes: f64,
    /// The same after lz4, as the producer compresses.
    pub lz4_bytes: f64,
    /// The same after zstd, as the producer compresses.
    pub zstd_bytes: f64,
}

/// Generates the log of `params` on all cores and measures it.
///
/// # Errors
/// [`InvalidParams`] when the parameters describe no log.
pub fn describe(params: &SeedParams) -> Result<Profile, InvalidParams> {
    let oracle = Oracle::new(params)?;
    let layout = oracle.layout();
    let parts = parallel::over_partitions(&layout.largest_first(), |partition| {
        measure(layout, partition)
    });
    let mut buckets = [0_u64; 4];
    let mut sample = Sample::default();
    for part in &parts {
        for (sum, count) in buckets.iter_mut().zip(part.buckets) {
            *sum += count;
        }
        sample.add(&part.sample);
    }
    let top_key = parts.iter().map(|part| part.top_key).max().unwrap_or(0);
    let largest = layout.end_offsets().into_iter().max().unwrap_or(0);
    let mean = |bytes: u64| bytes as f64 / sample.records.max(1) as f64;
    Ok(Profile {
        params: params.clone(),
        events_per_aggregate: buckets.map(|count| count as f64 / params.aggregates as f64),
        top_key: top_key as f64 / params.events as f64,
        top_partition: largest as f64 / params.events as f64,
        differing: oracle.differing_at(&layout.end_offsets()),
        value_bytes: mean(sample.value_bytes),
        record_bytes: mean(sample.record_bytes),
        lz4_bytes: mean(sample.lz4_bytes),
        zstd_bytes: mean(sample.zstd_bytes),
    })
}

#[derive(Default)]
struct Part {
    buckets: [u64; 4],
    top_key: u32,
    sample: Sample,
}

fn measure(layout: &Layout, partition: u32) -> Part {
    let Some(mut stream) = PartitionStream::new(layout, partition) else {
        return Part::default();
    };
    let end = layout.events(partition);
    let stride = (end / BATCHES_PER_PARTITION).max(1);
    let mut versions = vec![0_u32; layout.ids(partition).len()];
    let mut batch = Batch::new(layout.params());
    let mut part = Part::default();
    let mut sampling = false;
    for offset in 0..end {
        let event = stream.next_event();
        versions[event.slot as usize] = event.version;
        sampling |= offset % stride == 0;
        if sampling {
            batch.push(&event);
            if batch.records.len() >= BATCH_BYTES {
                part.sample.add(&batch.take());
                sampling = false;
            }
        }
    }
    part.sample.add(&batch.take());
    for version in versions {
        part.top_key = part.top_key.max(version);
        part.buckets[match version {
            0..=5 => 0,
            6..=99 => 1,
            100..=999 => 2,
            _ => 3,
        }] += 1;
    }
    part
}

#[derive(Default)]
struct Sample {
    records: u64,
    value_bytes: u64,
    record_bytes: u64,
    lz4_bytes: u64,
    zstd_bytes: u64,
}

impl Sample {
    fn add(&mut self, other: &Sample) {
        self.records += other.records;
        self.value_bytes += other.value_bytes;
        self.record_bytes += other.record_bytes;
        self.lz4_bytes += other.lz4_bytes;
        self.zstd_bytes += other.zstd_bytes;
    }
}

/// Records as they stand in a batch of Kafka's format 2, without its header.
struct Batch {
    encoder: Encoder,
    value: Vec<u8>,
    records: Vec<u8>,
    count: u64,
    value_bytes: u64,
    first_ms: i64,
}

impl Batch {
    fn new(params: &SeedParams) -> Self {
        Self {
            encoder: Encoder::new(params),
            value: Vec::new(),
            records: Vec::with_capacity(BATCH_BYTES + 1024),
            count: 0,
            value_bytes: 0,
            first_ms: 0,
        }
    }

    fn push(&mut self, event: &DrawnEvent) {
        self.value.clear();
        self.encoder.encode(event, &mut self.value);
        let ms = event.ts_micros / 1000;
        if self.count == 0 {
            self.first_ms = ms;
        }
        let mut space = [0; 10];
        let key = key_digits(event.id, &mut space);
        let deltas = (ms - self.first_ms, self.count as i64);
        push_record(&mut self.records, deltas, key, &self.value);
        self.count += 1;
        self.value_bytes += self.value.len() as u64;
    }

    /// Measures and empties the batch.
    fn take(&mut self) -> Sample {
        if self.count == 0 {
            return Sample::default();
        }
        let sample = Sample {
            records: std::mem::take(&mut self.count),
            value_bytes: std::mem::take(&mut self.value_bytes),
            record_bytes: (self.records.len() + BATCH_HEADER) as u64,
            lz4_bytes: (lz4_len(&self.records) + BATCH_HEADER) as u64,
            zstd_bytes: (zstd_len(&self.records) + BATCH_HEADER) as u64,
        };
        self.records.clear();
        sample
    }
}

/// A frame of independent 64 KiB blocks, as librdkafka writes it. Compressing
/// in memory cannot fail; if it did, the sample would count as incompressible.
fn lz4_len(bytes: &[u8]) -> usize {
    use lz4_flex::frame::{BlockSize, FrameEncoder, FrameInfo};
    use std::io::Write;
    let info = FrameInfo::new().block_size(BlockSize::Max64KB);
    let mut frame = FrameEncoder::with_frame_info(info, Vec::with_capacity(bytes.len() / 2));
    let written = frame.write_all(bytes).is_ok();
    match frame.finish() {
        Ok(out) if written => out.len(),
        _ => bytes.len(),
    }
}

fn zstd_len(bytes: &[u8]) -> usize {
    zstd::bulk::compress(bytes, ZSTD_LEVEL).map_or(bytes.len(), |out| out.len())
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: f64| share * 100.0;
        let SeedParams {
            seed,
            events,
            aggregates,
            partitions,
            zipf,
            format,
        } = &self.params;
        writeln!(
            f,
            "{events} events, {aggregates} aggregates, {partitions} partitions, Zipf {zipf}, seed {seed}, {format}"
        )?;
        writeln!(f, "events per aggregate")?;
        let names = ["1-5", "6-99", "100-999", ">= 1,000"];
        for (name, share) in names.iter().zip(self.events_per_aggregate) {
            writeln!(f, "  {name:<10} {:8.3} % of the aggregates", percent(share))?;
        }
        writeln!(
            f,
            "busiest aggregate   {:6.2} % of the events",
            percent(self.top_key)
        )?;
        writeln!(
            f,
            "busiest partition   {:6.2} % of the events",
            percent(self.top_partition)
        )?;
        writeln!(
            f,
            "bytes per event     {:.0} value, {:.0} record, {:.1} lz4, {:.1} zstd (batches of {} KiB)",
            self.value_bytes,
            self.record_bytes,
            self.lz4_bytes,
            self.zstd_bytes,
            BATCH_BYTES >> 10
        )?;
        write!(
            f,
            "v3 and v4 differ in {} aggregates ({:.2} %)",
            self.differing.differing,
            percent(self.differing.share())
        )
    }
}
