//! Arbitrary logs for property tests.

use std::collections::VecDeque;
use std::fmt::Debug;

use proptest::collection::vec;
use proptest::prelude::*;

/// Arbitrary logs: one history for each key, drawn from `history`, interleaved
/// in arbitrary order. Each aggregate's own events keep their order.
pub fn arb_script<K, E, H>(keys: Vec<K>, history: H) -> impl Strategy<Value = Vec<(K, E)>>
where
    K: Clone + Debug,
    E: Clone + Debug,
    H: Strategy<Value = Vec<E>>,
{
    vec(history, keys.len()).prop_flat_map(move |histories| {
        let turns: Vec<usize> = histories
            .iter()
            .enumerate()
            .flat_map(|(index, events)| std::iter::repeat_n(index, events.len()))
            .collect();
        let keys = keys.clone();
        Just(turns).prop_shuffle().prop_map(move |turns| {
            let mut left: Vec<VecDeque<E>> = histories
                .iter()
                .map(|events| events.iter().cloned().collect())
                .collect();
            turns
                .into_iter()
                .filter_map(|index| Some((keys[index].clone(), left[index].pop_front()?)))
                .collect()
        })
    })
}
