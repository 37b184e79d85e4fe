//! One damaged byte never makes another record.

use crate::encode::BatchSpec;
use crate::encode::CRC_AT;
use crate::encode::Entry;
use crate::encode::Packing;
use crate::reading::ROOMY;
use crate::reading::accepted;
use crate::reading::drain;
use crate::reading::meaning;
use crate::reading::usual;

fn small(base: i64, packing: Packing) -> BatchSpec {
    let mut batch = usual(base, packing, 6);
    batch.entries.push(Entry::new(9, b"", b"last"));
    batch.last_delta = 9;
    batch
}

#[test]
fn every_damaged_byte_of_every_codec_is_noticed() {
    for packing in Packing::ALL {
        let batches = [small(0, packing), small(10, packing), small(20, packing)];
        let expected: Vec<_> = batches.iter().flat_map(meaning).collect();
        let encoded: Vec<_> = batches.iter().map(BatchSpec::encode).collect();
        let damaged_at = encoded[0].len();
        for at in 0..encoded[1].len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut answer = encoded.concat();
                answer[damaged_at + at] ^= flip;
                let outcome = drain(&mut accepted(0, answer), ROOMY);
                // What is delivered is what was written, as far as it goes.
                let delivered = outcome.records.len();
                assert_eq!(outcome.records, expected[..delivered], "byte {at} ^ {flip}");
                match at {
                    // The leader's epoch is not of the records.
                    12..=15 => assert_eq!((delivered, &outcome.error), (21, &None)),
                    CRC_AT.. => assert_eq!(delivered, 7, "byte {at} ^ {flip}"),
                    // A length may seem to be cut by the answer's end; what is
                    // out of order is noticed one batch before.
                    _ => assert!(delivered <= 7, "byte {at} ^ {flip}"),
                }
                let noticed = outcome.error.is_some() || (8..16).contains(&at);
                assert!(noticed, "byte {at} ^ {flip}: {outcome:?}");
            }
        }
    }
}

#[test]
fn a_damaged_base_offset_at_the_end_of_an_answer_changes_no_content() {
    // Nothing behind it contradicts a base offset further on: that is how a
    // compaction hole looks. What the records hold is covered all the same.
    let batch = small(100, Packing::Zstd);
    for at in 0..8 {
        for bit in 0..8 {
            let mut bytes = batch.encode();
            bytes[at] ^= 1 << bit;
            let outcome = drain(&mut accepted(100, bytes), ROOMY);
            let content = |records: Vec<crate::reading::Delivered>| {
                records
                    .into_iter()
                    .map(|(_, millis, key, value)| (millis, key, value))
                    .collect::<Vec<_>>()
            };
            let delivered = content(outcome.records);
            let expected = content(meaning(&batch));
            assert!(expected.ends_with(&delivered), "byte {at}, bit {bit}");
        }
    }
}
