//! An encoder of record batches that shares nothing with the reader under
//! test, and that can write what no producer would.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use lz4_flex::frame::BlockMode;
use lz4_flex::frame::BlockSize;
use lz4_flex::frame::FrameEncoder;
use lz4_flex::frame::FrameInfo;

/// Where a batch's CRC stands; the bytes behind it are covered.
pub(crate) const CRC_AT: usize = 17;

/// How a batch's records are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    None,
    Gzip,
    /// Two gzip members behind each other.
    GzipTwice,
    Snappy,
    /// Blocks of 32 KiB as Java's stream frames them.
    SnappyFramed,
    Lz4,
    /// Linked blocks of 64 KiB with a checksum each.
    Lz4Linked,
    /// Blocks of 256 KiB, with the content's size and checksum.
    Lz4Sized,
    Zstd,
    ZstdSized,
}

impl Packing {
    pub(crate) const ALL: [Self; 10] = [
        Self::None,
        Self::Gzip,
        Self::GzipTwice,
        Self::Snappy,
        Self::SnappyFramed,
        Self::Lz4,
        Self::Lz4Linked,
        Self::Lz4Sized,
        Self::Zstd,
        Self::ZstdSized,
    ];

    pub(crate) fn number(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Gzip | Self::GzipTwice => 1,
            Self::Snappy | Self::SnappyFramed => 2,
            Self::Lz4 | Self::Lz4Linked | Self::Lz4Sized => 3,
            Self::Zstd | Self::ZstdSized => 4,
        }
    }

    pub(crate) fn pack(self, plain: &[u8]) -> Vec<u8> {
        match self {
            Self::None => plain.to_vec(),
            Self::Gzip => gzip(plain),
            Self::GzipTwice => {
                let (head, tail) = plain.split_at(plain.len() / 2);
                [gzip(head), gzip(tail)].concat()
            }
            Self::Snappy => snappy(plain),
            Self::SnappyFramed => {
                let mut out = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
                for block in plain.chunks(32 << 10) {
                    let block = snappy(block);
                    out.extend((block.len() as u32).to_be_bytes());
                    out.extend(block);
                }
                out
            }
            Self::Lz4 => lz4(FrameInfo::new().block_size(BlockSize::Max64KB), plain),
            Self::Lz4Linked => {
                let info = FrameInfo::new()
                    .block_size(BlockSize::Max64KB)
                    .block_mode(BlockMode::Linked)
                    .block_checksums(true);
                lz4(info, plain)
            }
            Self::Lz4Sized => {
                let info = FrameInfo::new()
                    .block_size(BlockSize::Max256KB)
                    .content_size(Some(plain.len() as u64))
                    .content_checksum(true);
                lz4(info, plain)
            }
            Self::Zstd => zstd(plain, None),
            Self::ZstdSized => zstd(plain, Some(plain.len() as u64)),
        }
    }
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(6));
    encoder.write_all(plain).expect("memory takes it all");
    encoder.finish().expect("memory takes it all")
}

fn snappy(plain: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new()
        .compress_vec(plain)
        .expect("memory takes it all")
}

fn lz4(info: FrameInfo, plain: &[u8]) -> Vec<u8> {
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(plain).expect("memory takes it all");
    encoder.finish().expect("memory takes it all")
}

fn zstd(plain: &[u8], size: Option<u64>) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).expect("memory takes it all");
    encoder
        .set_pledged_src_size(size)
        .expect("memory takes it all");
    encoder
        .include_contentsize(size.is_some())
        .expect("memory takes it all");
    encoder.write_all(plain).expect("memory takes it all");
    encoder.finish().expect("memory takes it all")
}

/// One record of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) delta: i32,
    pub(crate) millis_delta: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Entry {
    pub(crate) fn new(delta: i32, key: &[u8], value: &[u8]) -> Self {
        Self {
            delta,
            millis_delta: i64::from(delta),
            key: Some(key.to_vec()),
            value: Some(value.to_vec()),
            headers: Vec::new(),
        }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let mut body = vec![0];
        varint(self.millis_delta, &mut body);
        varint(i64::from(self.delta), &mut body);
        sized(self.key.as_deref(), &mut body);
        sized(self.value.as_deref(), &mut body);
        varint(self.headers.len() as i64, &mut body);
        for (key, value) in &self.headers {
            sized(Some(key), &mut body);
            sized(value.as_deref(), &mut body);
        }
        varint(body.len() as i64, out);
        out.extend(body);
    }
}

