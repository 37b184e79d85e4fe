//! What a demo measured, and how it is told.

use std::collections::BTreeMap;
use std::time::Duration;

use refold_bench::accounts::Spent;
use serde_json::Value;
use serde_json::json;
use xxhash_rust::xxh3::xxh3_128;

use crate::cli::Count;
use crate::cli::DemoArgs;
use crate::cli::Failure;
use crate::cli::Kind;
use crate::load::LoadReport;
use crate::load::Span;
use crate::machine;
use crate::machine::revision;
use crate::witness::Confirmation;

/// The rebuild of the new version.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rebuild {
    /// Events of the history that was replayed.
    pub(crate) events: u64,
    /// From the start of the first process to the last partition's commit.
    pub(crate) seconds: f64,
    /// SIGKILLs on the way.
    pub(crate) kills: u32,
    /// Most resident memory of the projector, the largest of its processes.
    pub(crate) peak_memory_bytes: u64,
    /// Who spent the processors since the last of its processes started.
    pub(crate) spent: Spent,
    /// Wall-clock seconds by stage, summed over the partitions of that process.
    pub(crate) stages: BTreeMap<String, f64>,
}

impl Rebuild {
    pub(crate) fn events_per_second(&self) -> u64 {
        (self.events as f64 / self.seconds.max(1e-9)) as u64
    }
}

/// A comparison of two tables, or of a table with the oracle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Comparison {
    /// Rows compared.
    pub(crate) rows: u64,
    /// Columns compared.
    pub(crate) columns: Vec<String>,
    /// Rows that differ although they must not.
    pub(crate) differences: u64,
    /// Keys that differ in a column that is declared to differ.
    pub(crate) intended: u64,
    /// Keys that the oracle says must differ there.
    pub(crate) intended_expected: u64,
    /// The offset vector of the comparison.
    pub(crate) offsets: BTreeMap<i32, i64>,
    /// The first differences, a sentence each.
    pub(crate) samples: Vec<String>,
    /// The scan's id, where both tables were scanned.
    pub(crate) scan: Option<String>,
    /// Pairs of rows of different aggregates that the author's rule was asked about, and how many
    /// of them it let pass.
    pub(crate) rule: (u64, u64),
    /// What the log says of the rows that differ as expected, where it was asked.
    pub(crate) log: Option<Confirmation>,
}

/// The switch.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Cutover {
    /// Generation after it.
    pub(crate) generation: i64,
    /// The transaction from begin to commit.
    pub(crate) flip_ms: f64,
    /// The switch vector.
    pub(crate) offsets: BTreeMap<i32, i64>,
}

/// Everything that the proof is made of.
#[derive(Debug, Clone)]
pub(crate) struct Figures {
    pub(crate) args: DemoArgs,
    pub(crate) rebuild: Rebuild,
    pub(crate) catch_up: Duration,
    pub(crate) live: Comparison,
    pub(crate) oracle: Comparison,
    pub(crate) cutover: Cutover,
    pub(crate) load: LoadReport,
}

impl Figures {
    /// The proof's digest: equal proofs of equal runs have equal digests, so
    /// that a printed certificate can be checked against the printed figures.
    fn certificate(&self) -> String {
        let text = format!(
            "{:?} {:?} {:?} {} {}",
            self.cutover.offsets,
            self.live,
            self.oracle,
            self.load.failed,
            revision()
        );
        format!("{:032x}", xxh3_128(text.as_bytes()))
    }

    /// The proof for people, and with `json` as one object in the last line.
    pub(crate) fn print(&self, json: bool) {
        print!("{}", self.tell());
        if json {
            println!("{}", self.to_json());
        }
    }

