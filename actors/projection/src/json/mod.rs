//! JSON documents as `jsonb` cells.
//!
//! The database does not keep the text that it is given: it sorts the members,
//! drops repeated ones and rewrites numbers. A row must encode to the bytes that
//! the database gives back, or the proof would find differences that are none,
//! so [`Json`] holds the rewritten text from the start.

mod number;
mod parser;

pub(crate) use parser::escape;

use std::fmt;
use std::str::FromStr;

use crate::ColumnType;
use crate::cell::CellError;
use crate::cell::CellReader;
use crate::value::CellValue;
use crate::value::required;

/// The first byte of the binary form, which numbers its layout.
const BINARY_VERSION: u8 = 1;

/// A JSON document in the server's canonical form.
///
/// Members are sorted by the length of their name in bytes and then by its
/// bytes, the last of several members of one name stays, numbers are written
/// out without an exponent, and one space follows each `,` and `:`. Two
/// documents are equal when their canonical texts are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Json(String);

/// A text that is not JSON, or JSON that `jsonb` cannot hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("byte {at}: {reason}")]
pub struct JsonError {
    /// Where in the text, counted in bytes from 0.
    pub at: usize,
    /// One sentence.
    pub reason: &'static str,
}

impl Json {
    /// Reads any JSON text and brings it into the canonical form.
    ///
    /// # Errors
    /// [`JsonError`] for malformed text, for what `jsonb` refuses (`\u0000`,
    /// halves of surrogate pairs, numbers beyond the range of `numeric`), and for
    /// documents nested deeper than 128 levels.
    pub fn parse(text: &str) -> Result<Self, JsonError> {
        parser::canonical(text).map(Self)
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Json {
    type Err = JsonError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl CellValue for Json {
    const TYPE: ColumnType = ColumnType::Jsonb;

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.0.len() as i32 + 1).to_be_bytes());
        out.push(BINARY_VERSION);
        out.extend_from_slice(self.0.as_bytes());
    }

    /// Takes the text as it stands: the server writes the canonical form only.
    fn read(cells: &mut CellReader<'_>) -> Result<Self, CellError> {
        let Some((&version, text)) = required(cells)?.split_first() else {
            return Err(cells.error("jsonb without its version byte"));
        };
        if version != BINARY_VERSION {
            return Err(cells.error(format!("jsonb of binary version {version}")));
        }
        match std::str::from_utf8(text) {
            Ok(text) => Ok(Self(text.to_owned())),
            Err(_) => Err(cells.error("jsonb is not UTF-8")),
        }
    }

    fn heap_bytes(&self) -> usize {
        self.0.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> String {
        Json::parse(text).expect(text).to_string()
    }

    #[test]
    fn members_are_sorted_by_length_and_then_by_bytes() {
        assert_eq!(
            canonical(r#"{"bb":1,"a":2,"C":3,"é":4,"":5,"aaa":6}"#),
            r#"{"": 5, "C": 3, "a": 2, "bb": 1, "é": 4, "aaa": 6}"#
        );
    }

    #[test]
    fn the_last_of_several_members_of_one_name_stays() {
        assert_eq!(
            canonical(r#"{"a":1,"b":0,"a":{"x":1},"\u0061":[2]}"#),
            r#"{"a": [2], "b": 0}"#
        );
    }

    #[test]
    fn white_space_is_the_servers() {
        assert_eq!(canonical(" [ 1 ,\t2,\r\n{ } , [ ] ] "), "[1, 2, {}, []]");
        assert_eq!(
            canonical("[true,false,null,\"\"]"),
            r#"[true, false, null, ""]"#
        );
        assert_eq!(canonical(" 7 "), "7");
    }

    #[test]
    fn strings_are_escaped_as_the_server_does() {
        assert_eq!(
            canonical(r#""\u0041\/\b\f\n\r\t\"\\\u0001\u001F\u007f\ud83d\ude00\u00e9""#),
            "\"A/\\b\\f\\n\\r\\t\\\"\\\\\\u0001\\u001f\u{7f}😀é\""
        );
    }

    #[test]
    fn malformed_texts_are_refused_with_their_place() {
        let cases = [
            ("", 0),
            ("[1,]", 3),
            ("{\"a\":1,}", 7),
            ("{a:1}", 1),
            ("[1 2]", 3),
            ("tru", 0),
            ("1 1", 2),
            ("01", 1),
            ("\"\n\"", 1),
            ("\"\\x\"", 1),
            ("\"abc", 4),
            ("\"\\u12", 1),
            ("NaN", 0),
        ];
        for (text, at) in cases {
            let error = Json::parse(text).expect_err(text);
            assert_eq!(error.at, at, "{text}: {error}");
        }
    }

    #[test]
    fn what_jsonb_cannot_hold_is_refused() {
        for text in [
            r#""\u0000""#,
            r#""\ud800""#,
            r#""\ud800\u0041""#,
            r#""\udc00""#,
            "1e131072",
            "1e-16384",
            "1e99999999999999999999",
        ] {
            assert!(Json::parse(text).is_err(), "{text}");
        }
        assert!(Json::parse(&("[".repeat(129) + &"]".repeat(129))).is_err());
        assert!(Json::parse(&("[".repeat(128) + &"]".repeat(128))).is_ok());
    }

    #[test]
    fn a_document_comes_back_from_its_cell() {
        let document = Json::parse(r#"{"a":[1.50,{"b":null}]}"#).expect("it is JSON");
        let mut bytes = Vec::new();
        document.write(&mut bytes);
        assert_eq!(bytes[4], 1);
        let mut cells = CellReader::new(&bytes);
        assert_eq!(Json::read(&mut cells), Ok(document));
        assert!(Json::read(&mut CellReader::new(&[0, 0, 0, 0])).is_err());
        assert!(Json::read(&mut CellReader::new(&[0, 0, 0, 2, 2, b'1'])).is_err());
    }

    #[test]
    fn a_document_is_read_as_other_texts_are_and_owns_its_own() {
        let document: Json = r#"{"b":1,"a":"x y"}"#.parse().expect("it is JSON");
        assert_eq!(document.as_str(), r#"{"a": "x y", "b": 1}"#);
        assert_eq!(document.to_string(), document.as_str());
        assert_eq!(document.heap_bytes(), document.0.capacity());
        let refused = "[1,]".parse::<Json>().expect_err("it is none");
        assert_eq!(refused.to_string(), "byte 3: a value was expected");
        let mut cell = Vec::new();
        Json("7".to_owned()).write(&mut cell);
        assert_eq!(cell, b"\0\0\0\x02\x017");
        let version = Json::read(&mut CellReader::new(&[0, 0, 0, 2, 2, b'1']));
        assert_eq!(
            version.map_err(|error| error.to_string()),
            Err("cell 0: jsonb of binary version 2".to_owned())
        );
    }
}
