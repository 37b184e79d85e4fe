//! The inputs: a realistic log, damaged, and arbitrary bytes.

use crate::encode::BatchSpec;
use crate::encode::Entry;
use crate::encode::Packing;
use crate::encode::seal;
use crate::random::Random;

/// How an input was made.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// Bytes of an answer changed, its CRCs made right again.
    Damaged,
    /// Unpacked records of a batch changed, packed and sealed again.
    Repacked,
    /// Bytes of an answer changed, its CRCs as they were.
    DamagedUnsealed,
    /// Arbitrary bytes.
    Arbitrary,
    /// Arbitrary bytes behind a batch header that fits them, its CRC too.
    ArbitraryInBatch,
}

impl Kind {
    pub(crate) const COUNT: usize = 5;
}

/// Answers of the log that are made and then damaged again and again.
const ANSWERS: usize = 600;

/// Bytes of a batch header.
const HEADER_BYTES: usize = 61;

/// Numbers at which code goes wrong.
const EDGES: [u64; 14] = [
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0x8000,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    i64::MAX as u64,
    u64::MAX,
];

/// Header fields: where they stand and how many bytes they have.
const FIELDS: [(usize, usize); 11] = [
    (0, 8),
    (8, 4),
    (12, 4),
    (16, 1),
    (21, 2),
    (23, 4),
    (27, 8),
    (35, 8),
    (43, 8),
    (51, 2),
    (57, 4),
];

/// Draws inputs.
pub(crate) struct Inputs {
    random: Random,
    answers: Vec<Vec<BatchSpec>>,
    encoded: Vec<Vec<u8>>,
    input: Vec<u8>,
}

impl Inputs {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let answers: Vec<_> = (0..ANSWERS).map(|_| answer(&mut random)).collect();
        let encode = |answer: &Vec<BatchSpec>| answer.iter().flat_map(BatchSpec::encode).collect();
        Self {
            encoded: answers.iter().map(encode).collect(),
            answers,
            random,
            input: Vec::new(),
        }
    }

    /// The next input.
    pub(crate) fn draw(&mut self) -> (Kind, &[u8]) {
        let kind = match self.random.below(20) {
            0..10 => Kind::Damaged,
            10..12 => Kind::Repacked,
            12..14 => Kind::DamagedUnsealed,
            14..16 => Kind::Arbitrary,
            _ => Kind::ArbitraryInBatch,
        };
        let index = self.random.below(ANSWERS);
        self.input.clear();
        match kind {
            Kind::Damaged | Kind::DamagedUnsealed => {
                self.input.extend(&self.encoded[index]);
                for _ in 0..1 + self.random.below(3) {
                    damage(&mut self.random, &mut self.input);
                }
                if matches!(kind, Kind::Damaged) {
                    seal_all(&mut self.input);
                }
            }
            Kind::Repacked => self.repack(index),
            Kind::Arbitrary => {
                let length = self.random.below(400);
                self.input.resize(length, 0);
                self.random.fill(&mut self.input);
            }
            Kind::ArbitraryInBatch => self.arbitrary_batch(),
        }
        (kind, &self.input)
    }

    /// One of the answer's batches with its records changed before they are packed.
    fn repack(&mut self, index: usize) {
        let answer = &self.answers[index];
        let changed = self.random.below(answer.len());
        for (number, batch) in answer.iter().enumerate() {
            if number != changed {
                self.input.extend(batch.encode());
                continue;
            }
            let mut plain = batch.plain();
            for _ in 0..1 + self.random.below(3) {
                alter(&mut self.random, &mut plain, 0);
            }
            self.input
                .extend(batch.encode_payload(&batch.packing.pack(&plain)));
        }
    }

    fn arbitrary_batch(&mut self) {
        let random = &mut self.random;
        let mut payload = vec![0; random.below(300)];
        random.fill(&mut payload);
        let packing = random.pick(&Packing::ALL);
        // Half of the time the codec is met with something it begins to believe.
        if random.one_in(2) {
            let head = packing.pack(&payload[..payload.len() / 4]);
            let kept = random.below(head.len() + 1).min(payload.len());
            payload[..kept].copy_from_slice(&head[..kept]);
        }
        let mut batch = BatchSpec::new(random.below(90) as i64, packing, Vec::new());
        batch.last_delta = random.below(100) as i32;
        batch.control = random.one_in(8);
        self.input = batch.encode_payload(&payload);
        let count = random.below(5) as u32;
        self.input[57..61].copy_from_slice(&count.to_be_bytes());
        seal(&mut self.input);
    }
}

