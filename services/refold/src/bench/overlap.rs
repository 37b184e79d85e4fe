//! `bench overlap`: a replay that reads again what is applied already, is killed inside a batch
//! of what is new, reads everything again, and ends where one clean pass ends.
//!
//! The clean pass and each overlap build the same version from the same log, one after the
//! other in one database; the finished state is moved into schemas of its own, so that the
//! server itself compares all columns of all rows with `EXCEPT`, both ways.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;
use std::time::Instant;

use serde_json::Value;
use serde_json::json;

use super::report::write;
use super::site::Manner;
use super::site::SeededLog;
use super::site::Site;
use super::site::VERSION;
use crate::cli::BenchOverlapArgs;
use crate::cli::Failure;
use crate::cli::Kind;
use crate::demo::Role;
use crate::machine;
use crate::run::Projections;

const NAME: &str = "overlap";

/// Share of each partition's events that is new to the replay that overlaps.
const NEW_SHARE: f64 = 0.1;

/// Events of a transaction: many transactions in what is new, so that one is open nearly always.
const BATCH: u64 = 5_000;

/// How long a replay may take to open a transaction, or to end.
const BOUND: Duration = Duration::from_secs(600);

/// Between two looks at the sessions. A look is a session of its own.
const LOOK: Duration = Duration::from_millis(20);

/// Moves what a finished pass left into schemas that nobody writes to.
const KEEP_CLEAN: &str = "alter schema refold rename to clean; alter schema rm rename to clean_rm; \
    create schema kept; do $$ declare v record; begin for v in select viewname from pg_views \
    where schemaname = 'public' loop execute format('alter view public.%I set schema kept', v.viewname); \
    end loop; end $$";

/// Removes what an overlap left.
const FORGET: &str = "drop schema refold cascade; drop schema rm cascade";

/// Sessions of projectors that have written something in a transaction that is open.
const WRITING: &str = "select count(*) from pg_stat_activity where datname = current_database() \
    and pid <> pg_backend_pid() and backend_xid is not null";

/// Sessions of projectors in which the server still works.
const WORKING: &str = "select count(*) from pg_stat_activity where datname = current_database() \
    and pid <> pg_backend_pid() and backend_xid is not null \
    and state = 'active' and wait_event is distinct from 'ClientRead'";

pub(crate) async fn run(
    args: BenchOverlapArgs,
    projections: &Projections,
) -> Result<ExitCode, Failure> {
    let out = args.common.create_out()?;
    let site = Site::open(&args.common, NAME, projections).await?;
    let outcome = measure(&args, &site).await;
    site.close(outcome.is_ok()).await?;
    let result = outcome?;
    write(&out.join("result.json"), &format!("{result:#}\n"))?;
    println!("{result}");
    match result["all_equal"] == json!(true) {
        true => Ok(ExitCode::SUCCESS),
        false => Ok(ExitCode::from(Kind::Differences.code())),
    }
}

async fn measure(args: &BenchOverlapArgs, site: &Site) -> Result<Value, Failure> {
    let log = SeededLog::of(args.events.0, &args.codec).over(args.partitions);
    site.seed(&log).await?;
    let database = site.create_database()?;
    let stage = Stage {
        site,
        log: &log,
        database: &database,
    };
    println!("one clean pass over {} events", args.events);
    site.replay_into(&log, &Manner::one(&[]), &database).await?;
    let mut clean = json!({});
    site.compare(&log, &database, &mut clean).await?;
    site.query(&database, KEEP_CLEAN)?;
    println!("{KEEP_CLEAN};");
    let mut overlaps = Vec::new();
    for overlap in &args.overlaps {
        let began = Instant::now();
        let mut figures = stage.overlap(overlap.0).await?;
        site.compare(&log, &database, &mut figures).await?;
        site.query(&database, FORGET)?;
        figures["seconds"] = json!(began.elapsed().as_secs_f64());
        tell(&figures);
        overlaps.push(figures);
    }
    site.drop_database(&database)?;
    let zero = |figures: &Value, name: &str| figures[name] == json!(0);
    let equal = |figures: &Value| {
        [
            "only_in_overlap",
            "only_in_clean_pass",
            "partitions_with_other_sums",
        ]
        .iter()
        .chain(&["differences_oracle"])
        .all(|name| zero(figures, name))
            && figures["rows"] == clean["rows_compared"]
            && figures["duplicates_skipped"] == figures["duplicates_expected"]
    };
    Ok(json!({
        "schema": "refold.bench-overlap/1",
        "events": args.events.0,
        "partitions": args.partitions,
        "rows": clean["rows_compared"],
        "differences_oracle_of_clean_pass": clean["differences_oracle"],
        "all_equal": zero(&clean, "differences_oracle") && overlaps.iter().all(equal),
        "overlaps": overlaps,
        "machine": machine::describe(),
        "revision": machine::revision(),
    }))
}

