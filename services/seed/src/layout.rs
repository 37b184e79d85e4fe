//! Which aggregates live in which partition, and how many events each
//! partition gets.

use crate::params::{InvalidParams, SeedParams};
use crate::random::{Permutation, Source};
use crate::zipf;

/// Kafka's murmur2, as its Java client computes it over a record key.
pub fn murmur2(key: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    const SEED: u32 = 0x9747_b28c;
    let mut hash = SEED ^ key.len() as u32;
    let (words, tail) = key.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        for (index, &byte) in tail.iter().enumerate() {
            hash ^= u32::from(byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ hash >> 15
}

/// The partition that Java's default partitioner chooses for a key.
pub fn partition_of_key(key: &[u8], partitions: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff) % partitions
}

/// The record key of an aggregate: its id in decimal digits.
pub fn key_of(id: i64) -> String {
    id.to_string()
}

/// The same without an allocation: digits of `id` at the end of `space`.
#[inline]
pub(crate) fn key_digits(id: u32, space: &mut [u8; 10]) -> &[u8] {
    let mut start = space.len();
    let mut rest = id;
    loop {
        start -= 1;
        space[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            return &space[start..];
        }
    }
}

/// Aggregates and events by partition. About four bytes an aggregate.
#[derive(Debug)]
pub struct Layout {
    params: SeedParams,
    popularity: Permutation,
    /// All ids, those of a partition side by side and ascending.
    ids: Vec<u32>,
    /// Where the ids of each partition begin; one more entry than partitions.
    starts: Vec<usize>,
    /// Sum of the Zipf weights of each partition's ids.
    weights: Vec<f64>,
    /// Zipf-drawn events of each partition, creation events not counted.
    drawn: Vec<u64>,
}

impl Layout {
    /// Lays out a log: about 60 ns an aggregate.
    ///
    /// # Errors
    /// [`InvalidParams`] when the parameters describe no log.
    pub fn new(params: &SeedParams) -> Result<Self, InvalidParams> {
        params.validate()?;
        let popularity = Permutation::new(source(params).derive(POPULARITY), params.aggregates);
        let (ids, starts) = group_by_partition(params);
        let weights: Vec<f64> = starts
            .windows(2)
            .map(|range| {
                ids[range[0]..range[1]]
                    .iter()
                    .map(|&id| weight_of(&popularity, params, id))
                    .sum()
            })
            .collect();
        let drawn = largest_remainders(&weights, params.events - params.aggregates);
        Ok(Self {
            params: params.clone(),
            popularity,
            ids,
            starts,
            weights,
            drawn,
        })
    }

    /// The parameters that were laid out.
    pub fn params(&self) -> &SeedParams {
        &self.params
    }

    /// Ids of the aggregates of `partition`, ascending.
    pub fn ids(&self, partition: u32) -> &[u32] {
        let at = partition as usize;
        &self.ids[self.starts[at]..self.starts[at + 1]]
    }

    /// Events of `partition` in the seeded part of the log: its end offset
    /// before any tail.
    pub fn events(&self, partition: u32) -> u64 {
        self.drawn(partition) + self.ids(partition).len() as u64
    }

    /// End offsets of all partitions before any tail.
    pub fn end_offsets(&self) -> Vec<u64> {
        (0..self.params.partitions)
            .map(|partition| self.events(partition))
            .collect()
    }

    /// The share of Zipf-drawn events that goes to `partition`, 0 to 1.
    pub fn share(&self, partition: u32) -> f64 {
        self.weights[partition as usize] / self.weights.iter().sum::<f64>()
    }

    /// The partition of an aggregate, or `None` if there is no such id.
    pub fn partition_of(&self, id: i64) -> Option<u32> {
        let id = u32::try_from(id).ok()?;
        if id == 0 || u64::from(id) > self.params.aggregates {
            return None;
        }
        let mut space = [0; 10];
        Some(partition_of_key(
            key_digits(id, &mut space),
            self.params.partitions,
        ))
    }

    /// Partitions with the most events first: the order in which work on them
    /// should start.
    pub fn largest_first(&self) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.params.partitions).collect();
        order.sort_by_key(|&partition| std::cmp::Reverse(self.events(partition)));
        order
    }

    pub(crate) fn drawn(&self, partition: u32) -> u64 {
        self.drawn[partition as usize]
    }

    pub(crate) fn weights_of_ids(&self, partition: u32) -> Vec<f64> {
        self.ids(partition)
            .iter()
            .map(|&id| weight_of(&self.popularity, &self.params, id))
            .collect()
    }
}

