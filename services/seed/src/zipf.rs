//! Zipf weights and drawing by weight in constant time.
//!
//! The log must be the same on every machine, and `powf` is not: it is the
//! platform's, and its last digit differs. Weights are computed here with
//! additions, multiplications and divisions only, whose results IEEE 754 fixes.

/// `rank^-exponent` for `rank >= 1`.
pub(crate) fn weight(rank: u64, exponent: f64) -> f64 {
    exp(-exponent * ln(rank as f64))
}

const LN_2: f64 = std::f64::consts::LN_2;

/// Natural logarithm of a number of at least 1.
fn ln(value: f64) -> f64 {
    let bits = value.to_bits();
    let mut exponent = ((bits >> 52) & 0x7ff) as i64 - 1023;
    let mut mantissa = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa *= 0.5;
        exponent += 1;
    }
    // ln(m) = 2 artanh(t), |t| <= 0.172, so the 11th term is below 1e-17.
    let t = (mantissa - 1.0) / (mantissa + 1.0);
    let square = t * t;
    let mut sum = 0.0;
    for term in (0..11).rev() {
        sum = sum * square + 1.0 / (2 * term + 1) as f64;
    }
    2.0 * t * sum + exponent as f64 * LN_2
}

/// `e^value` for a value between -700 and 0.
fn exp(value: f64) -> f64 {
    let halvings = (value / LN_2).floor();
    let rest = value - halvings * LN_2;
    let mut sum = 1.0;
    for term in (1..20).rev() {
        sum = 1.0 + sum * rest / f64::from(term);
    }
    // 2^halvings, built from its bits.
    sum * f64::from_bits(((1023 + halvings as i64) as u64) << 52)
}

/// One column of the alias method: keep the column's own index below the
/// threshold, take the other one from there on.
#[derive(Debug, Clone, Copy)]
struct Column {
    threshold: u32,
    other: u32,
}

/// Draws an index with a probability proportional to its weight: one random
/// number and one look-up, whatever the number of weights.
#[derive(Debug)]
pub(crate) struct AliasTable {
    columns: Vec<Column>,
}

impl AliasTable {
    /// A table over `weights`, which must be positive and fewer than 2^32.
    pub(crate) fn new(mut weights: Vec<f64>) -> Self {
        let len = weights.len();
        let total: f64 = weights.iter().sum();
        let scale = len as f64 / total;
        for weight in &mut weights {
            *weight *= scale;
        }
        let mut columns: Vec<Column> = (0..len)
            .map(|index| Column {
                threshold: u32::MAX,
                other: index as u32,
            })
            .collect();
        let (mut small, mut large): (Vec<u32>, Vec<u32>) =
            (0..len as u32).partition(|&index| weights[index as usize] < 1.0);
        while let (Some(&low), Some(&high)) = (small.last(), large.last()) {
            small.pop();
            let own = weights[low as usize];
            columns[low as usize] = Column {
                threshold: (own * 4_294_967_296.0) as u32,
                other: high,
            };
            weights[high as usize] -= 1.0 - own;
            if weights[high as usize] < 1.0 {
                large.pop();
                small.push(high);
            }
        }
        Self { columns }
    }

    /// The index that `random` falls on.
    #[inline]
    pub(crate) fn draw(&self, random: u64) -> u32 {
        let index = ((random >> 32) * self.columns.len() as u64) >> 32;
        let column = self.columns[index as usize];
        if (random as u32) < column.threshold {
            index as u32
        } else {
            column.other
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Source;

    #[test]
    fn weights_are_powers_to_twelve_digits() {
        for exponent in [0.0, 0.5, 1.0, 1.1, 2.0] {
            for rank in (1..2000).chain([1_000_003, 99_999_999, 4_000_000_000]) {
                let exact = (rank as f64).powf(-exponent);
                let ours = weight(rank, exponent);
                assert!((ours / exact - 1.0).abs() < 1e-12, "{rank}^-{exponent}");
            }
        }
    }

    #[test]
    fn drawn_shares_follow_the_weights() {
        let weights: Vec<f64> = (1..=1000).map(|rank| weight(rank, 1.1)).collect();
        let total: f64 = weights.iter().sum();
        let table = AliasTable::new(weights.clone());
        let source = Source::new(7);
        let draws = 4_000_000;
        let mut counts = vec![0_u32; weights.len()];
        for n in 0..draws {
            counts[table.draw(source.at(n)) as usize] += 1;
        }
        for (index, (&count, weight)) in counts.iter().zip(&weights).enumerate() {
            let expected = weight / total * draws as f64;
            let deviation = (f64::from(count) - expected).abs() / expected.sqrt();
            assert!(deviation < 5.0, "index {index}: {count} of {expected}");
        }
    }
}
