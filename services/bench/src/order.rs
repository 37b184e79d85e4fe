//! The order of runs.

/// One run of one setting, both counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Turn {
    /// Index of the setting.
    pub setting: usize,
    /// Which of its runs.
    pub run: usize,
}

/// All runs of all settings: `runs` rounds, each of which holds every setting once in an
/// order of its own that `seed` decides.
///
/// Rounds rather than one shuffle of everything: a machine that grows slower or faster while
/// it is measured then does so for all settings alike, and a sweep that is stopped early has
/// about as many runs of each setting.
pub fn rounds(settings: usize, runs: usize, seed: u64) -> Vec<Turn> {
    let mut random = seed;
    let mut turns = Vec::with_capacity(settings * runs);
    for run in 0..runs {
        let mut round: Vec<usize> = (0..settings).collect();
        for last in (1..round.len()).rev() {
            let drawn = next(&mut random) % (last as u64 + 1);
            round.swap(last, drawn as usize);
        }
        turns.extend(round.into_iter().map(|setting| Turn { setting, run }));
    }
    turns
}

/// SplitMix64 (Steele, Lea, Flood 2014).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_round_holds_every_setting_once() {
        let turns = rounds(7, 5, 42);
        assert_eq!(turns.len(), 35);
        for (run, round) in turns.chunks(7).enumerate() {
            let mut settings: Vec<_> = round.iter().map(|turn| turn.setting).collect();
            settings.sort_unstable();
            assert_eq!(settings, (0..7).collect::<Vec<_>>());
            assert!(round.iter().all(|turn| turn.run == run));
        }
    }

    #[test]
    fn the_seed_decides_the_order() {
        assert_eq!(rounds(6, 3, 1), rounds(6, 3, 1));
        assert_ne!(rounds(6, 3, 1), rounds(6, 3, 2));
        let turns = rounds(6, 2, 1);
        let settings = |round: &[Turn]| round.iter().map(|t| t.setting).collect::<Vec<_>>();
        assert_ne!(settings(&turns[..6]), settings(&turns[6..]));
    }
}
