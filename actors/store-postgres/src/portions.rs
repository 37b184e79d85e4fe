//! A leaf in portions of pages, for a reader that keeps to a rate.
//!
//! A server that is asked for a whole leaf works ahead of a slow reader until the buffers between
//! the two are full, which takes megabytes, and stands still until there is room for a good part of
//! them again. On average that is the reader's rate, and for those who want the processors
//! meanwhile it is a burst after another. So a reader with a rate asks for no more than it may take soon:
//!
//! ```text
//! pages    0        16          29        42 ...      last
//!          [16      [13         [13                   [      to the end, whatever came since
//! rows      1,270    1,003       998
//!          <-------> a hundredth of the rate, by the rows of the pages so far
//! ```
//! All portions are read in one snapshot. A row that it shows lies in one place as long as the
//! snapshot lasts, in a page that was there when it began, so that each is met once.

use std::time::Duration;

/// The time in whose rows a portion is measured.
pub(crate) const PORTION: Duration = Duration::from_millis(10);

/// Pages of the first portion, as long as nobody knows how many rows a page has.
const FIRST: u64 = 16;

/// Pages that are asked for at most: dead rows are read as well, and are not in the rate.
const MOST: u64 = 128;

/// The pages of a leaf that one statement reads: all, or `[from, to)`, without `to` to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pages {
    from: u64,
    to: Option<u64>,
}

impl Pages {
    /// What a statement's condition says behind others.
    pub(crate) fn condition(self) -> String {
        let mut condition = String::new();
        if self.from > 0 {
            condition = format!(" and ctid >= '({},0)'", self.from);
        }
        if let Some(to) = self.to {
            condition.push_str(&format!(" and ctid < '({to},0)'"));
        }
        condition
    }
}

/// Cuts a leaf into portions.
#[derive(Debug)]
pub(crate) struct Portions {
    /// Rows of a portion; `None` is one portion of all.
    rows: Option<u64>,
    /// Pages that there are.
    pages: u64,
    /// The first page that was not asked for; `None` when all were.
    next: Option<u64>,
}

impl Portions {
    /// Portions of a leaf of `pages` for a reader of `rate` rows a second; `None` is one portion.
    pub(crate) fn new(rate: Option<u64>, pages: u64) -> Self {
        let each = |rate: u64| (rate as f64 * PORTION.as_secs_f64()).ceil() as u64;
        Self {
            rows: rate.filter(|rate| *rate > 0).map(each),
            pages,
            next: Some(0),
        }
    }

    /// The next pages, when those so far had `read` rows; `None` behind the last.
    pub(crate) fn next(&mut self, read: u64) -> Option<Pages> {
        let from = self.next?;
        let to = self.rows.map(|rows| {
            let pages = match read {
                0 => FIRST,
                read => (u128::from(rows) * u128::from(from) / u128::from(read)) as u64,
            };
            from + pages.clamp(1, MOST)
        });
        let to = to.filter(|to| *to < self.pages);
        self.next = to;
        Some(Pages { from, to })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Asks for everything of a leaf with these rows in each page.
    fn asked(rate: Option<u64>, rows: &[u64]) -> Vec<Pages> {
        let pages = rows.len() as u64;
        let (mut portions, mut read, mut asked) = (Portions::new(rate, pages), 0, Vec::new());
        while let Some(portion) = portions.next(read) {
            let to = portion.to.unwrap_or(pages);
            let range = portion.from as usize..to as usize;
            read += rows[range].iter().sum::<u64>();
            asked.push(portion);
        }
        asked
    }

    #[test]
    fn without_a_rate_all_is_asked_for_at_once() {
        let all = asked(None, &[80; 1_000]);
        assert_eq!(all, [Pages { from: 0, to: None }]);
        assert_eq!(all[0].condition(), "");
    }

    #[test]
    fn a_portion_has_a_hundredth_of_the_rate() {
        let asked = asked(Some(100_000), &[50; 65]);
        let conditions: Vec<_> = asked.iter().map(|pages| pages.condition()).collect();
        assert_eq!(
            conditions,
            [
                " and ctid < '(16,0)'",
                " and ctid >= '(16,0)' and ctid < '(36,0)'",
                " and ctid >= '(36,0)' and ctid < '(56,0)'",
                " and ctid >= '(56,0)'",
            ]
        );
    }

    #[test]
    fn an_empty_leaf_is_asked_for_once() {
        assert_eq!(asked(Some(1), &[]), [Pages { from: 0, to: None }]);
    }

    proptest! {
        /// Whatever lies in the pages: one portion begins where the last ended, the first at the first page, and the last has no end.
        #[test]
        fn every_page_is_asked_for_once(
            rate in proptest::option::of(0_u64..10_000_000),
            rows in proptest::collection::vec(0_u64..300, 0..400),
        ) {
            let asked = asked(rate, &rows);
            prop_assert_eq!(asked[0].from, 0);
            for pair in asked.windows(2) {
                prop_assert_eq!(pair[0].to, Some(pair[1].from));
                prop_assert!(pair[1].from > pair[0].from && pair[1].from - pair[0].from <= MOST);
            }
            prop_assert_eq!(asked[asked.len() - 1].to, None);
        }
    }
}
