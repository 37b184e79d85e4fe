//! Any JSON text into the server's canonical text.

use super::JsonError;
use super::number;

/// Levels of arrays and objects.
const DEEPEST: usize = 128;

/// The canonical text of the document `text`.
pub(super) fn canonical(text: &str) -> Result<String, JsonError> {
    let mut parser = Parser { text, at: 0 };
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    parser.value(0, &mut out)?;
    parser.skip_space();
    if parser.at < text.len() {
        return Err(parser.error("more text after the document"));
    }
    Ok(out)
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn error(&self, reason: &'static str) -> JsonError {
        JsonError {
            at: self.at,
            reason,
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Passes over `wanted` and the white space before it, if it comes next.
    fn accept(&mut self, wanted: u8) -> bool {
        self.skip_space();
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    fn value(&mut self, depth: usize, out: &mut String) -> Result<(), JsonError> {
        self.skip_space();
        match self.peek() {
            Some(b'{') => self.object(depth, out),
            Some(b'[') => self.array(depth, out),
            Some(b'"') => {
                let string = self.string()?;
                escape(&string, out);
                Ok(())
            }
            Some(b'-' | b'0'..=b'9') => self.number(out),
            Some(b't') => self.literal("true", out),
            Some(b'f') => self.literal("false", out),
            Some(b'n') => self.literal("null", out),
            Some(_) => Err(self.error("a value was expected")),
            None => Err(self.error("the text ends where a value was expected")),
        }
    }

    fn literal(&mut self, word: &str, out: &mut String) -> Result<(), JsonError> {
        if !self.text[self.at..].starts_with(word) {
            return Err(self.error("a value was expected"));
        }
        self.at += word.len();
        out.push_str(word);
        Ok(())
    }

    /// Steps into an array or object.
    fn open(&mut self, depth: usize) -> Result<usize, JsonError> {
        if depth >= DEEPEST {
            return Err(self.error("nested deeper than 128 levels"));
        }
        self.at += 1;
        Ok(depth + 1)
    }

    fn array(&mut self, depth: usize, out: &mut String) -> Result<(), JsonError> {
        let depth = self.open(depth)?;
        out.push('[');
        if !self.accept(b']') {
            loop {
                self.value(depth, out)?;
                if self.accept(b']') {
                    break;
                }
                if !self.accept(b',') {
                    return Err(self.error("`,` or `]` was expected"));
                }
                out.push_str(", ");
            }
        }
        out.push(']');
        Ok(())
    }

    fn object(&mut self, depth: usize, out: &mut String) -> Result<(), JsonError> {
        let depth = self.open(depth)?;
        let mut members: Vec<(String, String)> = Vec::new();
        if !self.accept(b'}') {
            loop {
                self.skip_space();
                if self.peek() != Some(b'"') {
                    return Err(self.error("a member's name was expected"));
                }
                let name = self.string()?;
                if !self.accept(b':') {
                    return Err(self.error("`:` was expected"));
                }
                let mut value = String::new();
                self.value(depth, &mut value)?;
                members.push((name, value));
                if self.accept(b'}') {
                    break;
                }
                if !self.accept(b',') {
                    return Err(self.error("`,` or `}` was expected"));
                }
            }
        }
        // Stable, so that the last of several members of one name stays last.
        members.sort_by(|(a, _), (b, _)| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
        out.push('{');
        let start = out.len();
        for (index, (name, value)) in members.iter().enumerate() {
            if members.get(index + 1).is_some_and(|(next, _)| next == name) {
                continue;
            }
            if out.len() > start {
                out.push_str(", ");
            }
            escape(name, out);
            out.push_str(": ");
            out.push_str(value);
        }
        out.push('}');
        Ok(())
    }

    fn digits(&mut self) -> &'a str {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        &self.text[start..self.at]
    }

    fn some_digits(&mut self) -> Result<&'a str, JsonError> {
        match self.digits() {
            "" => Err(self.error("a digit was expected")),
            digits => Ok(digits),
        }
    }

    fn number(&mut self, out: &mut String) -> Result<(), JsonError> {
        let start = self.at;
        let negative = self.peek() == Some(b'-');
        self.at += usize::from(negative);
        let whole = if self.peek() == Some(b'0') {
            self.at += 1;
            "0"
        } else {
            self.some_digits()?
        };
        let fraction = if self.peek() == Some(b'.') {
            self.at += 1;
            self.some_digits()?
        } else {
            ""
        };
        let exponent = if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            let sign = self.at;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.some_digits()?;
            &self.text[sign..self.at]
        } else {
            ""
        };
        let parts = number::Parts {
            negative,
            whole,
            fraction,
            exponent,
        };
        number::write(parts, out).ok_or(JsonError {
            at: start,
            reason: "the number is beyond the range of numeric",
        })
    }

    fn string(&mut self) -> Result<String, JsonError> {
        self.at += 1;
        let mut out = String::new();
        loop {
            let start = self.at;
            while !matches!(self.peek(), None | Some(b'"' | b'\\' | 0..=0x1f)) {
                self.at += 1;
            }
            out.push_str(&self.text[start..self.at]);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => out.push(self.escaped()?),
                Some(_) => return Err(self.error("a control character must be escaped")),
                None => return Err(self.error("the text ends inside a string")),
            }
        }
    }

    fn escaped(&mut self) -> Result<char, JsonError> {
        let plain = match self.text.as_bytes().get(self.at + 1) {
            Some(&byte @ (b'"' | b'\\' | b'/')) => char::from(byte),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode(),
            _ => return Err(self.error("no such escape")),
        };
        self.at += 2;
        Ok(plain)
    }

    fn unicode(&mut self) -> Result<char, JsonError> {
        let first = self.code_unit(self.at)?;
        let (code, length) = match first {
            0 => return Err(self.error("jsonb cannot hold \\u0000")),
            0xd800..=0xdbff => {
                let second = self.code_unit(self.at + 6)?;
                if !(0xdc00..=0xdfff).contains(&second) {
                    return Err(self.error("half of a surrogate pair"));
                }
                (0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00), 12)
            }
            code => (code, 6),
        };
        let Some(found) = char::from_u32(code) else {
            return Err(self.error("half of a surrogate pair"));
        };
        self.at += length;
        Ok(found)
    }

    /// The four hexadecimal digits of `\uXXXX` at `at`.
    fn code_unit(&self, at: usize) -> Result<u32, JsonError> {
        self.text
            .get(at..at + 6)
            .and_then(|escape| escape.strip_prefix("\\u"))
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|digits| u32::from_str_radix(digits, 16).ok())
            .ok_or_else(|| self.error("`\\u` and four hexadecimal digits were expected"))
    }
}

/// Appends a string literal, escaped as the server does it.
pub(crate) fn escape(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}
