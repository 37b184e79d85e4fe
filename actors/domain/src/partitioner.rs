//! Which partition a key lives in.

use crate::position::Partition;

/// MurmurHash2, 32 bits, with the seed that Kafka's Java client uses
/// (`org.apache.kafka.common.utils.Utils.murmur2`), so that readers find a key
/// where producers with the default Java or the `murmur2` librdkafka
/// partitioner put it.
pub fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;
    let mut h = SEED ^ data.len() as u32;
    let (words, tail) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        for (i, byte) in tail.iter().enumerate() {
            h ^= u32::from(*byte) << (8 * i);
        }
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^ (h >> 15)
}

/// The partition of a record key among `partitions` (at least 1).
pub fn partition_of(key: &[u8], partitions: i32) -> Partition {
    let positive = murmur2(key) & 0x7fff_ffff;
    Partition((positive % partitions.max(1) as u32) as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_the_java_client_hold() {
        // From the test of Utils.murmur2 in Apache Kafka.
        for (text, hash) in [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            (
                "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(text.as_bytes()) as i32, hash, "{text}");
        }
    }

    #[test]
    fn a_key_is_in_the_partition_of_its_hash_without_the_sign() {
        // `Utils.toPositive(Utils.murmur2(key)) % partitions` of the Java client, of the hashes
        // above: the sign bit is cut off, no absolute value is taken.
        for (key, partitions, partition) in [
            ("21", 7, 3),
            ("foobar", 12, 6),
            ("foobar", 10, 6),
            ("abc", 12, 3),
            ("abc", 1, 0),
            ("abc", 0, 0),
        ] {
            let found = partition_of(key.as_bytes(), partitions);
            assert_eq!(found, Partition(partition), "{key} of {partitions}");
        }
    }
}
