//! A projection's declarations as data, without its types.

use refold_projection::Column;
use refold_projection::Compare;
use refold_projection::Differences;
use refold_projection::Fingerprint;
use refold_projection::KeyType;
use refold_projection::Merge;
use refold_projection::Projection;
use refold_projection::Row;
use xxhash_rust::xxh3::Xxh3;

use crate::sums::SumLayout;

/// What a version of a projection declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectionSpec {
    /// Name shared by all versions.
    pub name: &'static str,
    /// Version number.
    pub number: u32,
    /// The number of the version that this one replaces and compares with.
    pub replaces: Option<u32>,
    /// SQL type of the key.
    pub key_type: KeyType,
    /// The row's columns in table order.
    pub columns: &'static [Column],
    /// Event types that the fold sees.
    pub handles: &'static [&'static str],
    /// How its rows differ from those of the version that it replaces.
    pub differences: Option<Differences>,
    /// Merge rule of subwindow replay.
    pub merge: Merge,
    /// Fingerprint of the source file, see [`Projection::CODE`].
    pub code: Fingerprint,
}

impl ProjectionSpec {
    /// The declarations of `P`.
    pub fn of<P: Projection>() -> Self {
        Self {
            name: P::NAME,
            number: P::VERSION,
            replaces: P::REPLACES,
            key_type: <P::Key as refold_projection::Key>::TYPE,
            columns: P::Row::COLUMNS,
            handles: P::HANDLES,
            differences: P::DIFFERENCES,
            merge: P::MERGE,
            code: P::CODE,
        }
    }

    /// `NAME_vNUMBER`.
    pub fn label(&self) -> String {
        format!("{}_v{}", self.name, self.number)
    }

    /// The fingerprint that is stored with a version: 128 bits, as 32 hex digits, over code and
    /// schema. A version whose stored value differs was built by other code.
    pub fn code_hash(&self) -> String {
        let mut hash = Xxh3::new();
        let mut part = |bytes: &[u8]| {
            hash.update(&(bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        part(&self.code.0.to_be_bytes());
        part(self.label().as_bytes());
        part(self.key_type.sql().as_bytes());
        for column in self.columns {
            part(column.name.as_bytes());
            part(column.ty.sql().as_bytes());
            part(&[u8::from(column.nullable)]);
        }
        for kind in self.handles {
            part(kind.as_bytes());
        }
        format!("{:032x}", hash.digest128())
    }

    /// The layout of this version's checksums.
    pub fn sum_layout(&self) -> SumLayout {
        SumLayout::new(self.columns.iter().map(|c| c.name))
    }

    /// The columns that must be equal in the version that this one replaces.
    pub fn same_columns(&self) -> Vec<&'static str> {
        self.columns_that(Compare::Same)
    }

    /// The columns that may disagree with the version that this one replaces.
    pub fn differing_columns(&self) -> Vec<&'static str> {
        self.columns_that(Compare::Differs)
    }

    fn columns_that(&self, compare: Compare) -> Vec<&'static str> {
        let wanted = self.columns.iter().filter(|c| c.compare == compare);
        wanted.map(|c| c.name).collect()
    }
}

#[cfg(test)]
mod tests {
    use refold_projection::ColumnType;

    use super::*;

    const fn column(name: &'static str, ty: ColumnType, compare: Compare) -> Column {
        Column {
            name,
            ty,
            nullable: false,
            compare,
        }
    }

    const COLUMNS: &[Column] = &[
        column("kept", ColumnType::Int8, Compare::Same),
        column("fixed", ColumnType::Int8, Compare::Differs),
        column("added", ColumnType::Text, Compare::New),
        column("too", ColumnType::Text, Compare::Same),
    ];

    fn spec() -> ProjectionSpec {
        ProjectionSpec {
            name: "pair",
            number: 2,
            replaces: Some(1),
            key_type: KeyType::Int8,
            columns: COLUMNS,
            handles: &["Put", "Gone"],
            differences: None,
            merge: Merge::Ordered,
            code: Fingerprint(5),
        }
    }

    #[test]
    fn columns_are_told_apart_by_how_they_compare_and_keep_their_order() {
        assert_eq!(spec().label(), "pair_v2");
        assert_eq!(spec().same_columns(), ["kept", "too"]);
        assert_eq!(spec().differing_columns(), ["fixed"]);
        let names = ["kept", "fixed", "added", "too", crate::sums::APPLIED_SEQ];
        assert_eq!(spec().sum_layout().names(), names);
    }

    #[test]
    fn a_code_hash_is_one_of_code_and_schema_and_of_nothing_else() {
        type Change = fn(&mut ProjectionSpec);
        let changed = |change: Change| {
            let mut spec = spec();
            change(&mut spec);
            spec.code_hash()
        };
        let hash = spec().code_hash();
        assert_eq!(hash.len(), 32);
        assert!(
            hash.bytes().all(|digit| digit.is_ascii_hexdigit()),
            "{hash}"
        );
        let part_of_it: [Change; 9] = [
            |spec| spec.code = Fingerprint(6),
            |spec| spec.name = "pain",
            |spec| spec.number = 3,
            |spec| spec.key_type = KeyType::Text,
            |spec| spec.columns = &COLUMNS[1..],
            |spec| spec.columns = const { &[column("kept", ColumnType::Int4, Compare::Same)] },
            |spec| spec.columns = const { &[column("kent", ColumnType::Int4, Compare::Same)] },
            |spec| spec.handles = &["Put"],
            // The same letters in other words.
            |spec| spec.handles = &["PutG", "one"],
        ];
        let mut hashes: Vec<_> = part_of_it.into_iter().map(changed).collect();
        hashes.push(hash.clone());
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), 1 + part_of_it.len());
        let no_part: [Change; 2] = [
            |spec| spec.replaces = None,
            |spec| spec.merge = Merge::KeepFirst,
        ];
        for change in no_part {
            assert_eq!(changed(change), hash);
        }
    }
}