/// One to four batches that follow each other as in a log.
fn answer(random: &mut Random) -> Vec<BatchSpec> {
    let mut base = random.below(50) as i64;
    let mut batches = Vec::new();
    for _ in 0..1 + random.below(4) {
        let producer = random.below(3) as i64;
        if random.one_in(6) {
            batches.push(BatchSpec::marker(base, producer, random.one_in(2)));
            base += 1;
            continue;
        }
        let packing = random.pick(&Packing::ALL);
        let mut delta = -1;
        let mut entries = Vec::new();
        for _ in 0..random.below(12) {
            delta += 1 + i32::from(random.one_in(5));
            entries.push(entry(random, delta));
        }
        let mut batch = BatchSpec::new(base, packing, entries);
        batch.last_delta = delta.max(0) + random.below(2) as i32;
        batch.append_time = random.one_in(4);
        if random.one_in(3) {
            batch = batch.of_producer(producer);
        }
        base = batch.end() + random.below(2) as i64;
        batches.push(batch);
    }
    batches
}

fn entry(random: &mut Random, delta: i32) -> Entry {
    let key = format!("account-{:04}", random.below(10_000));
    let value = format!(
        "{{\"type\":\"deposited\",\"amount\":{},\"currency\":\"EUR\",\"note\":\"standing order\"}}",
        random.below(100_000)
    );
    let mut entry = Entry::new(delta, key.as_bytes(), value.as_bytes());
    if random.one_in(8) {
        entry.key = None;
    }
    if random.one_in(8) {
        entry.value = None;
    }
    if random.one_in(8) {
        entry.headers = vec![
            (b"trace".to_vec(), Some(key.into_bytes())),
            (b"x".to_vec(), None),
        ];
    }
    entry
}

/// Changes a header field, or the bytes of a payload, of one of the batches.
fn damage(random: &mut Random, answer: &mut Vec<u8>) {
    let batches = frames(answer);
    let (start, end) = batches
        .get(random.below(batches.len()))
        .copied()
        .unwrap_or((0, answer.len()));
    if end - start < HEADER_BYTES || random.one_in(40) {
        return alter(random, answer, 0);
    }
    if random.one_in(4) {
        let (at, size) = random.pick(&FIELDS);
        let edge = random
            .pick(&EDGES)
            .wrapping_add(random.below(3) as u64)
            .to_be_bytes();
        answer[start + at..start + at + size].copy_from_slice(&edge[8 - size..]);
        return;
    }
    // The length follows what is inserted or removed.
    let mut batch = answer[start..end].to_vec();
    alter(random, &mut batch, HEADER_BYTES);
    let length = (batch.len() as i32 - 12).to_be_bytes();
    batch[8..12].copy_from_slice(&length);
    answer.splice(start..end, batch);
}

/// Changes some of the bytes from `from` on.
fn alter(random: &mut Random, bytes: &mut Vec<u8>, from: usize) {
    let at = from + random.below(bytes.len().saturating_sub(from));
    if at >= bytes.len() {
        return;
    }
    let end = (at + 1 + random.below(8)).min(bytes.len());
    match random.below(8) {
        0 => bytes[at] ^= 1 << random.below(8),
        1 => bytes[at] = random.next() as u8,
        2 => random.fill(&mut bytes[at..end]),
        3 => {
            let edge = random.pick(&EDGES);
            let edge = if random.one_in(2) {
                edge.to_be_bytes()
            } else {
                edge.to_le_bytes()
            };
            bytes[at..end].copy_from_slice(&edge[..end - at]);
        }
        4 => drop(bytes.drain(at..end)),
        5 => drop(bytes.splice(at..at, vec![random.next() as u8; end - at])),
        6 => {
            let copied = bytes[at..end].to_vec();
            let to = from + random.below(bytes.len() - from);
            drop(bytes.splice(to..to, copied));
        }
        _ => bytes.truncate(at),
    }
}

/// Where the batches of an answer stand, by their lengths.
pub(crate) fn frames(answer: &[u8]) -> Vec<(usize, usize)> {
    let mut frames = Vec::new();
    let mut start = 0;
    while let Some(head) = answer.get(start..start + HEADER_BYTES) {
        let length = i32::from_be_bytes([head[8], head[9], head[10], head[11]]);
        let end = start + 12 + usize::try_from(length).unwrap_or(usize::MAX >> 1);
        if end > answer.len() || end < start + HEADER_BYTES {
            break;
        }
        frames.push((start, end));
        start = end;
    }
    frames
}

fn seal_all(answer: &mut [u8]) {
    for (start, end) in frames(answer) {
        seal(&mut answer[start..end]);
    }
}
