//! Whether nothing but members of text follows in an object: the part of an event that a fold has
//! no use for, and which has to be well-formed all the same.
//!
//! Sixty-four bytes are judged together and without a branch on what they hold: in text like
//! this the places of the quotes are what no processor guesses.

use crate::marks::{Marks, WIDTH, Work, with_widest};

/// Longest name that is looked for: it has to fit into a block with its quotes.
const LONGEST_NAME: usize = WIDTH - 2;

/// Whether `bytes` is, from `from` on, `,"name":"text"` any number of times and a last `}`, with
/// nothing in a string that needs or is an escape, and with no member that is called `name`.
///
/// `None` when that is not for this function to say: for fewer than [`WIDTH`] bytes.
#[inline]
pub(crate) fn follows(bytes: &[u8], from: usize, name: &str) -> Option<bool> {
    if bytes.len() < WIDTH || from >= bytes.len() || name.len() > LONGEST_NAME {
        return None;
    }
    Some(with_widest(Members { bytes, from, name }))
}

#[derive(Clone)]
struct Members<'a> {
    bytes: &'a [u8],
    from: usize,
    name: &'a str,
}

/// What one block leaves to the next, each in the lowest bit or in all of them.
#[derive(Default)]
struct Carry {
    /// Ones everywhere inside a string.
    inside: u64,
    /// Ones everywhere when a colon comes next.
    colon: u64,
    /// The last byte stood outside of the strings.
    outside: u64,
    /// The last byte was a comma.
    comma: u64,
    /// The quotes that open names.
    names: u64,
}

impl Work for Members<'_> {
    type Outcome = bool;

    #[inline(always)]
    fn work(self, marks: impl Fn(&[u8; WIDTH]) -> Marks, parities: impl Fn(u64) -> u64) -> bool {
        let Self { bytes, from, name } = self;
        let Some((b'}', body)) = bytes.split_last() else {
            return false;
        };
        let mut carry = Carry::default();
        let (mut wrong, mut at) = (0, from);
        while at < body.len() {
            let Some(seen) = marks_from(bytes, at, &marks) else {
                return false;
            };
            let left = body.len() - at;
            let valid = match left {
                0..WIDTH => (1 << left) - 1,
                _ => u64::MAX,
            };
            let found = carry.judge(seen.within(valid), valid, &parities, name.len() + 2);
            wrong |= found.wrong;
            if found.named != 0 && is_named(body, at, found.named, name) {
                return false;
            }
            // Beyond the valid bytes nothing is carried: there is no next block.
            at += WIDTH;
        }
        // Behind the last one a string is closed, no value is due, and no comma stands.
        wrong | carry.inside | carry.colon | carry.outside == 0
    }
}

/// The marks from `at` on, of a whole block or of what is left.
#[inline(always)]
fn marks_from(bytes: &[u8], at: usize, marks: &impl Fn(&[u8; WIDTH]) -> Marks) -> Option<Marks> {
    if let Some(block) = bytes.get(at..)?.first_chunk() {
        return Some(marks(block));
    }
    let left = bytes.len() - at;
    Some(marks(bytes.last_chunk()?).behind(WIDTH - left))
}

/// What a block shows.
struct Found {
    /// Not zero when it is no part of such members.
    wrong: u64,
    /// The quotes that close names of the length that was asked for.
    named: u64,
}

impl Carry {
    /// Judges the next block, of which the bytes in `valid` count. `span` is the length of a name
    /// with both its quotes.
    #[inline(always)]
    fn judge(
        &mut self,
        marks: Marks,
        valid: u64,
        parities: &impl Fn(u64) -> u64,
        span: usize,
    ) -> Found {
        // Set from a quote that opens up to the byte in front of the one that closes.
        let inside = parities(marks.quotes) ^ self.inside;
        let (opening, closing) = (marks.quotes & inside, marks.quotes & !inside);
        let outside = !inside & !marks.quotes & valid;
        // Outside stand single bytes, a comma and a colon in turns.
        let turns = parities(outside) ^ self.colon;
        let (commas, colons) = (outside & turns, outside & !turns);
        let after_outside = outside << 1 | self.outside;
        let wrong = marks.breaks
            | (marks.commas & outside ^ commas)
            | (marks.colons & outside ^ colons)
            | outside & after_outside
            | opening & !after_outside;
        let names = opening & (commas << 1 | self.comma);
        // A span of 2 to 64 bytes: its last one is `span - 1` behind its first.
        let named = closing & (names << (span - 1) | self.names >> (WIDTH + 1 - span));
        *self = Self {
            inside: ones(inside),
            colon: ones(turns),
            outside: outside >> 63,
            comma: commas >> 63,
            names,
        };
        if valid != u64::MAX {
            self.end_at(valid.count_ones(), inside, turns, outside);
        }
        Found { wrong, named }
    }

    /// Carries what holds behind the last valid byte, of a block that is not whole.
    #[inline(always)]
    fn end_at(&mut self, count: u32, inside: u64, turns: u64, outside: u64) {
        let last = |bits: u64| bits << (64 - count) >> 63;
        self.inside = last(inside);
        self.colon = last(turns);
        self.outside = last(outside);
    }
}

/// Ones everywhere when the highest bit is set.
#[inline(always)]
fn ones(bits: u64) -> u64 {
    ((bits as i64) >> 63) as u64
}