fn tell(figures: &Value) {
    println!(
        "overlap {}: SIGKILL with {} open transactions, {} duplicates skipped, {} events applied; \
         {} rows, {} only here, {} only in the clean pass, {} partitions with other sums, \
         {} differences to the oracle",
        figures["overlap"],
        figures["killed_inside_transactions"],
        figures["duplicates_skipped"],
        figures["applied"],
        figures["rows"],
        figures["only_in_overlap"],
        figures["only_in_clean_pass"],
        figures["partitions_with_other_sums"],
        figures["differences_oracle"],
    );
}

/// Where one overlap is played.
struct Stage<'a> {
    site: &'a Site,
    log: &'a SeededLog,
    database: &'a str,
}

/// Marks by partition.
type Marks = BTreeMap<i32, i64>;

impl Stage<'_> {
    async fn overlap(&self, overlap: u64) -> Result<Value, Failure> {
        let manner = Manner::one(&[format!("--leave-share={NEW_SHARE}")]);
        self.site
            .replay_into(self.log, &manner, self.database)
            .await?;
        let before = self.marks()?;
        let from = before.values().min().copied().unwrap_or_default() - overlap.cast_signed();
        if from < 0 {
            return Err(Failure::usage(format!(
                "no partition may hold fewer than {overlap} events behind its mark: take more \
                 events or fewer partitions"
            )));
        }
        let log = format!("overlap-{overlap}");
        let killed_inside = self.kill_inside_a_batch(from, &log, &before).await?;
        let after_kill = self.marks()?;
        let mut again = self.replay(from, &log)?;
        again.finish(BOUND).await?;
        let ended = self.marks()?;
        let words = self.last_words(&log)?;
        let sum = |marks: &Marks| marks.values().sum::<i64>();
        let compared = self.compare()?;
        Ok(json!({
            "overlap": overlap,
            "from_offset": from,
            "marks": before,
            "killed_inside_transactions": killed_inside,
            "applied_before_the_kill": sum(&after_kill) - sum(&before),
            "duplicates_expected": after_kill.values().map(|next| next - from).sum::<i64>(),
            "duplicates_skipped": count(&words, "duplicates")?,
            "applied": count(&words, "applied")?,
            "applied_expected": sum(&ended) - sum(&after_kill),
            "rows": compared.rows,
            "only_in_overlap": compared.only_here,
            "only_in_clean_pass": compared.only_clean,
            "partitions_with_other_sums": compared.other_sums,
        }))
    }

    fn query(&self, sql: &str) -> Result<String, Failure> {
        self.site.query(self.database, sql)
    }

    fn number(&self, sql: &str) -> Result<i64, Failure> {
        let answer = self.query(sql)?;
        let number = answer.trim().parse();
        number.map_err(|error| Failure::error(&format!("read the answer to {sql}"), error))
    }

    fn marks(&self) -> Result<Marks, Failure> {
        let answer = self.query("select partition, next_offset from refold.offsets order by 1")?;
        let pairs = answer.lines().filter_map(|line| {
            let (partition, next) = line.split_once('|')?;
            Some((partition.parse().ok()?, next.parse().ok()?))
        });
        Ok(pairs.collect())
    }

    /// Starts the replay at an offset that lies below every mark.
    fn replay(&self, from: i64, log: &str) -> Result<Role, Failure> {
        let mut args = vec![
            "projector".to_owned(),
            "--mode=replay".to_owned(),
            format!("--version={VERSION}"),
            format!("--from-offset={from}"),
            format!("--batch={BATCH}"),
            format!("--postgres={}", self.database),
        ];
        args.extend(self.site.log_flags(self.log));
        Role::start(log, self.site.dir(), &args, false)
    }

    /// Kills the replay when it has applied something and a transaction of it is open, which is
    /// looked at while it stands still. Returns the number of open transactions.
    async fn kill_inside_a_batch(
        &self,
        from: i64,
        log: &str,
        before: &Marks,
    ) -> Result<i64, Failure> {
        let mut victim = self.replay(from, log)?;
        let deadline = Instant::now() + BOUND;
        loop {
            victim.check()?;
            if Instant::now() > deadline {
                return Err(Failure::new(
                    Kind::TimedOut,
                    "the replay opened no transaction behind the overlap",
                ));
            }
            if self.marks()? != *before && self.number(WRITING)? > 0 {
                victim.pause()?;
                while self.number(WORKING)? > 0 {
                    tokio::time::sleep(LOOK).await;
                }
                let open = self.number(WRITING)?;
                if open > 0 {
                    victim.kill().await?;
                    while self.number(WRITING)? > 0 {
                        tokio::time::sleep(LOOK).await;
                    }
                    return Ok(open);
                }
                victim.resume()?;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn last_words(&self, log: &str) -> Result<String, Failure> {
        let path = self.site.dir().join(format!("{log}.log"));
        let text = std::fs::read_to_string(&path)
            .map_err(|error| Failure::error(&format!("read {}", path.display()), error))?;
        let last = text.lines().rfind(|line| line.contains("process ended"));
        let missing = || Failure::error("read the counts of the replay", "it did not say any");
        last.map(str::to_owned).ok_or_else(missing)
    }

    /// Compares leaf by leaf, all columns, both ways, and the sums beside the marks.
    fn compare(&self) -> Result<Compared, Failure> {
        let leaves = self.query(
            "select tablename from pg_tables where schemaname = 'rm' and tablename ~ '_p[0-9]+$' order by 1",
        )?;
        let mut compared = Compared::default();
        for leaf in leaves.lines() {
            let rows = format!("select count(*) from rm.{leaf}");
            let here = format!(
                "select count(*) from (select * from rm.{leaf} except select * from clean_rm.{leaf}) d"
            );
            let clean = format!(
                "select count(*) from (select * from clean_rm.{leaf} except select * from rm.{leaf}) d"
            );
            println!("{here};\n{clean};");
            compared.rows += self.number(&rows)?;
            compared.only_here += self.number(&here)?;
            compared.only_clean += self.number(&clean)?;
        }
        let sums = "select count(*) from refold.offsets n full join clean.offsets c \
            using (version, partition) where (n.next_offset, n.sums, n.rows, n.last_record) \
            is distinct from (c.next_offset, c.sums, c.rows, c.last_record)";
        println!("{sums};");
        compared.other_sums = self.number(sums)?;
        Ok(compared)
    }
}

/// What the server found.
#[derive(Debug, Default)]
struct Compared {
    rows: i64,
    only_here: i64,
    only_clean: i64,
    other_sums: i64,
}

/// A count in the line with which a projector ends.
fn count(words: &str, name: &str) -> Result<i64, Failure> {
    let value = words.split(&format!(" {name}=")).nth(1);
    let value = value.and_then(|rest| rest.split_whitespace().next());
    let value = value.and_then(|text| text.parse().ok());
    let missing = || Failure::error("read the counts of the replay", words.to_owned());
    value.ok_or_else(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counts_are_read_from_the_line_that_a_projector_ends_with() {
        let line = "INFO refold: process ended version=\"accounts_v4\" applied=12 duplicates=3";
        assert_eq!(count(line, "applied").ok(), Some(12));
        assert_eq!(count(line, "duplicates").ok(), Some(3));
        assert!(count(line, "gaps").is_err());
    }
}
