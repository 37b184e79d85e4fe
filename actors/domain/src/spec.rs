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
