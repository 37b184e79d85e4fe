//! The only place where SQL text is put together: the statements of one leaf.
//!
//! Identifiers are made of numeric ids and of column names that were checked
//! against `[a-z][a-z0-9_]{0,30}`. No label and no value gets in.

use refold_domain::position::Partition;
use refold_domain::rows::ENGINE_COLUMNS;
use refold_domain::spec::ProjectionSpec;
use refold_domain::version::VersionId;
use refold_ports::sink::StoreError;
use refold_projection::ColumnType;
use refold_projection::KeyType;
use tokio_postgres::types::Type;

/// Columns that a version may have. Each adds 128 bytes of sums to the offsets row: up to 14 it
/// stays in its page, from there on every commit writes to the side table for long values, too.
const MAX_COLUMNS: usize = 40;

/// The qualified name of a leaf.
pub(crate) fn leaf_name(version: VersionId, partition: Partition) -> String {
    format!("rm.v{}_p{}", version.0, partition.0)
}

/// One column of a leaf as its statements need it.
#[derive(Debug, Clone)]
struct LeafColumn {
    /// Checked and quoted.
    name: String,
    sql_type: &'static str,
    element: Type,
}

/// The statements of one leaf.
#[derive(Debug, Clone)]
pub(crate) struct Leaf {
    version: VersionId,
    partition: Partition,
    table: String,
    key_element: Type,
    /// `key`, the author's columns, the engine's columns.
    columns: Vec<LeafColumn>,
}

impl Leaf {
    /// The leaf of a partition of a version with these declarations.
    ///
    /// # Errors
    /// [`StoreError::Refused`] for a column name that is not allowed, and for too many columns.
    pub(crate) fn new(
        version: VersionId,
        partition: Partition,
        spec: &ProjectionSpec,
    ) -> Result<Self, StoreError> {
        if spec.columns.len() > MAX_COLUMNS {
            return Err(StoreError::Refused(format!(
                "{} columns, {MAX_COLUMNS} are allowed",
                spec.columns.len()
            )));
        }
        let key_element = key_element(spec.key_type);
        let mut columns = vec![column("key", spec.key_type.sql(), key_element.clone())];
        for declared in spec.columns {
            let name = checked(declared.name)?;
            columns.push(column(name, declared.ty.sql(), element(declared.ty)));
        }
        for (name, sql_type) in ENGINE_COLUMNS {
            let element = if sql_type == "boolean" {
                Type::BOOL
            } else {
                Type::INT8
            };
            columns.push(column(name, sql_type, element));
        }
        Ok(Self {
            version,
            partition,
            table: leaf_name(version, partition),
            key_element,
            columns,
        })
    }

    /// The element type of each column's array, in table order.
    pub(crate) fn elements(&self) -> impl Iterator<Item = &Type> {
        self.columns.iter().map(|c| &c.element)
    }

    /// The element type of an array of keys.
    pub(crate) fn key_element(&self) -> &Type {
        &self.key_element
    }

    /// Creates the table. A sixth of each page stays free so that updates stay in it.
    pub(crate) fn create(&self) -> String {
        self.create_as(&self.table, 85)
    }

    /// Creates the table of a checkpoint in place of the one before, with full
    /// pages: it is written once and read once.
    pub(crate) fn create_checkpoint(&self) -> String {
        let drop = self.drop_checkpoint();
        format!("{drop}; {}", self.create_as(&self.checkpoint(), 100))
    }

    /// Drops the table of the checkpoint, if there is one.
    pub(crate) fn drop_checkpoint(&self) -> String {
        format!("drop table if exists {}", self.checkpoint())
    }

    fn checkpoint(&self) -> String {
        format!("{}_checkpoint", self.table)
    }

    fn create_as(&self, table: &str, fillfactor: u8) -> String {
        let mut sql = format!("create table {table} (");
        for (i, c) in self.columns.iter().enumerate() {
            // A tombstone has no column values; the key and the engine's columns always have one.
            let engine = i == 0 || i + ENGINE_COLUMNS.len() >= self.columns.len();
            sql.push_str(if i == 0 { "" } else { ", " });
            sql.push_str(&c.name);
            sql.push(' ');
            sql.push_str(c.sql_type);
            sql.push_str(if engine { " not null" } else { "" });
        }
        sql.push_str(&format!(") with (fillfactor = {fillfactor})"));
        sql
    }

    /// Loads rows into the table that this transaction created.
    pub(crate) fn copy(&self) -> String {
        self.copy_into(&self.table)
    }

    /// Loads rows into the checkpoint that this transaction created.
    pub(crate) fn copy_checkpoint(&self) -> String {
        self.copy_into(&self.checkpoint())
    }

    fn copy_into(&self, table: &str) -> String {
        let names = self.names();
        format!("copy {table} ({names}) from stdin (format binary, freeze)")
    }

    /// Reads the rows of the checkpoint, all cells of each.
    pub(crate) fn read_checkpoint(&self) -> String {
        let (table, names) = (self.checkpoint(), self.names());
        format!("copy {table} ({names}) to stdout (format binary)")
    }

