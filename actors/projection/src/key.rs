//! Aggregate ids: `bigint`, `uuid` or `text`.

use std::fmt;
use std::hash::Hash;

use crate::ColumnType;
use crate::Uuid;

/// The SQL type of a projection's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyType {
    /// `bigint`
    Int8,
    /// `uuid`
    Uuid,
    /// `text`
    Text,
}

impl KeyType {
    /// The type's name in SQL.
    pub const fn sql(self) -> &'static str {
        match self {
            Self::Int8 => "bigint",
            Self::Uuid => "uuid",
            Self::Text => "text",
        }
    }

    /// The type of a column that holds such a key.
    pub const fn column_type(self) -> ColumnType {
        match self {
            Self::Int8 => ColumnType::Int8,
            Self::Uuid => ColumnType::Uuid,
            Self::Text => ColumnType::Text,
        }
    }

    /// Parses the canonical text of a key of this type.
    ///
    /// # Errors
    /// [`KeyError`] says which text is not a key of which type.
    pub fn parse(self, text: &str) -> Result<KeyRef<'_>, KeyError> {
        let bad = || KeyError {
            wanted: self,
            found: text.chars().take(80).collect(),
        };
        match self {
            Self::Int8 => text.parse().map(KeyRef::Int).map_err(|_| bad()),
            Self::Uuid => Uuid::parse(text).map(KeyRef::Uuid).ok_or_else(bad),
            Self::Text if text.is_empty() || text.contains('\0') => Err(bad()),
            Self::Text => Ok(KeyRef::Text(text)),
        }
    }
}

/// A borrowed key. Its [`fmt::Display`] form is the canonical text, which is
/// also the record key in Kafka and decides the partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyRef<'a> {
    /// A 64-bit id.
    Int(i64),
    /// A UUID.
    Uuid(Uuid),
    /// Any other text, not empty, without NUL.
    Text(&'a str),
}

impl KeyRef<'_> {
    /// The type of this key.
    pub const fn key_type(&self) -> KeyType {
        match self {
            Self::Int(_) => KeyType::Int8,
            Self::Uuid(_) => KeyType::Uuid,
            Self::Text(_) => KeyType::Text,
        }
    }

    /// The first eight bytes of the key in its order: where two keys of one type
    /// differ here, this tells which is the smaller one.
    #[inline]
    pub fn sort_prefix(&self) -> u64 {
        match self {
            Self::Int(v) => v.cast_unsigned() ^ (1 << 63),
            Self::Uuid(u) => {
                u.0.first_chunk()
                    .map_or(0, |head| u64::from_be_bytes(*head))
            }
            Self::Text(t) => {
                let mut head = [0; 8];
                let known = t.len().min(8);
                head[..known].copy_from_slice(&t.as_bytes()[..known]);
                u64::from_be_bytes(head)
            }
        }
    }

    /// Appends the key's cell (length and Postgres binary form).
    pub fn write_cell(&self, out: &mut Vec<u8>) {
        match self {
            Self::Int(v) => {
                out.extend_from_slice(&8i32.to_be_bytes());
                out.extend_from_slice(&v.to_be_bytes());
            }
            Self::Uuid(u) => {
                out.extend_from_slice(&16i32.to_be_bytes());
                out.extend_from_slice(&u.0);
            }
            Self::Text(t) => {
                out.extend_from_slice(&(t.len() as i32).to_be_bytes());
                out.extend_from_slice(t.as_bytes());
            }
        }
    }
}

impl fmt::Display for KeyRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(v) => v.fmt(f),
            Self::Uuid(u) => u.fmt(f),
            Self::Text(t) => f.write_str(t),
        }
    }
}

/// A key that is not of the projection's type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("key {found:?} is not a {}", wanted.sql())]
pub struct KeyError {
    /// What the projection declares.
    pub wanted: KeyType,
    /// The text of what was found (at most 80 characters).
    pub found: String,
}

/// An owned key type: `i64`, [`Uuid`] or `String`.
pub trait Key: Clone + Ord + Hash + fmt::Debug + Send + Sync + 'static {
    /// The SQL type.
    const TYPE: KeyType;

    /// Takes a borrowed key.
    ///
    /// # Errors
    /// [`KeyError`] when the key is of another type.
    fn from_key(key: KeyRef<'_>) -> Result<Self, KeyError>;

    /// Lends the key.
    fn borrow(&self) -> KeyRef<'_>;

    /// Bytes on the heap that this key owns.
    fn heap_bytes(&self) -> usize {
        0
    }
}

fn mismatch(wanted: KeyType, key: KeyRef<'_>) -> KeyError {
    KeyError {
        wanted,
        found: key.to_string().chars().take(80).collect(),
    }
}

impl Key for i64 {
    const TYPE: KeyType = KeyType::Int8;
    #[inline]
    fn from_key(key: KeyRef<'_>) -> Result<Self, KeyError> {
        match key {
            KeyRef::Int(v) => Ok(v),
            other => Err(mismatch(Self::TYPE, other)),
        }
    }
    #[inline]
    fn borrow(&self) -> KeyRef<'_> {
        KeyRef::Int(*self)
    }
}

