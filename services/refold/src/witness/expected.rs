//! The rows that differ as expected, held against the log.
//!
//! A rule that says how two versions differ is the author's word, and a wrong row that
//! happens to fit it passes the scan. So the scan chooses some of the keys that it counted
//! there, and the log is asked about exactly these: their events are folded again by the
//! independent way up to the offset at which the scan compared their partition, and what
//! comes out is held against the very rows that the scan saw. Both versions may write on
//! meanwhile: neither the offset nor those rows change any more.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;

use refold_domain::diff::ChosenPair;
use refold_domain::diff::KeptRow;
use refold_domain::diff::PairPlan;
use refold_domain::diff::cell_text;
use refold_domain::diff::row_text;
use refold_domain::fold::AnyProjection;
use refold_domain::fold::Keys;
use refold_domain::fold::WitnessRow;
use refold_domain::position::Offset;
use refold_domain::position::Partition;
use refold_domain::spec::ProjectionSpec;
use refold_proto::decode_plain;
use refold_store_postgres::PgVerifier;
use refold_store_postgres::RecordedScan;
use refold_store_postgres::SessionOptions;
use refold_store_postgres::Testimony;
use serde::Serialize;
use serde_json::json;

use super::Log;
use super::Part;
use super::Standing;
use super::difference;
use super::fold_again;
use super::part_of;
use super::same_log;
use super::standing::StandingFolds;
use crate::cli::Failure;

/// Rows of a version that are named when the log contradicts them.
const NAMED: usize = 20;

/// A row that the log does not bear out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Contradicted {
    /// The version whose row it is.
    pub(crate) version: String,
    pub(crate) partition: i32,
    pub(crate) key: String,
    /// The key's cell as hex digits.
    pub(crate) cell: String,
    /// The offset at which the row was read and up to which the log was folded, exclusive.
    pub(crate) at: i64,
    /// The first thing that is wrong.
    pub(crate) detail: String,
    /// The columns, by name.
    pub(crate) table: BTreeMap<&'static str, String>,
    /// What the log gives; `None` where it gives no row.
    pub(crate) log: Option<BTreeMap<&'static str, String>>,
    /// The event from which on the table's columns are not what the log gives any more; `None`
    /// when they never were, or only the row's position is wrong.
    pub(crate) parts_at: Option<Parting>,
}

/// An event after which a row is not what the log gives any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Parting {
    pub(crate) offset: i64,
    /// Its number in the aggregate.
    pub(crate) version: u64,
}

/// What the log says of one version's rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Verdict {
    pub(crate) version: String,
    /// Rows that are what the log gives.
    pub(crate) confirmed: u64,
    /// Rows that are not.
    pub(crate) contradicted: u64,
    /// Some of the latter.
    pub(crate) named: Vec<Contradicted>,
}

/// What the log says of the rows that a scan counted as rightly different.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Confirmation {
    /// The scan.
    pub(crate) scan: String,
    /// The number that decided which keys were chosen.
    pub(crate) seed: u64,
    /// Keys that differ as expected.
    pub(crate) expected: u64,
    /// How many of them the log was asked about.
    pub(crate) asked: u64,
    /// Records that were read for it.
    pub(crate) records: u64,
    /// Of each version.
    pub(crate) versions: Vec<Verdict>,
}

impl Confirmation {
    /// Rows that the log contradicts.
    pub(crate) fn contradicted(&self) -> u64 {
        self.versions.iter().map(|v| v.contradicted).sum()
    }

    /// The named rows, a sentence each.
    pub(crate) fn sentences(&self) -> Vec<String> {
        let named = self.versions.iter().flat_map(|v| &v.named);
        named.map(sentence).collect()
    }

    /// One line for people.
    pub(crate) fn tell(&self) -> String {
        let of = |v: &Verdict| {
            let Verdict {
                version,
                confirmed,
                contradicted,
                ..
            } = v;
            format!("{version}: {confirmed} confirmed, {contradicted} contradicted")
        };
        let versions: Vec<_> = self.versions.iter().map(of).collect();
        format!(
            "the log about {} of {} keys that differ as expected (seed {}, {} records read): {}",
            self.asked,
            self.expected,
            self.seed,
            self.records,
            versions.join("; ")
        )
    }
}

fn sentence(row: &Contradicted) -> String {
    let Contradicted {
        version,
        partition,
        key,
        at,
        detail,
        parts_at,
        ..
    } = row;
    let parts = match parts_at {
        Some(Parting { offset, version }) => {
            format!("; it parts from the log at event {version}, offset {offset}")
        }
        None => String::new(),
    };
    format!("{version} p{partition} key {key} at {at}: {detail}{parts}")
}

