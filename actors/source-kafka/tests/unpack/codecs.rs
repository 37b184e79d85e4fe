//! Payloads that a codec has to take, and those it has to refuse.

use refold_domain::log::Chunk;
use refold_domain::position::Offset;
use refold_source_kafka::raw::unpack::Codec;
use refold_source_kafka::raw::unpack::MAX_BATCH_BYTES;
use refold_source_kafka::raw::unpack::UnpackErrorKind;

use crate::encode::BatchSpec;
use crate::encode::Packing;
use crate::reading::PARTITION;
use crate::reading::ROOMY;
use crate::reading::accepted;
use crate::reading::drain;
use crate::reading::meaning;
use crate::reading::usual;

fn assert_delivers(batch: &BatchSpec, payload: &[u8]) {
    let outcome = drain(&mut accepted(0, batch.encode_payload(payload)), ROOMY);
    assert_eq!((outcome.error, outcome.records), (None, meaning(batch)));
}

fn refusal(packing: Packing, payload: &[u8]) -> UnpackErrorKind {
    let bytes = usual(0, packing, 4).encode_payload(payload);
    let outcome = drain(&mut accepted(0, bytes), ROOMY);
    assert!(outcome.records.is_empty());
    outcome.error.expect("the payload is refused").kind
}

fn reason(packing: Packing, payload: &[u8]) -> &'static str {
    match refusal(packing, payload) {
        UnpackErrorKind::Payload { codec, reason } => {
            let number = match codec {
                Codec::None => 0,
                Codec::Gzip => 1,
                Codec::Snappy => 2,
                Codec::Lz4 => 3,
                Codec::Zstd => 4,
            };
            assert_eq!(number, packing.number());
            reason
        }
        other => panic!("{other}"),
    }
}

#[test]
fn gzip_headers_may_hold_every_optional_part() {
    let batch = usual(0, Packing::Gzip, 30);
    let bare = batch.packing.pack(&batch.plain());
    let mut full = bare[..10].to_vec();
    full[3] = 0b1_1110;
    full.extend(b"\x03\0abc"); // extra
    full.extend(b"name\0comment\0\xab\xcd");
    full.extend(&bare[10..]);
    assert_delivers(&batch, &full);
    for cut in [11, 13, 16, 20, 28] {
        assert_eq!(reason(Packing::Gzip, &full[..cut]), "it ends too early");
    }
}

#[test]
fn gzip_that_is_none_or_lies_is_refused() {
    let batch = usual(0, Packing::Gzip, 4);
    let good = batch.packing.pack(&batch.plain());
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        reason(Packing::Gzip, &bytes)
    };
    assert_eq!(with(0, 0), "it does not begin like gzip");
    assert_eq!(with(2, 7), "it does not begin like gzip");
    assert_eq!(with(10, 0xff), "its deflate stream is invalid");
    let size_at = good.len() - 4;
    assert_eq!(with(size_at, 1), "its size is not what its trailer says");
    for cut in 1..good.len() {
        assert_eq!(reason(Packing::Gzip, &good[..cut]), "it ends too early");
    }
}

#[test]
fn snappy_that_claims_or_holds_too_much_is_refused() {
    assert_eq!(
        reason(Packing::Snappy, &[0xff, 0xff, 0xff, 0x7f, 0]),
        "it claims more than it can hold"
    );
    assert_eq!(
        reason(Packing::Snappy, &[4, 0, b'x']),
        "a block of it is invalid"
    );
    assert_eq!(
        reason(Packing::Snappy, &[0xff; 20]),
        "a block of it is invalid"
    );
    let batch = usual(0, Packing::SnappyFramed, 4);
    let good = batch.packing.pack(&batch.plain());
    for cut in [9, 15, 17, 19, 30] {
        assert_eq!(
            reason(Packing::SnappyFramed, &good[..cut]),
            "it ends too early"
        );
    }
}

/// An LZ4 frame without blocks: flags, descriptor, and whatever follows.
fn frame(flags: u8, descriptor: u8, rest: &[u8]) -> Vec<u8> {
    let mut out = vec![0x04, 0x22, 0x4d, 0x18, flags, descriptor, 0];
    out.extend(rest);
    out
}

#[test]
fn lz4_frames_take_stored_blocks_of_every_size_and_each_other() {
    let batch = usual(0, Packing::Lz4, 30);
    let plain = batch.plain();
    let (head, tail) = plain.split_at(plain.len() / 3);
    let stored = |bytes: &[u8]| {
        let mut block = (bytes.len() as u32 | 1 << 31).to_le_bytes().to_vec();
        block.extend(bytes);
        block
    };
    for descriptor in [0x40, 0x50, 0x60, 0x70] {
        let blocks = [stored(head), stored(tail), vec![0; 4]].concat();
        assert_delivers(&batch, &frame(0x60, descriptor, &blocks));
    }
    let two = [Packing::Lz4Sized.pack(head), Packing::Lz4Linked.pack(tail)].concat();
    assert_delivers(&batch, &two);
}