    /// Cells of a row: the key, the author's columns, the engine's.
    pub(crate) fn fields(&self) -> usize {
        self.columns.len()
    }

    /// Builds the primary key on the loaded table. The one statement that alters
    /// a read model, inside the transaction that created it.
    pub(crate) fn primary_key(&self) -> String {
        format!(
            "alter table {} add constraint v{}_p{}_pkey primary key (key)",
            self.table, self.version.0, self.partition.0
        )
    }

    /// Collects the table's statistics.
    pub(crate) fn analyze(&self) -> String {
        format!("analyze {}", self.table)
    }

    /// Fetches rows by an array of keys.
    pub(crate) fn fetch(&self) -> String {
        format!(
            "select {} from {} where key = any($1)",
            self.names(),
            self.table
        )
    }

    /// Writes rows from one array of them, each key at most once. A row that the table
    /// already has at this offset or a later one is left alone.
    pub(crate) fn upsert(&self) -> String {
        self.merge(ROW_GUARD)
    }

    /// The same, whatever the table has: for rows that are put right.
    pub(crate) fn put(&self) -> String {
        self.merge("")
    }

    fn merge(&self, guard: &str) -> String {
        let updates: Vec<_> = self.columns[1..]
            .iter()
            .map(|c| format!("{0} = new.{0}", c.name))
            .collect();
        let values: Vec<_> = self
            .columns
            .iter()
            .map(|c| format!("new.{}", c.name))
            .collect();
        format!(
            "merge into {table} as leaf using unnest($1::{table}[]) as new on leaf.key = new.key \
             when matched{guard} then update set {} \
             when not matched then insert ({}) values ({})",
            updates.join(", "),
            self.names(),
            values.join(", "),
            table = self.table,
        )
    }

    /// Removes rows by an array of keys.
    pub(crate) fn remove(&self) -> String {
        format!("delete from {} where key = any($1)", self.table)
    }

    fn names(&self) -> String {
        let names: Vec<_> = self.columns.iter().map(|c| c.name.as_str()).collect();
        names.join(", ")
    }
}

/// The guard of each row: only a later event may change it.
#[cfg(not(feature = "mutation-no-row-guard"))]
const ROW_GUARD: &str = " and new.off > leaf.off";
/// The deliberately broken build: any write wins.
#[cfg(feature = "mutation-no-row-guard")]
const ROW_GUARD: &str = "";

fn column(name: &str, sql_type: &'static str, element: Type) -> LeafColumn {
    LeafColumn {
        name: format!("\"{name}\""),
        sql_type,
        element,
    }
}

/// Lets a name through that may stand in SQL text as a column.
///
/// # Errors
/// [`StoreError::Refused`] for every other.
pub(crate) fn checked(name: &str) -> Result<&str, StoreError> {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_lowercase());
    let rest = bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    let reserved = name == "key" || ENGINE_COLUMNS.iter().any(|(engine, _)| *engine == name);
    if first && rest && name.len() <= 31 && !reserved {
        Ok(name)
    } else {
        Err(StoreError::Refused(format!(
            "{name:?} cannot be a column: a name is [a-z][a-z0-9_]{{0,30}} and not one of the engine's"
        )))
    }
}

fn key_element(key: KeyType) -> Type {
    match key {
        KeyType::Int8 => Type::INT8,
        KeyType::Uuid => Type::UUID,
        KeyType::Text => Type::TEXT,
    }
}

fn element(ty: ColumnType) -> Type {
    match ty {
        ColumnType::Int8 => Type::INT8,
        ColumnType::Int4 => Type::INT4,
        ColumnType::Bool => Type::BOOL,
        ColumnType::Text => Type::TEXT,
        ColumnType::Timestamptz => Type::TIMESTAMPTZ,
        ColumnType::Numeric => Type::NUMERIC,
        ColumnType::Jsonb => Type::JSONB,
        ColumnType::Bytea => Type::BYTEA,
        ColumnType::Uuid => Type::UUID,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use refold_ports::conformance::store::fixtures::WIDE_V1;

    #[test]
    fn statements_name_every_column_quoted_and_the_table_by_numbers() {
        let leaf = Leaf::new(VersionId(7), Partition(3), &WIDE_V1).expect("a leaf");
        let create = leaf.create();
        assert!(create.starts_with("create table rm.v7_p3 (\"key\" bigint not null, "));
        assert!(create.contains("\"order\" bigint, \"agg_version\" bigint not null"));
        assert!(leaf.fetch().ends_with("from rm.v7_p3 where key = any($1)"));
    }

    #[test]
    fn names_that_are_no_columns_are_refused() {
        let long = "a".repeat(32);
        let hostile = [
            "",
            "1a",
            "A",
            "a b",
            "a\"",
            "a;--",
            "\u{e4}",
            "key",
            "off",
            "deleted",
            "agg_version",
            "_a",
            "a'",
            "a\0",
            &long,
        ];
        for name in hostile {
            assert!(checked(name).is_err(), "{name:?}");
        }
        for name in ["a", "order", "select", "a_1", &long[..31]] {
            assert_eq!(checked(name), Ok(name));
        }
    }
}
