//! Just enough of Rust's lexical structure for the lints: what is code, what is a comment, what
//! is a literal, and which parts are tests.

use std::ops::Range;

/// What a byte of a source file belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Code,
    Comment,
    Literal,
}

/// A scanned source file.
#[derive(Debug)]
pub(crate) struct RustSource<'a> {
    text: &'a str,
    kinds: Vec<Kind>,
}

impl<'a> RustSource<'a> {
    pub(crate) fn scan(text: &'a str) -> Self {
        let mut scanner = Scanner {
            bytes: text.as_bytes(),
            kinds: vec![Kind::Code; text.len()],
            at: 0,
        };
        scanner.run();
        Self {
            text,
            kinds: scanner.kinds,
        }
    }

    /// The text with comments and literals blanked; positions stay what they were.
    pub(crate) fn code(&self) -> String {
        let bytes = self
            .text
            .bytes()
            .zip(&self.kinds)
            .map(|(byte, kind)| match kind {
                Kind::Code => byte,
                _ if byte == b'\n' => byte,
                _ => b' ',
            })
            .collect();
        // Only whole characters were replaced by ASCII, so this is valid.
        String::from_utf8(bytes).unwrap_or_default()
    }

    /// String literals with their quotes, in order.
    pub(crate) fn literals(&self) -> Vec<(usize, &'a str)> {
        let mut found = Vec::new();
        let mut at = 0;
        while at < self.kinds.len() {
            let length = self.kinds[at..]
                .iter()
                .take_while(|kind| **kind == Kind::Literal)
                .count();
            if length > 0 {
                found.push((at, &self.text[at..at + length]));
            }
            at += length.max(1);
        }
        found
    }

    /// The parts behind `#[cfg(test)]`, from the attribute to the closing brace.
    pub(crate) fn test_regions(&self) -> Vec<Range<usize>> {
        let code = self.code();
        let mut regions: Vec<Range<usize>> = Vec::new();
        for (start, _) in code.match_indices("#[cfg(test)]") {
            if regions.last().is_some_and(|last| last.contains(&start)) {
                continue;
            }
            regions.push(start..item_end(&code, start));
        }
        regions
    }
}

/// Where the item that starts at `start` ends: its closing brace, or its semicolon.
fn item_end(code: &str, start: usize) -> usize {
    let mut depth = 0_usize;
    for (offset, byte) in code.as_bytes()[start..].iter().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 1 => return start + offset + 1,
            b'}' => depth = depth.saturating_sub(1),
            b';' if depth == 0 => return start + offset + 1,
            _ => {}
        }
    }
    code.len()
}

struct Scanner<'a> {
    bytes: &'a [u8],
    kinds: Vec<Kind>,
    at: usize,
}

impl Scanner<'_> {
    fn run(&mut self) {
        while self.at < self.bytes.len() {
            let rest = &self.bytes[self.at..];
            match rest {
                [b'/', b'/', ..] => {
                    let length = rest.iter().take_while(|b| **b != b'\n').count();
                    self.mark(length, Kind::Comment);
                }
                [b'/', b'*', ..] => self.mark(block_comment(rest), Kind::Comment),
                [b'"', ..] => self.mark(string(rest), Kind::Literal),
                [b'r', b'"' | b'#', ..] if !self.in_word() => match raw_string(rest) {
                    Some(length) => self.mark(length, Kind::Literal),
                    None => self.at += 1,
                },
                [b'\'', ..] => match character(rest) {
                    Some(length) => self.mark(length, Kind::Literal),
                    None => self.at += 1,
                },
                _ => self.at += 1,
            }
        }
    }

    fn mark(&mut self, length: usize, kind: Kind) {
        let end = (self.at + length).min(self.kinds.len());
        self.kinds[self.at..end].fill(kind);
        self.at = end;
    }

    /// Whether the byte before is part of an identifier other than a literal's `b` or `c`.
    fn in_word(&self) -> bool {
        let is_word = |at: usize| self.bytes[at].is_ascii_alphanumeric() || self.bytes[at] == b'_';
        match self.at {
            0 => false,
            1 => is_word(0) && !matches!(self.bytes[0], b'b' | b'c'),
            at => {
                is_word(at - 1) && (!matches!(self.bytes[at - 1], b'b' | b'c') || is_word(at - 2))
            }
        }
    }
}

fn block_comment(rest: &[u8]) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at + 1 < rest.len() {
        match &rest[at..at + 2] {
            b"/*" => depth += 1,
            b"*/" => {
                depth -= 1;
                if depth == 0 {
                    return at + 2;
                }
            }
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
    }
    rest.len()
}

fn string(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

fn raw_string(rest: &[u8]) -> Option<usize> {
    let hashes = rest[1..].iter().take_while(|b| **b == b'#').count();
    let body = rest.get(1 + hashes..)?;
    if body.first() != Some(&b'"') {
        return None; // a raw identifier
    }
    let mut end = vec![b'"'];
    end.resize(1 + hashes, b'#');
    let length = body[1..].windows(end.len()).position(|w| w == end)?;
    Some(1 + hashes + 1 + length + end.len())
}

/// A character literal; `None` for a lifetime.
fn character(rest: &[u8]) -> Option<usize> {
    match rest {
        [_, b'\\', _, tail @ ..] => tail.iter().position(|b| *b == b'\'').map(|p| p + 4),
        [_, first, ..] => {
            let width = match first {
                0..=0x7f => 1,
                0xc0..=0xdf => 2,
                0xe0..=0xef => 3,
                _ => 4,
            };
            (rest.get(1 + width) == Some(&b'\'')).then_some(width + 2)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_not_code() {
        let text = "let a = \"x // y\"; // b\n/* c /* d */ e */ let f = 'g';";
        let code = RustSource::scan(text).code();
        assert_eq!(code.len(), text.len());
        for hidden in ['x', 'y', 'b', 'c', 'd', 'e', 'g'] {
            let name = format!(" {hidden} ");
            assert!(!code.contains(&name) && !code.contains(&format!("'{hidden}'")));
        }
        assert!(code.contains("let f ="));
    }

    #[test]
    fn lifetimes_escapes_and_raw_strings_do_not_derail_the_scan() {
        let text = "fn f<'a>(x: &'a str) { g('\\'', r#\"a \" b\"#, \"\\\"\", b'x'); h() }";
        let source = RustSource::scan(text);
        assert!(source.code().contains("h() }"));
        let literals: Vec<&str> = source.literals().into_iter().map(|(_, l)| l).collect();
        assert_eq!(literals, ["'\\''", "r#\"a \" b\"#", "\"\\\"\"", "'x'"]);
    }

    #[test]
    fn a_test_module_is_a_region_up_to_its_brace() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests { fn b() { \"}\" } }\nfn c() {}";
        let regions = RustSource::scan(text).test_regions();
        assert_eq!(regions.len(), 1);
        let region = &text[regions[0].clone()];
        assert!(region.contains("fn b") && !region.contains("fn c"));
        assert!(region.ends_with("} }"));
    }
}