/// Whether one of the quotes that close a name of this length closes this name.
#[cold]
fn is_named(bytes: &[u8], block: usize, mut closing: u64, name: &str) -> bool {
    while closing != 0 {
        let end = block + closing.trailing_zeros() as usize;
        let start = end.saturating_sub(name.len());
        if bytes.get(start..end) == Some(name.as_bytes()) {
            return true;
        }
        closing &= closing - 1;
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::{Index, select};

    use super::*;
    use crate::json_scan::Scan;
    use crate::marks::with_each;

    /// All ways there are, against the reader that goes from member to member.
    fn agree(text: &str, from: usize, name: &str) -> Result<bool, TestCaseError> {
        let mut scan = Scan::behind(text, from);
        let expected = scan.only_text_follows_one_by_one(name).is_some();
        let bytes = text.as_bytes();
        for (way, seen) in with_each(&Members { bytes, from, name }).iter().enumerate() {
            prop_assert_eq!(*seen, expected, "way {} of {:?} from {}", way, text, from);
        }
        prop_assert_eq!(follows(bytes, from, name), Some(expected));
        Ok(expected)
    }

    const PIECES: [&str; 18] = [
        "\"",
        "\\",
        ",",
        ":",
        "}",
        "{",
        "\",\"",
        "\":\"",
        "\"}",
        "\"\"",
        "1",
        " ",
        "\n",
        "\u{7f}",
        "é",
        ",\"cents\":\"5\"",
        ",\"cents\":5",
        ",\"x\":\"cents\"",
    ];

    fn member() -> impl Strategy<Value = String> {
        let name = prop_oneof![
            4 => select(&["", "a", "note", "cents", "cent", "channel", "counterparty_iban"][..])
                .prop_map(str::to_owned),
            1 => "[a-z,:} ]{0,70}",
        ];
        let value = prop_oneof![4 => "[ -!#-\\[\\]-~é]{0,90}", 1 => Just("cents".to_owned())];
        (name, value).prop_map(|(name, value)| format!(",\"{name}\":\"{value}\""))
    }

    fn edits() -> impl Strategy<Value = Vec<(Index, &'static str, usize)>> {
        let edit = (any::<Index>(), select(&PIECES[..]), 0..3_usize);
        prop::collection::vec(edit, 0..3)
    }

    /// Puts pieces into the text behind `from`, in the place of some characters.
    fn edited(text: &str, from: usize, edits: &[(Index, &str, usize)]) -> String {
        let mut edited = text[from..].to_owned();
        for (index, piece, removed) in edits {
            let starts: Vec<usize> = edited.char_indices().map(|(at, _)| at).collect();
            let nth = index.index(starts.len() + 1);
            let place = |nth: usize| starts.get(nth).copied().unwrap_or(edited.len());
            let range = place(nth)..place(nth + removed);
            edited.replace_range(range, piece);
        }
        text[..from].to_owned() + &edited
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        #[test]
        fn members_of_text_are_told_as_one_by_one(
            before in WIDTH..WIDTH * 3,
            members in prop::collection::vec(member(), 0..6),
            edits in edits(),
        ) {
            let text = "\"".repeat(before) + &members.concat() + "}";
            let name = if before % 2 == 0 { "cents" } else { "counterparty_iban" };
            let plain = agree(&text, before, name)?;
            let named = members.iter().any(|member| member.starts_with(&format!(",\"{name}\":")));
            prop_assert_eq!(plain, !named);
            agree(&edited(&text, before, &edits), before, name)?;
        }
    }

    #[test]
    fn every_byte_in_every_place_is_told_as_one_by_one() {
        let tail =
            r#","channel":"sepa","note":"a, b: c","cent":"","device":"core-banking/7.3 and more"}"#;
        for before in [2 * WIDTH - tail.len() % WIDTH, WIDTH, WIDTH + 1] {
            let text = "7".repeat(before) + tail;
            assert!(matches!(agree(&text, before, "cents"), Ok(true)));
            for at in before..text.len() {
                for byte in 0..0x80_u8 {
                    let mut bytes = text.clone().into_bytes();
                    bytes[at] = byte;
                    let put = String::from_utf8(bytes).expect("it is ASCII");
                    agree(&put, before, "cents").expect("alike");
                    let mut longer = text.clone();
                    longer.insert(at, char::from(byte));
                    agree(&longer, before, "cents").expect("alike");
                }
                agree(&text[..=at], before, "cents").expect("alike");
            }
        }
    }

    #[test]
    fn names_are_found_wherever_they_stand_and_however_long_they_are() {
        for length in 0..=LONGEST_NAME {
            let name = "n".repeat(length);
            for before in WIDTH..2 * WIDTH {
                for member in [&name, &"m".repeat(length), &"n".repeat(length + 1)] {
                    let text = format!("{}{{,\"{member}\":\"{name}\"}}", "7".repeat(before - 1));
                    let told = agree(&text, before, &name).expect("alike");
                    assert_eq!(told, *member != name, "{text}");
                }
            }
        }
    }

    #[test]
    fn short_texts_and_long_names_are_for_somebody_else() {
        let text = "7".repeat(WIDTH - 1) + "}";
        assert_eq!(follows(text.as_bytes(), WIDTH - 1, "cents"), Some(true));
        assert_eq!(follows(&text.as_bytes()[1..], WIDTH - 2, "cents"), None);
        assert_eq!(follows(text.as_bytes(), WIDTH, "cents"), None);
        let name = "n".repeat(LONGEST_NAME + 1);
        assert_eq!(follows(text.as_bytes(), WIDTH - 1, &name), None);
    }
}