#[test]
fn lz4_frames_that_cannot_be_are_refused() {
    let why = |bytes: &[u8]| reason(Packing::Lz4, bytes);
    assert_eq!(
        why(&[1, 2, 3, 4, 5, 6, 7]),
        "it does not begin like an LZ4 frame"
    );
    assert_eq!(
        why(&frame(0x20, 0x40, &[0; 4])),
        "its frame has an unknown version"
    );
    assert_eq!(
        why(&frame(0x61, 0x40, &[0; 8])),
        "its frame needs a dictionary"
    );
    assert_eq!(
        why(&frame(0x60, 0x30, &[0; 4])),
        "its frame has an unknown block size"
    );
    assert_eq!(why(&frame(0x60, 0x40, &[])), "it ends too early");
    assert_eq!(
        why(&frame(0x60, 0x40, &[9, 0, 0, 0, 1])),
        "it ends too early"
    );
    assert_eq!(why(&frame(0x64, 0x40, &[0; 4])), "it ends too early");
    // A match that reaches before the first byte.
    let block = [5, 0, 0, 0, 0x10, b'x', 9, 0, 0, 0, 0, 0, 0];
    assert_eq!(why(&frame(0x60, 0x40, &block)), "a block of it is invalid");
    assert_eq!(why(&frame(0x40, 0x40, &block)), "a block of it is invalid");
    // A stored block that is larger than the frame's blocks may be.
    let mut large = (65_537_u32 | 1 << 31).to_le_bytes().to_vec();
    large.resize(65_541 + 4, 0);
    assert_eq!(why(&frame(0x60, 0x40, &large)), "a block of it is invalid");
    let mut sized = usual(0, Packing::Lz4Sized, 4);
    sized.packing = Packing::Lz4Sized;
    let mut bytes = sized.packing.pack(&sized.plain());
    bytes[6] ^= 1; // The content's size begins behind flags and descriptor.
    assert_eq!(why(&bytes), "its size is not what its frame says");
}

#[test]
fn zstd_frames_may_follow_each_other_and_something_to_skip() {
    let batch = usual(0, Packing::Zstd, 300);
    let plain = batch.plain();
    let (head, tail) = plain.split_at(plain.len() / 3);
    let skipped = b"\x53\x2a\x4d\x18\x03\0\0\0abc";
    let frames = [
        &Packing::ZstdSized.pack(head)[..],
        skipped,
        &Packing::Zstd.pack(tail),
    ];
    assert_delivers(&batch, &frames.concat());
}

#[test]
fn zstd_that_is_none_is_refused() {
    let batch = usual(0, Packing::Zstd, 40);
    let good = batch.packing.pack(&batch.plain());
    let mut wrong = good.clone();
    wrong[0] ^= 1;
    assert!(!reason(Packing::Zstd, &wrong).is_empty());
    for cut in 1..good.len() {
        assert!(!reason(Packing::Zstd, &good[..cut]).is_empty());
    }
}

#[test]
fn no_damage_of_a_zstd_payload_makes_more_room_than_its_blocks_can_hold() {
    // Damaged sequences can write on behind a block's end for as long as there
    // is room: the library asks for more whatever room there is.
    let batch = usual(0, Packing::Zstd, 12);
    let good = batch.packing.pack(&batch.plain());
    let mut endless = 0;
    for at in 0..good.len() {
        for flip in 1..=u8::MAX {
            let mut payload = good.clone();
            payload[at] ^= flip;
            let mut unpacker = accepted(0, batch.encode_payload(&payload));
            let mut chunk = Chunk::new(PARTITION, Offset(0));
            let filled = unpacker.fill(&mut chunk, ROOMY);
            let capacity = chunk.buffer().capacity();
            assert!(
                capacity <= 1 << 20,
                "byte {at} ^ {flip}: room for {capacity}"
            );
            endless += usize::from(
                filled.is_err_and(|error| error.to_string().contains("larger than blocks may be")),
            );
        }
    }
    assert!(endless > 0, "no damage met the bound");
}

#[test]
fn a_ratio_that_was_never_seen_is_unpacked_all_the_same() {
    // The first payload packs far better than any guess, the last hardly at all.
    for packing in Packing::ALL {
        let mut plain = usual(0, packing, 2);
        plain.entries[1].value = Some(vec![b'z'; 3 << 20]);
        let mut noisy = usual(2, packing, 2);
        let noise = (0..200_000_u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8);
        noisy.entries[0].value = Some(noise.collect());
        let log = [plain.clone(), noisy.clone(), plain];
        for batch in &log {
            let outcome = drain(&mut accepted(batch.base, batch.encode()), ROOMY);
            assert_eq!((outcome.error, outcome.records), (None, meaning(batch)));
        }
    }
}

#[test]
fn a_bomb_is_refused_before_it_fills_the_memory() {
    // 260 MiB of zeros pack to a few kilobytes, or a megabyte.
    let zeros = vec![0; MAX_BATCH_BYTES + (4 << 20)];
    for packing in [Packing::ZstdSized, Packing::Lz4, Packing::Gzip] {
        match refusal(packing, &packing.pack(&zeros)) {
            UnpackErrorKind::TooLarge { bytes, limit } => {
                assert_eq!(limit, MAX_BATCH_BYTES);
                assert!(
                    bytes > limit && bytes <= limit + (16 << 20),
                    "{packing:?}: {bytes}"
                );
            }
            other => panic!("{packing:?}: {other}"),
        }
    }
    for packing in [Packing::Snappy, Packing::SnappyFramed] {
        let kind = refusal(packing, &packing.pack(&zeros));
        assert!(
            matches!(kind, UnpackErrorKind::TooLarge { .. }),
            "{packing:?}: {kind}"
        );
    }
}