    fn tell(&self) -> String {
        let (live, oracle, load) = (&self.live, &self.oracle, &self.load);
        let p99 = |span| {
            let value = load.quantile_ms(span, 0.99);
            value.map_or("-".to_owned(), |ms| format!("{ms:.2} ms"))
        };
        let switch: i64 = self.cutover.offsets.values().sum();
        [
            String::new(),
            "PROOF".to_owned(),
            format!(
                "  replay        {} events in {:.2} s = {} events/s, {} SIGKILLs on the way",
                Count(self.rebuild.events),
                self.rebuild.seconds,
                Count(self.rebuild.events_per_second()),
                self.rebuild.kills
            ),
            format!(
                "  v4 against v3 {} rows at one offset per partition, columns {}: {} differences",
                Count(live.rows),
                live.columns.join(", "),
                live.differences
            ),
            format!(
                "                {} keys differ in balance, the known bug; the oracle expects {}",
                Count(live.intended),
                Count(live.intended_expected)
            ),
            format!(
                "                {}",
                live.log
                    .as_ref()
                    .map_or_else(String::new, Confirmation::tell)
            ),
            format!(
                "  v4 against the known final state: {} rows, every column: {} differences",
                Count(oracle.rows),
                oracle.differences
            ),
            format!(
                "  reads         {}, failed {}; by version {:?}",
                Count(load.reads),
                load.failed,
                load.by_version
            ),
            format!(
                "  read p99      {} before, {} during the replay, {} around the switch, {} after",
                p99(Span::Baseline),
                p99(Span::Replay),
                p99(Span::Cutover),
                p99(Span::After)
            ),
            format!(
                "                sent late by their driver during the replay, which counts: {} (p99)",
                load.late_ms(Span::Replay, 0.99)
                    .map_or("-".to_owned(), |ms| format!("{ms:.2} ms"))
            ),
            format!(
                "  switch        generation {}, flip {:.2} ms, switch offsets sum {}",
                self.cutover.generation,
                self.cutover.flip_ms,
                Count(switch.unsigned_abs())
            ),
            format!(
                "  tail          {} events appended between the rebuild and the switch",
                Count(self.appended())
            ),
            format!("  certificate   {}", self.certificate()),
            format!(
                "  machine       {}, revision {}",
                machine::describe(),
                revision()
            ),
            String::new(),
        ]
        .join("\n")
    }

    pub(crate) fn to_json(&self) -> Value {
        let stream = &self.args.stream;
        json!({
            "schema": "refold.demo/1",
            "events": stream.events.0,
            "aggregates": stream.aggregates.0,
            "partitions": stream.partitions,
            "seed": stream.seed,
            "rows_compared": self.live.rows + self.oracle.rows,
            "differences_live": self.live.differences,
            "differences_oracle": self.oracle.differences,
            "intended_differences": self.live.intended,
            "intended_differences_expected": self.live.intended_expected,
            "log": self.live.log,
            "reads": self.load.reads,
            "failed_reads": self.load.failed,
            "flip_ms": self.cutover.flip_ms,
            "replay_events_per_second": self.rebuild.events_per_second(),
            "replay_seconds": self.rebuild.seconds,
            "catch_up_seconds": self.catch_up.as_secs_f64(),
            "kills": self.rebuild.kills,
            "events_appended": self.appended(),
            "switch_offsets": self.cutover.offsets,
            "generation": self.cutover.generation,
            "certificate": self.certificate(),
            "load": self.load.to_json(),
            "machine": machine::describe(),
            "revision": revision(),
        })
    }

    /// Events behind the history that were in at the switch.
    fn appended(&self) -> u64 {
        let switch: i64 = self.cutover.offsets.values().sum();
        switch
            .unsigned_abs()
            .saturating_sub(self.args.stream.events.0)
    }

    /// An error when the run proves nothing.
    pub(crate) fn judge(&self) -> Result<(), Failure> {
        let bad = |sentence: String| Err(Failure::new(Kind::Differences, sentence));
        for (what, found) in [
            ("accounts_v3", &self.live),
            ("the known final state", &self.oracle),
        ] {
            if found.differences > 0 {
                let samples = found.samples.join("; ");
                return bad(format!(
                    "accounts_v4 differs from {what} in {} rows: {samples}",
                    found.differences
                ));
            }
            if found.rows < self.args.stream.aggregates.0 {
                return bad(format!(
                    "only {} rows were compared with {what}",
                    found.rows
                ));
            }
        }
        if self.live.intended != self.live.intended_expected {
            return bad(format!(
                "{} keys differ in balance where the oracle expects {}",
                self.live.intended, self.live.intended_expected
            ));
        }
        if self.args.tail_rate.0 > 0 && self.appended() == 0 {
            return bad("the log did not move between the rebuild and the switch".to_owned());
        }
        if self.load.failed > 0 {
            let first = self.load.failures.first();
            return bad(format!(
                "{} reads failed; first: {first:?}",
                self.load.failed
            ));
        }
        if self.load.reads < self.args.reads.0 {
            return bad(format!("only {} reads were made", self.load.reads));
        }
        Ok(())
    }
}