fn sized(bytes: Option<&[u8]>, out: &mut Vec<u8>) {
    varint(bytes.map_or(-1, |bytes| bytes.len() as i64), out);
    out.extend(bytes.unwrap_or_default());
}

/// Zigzag, base 128.
pub(crate) fn varint(n: i64, out: &mut Vec<u8>) {
    let mut wide = ((n << 1) ^ (n >> 63)) as u64;
    loop {
        let group = (wide & 0x7f) as u8;
        wide >>= 7;
        if wide == 0 {
            return out.push(group);
        }
        out.push(group | 0x80);
    }
}

/// A batch, before it is encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BatchSpec {
    pub(crate) base: i64,
    pub(crate) last_delta: i32,
    pub(crate) packing: Packing,
    pub(crate) append_time: bool,
    pub(crate) transactional: bool,
    pub(crate) control: bool,
    pub(crate) base_millis: i64,
    pub(crate) max_millis: i64,
    pub(crate) producer_id: i64,
    pub(crate) entries: Vec<Entry>,
}

impl BatchSpec {
    /// A plain batch that holds the entries and ends with the last of them.
    pub(crate) fn new(base: i64, packing: Packing, entries: Vec<Entry>) -> Self {
        Self {
            base,
            last_delta: entries.last().map_or(0, |entry| entry.delta),
            packing,
            append_time: false,
            transactional: false,
            control: false,
            base_millis: 1_000,
            max_millis: 9_999,
            producer_id: -1,
            entries,
        }
    }

    /// The marker that ends a transaction.
    pub(crate) fn marker(base: i64, producer_id: i64, abort: bool) -> Self {
        let key = [0, 0, 0, if abort { 0 } else { 1 }];
        Self {
            control: true,
            transactional: true,
            producer_id,
            ..Self::new(
                base,
                Packing::None,
                vec![Entry::new(0, &key, b"\0\0\0\0\0\0")],
            )
        }
    }

    /// This batch, in a transaction of the producer.
    pub(crate) fn of_producer(self, producer_id: i64) -> Self {
        Self {
            transactional: true,
            producer_id,
            ..self
        }
    }

    /// One past the batch's last offset.
    pub(crate) fn end(&self) -> i64 {
        self.base + i64::from(self.last_delta) + 1
    }

    pub(crate) fn plain(&self) -> Vec<u8> {
        let mut plain = Vec::new();
        for entry in &self.entries {
            entry.encode(&mut plain);
        }
        plain
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        self.encode_payload(&self.packing.pack(&self.plain()))
    }

    /// The batch with these bytes where its packed records would be.
    pub(crate) fn encode_payload(&self, payload: &[u8]) -> Vec<u8> {
        let attributes = self.packing.number()
            | i16::from(self.append_time) << 3
            | i16::from(self.transactional) << 4
            | i16::from(self.control) << 5;
        let mut out = Vec::new();
        out.extend(self.base.to_be_bytes());
        out.extend((49 + payload.len() as i32).to_be_bytes());
        out.extend(7_i32.to_be_bytes()); // leader epoch
        out.push(2);
        out.extend([0; 4]);
        out.extend(attributes.to_be_bytes());
        out.extend(self.last_delta.to_be_bytes());
        out.extend(self.base_millis.to_be_bytes());
        out.extend(self.max_millis.to_be_bytes());
        out.extend(self.producer_id.to_be_bytes());
        out.extend(0_i16.to_be_bytes()); // producer epoch
        out.extend(0_i32.to_be_bytes()); // sequence
        out.extend((self.entries.len() as i32).to_be_bytes());
        out.extend(payload);
        seal(&mut out);
        out
    }
}

/// Makes the CRC of a batch fit its bytes.
pub(crate) fn seal(batch: &mut [u8]) {
    if let Some((head, covered)) = batch.split_at_mut_checked(CRC_AT + 4) {
        head[CRC_AT..].copy_from_slice(&crc32c(covered).to_be_bytes());
    }
}

/// CRC-32C, a byte at a time.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        CRC_TABLE[usize::from(crc as u8 ^ byte)] ^ (crc >> 8)
    })
}

const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = index as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 0 {
                crc >> 1
            } else {
                (crc >> 1) ^ 0x82f6_3b78
            };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
};
