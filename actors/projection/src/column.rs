//! Columns: the row struct's fields as the database and the proof see them.

/// The SQL type of a column. Floating point is missing on purpose: sums of
/// floats depend on their order, and a replay may batch in any order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ColumnType {
    /// `bigint`, 8 bytes big-endian.
    Int8,
    /// `integer`, 4 bytes big-endian.
    Int4,
    /// `boolean`, one byte.
    Bool,
    /// `text`, UTF-8 without NUL.
    Text,
    /// `timestamptz`, microseconds since 2000-01-01 00:00 UTC.
    Timestamptz,
    /// `numeric`, base-10,000 digits.
    Numeric,
    /// `jsonb`, version byte 1 and the text in the server's canonical form.
    Jsonb,
    /// `bytea`.
    Bytea,
    /// `uuid`, 16 bytes.
    Uuid,
}

impl ColumnType {
    /// The type's name in SQL.
    pub const fn sql(self) -> &'static str {
        match self {
            Self::Int8 => "bigint",
            Self::Int4 => "integer",
            Self::Bool => "boolean",
            Self::Text => "text",
            Self::Timestamptz => "timestamptz",
            Self::Numeric => "numeric",
            Self::Jsonb => "jsonb",
            Self::Bytea => "bytea",
            Self::Uuid => "uuid",
        }
    }
}

/// How a column compares with the column of the same name in the version before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compare {
    /// Equal for every aggregate at every offset.
    Same,
    /// The version before does not have it; it is proven against the log alone.
    New,
    /// The version before has it and may disagree where
    /// the two folds differ; the differing keys are counted against the oracle.
    Differs,
}

/// One column of a read model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Column {
    /// Name in SQL and in JSON answers, `[a-z][a-z0-9_]{0,30}`.
    pub name: &'static str,
    /// SQL type.
    pub ty: ColumnType,
    /// Whether the row struct holds an `Option`.
    pub nullable: bool,
    /// How the column compares with the version before.
    pub compare: Compare,
}

#[cfg(test)]
mod tests {
    use super::ColumnType::*;

    #[test]
    fn types_have_the_names_that_the_database_gives_them() {
        let types = [
            (Int8, "bigint"),
            (Int4, "integer"),
            (Bool, "boolean"),
            (Text, "text"),
            (Timestamptz, "timestamptz"),
            (Numeric, "numeric"),
            (Jsonb, "jsonb"),
            (Bytea, "bytea"),
            (Uuid, "uuid"),
        ];
        for (ty, name) in types {
            assert_eq!(ty.sql(), name);
        }
    }
}
