//! Every aggregate against the known final state.

use serde_json::Value;

use crate::process::Exit;
use crate::process::Launch;
use crate::psql::Psql;
use crate::world::World;
use crate::world::run;
use crate::world::with;

/// What `refold seed expected` writes for every aggregate.
const EXPECTED: &str = "
create temp table expected (
    aggregate_id bigint, partition integer, last_version bigint, last_offset bigint,
    v3_balance bigint, v3_status text, v4_balance bigint, v4_status text,
    largest_deposit bigint, deposits_count bigint, reversed_total bigint,
    opened_at_micros bigint, closed_at_micros bigint, currency text, differs boolean);
copy expected from stdin (format csv, header);
";

const V3_EXPECTED: &str = "e.v3_balance, e.v3_status";
const V3_FOUND: &str = "r.balance, r.status";
const V4_EXPECTED: &str = "e.v4_balance, e.v4_status, e.largest_deposit, e.deposits_count,
    e.reversed_total, e.opened_at_micros, e.closed_at_micros, e.currency";
const V4_FOUND: &str = "r.balance, r.status, r.largest_deposit, r.deposits_count,
    r.reversed_total, (extract(epoch from r.opened_at) * 1000000)::bigint,
    (extract(epoch from r.closed_at) * 1000000)::bigint, r.currency";

impl World {
    /// `refold verify -version VERSION -against AGAINST`: its report, 0 differences or not.
    ///
    /// # Panics
    /// When it answers no report.
    pub fn verify(&self, version: &str, against: &str) -> Value {
        let launch = Launch::new(["verify", "--json"])
            .flag("version", version)
            .flag("against", against);
        let launch = with(with(launch, self.stream_flags()), self.store_flags());
        let answer = run(&with(launch, self.log_flags()));
        assert!(
            matches!(answer.exit, Exit::Code(0 | 2)),
            "verify {version} against {against}: {answer:?}"
        );
        answer.json()
    }

    /// Holds every aggregate of an accounts version against the oracle, which shares no code
    /// with the projections: through `refold verify`, and through SQL of its own.
    ///
    /// # Panics
    /// When one row is missing, different or too many.
    pub fn assert_equals_oracle(&self, version: &str) {
        let report = self.verify(version, "expected");
        assert_eq!(report["differences"], 0, "{version}: {report}");
        let aggregates = self.stream().aggregates;
        assert_eq!(report["rows_compared"], aggregates, "{version}: {report}");
        self.assert_equals_expected_rows(version);
        self.watch().assert_none_moved_back();
    }

    /// Holds every aggregate of an accounts version against the final state of the stream, by SQL
    /// and without offsets: for a log whose offsets are not the stream's.
    ///
    /// # Panics
    /// When one row is missing, different or too many.
    pub fn assert_final_state(&self, version: &str) {
        let mut session = self.expected_rows();
        let (wanted, found) = columns(version);
        let counts = session
            .ask(&format!(
                "select count(*), count(*) filter (where
                        (r.key, r.partition, r.agg_version, r.deleted, {found}) is not distinct from
                        (e.aggregate_id, e.partition, e.last_version, false, {wanted}))
                 from expected e full join ({}) r on r.key = e.aggregate_id",
                self.rows_of(version)
            ))
            .expect("a comparison");
        let all = self.stream().aggregates.to_string();
        assert_eq!(counts, [[all.clone(), all]], "{version}");
    }

    /// A session with the oracle's rows in a table.
    fn expected_rows(&self) -> Psql {
        let launch = with(Launch::new(["seed", "expected"]), self.stream_flags());
        let expected = run(&launch);
        assert_eq!(expected.exit, Exit::Code(0), "{}", expected.stderr);
        let mut session = self.session();
        let rows = format!("{EXPECTED}{}\n\\.\n", expected.stdout);
        session.ask(&rows).expect("the oracle's rows");
        session
    }

    /// All rows of a version with their partition, as a statement.
    fn rows_of(&self, version: &str) -> String {
        let leaves = self.leaves(version).into_iter().map(|leaf| {
            let partition = leaf
                .rsplit_once("_p")
                .map_or("-1", |(_, partition)| partition);
            format!("select l.*, {partition} as partition from {leaf} l")
        });
        leaves.collect::<Vec<_>>().join(" union all ")
    }

    /// The same without `verify`: the table and the oracle's rows are compared by the database.
    /// The oracle writes the end of the seeded part; a row that a tail has changed since is
    /// left to `verify`, and only has to be younger.
    fn assert_equals_expected_rows(&self, version: &str) {
        let mut session = self.expected_rows();
        let table = self.rows_of(version);
        let (wanted, found) = columns(version);
        let counts = session
            .ask(&format!(
                "select count(*) filter (where r.off = e.last_offset),
                    count(*) filter (where r.off > e.last_offset and r.agg_version > e.last_version),
                    count(*) filter (where (r.key, r.partition, r.agg_version, r.off, r.deleted, {found})
                        is not distinct from
                        (e.aggregate_id, e.partition, e.last_version, e.last_offset, false, {wanted})),
                    count(*)
                 from expected e full join ({}) r on r.key = e.aggregate_id",
                table
            ))
            .expect("a comparison");
        let count = |i: usize| counts[0][i].parse::<u64>().expect("a count");
        let (unchanged, younger, equal, all) = (count(0), count(1), count(2), count(3));
        assert_eq!(
            all,
            self.stream().aggregates,
            "{version}: missing rows, or too many"
        );
        assert_eq!(unchanged + younger, all, "{version}: rows of another log");
        assert_eq!(
            equal, unchanged,
            "{version}: rows that are not what is expected"
        );
        println!("{version}: {equal} of {all} rows equal in SQL, {younger} changed by a tail");
    }
}

/// What is expected of a version's rows, and their columns.
fn columns(version: &str) -> (&'static str, &'static str) {
    match version {
        "accounts_v4" => (V4_EXPECTED, V4_FOUND),
        _ => (V3_EXPECTED, V3_FOUND),
    }
}