/// Asks the log about the rows of a recorded scan of two versions (the last one, unless it is
/// named), and records what it says.
///
/// # Errors
/// When there is no such scan, or the log cannot be read from its first event on.
pub(crate) async fn confirm(
    session: &SessionOptions,
    log: &Log,
    (one, other): (&Arc<dyn AnyProjection>, &Arc<dyn AnyProjection>),
    scan: Option<&str>,
    mut standing: Option<&mut Standing>,
) -> Result<Confirmation, Failure> {
    let plan = PairPlan::of(one.spec(), other.spec())
        .map_err(|error| Failure::usage(error.to_string()))?;
    let pair = match plan.is_swapped() {
        true => [Arc::clone(other), Arc::clone(one)],
        false => [Arc::clone(one), Arc::clone(other)],
    };
    let verifier = PgVerifier::new(session);
    let specs = (pair[0].spec(), pair[1].spec());
    let scan = verifier.recorded_scan(specs, scan).await?;
    same_log(session, log, &pair).await?;
    let asked = scan.chosen.len() as u64;
    let mut confirmation = Confirmation {
        scan: scan.id.clone(),
        seed: scan.seed,
        expected: scan.expected,
        asked,
        records: 0,
        versions: pair.iter().map(|p| verdict_of(p.spec())).collect(),
    };
    for chosen in chosen(scan)? {
        let log = log.clone();
        let part = |one| part_of(session, one, chosen.partition, chosen.at);
        let parts = [part(&pair[0]).await?, part(&pair[1]).await?];
        let (partition, at) = (chosen.partition, chosen.at);
        let lent = standing.as_mut();
        let lent = lent.map(|standing| standing.lend(partition, at, &parts));
        let judged = tokio::task::spawn_blocking(move || chosen.judge(&log, &parts, lent));
        let (judged, lent) = judged
            .await
            .map_err(|error| Failure::error("fold the log again", error))??;
        if let (Some(standing), Some(folds)) = (standing.as_mut(), lent) {
            standing.keep(partition, folds);
        }
        confirmation.records += judged.records;
        for (verdict, side) in confirmation.versions.iter_mut().zip(judged.sides) {
            verdict.confirmed += side.confirmed;
            verdict.contradicted += side.contradicted;
            let room = NAMED.saturating_sub(verdict.named.len());
            verdict.named.extend(side.named.into_iter().take(room));
        }
    }
    for (projection, verdict) in pair.iter().zip(&confirmation.versions) {
        let testimony = Testimony {
            confirmed: verdict.confirmed,
            contradicted: verdict.contradicted,
            named: json!(verdict.named),
        };
        let spec = projection.spec();
        let kept = verifier.testify(&confirmation.scan, spec, &testimony);
        kept.await?;
    }
    Ok(confirmation)
}

fn verdict_of(spec: &ProjectionSpec) -> Verdict {
    Verdict {
        version: spec.label(),
        confirmed: 0,
        contradicted: 0,
        named: Vec::new(),
    }
}

/// The chosen rows of a partition, and the offset of the scan there.
struct Chosen {
    partition: Partition,
    at: Offset,
    pairs: Vec<ChosenPair>,
}

/// What the log says of them: the records that were read, and of each version's rows.
struct Judged {
    records: u64,
    sides: [Verdict; 2],
}

fn chosen(scan: RecordedScan) -> Result<Vec<Chosen>, Failure> {
    let mut by_partition: BTreeMap<Partition, Vec<ChosenPair>> = BTreeMap::new();
    for (partition, pair) in scan.chosen {
        by_partition.entry(partition).or_default().push(pair);
    }
    let rows = |(partition, pairs): (Partition, _)| {
        let found = scan.partitions.iter().find(|p| p.partition == partition.0);
        let at = found.map(|p| Offset(p.at));
        let at = at.ok_or_else(|| {
            let sentence = format!("scan {} has rows of {partition} and no offset", scan.id);
            Failure::error("read the last scan", sentence)
        })?;
        Ok(Chosen {
            partition,
            at,
            pairs,
        })
    };
    by_partition.into_iter().map(rows).collect()
}

impl Chosen {
    /// Folds the keys again for both versions, with folds that stand where there are some, and
    /// judges their rows. Blocks.
    fn judge(
        self,
        log: &Log,
        parts: &[Part; 2],
        mut standing: Option<StandingFolds>,
    ) -> Result<(Judged, Option<StandingFolds>), Failure> {
        let keys = self.pairs.iter().map(|pair| &pair.key);
        let (records, folded) = match &mut standing {
            Some(folds) => {
                let records = folds.advance(log, (self.partition, self.at), parts)?;
                (records, folds.rows(keys))
            }
            None => fold_again(log, self.partition, parts, &Keys::these(keys.cloned()))?,
        };
        let mut folded = folded.into_iter();
        let mut side = |part: &Part, row: fn(&ChosenPair) -> &KeptRow| {
            let rows = folded.next().unwrap_or_default();
            self.side(log, part, rows, row)
        };
        let old = side(&parts[0], |pair| &pair.old)?;
        let new = side(&parts[1], |pair| &pair.new)?;
        let judged = Judged {
            records,
            sides: [old, new],
        };
        Ok((judged, standing))
    }

