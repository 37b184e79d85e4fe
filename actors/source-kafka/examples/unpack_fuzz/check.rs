//! What has to hold of every input.

use std::collections::BTreeMap;

use bytes::Bytes;
use refold_domain::log::Chunk;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_ports::source::ReadLimit;
use refold_source_kafka::raw::unpack::AbortedTransaction;
use refold_source_kafka::raw::unpack::Filled;
use refold_source_kafka::raw::unpack::UnpackError;
use refold_source_kafka::raw::unpack::UnpackErrorKind;
use refold_source_kafka::raw::unpack::Unpacker;

use crate::encode::CRC_AT;
use crate::encode::crc32c;
use crate::input::frames;
use crate::random::Random;

const PARTITION: Partition = Partition(0);

/// What a buffer may take whatever the input: the least room for a payload
/// and one block of LZ4, which are made before the first byte is there.
const BASE_BYTES: usize = 64 << 10;

/// Bytes that a byte of input may become, by the codec's number, and twice
/// that for a buffer that doubles. Zstandard: a block of 128 KiB from four bytes.
const RATIOS: [usize; 8] = [2, 2 * 1_040, 2 * 22, 2 * 255, 2 * (32 << 10), 2, 2, 2];

/// Reads inputs and counts what came of them.
pub(crate) struct Checker {
    random: Random,
    unpacker: Unpacker,
    pub(crate) delivered: u64,
    pub(crate) fruitful: u64,
    pub(crate) refused: u64,
    pub(crate) refusals: BTreeMap<String, u64>,
    pub(crate) largest_buffer: usize,
}

/// A batch of the input whose CRC is right, as the harness finds it.
struct Sound {
    base: i64,
    last: i64,
    records: i32,
    /// Its bytes, if they are not packed.
    plain: Option<(usize, usize)>,
}

impl Checker {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            random: Random::new(!seed),
            unpacker: Unpacker::new(PARTITION, Offset(0)),
            delivered: 0,
            fruitful: 0,
            refused: 0,
            refusals: BTreeMap::new(),
            largest_buffer: 0,
        }
    }

    /// Takes a new unpacker in the place of one that panicked.
    pub(crate) fn renew(&mut self) {
        self.unpacker = Unpacker::new(PARTITION, Offset(0));
    }

    /// Reads the input to its end; an error says what did not hold.
    pub(crate) fn check(&mut self, input: &[u8]) -> Result<(), String> {
        let from = Offset(self.random.below(60) as i64);
        let limit = ReadLimit {
            records: self.random.pick(&[1, 2, 5, 1_000]),
            bytes: self.random.pick(&[0, 40, 300, 1 << 20]),
        };
        let sound = sound_batches(input);
        let most = largest_buffer(input);
        let aborted = self.aborted();
        self.unpacker.restart(from);
        self.unpacker.accept(Bytes::copy_from_slice(input), aborted);
        let mut chunk = Chunk::new(PARTITION, from);
        let (mut wanted, mut delivered) = (from, 0);
        loop {
            chunk.recycle(PARTITION, self.unpacker.position());
            let filled = self.unpacker.fill(&mut chunk, limit);
            let capacity = chunk.buffer().capacity();
            self.largest_buffer = self.largest_buffer.max(capacity);
            if capacity > most {
                return Err(format!("the buffer took {capacity} bytes, not {most}"));
            }
            for record in chunk.records() {
                if record.offset < wanted {
                    return Err(format!("offset {} came again", record.offset));
                }
                wanted = record.offset.next();
                let parts = [record.key, record.value.unwrap_or_default()];
                if !sound
                    .iter()
                    .any(|batch| batch.covers(record.offset.0, &parts, input))
                {
                    return Err(format!("no CRC covers offset {}", record.offset));
                }
            }
            delivered += chunk.len();
            match filled {
                Ok(Filled::Exhausted) => break,
                Ok(Filled::Full) if chunk.is_empty() => {
                    return Err("a full chunk is empty".to_owned());
                }
                Ok(Filled::Full) => {}
                Err(error) => {
                    self.note(&error);
                    break;
                }
            }
        }
        let counted: i64 = sound.iter().map(|batch| i64::from(batch.records)).sum();
        if delivered as i64 > counted {
            return Err(format!("{delivered} records came of {counted}"));
        }
        self.delivered += delivered as u64;
        self.fruitful += u64::from(delivered > 0);
        Ok(())
    }

    fn aborted(&mut self) -> Vec<AbortedTransaction> {
        let count = self.random.below(3);
        let draw = |_| AbortedTransaction {
            producer_id: self.random.below(3) as i64,
            first_offset: self.random.below(60) as i64,
        };
        (0..count).map(draw).collect()
    }

    fn note(&mut self, error: &UnpackError) {
        self.refused += 1;
        let kind = match &error.kind {
            UnpackErrorKind::Format(_) => "format".to_owned(),
            UnpackErrorKind::Checksum { .. } => "checksum".to_owned(),
            UnpackErrorKind::TooLarge { .. } => "too large".to_owned(),
            UnpackErrorKind::UnknownCodec(_) => "unknown codec".to_owned(),
            UnpackErrorKind::Payload { codec, .. } => format!("payload: {codec}"),
            UnpackErrorKind::Header(_) => "header".to_owned(),
            UnpackErrorKind::Record { .. } => "record".to_owned(),
        };
        *self.refusals.entry(kind).or_default() += 1;
    }
}

impl Sound {
    /// Whether a record with these parts may come of this batch.
    fn covers(&self, offset: i64, parts: &[&[u8]], input: &[u8]) -> bool {
        let held = |part: &[u8]| match self.plain {
            Some((start, end)) if !part.is_empty() => input[start..end]
                .windows(part.len())
                .any(|window| window == part),
            _ => true,
        };
        (self.base..=self.last).contains(&offset) && parts.iter().all(|part| held(part))
    }
}

fn sound_batches(input: &[u8]) -> Vec<Sound> {
    let mut sound = Vec::new();
    for (start, end) in frames(input) {
        let batch = &input[start..end];
        let field = |at: usize| {
            i32::from_be_bytes([batch[at], batch[at + 1], batch[at + 2], batch[at + 3]])
        };
        if batch[16] != 2 || field(CRC_AT) as u32 != crc32c(&batch[CRC_AT + 4..]) {
            continue;
        }
        let base = (i64::from(field(0)) << 32) | i64::from(field(4) as u32);
        let packed = batch[22] & 7 != 0;
        sound.push(Sound {
            base,
            last: base.saturating_add(i64::from(field(23))),
            records: field(57).max(0),
            plain: (!packed).then_some((start + 61, end)),
        });
    }
    sound
}

/// The largest buffer that the input can ask for.
fn largest_buffer(input: &[u8]) -> usize {
    let ratio = |(start, _): (usize, usize)| RATIOS[usize::from(input[start + 22] & 7)];
    let ratio = frames(input).into_iter().map(ratio).max().unwrap_or(2);
    BASE_BYTES + ratio * input.len()
}