impl Key for Uuid {
    const TYPE: KeyType = KeyType::Uuid;
    fn from_key(key: KeyRef<'_>) -> Result<Self, KeyError> {
        match key {
            KeyRef::Uuid(v) => Ok(v),
            other => Err(mismatch(Self::TYPE, other)),
        }
    }
    fn borrow(&self) -> KeyRef<'_> {
        KeyRef::Uuid(*self)
    }
}

impl Key for String {
    const TYPE: KeyType = KeyType::Text;
    fn from_key(key: KeyRef<'_>) -> Result<Self, KeyError> {
        match key {
            KeyRef::Text(v) => Ok(v.to_owned()),
            other => Err(mismatch(Self::TYPE, other)),
        }
    }
    fn borrow(&self) -> KeyRef<'_> {
        KeyRef::Text(self)
    }
    fn heap_bytes(&self) -> usize {
        self.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sort_prefix_never_contradicts_the_order_of_the_keys() {
        let texts = ["", "a", "a\u{1}", "ab", "abcdefgh", "abcdefghi", "b", "é"];
        let ints = [i64::MIN, -256, -1, 0, 1, 255, 256, i64::MAX].map(KeyRef::Int);
        let uuids = [[0; 16], [1; 16], [0xff; 16]].map(|b| KeyRef::Uuid(Uuid(b)));
        for keys in [&ints[..], &uuids[..], &texts.map(KeyRef::Text)[..]] {
            for pair in keys.windows(2) {
                assert!(pair[0] < pair[1]);
                assert!(pair[0].sort_prefix() <= pair[1].sort_prefix(), "{pair:?}");
            }
        }
        assert!(
            ints.windows(2)
                .all(|p| p[0].sort_prefix() < p[1].sort_prefix())
        );
    }

    #[test]
    fn a_key_is_read_from_its_text_and_shown_as_it() {
        let uuid = "550e8400-e29b-41d4-a716-446655440000";
        for (ty, sql, text) in [
            (KeyType::Int8, "bigint", "-12"),
            (KeyType::Uuid, "uuid", uuid),
            (KeyType::Text, "text", "order 7"),
        ] {
            let key = ty.parse(text).expect("it is such a key");
            assert_eq!((key.key_type(), key.to_string().as_str()), (ty, text));
            assert_eq!((ty.sql(), ty.column_type().sql()), (sql, sql));
        }
        for (ty, text) in [
            (KeyType::Int8, "twelve"),
            (KeyType::Uuid, "550e"),
            (KeyType::Text, ""),
            (KeyType::Text, "a\0b"),
        ] {
            let refused = ty.parse(text).expect_err("it is none");
            let sentence = format!("key {text:?} is not a {}", ty.sql());
            assert_eq!(refused.to_string(), sentence);
        }
        let long = "ü".repeat(100);
        let refused = KeyType::Int8.parse(&long).expect_err("it is none");
        assert_eq!(refused.found, "ü".repeat(80));
    }

    #[test]
    fn a_key_of_another_type_is_refused_with_its_text() {
        let keys = [
            KeyRef::Int(7),
            KeyRef::Uuid(Uuid([1; 16])),
            KeyRef::Text("seven"),
        ];
        fn taken<K: Key>(key: KeyRef<'_>) -> Result<String, String> {
            let own = K::from_key(key).map_err(|error| error.to_string())?;
            assert_eq!(own.borrow(), key);
            Ok(own.borrow().to_string())
        }
        for key in keys {
            let (ty, text) = (key.key_type(), key.to_string());
            let of = |wanted: KeyType| {
                if wanted == ty {
                    Ok(text.clone())
                } else {
                    Err(format!("key {text:?} is not a {}", wanted.sql()))
                }
            };
            assert_eq!(taken::<i64>(key), of(KeyType::Int8));
            assert_eq!(taken::<Uuid>(key), of(KeyType::Uuid));
            assert_eq!(taken::<String>(key), of(KeyType::Text));
        }
    }

    #[test]
    fn a_key_has_its_cell_and_a_text_owns_its_bytes() {
        let cell = |key: KeyRef<'_>| {
            let mut cell = Vec::new();
            key.write_cell(&mut cell);
            cell
        };
        assert_eq!(cell(KeyRef::Int(258)), b"\0\0\0\x08\0\0\0\0\0\0\x01\x02");
        let uuid = cell(KeyRef::Uuid(Uuid([9; 16])));
        assert_eq!(uuid, [&[0, 0, 0, 16][..], &[9; 16]].concat());
        assert_eq!(cell(KeyRef::Text("é")), b"\0\0\0\x02\xc3\xa9");
        assert_eq!(
            (Key::heap_bytes(&7_i64), Key::heap_bytes(&Uuid([9; 16]))),
            (0, 0)
        );
        let name = String::with_capacity(40);
        assert_eq!(Key::heap_bytes(&name), name.capacity());
    }
}