    fn side(
        &self,
        log: &Log,
        part: &Part,
        folded: Vec<WitnessRow>,
        row: fn(&ChosenPair) -> &KeptRow,
    ) -> Result<Verdict, Failure> {
        let spec = part.projection.spec();
        let mut verdict = verdict_of(spec);
        let by_key: HashMap<_, _> = folded.into_iter().map(|r| (r.key.clone(), r)).collect();
        let mut wrong = Vec::new();
        for pair in &self.pairs {
            let table = witness_row(&pair.key, row(pair));
            let detail = against(spec, &table, by_key.get(&pair.key));
            match detail {
                None => verdict.confirmed += 1,
                Some(detail) => {
                    verdict.contradicted += 1;
                    wrong.push((table, detail));
                }
            }
        }
        wrong.truncate(NAMED);
        if wrong.is_empty() {
            return Ok(verdict);
        }
        let partings = self.partings(log, part, &wrong)?;
        let text = |row: &WitnessRow| columns_of(spec, row.cells.as_deref().unwrap_or_default());
        for (table, detail) in wrong {
            let of_log = by_key.get(&table.key).filter(|row| row.cells.is_some());
            verdict.named.push(Contradicted {
                version: spec.label(),
                partition: self.partition.0,
                key: cell_text(spec.key_type.column_type(), &table.key),
                cell: table.key.iter().map(|b| format!("{b:02x}")).collect(),
                at: self.at.0,
                detail,
                table: text(&table),
                log: of_log.map(text),
                parts_at: partings.get(&table.key).copied(),
            });
        }
        Ok(verdict)
    }

    /// Reads the partition once more and finds for each row the last moment at which it was
    /// what the log gave; the event behind that is where they part.
    fn partings(
        &self,
        log: &Log,
        part: &Part,
        wrong: &[(WitnessRow, String)],
    ) -> Result<HashMap<Vec<u8>, Parting>, Failure> {
        let keys = Keys::these(wrong.iter().map(|(row, _)| row.key.clone()));
        let mut fold = part.projection.witness(keys);
        let mut partings = Partings::default();
        let visit = |offset: Offset, value: Option<&[u8]>| {
            if !part.has(offset) {
                return Ok(());
            }
            let event = decode_plain(log.form, value.ok_or("a record without a value")?)?;
            if !fold.event(&event, offset)? {
                return Ok(());
            }
            let rows = fold.rows();
            let Some(now) = rows.iter().find(|row| row.off == offset) else {
                return Ok(());
            };
            let table = wrong.iter().find(|(row, _)| row.key == now.key);
            let agrees = table.is_some_and(|(table, _)| table.cells == now.cells);
            let event = Parting {
                offset: offset.0,
                version: event.version,
            };
            partings.see(&now.key, agrees, event);
            Ok(())
        };
        let whole = (Offset(0), self.at);
        log.each_record(self.partition, whole, visit)?;
        Ok(partings.at)
    }
}

/// Where rows and the log part, while the log is read from its first event on.
#[derive(Debug, Default)]
struct Partings {
    /// Keys whose rows are what the log gives so far.
    agreed: HashSet<Vec<u8>>,
    /// The last event at which a row stopped to be that.
    at: HashMap<Vec<u8>, Parting>,
}

impl Partings {
    /// Takes the next event of a key, and whether its row is what the log gives now.
    fn see(&mut self, key: &[u8], agrees: bool, event: Parting) {
        if agrees {
            self.at.remove(key);
            self.agreed.insert(key.to_vec());
        } else if self.agreed.remove(key) {
            self.at.insert(key.to_vec(), event);
        }
    }
}

fn witness_row(key: &[u8], row: &KeptRow) -> WitnessRow {
    WitnessRow {
        key: key.to_vec(),
        cells: Some(row.cells.clone()),
        applied_seq: row.applied_seq,
        off: row.off,
    }
}

/// What is wrong with a table's row; `None` when it is what the log gives.
fn against(spec: &ProjectionSpec, table: &WitnessRow, log: Option<&WitnessRow>) -> Option<String> {
    match log {
        None => Some("a row of an aggregate that the log does not know".to_owned()),
        Some(row) if row.cells.is_none() => {
            Some("a row, but the log says that there is none".to_owned())
        }
        Some(row) => difference(spec, row, table),
    }
}

/// A row's columns as text, by name.
pub(crate) fn columns_of(spec: &ProjectionSpec, cells: &[u8]) -> BTreeMap<&'static str, String> {
    let names = spec.columns.iter().map(|column| column.name);
    names.zip(row_text(spec.columns, cells)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_parts_from_the_log_at_the_event_behind_the_last_one_that_gave_it() {
        let part = |agrees: &[bool]| {
            let mut partings = Partings::default();
            for (version, agrees) in (1..).zip(agrees) {
                let event = Parting {
                    offset: 10 * version as i64,
                    version,
                };
                partings.see(b"key", *agrees, event);
            }
            let at = partings.at.get(&b"key"[..]);
            at.map(|event| (event.version, event.offset))
        };
        assert_eq!(part(&[false, true, false, false]), Some((3, 30)));
        assert_eq!(part(&[true, false, true, false]), Some((4, 40)));
        assert_eq!(part(&[true, false, true]), None);
        assert_eq!(part(&[false, false]), None);
    }
}
