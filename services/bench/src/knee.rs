//! Where a sweep stops paying.

/// A gain below this share of the rate is none.
const WORTH_IT: f64 = 0.10;

/// The knee of a sweep: the first size from which doubling gains less than a tenth.
///
/// `sweep` holds sizes, ascending, each with the rate that it reached. Between two sizes the
/// gain of one doubling is taken as the same for each doubling on the way (a straight line on
/// logarithmic axes), so that sweeps of any step are judged alike. `None` when every step is
/// worth it, or there are fewer than two sizes.
pub fn knee(sweep: &[(f64, f64)]) -> Option<f64> {
    sweep.windows(2).find_map(|pair| {
        let [(size, rate), (next_size, next_rate)] = [pair[0], pair[1]];
        let doublings = (next_size / size).log2();
        let gain = (next_rate / rate).powf(1.0 / doublings) - 1.0;
        (gain < WORTH_IT).then_some(size)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_knee_is_where_doubling_gains_less_than_a_tenth() {
        let sweep = [
            (1.0, 100.0),
            (100.0, 5_000.0),
            (1_000.0, 20_000.0),
            (10_000.0, 25_000.0),
        ];
        // From 1,000 to 10,000 the rate grows by a quarter over 3.3 doublings: 7 % each.
        assert_eq!(knee(&sweep), Some(1_000.0));
    }

    #[test]
    fn a_sweep_that_keeps_paying_has_no_knee() {
        assert_eq!(knee(&[(1.0, 1.0), (2.0, 1.5), (4.0, 2.0)]), None);
        assert_eq!(knee(&[(1.0, 1.0)]), None);
    }

    #[test]
    fn a_rate_that_falls_is_a_knee() {
        assert_eq!(knee(&[(1.0, 2.0), (2.0, 1.0)]), Some(1.0));
    }
}
