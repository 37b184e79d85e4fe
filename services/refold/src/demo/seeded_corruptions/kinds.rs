//! Ways in which a read model goes wrong, as SQL on its tables.
//!
//! Some leave the sums as they are, as whatever writes behind the projector's back does.
//! The others set them to what the rows then add up to: that is what a projector leaves
//! behind that lost, doubled or misread an event, because it computes rows and sums alike.

/// Which tables are changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Where {
    /// The table of one partition of the new version.
    New,
    /// Those of two partitions of the new version.
    NewTwice,
    /// Those of one partition in both versions.
    Both,
}

/// A way to go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    /// Its name in the result.
    pub(super) name: &'static str,
    pub(super) tables: Where,
    /// Whether the sums are set to what the rows then add up to.
    pub(super) sums_follow: bool,
    /// Which rows it can be done to.
    pub(super) eligible: &'static str,
    /// The change: `{leaf}` is a table, `{key}` a row, `{other}` the other partition's table.
    sql: &'static str,
}

impl Kind {
    /// The statements on `leaf` for the row `key`; `other` is a table of another partition.
    pub(super) fn sql(&self, leaf: &str, key: i64, other: &str) -> String {
        self.sql
            .replace("{leaf}", leaf)
            .replace("{key}", &key.to_string())
            .replace("{other}", other)
    }
}

const ANY: &str = "not deleted";
const DEPOSITED: &str = "not deleted and deposits_count > 0 and largest_deposit > 0";
const MOVING: &str =
    "not deleted and agg_version > 1 and deposits_count > 0 and largest_deposit > 0";

/// All of them.
pub(super) const KINDS: [Kind; 13] = [
    Kind {
        name: "lost-event",
        tables: Where::New,
        sums_follow: true,
        eligible: DEPOSITED,
        sql: "update {leaf} set balance = balance - largest_deposit, \
              deposits_count = deposits_count - 1 where key = {key}",
    },
    Kind {
        name: "doubled-event",
        tables: Where::New,
        sums_follow: true,
        eligible: DEPOSITED,
        sql: "update {leaf} set balance = balance + largest_deposit, \
              deposits_count = deposits_count + 1 where key = {key}",
    },
    Kind {
        name: "swapped-order",
        tables: Where::New,
        sums_follow: true,
        eligible: ANY,
        sql: "update {leaf} set status = case status when 'open' then 'frozen' else 'open' end \
              where key = {key}",
    },
    Kind {
        name: "wrong-column",
        tables: Where::New,
        sums_follow: true,
        eligible: DEPOSITED,
        sql: "update {leaf} set largest_deposit = largest_deposit + 1 where key = {key}",
    },
    Kind {
        name: "stale-row",
        tables: Where::New,
        sums_follow: false,
        eligible: MOVING,
        sql: "update {leaf} set balance = balance - largest_deposit, \
              deposits_count = deposits_count - 1, agg_version = agg_version - 1, off = off - 1 \
              where key = {key}",
    },
    Kind {
        name: "extra-row",
        tables: Where::New,
        sums_follow: false,
        eligible: ANY,
        sql: "create temp table one as select * from {leaf} where key = {key}; \
              update one set key = 1000000000000 + key; insert into {leaf} select * from one; \
              drop table one",
    },
    Kind {
        name: "missing-row",
        tables: Where::New,
        sums_follow: false,
        eligible: ANY,
        sql: "delete from {leaf} where key = {key}",
    },
    Kind {
        name: "out-of-band-update",
        tables: Where::New,
        sums_follow: false,
        eligible: ANY,
        sql: "update {leaf} set balance = balance + 100 where key = {key}",
    },
    Kind {
        name: "wrong-partition",
        tables: Where::NewTwice,
        sums_follow: true,
        eligible: ANY,
        sql: "insert into {other} select * from {leaf} where key = {key}; \
              delete from {leaf} where key = {key}",
    },
    Kind {
        name: "bug-in-both",
        tables: Where::Both,
        sums_follow: true,
        eligible: ANY,
        sql: "update {leaf} set balance = balance + 2 where key = {key}",
    },
    Kind {
        name: "truncated-load",
        tables: Where::New,
        sums_follow: true,
        eligible: ANY,
        sql: "delete from {leaf} where key >= {key}",
    },
    Kind {
        name: "skipped-poison",
        tables: Where::New,
        sums_follow: true,
        eligible: MOVING,
        sql: "update {leaf} set balance = balance - largest_deposit, \
              deposits_count = deposits_count - 1, agg_version = agg_version - 1 where key = {key}",
    },
    Kind {
        name: "off-by-one",
        tables: Where::New,
        sums_follow: true,
        eligible: "off = (select max(off) from {leaf}) and agg_version > 1",
        sql: "update {leaf} set balance = balance + 1, agg_version = agg_version - 1, off = off - 1 \
              where key = {key}",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_name_of_its_own_and_names_its_tables() {
        for (at, kind) in KINDS.iter().enumerate() {
            assert!(KINDS[..at].iter().all(|before| before.name != kind.name));
            let sql = kind.sql("rm.v1_p0", 17, "rm.v1_p1");
            assert!(!sql.contains('{') && sql.contains("rm.v1_p0"), "{sql}");
            assert_eq!(kind.tables == Where::NewTwice, sql.contains("rm.v1_p1"));
        }
    }
}