const POPULARITY: u64 = 1;

pub(crate) fn source(params: &SeedParams) -> Source {
    Source::new(params.seed)
}

fn weight_of(popularity: &Permutation, params: &SeedParams, id: u32) -> f64 {
    let rank = popularity.of(u64::from(id) - 1) + 1;
    zipf::weight(rank, params.zipf)
}

/// A counting sort of `1..=aggregates` by partition.
fn group_by_partition(params: &SeedParams) -> (Vec<u32>, Vec<usize>) {
    let mut space = [0; 10];
    let partitions: Vec<u16> = (1..=params.aggregates as u32)
        .map(|id| partition_of_key(key_digits(id, &mut space), params.partitions) as u16)
        .collect();
    let mut starts = vec![0_usize; params.partitions as usize + 1];
    for &partition in &partitions {
        starts[usize::from(partition) + 1] += 1;
    }
    for at in 1..starts.len() {
        starts[at] += starts[at - 1];
    }
    let mut next = starts.clone();
    let mut ids = vec![0_u32; partitions.len()];
    for (index, &partition) in partitions.iter().enumerate() {
        let slot = &mut next[usize::from(partition)];
        ids[*slot] = index as u32 + 1;
        *slot += 1;
    }
    (ids, starts)
}

/// Splits `total` in proportion to `weights`, exactly: every share is rounded
/// down, and what is left goes to the largest remainders.
fn largest_remainders(weights: &[f64], total: u64) -> Vec<u64> {
    let sum: f64 = weights.iter().sum();
    let quotas: Vec<f64> = weights
        .iter()
        .map(|weight| weight / sum * total as f64)
        .collect();
    let mut shares: Vec<u64> = quotas.iter().map(|quota| *quota as u64).collect();
    let mut order: Vec<usize> = (0..weights.len()).filter(|&at| weights[at] > 0.0).collect();
    order.sort_by(|&a, &b| {
        let remainder = |at: usize| quotas[at] - shares[at] as f64;
        remainder(b).total_cmp(&remainder(a)).then(a.cmp(&b))
    });
    let given: u64 = shares.iter().sum();
    // Rounding may have given one too many for astronomic totals.
    let mut left = total.saturating_sub(given);
    for &at in order.iter().cycle() {
        if left == 0 {
            break;
        }
        shares[at] += 1;
        left -= 1;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn murmur2_gives_the_values_of_the_java_client() {
        // From the client's own unit tests, as signed 32-bit numbers there.
        for (key, hash) in [
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
            assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key}");
        }
    }

    #[test]
    fn every_aggregate_is_in_the_partition_of_its_key() {
        let params = SeedParams {
            events: 5_000,
            aggregates: 1_234,
            partitions: 7,
            ..SeedParams::default()
        };
        let layout = Layout::new(&params).expect("a log");
        let mut seen = 0;
        for partition in 0..7 {
            let ids = layout.ids(partition);
            assert!(ids.is_sorted());
            seen += ids.len();
            for &id in ids {
                let key = key_of(i64::from(id));
                assert_eq!(partition_of_key(key.as_bytes(), 7), partition);
                assert_eq!(layout.partition_of(i64::from(id)), Some(partition));
            }
        }
        assert_eq!(seen, 1_234);
        assert_eq!(layout.partition_of(0), None);
        assert_eq!(layout.partition_of(-5), None);
        assert_eq!(layout.partition_of(1_235), None);
        assert_eq!(layout.end_offsets().iter().sum::<u64>(), 5_000);
    }

    #[test]
    fn shares_add_up_to_the_total_and_follow_the_weights() {
        assert_eq!(largest_remainders(&[1.0, 1.0, 1.0], 10), [4, 3, 3]);
        assert_eq!(largest_remainders(&[3.0, 0.0, 1.0], 5), [4, 0, 1]);
        assert_eq!(largest_remainders(&[0.5], 0), [0]);
    }

    #[test]
    fn a_partition_without_aggregates_gets_no_events() {
        let params = SeedParams {
            events: 50,
            aggregates: 3,
            partitions: 64,
            ..SeedParams::default()
        };
        let layout = Layout::new(&params).expect("a log");
        for partition in 0..64 {
            assert_eq!(
                layout.ids(partition).is_empty(),
                layout.events(partition) == 0
            );
        }
        assert_eq!(layout.end_offsets().iter().sum::<u64>(), 50);
    }
}
