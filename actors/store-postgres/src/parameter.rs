//! Parameters that know their SQL type.
//!
//! A statement whose parameters' types are known goes to the server in one message with
//! them. One whose types the server has to be asked for takes three (prepare, execute,
//! close), each a turn of two processes, and a name that a pooler may not keep.

use serde_json::Value;
use tokio_postgres::types::ToSql;
use tokio_postgres::types::Type;
use uuid::Uuid;

/// A Rust type that is one SQL type.
pub(crate) trait Typed {
    const TYPE: Type;
}

impl Typed for bool {
    const TYPE: Type = Type::BOOL;
}

impl Typed for i32 {
    const TYPE: Type = Type::INT4;
}

impl Typed for i64 {
    const TYPE: Type = Type::INT8;
}

impl Typed for f64 {
    const TYPE: Type = Type::FLOAT8;
}

impl Typed for str {
    const TYPE: Type = Type::TEXT;
}

impl Typed for String {
    const TYPE: Type = Type::TEXT;
}

impl Typed for Uuid {
    const TYPE: Type = Type::UUID;
}

impl Typed for Value {
    const TYPE: Type = Type::JSONB;
}

impl Typed for Vec<Option<&[u8]>> {
    const TYPE: Type = Type::BYTEA_ARRAY;
}

impl Typed for Vec<i32> {
    const TYPE: Type = Type::INT4_ARRAY;
}

impl Typed for Vec<i64> {
    const TYPE: Type = Type::INT8_ARRAY;
}

impl Typed for Vec<&[u8]> {
    const TYPE: Type = Type::BYTEA_ARRAY;
}

impl Typed for Vec<&str> {
    const TYPE: Type = Type::TEXT_ARRAY;
}

impl Typed for Vec<String> {
    const TYPE: Type = Type::TEXT_ARRAY;
}

impl Typed for Vec<u8> {
    const TYPE: Type = Type::BYTEA;
}

impl Typed for Vec<Value> {
    const TYPE: Type = Type::JSONB_ARRAY;
}

impl<T: Typed + ?Sized> Typed for &T {
    const TYPE: Type = T::TYPE;
}

impl<T: Typed> Typed for Option<T> {
    const TYPE: Type = T::TYPE;
}

/// A value with its SQL type.
pub(crate) trait Parameter: Sync {
    /// The value.
    fn value(&self) -> &(dyn ToSql + Sync);
    /// Its type.
    fn sql_type(&self) -> Type;
}

impl<T: ToSql + Sync + Typed> Parameter for T {
    fn value(&self) -> &(dyn ToSql + Sync) {
        self
    }

    fn sql_type(&self) -> Type {
        T::TYPE
    }
}

/// The values with their types, as the client wants them.
pub(crate) fn typed<'a>(
    parameters: &[&'a (dyn Parameter + 'a)],
) -> Vec<(&'a (dyn ToSql + Sync), Type)> {
    let pair = |p: &&'a (dyn Parameter + 'a)| (p.value(), p.sql_type());
    parameters.iter().map(pair).collect()
}
