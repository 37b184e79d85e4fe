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
}
