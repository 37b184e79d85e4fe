//! The scan: every row of two versions, read once, compared and added up.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use refold_domain::diff::Choice;
use refold_domain::diff::DiffCounts;
use refold_domain::diff::Joined;
use refold_domain::diff::KeyShare;
use refold_domain::diff::NotComparable;
use refold_domain::diff::PairJoin;
use refold_domain::diff::PairPlan;
use refold_domain::diff::RowRef;
use refold_domain::position::Partition;
use refold_domain::spec::ProjectionSpec;
use refold_domain::sums::SumLayout;
use refold_domain::sums::Sums;
use refold_domain::version::VersionId;
use refold_ports::Registry;
use refold_ports::registry::RegistryError;
use refold_ports::registry::VersionRow;
use tokio::sync::watch;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::PartitionScan;
use super::PgVerifier;
use super::ScanOptions;
use super::ScanProgress;
use super::ScanReport;
use super::chosen;
use super::hold::Held;
use super::hold::Holder;
use super::pace::WorkerPace;
use super::record;
use super::record::Subject;
use crate::ddl;
use crate::leaf_rows::LeafRows;
use crate::leaf_rows::LeafTotal;
use crate::session::Session;
use crate::transaction::field;
use crate::transaction::query;

/// A row in the memory of a join, for each of its bytes on disk: those, and its place.
const JOIN_BYTES_PER_DISK_BYTE: usize = 2;

/// One side of a comparison.
struct Side {
    row: VersionRow,
    spec: ProjectionSpec,
}

/// What all workers of a scan share.
struct Scan {
    verifier: PgVerifier,
    id: Uuid,
    from: Side,
    to: Side,
    plan: PairPlan,
    options: ScanOptions,
    /// Partitions to compare; `next` is the first that nobody has taken.
    order: Vec<Partition>,
    next: AtomicUsize,
    progress: watch::Sender<ScanProgress>,
    found: Mutex<Vec<PartitionScan>>,
    /// Pairs that differ as expected which the log is to be asked about.
    chosen: Mutex<Choice>,
}

impl PgVerifier {
    /// Compares the tables of two versions of one log row by row, each partition at an
    /// offset at which both stand, and the rows of each with the sums of its mark. What is
    /// found is recorded with every partition. `progress` is told how far it is.
    ///
    /// # Errors
    /// [`RegistryError::Conflict`] when nothing says how they compare, when a leaf is
    /// missing, when a version does not reach the offset in time because no projector moves
    /// it, or when there is no scan to be resumed; others as their names say. Nothing stays
    /// held, and what was compared stays recorded.
    pub async fn scan_pair(
        &self,
        from: &ProjectionSpec,
        to: &ProjectionSpec,
        options: &ScanOptions,
        progress: Option<watch::Sender<ScanProgress>>,
    ) -> Result<ScanReport, RegistryError> {
        let began = Instant::now();
        let (scan, session) = self.begin(from, to, options, progress).await?;
        let scan = Arc::new(scan);
        let mut workers = JoinSet::new();
        for _ in 0..options.workers.clamp(1, scan.order.len().max(1)) {
            workers.spawn(Arc::clone(&scan).work());
        }
        let mut outcome = Ok(());
        while let Some(ended) = workers.join_next().await {
            let ended =
                ended.map_err(|e| RegistryError::Failed(format!("a worker of the scan: {e}")));
            outcome = outcome.and(ended.and_then(|outcome| outcome));
        }
        outcome?;
        let choice = locked(&scan.chosen).clone();
        chosen::close(&session, scan.id, &choice).await?;
        record::finish(&session, scan.id).await?;
        Ok(scan.report(began.elapsed()))
    }

    /// Opens the scan, or the one that is to be resumed.
    async fn begin(
        &self,
        from: &ProjectionSpec,
        to: &ProjectionSpec,
        options: &ScanOptions,
        progress: Option<watch::Sender<ScanProgress>>,
    ) -> Result<(Scan, Session), RegistryError> {
        let plan = PairPlan::of(from, to).map_err(|e| not_comparable(&e))?;
        let (from, to) = (self.side(from).await?, self.side(to).await?);
        check_logs(&from.row, &to.row)?;
        let session = self.session().await?;
        let subject = Subject {
            from: &from.row,
            to: &to.row,
            columns: [plan.same_columns(), plan.differing_columns()].concat(),
            rule: plan.rule().map(|rule| rule.code().to_string()),
        };
        let (id, found) = match &options.resume {
            None => {
                let id = Uuid::new_v4();
                record::open(&session, id, &subject).await?;
                (id, Vec::new())
            }
            Some(text) => {
                let id = chosen::parse(text)?;
                (id, record::resume(&session, id, &subject).await?)
            }
        };
        let mut choice = Choice::new(chosen::seed_of(id), options.chosen);
        let order = self.largest_first(&from.row, &to.row).await?;
        let done = |partition: &Partition| found.iter().any(|p| p.partition == partition.0);
        for (_, pair) in chosen::read(&session, id).await? {
            choice.add(pair);
        }
        let (progress, rows_all) = (progress.unwrap_or_default(), order.1);
        let finished: u64 = found.iter().map(|p| p.rows_old + p.rows_new).sum();
        progress.send_replace(ScanProgress {
            id: id.to_string(),
            done: found.len(),
            partitions: order.0.len(),
            rows_read: finished,
            rows_all,
            findings: found.iter().map(PartitionScan::findings).sum(),
        });
        let scan = Scan {
            verifier: self.clone(),
            id,
            from,
            to,
            plan,
            options: options.clone(),
            order: order.0.into_iter().filter(|p| !done(p)).collect(),
            next: AtomicUsize::new(0),
            progress,
            found: Mutex::new(found),
            chosen: Mutex::new(choice),
        };
        Ok((scan, session))
    }

    async fn side(&self, spec: &ProjectionSpec) -> Result<Side, RegistryError> {
        Ok(Side {
            row: self.registered(spec).await?,
            spec: spec.clone(),
        })
    }

    /// The partitions, the one with most rows first, and the rows of both versions.
    async fn largest_first(
        &self,
        from: &VersionRow,
        to: &VersionRow,
    ) -> Result<(Vec<Partition>, u64), RegistryError> {
        let mut sizes: Vec<_> = (0..from.log.partitions)
            .map(|p| (0, Partition(p)))
            .collect();
        for version in [from.id, to.id] {
            for mark in self.registry.marks(version).await? {
                let at = usize::try_from(mark.partition.0).ok();
                if let Some(size) = at.and_then(|at| sizes.get_mut(at)) {
                    size.0 += mark.rows;
                }
            }
        }
        let rows = sizes.iter().map(|(rows, _)| rows).sum();
        sizes.sort_by_key(|(rows, partition)| (std::cmp::Reverse(*rows), *partition));
        Ok((sizes.into_iter().map(|(_, p)| p).collect(), rows))
    }
}

pub(super) fn not_comparable(error: &NotComparable) -> RegistryError {
    RegistryError::Conflict(error.to_string())
}

fn check_logs(from: &VersionRow, to: &VersionRow) -> Result<(), RegistryError> {
    let log = |row: &VersionRow| {
        let log = &row.log;
        (log.cluster_id.clone(), log.topic.clone(), log.partitions)
    };
    if log(from) == log(to) {
        return Ok(());
    }
    Err(RegistryError::Conflict(format!(
        "{} and {} are built from different logs",
        from.label, to.label
    )))
}

impl Scan {
    /// Compares partitions until there is none left.
    async fn work(self: Arc<Self>) -> Result<(), RegistryError> {
        let holder = Holder {
            id: self.id,
            from: &self.from.row,
            to: &self.to.row,
            wait: self.options.hold,
            control: self.verifier.session().await?,
            reader: self.verifier.session().await?,
        };
        while let Some(&partition) = self.order.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            match self.compared_and_recorded(&holder, partition).await {
                Ok(scan) => self.keep(scan),
                Err(error) => {
                    // The others take no further partition.
                    self.next.store(self.order.len(), Ordering::Relaxed);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    async fn compared_and_recorded(
        &self,
        holder: &Holder<'_>,
        partition: Partition,
    ) -> Result<PartitionScan, RegistryError> {
        let (scan, choice) = self.partition(holder, partition).await?;
        let pairs = choice.into_pairs();
        record::add(&holder.control, self.id, &scan, &pairs).await?;
        let mut all = locked(&self.chosen);
        pairs.into_iter().for_each(|pair| all.add(pair));
        Ok(scan)
    }

    fn keep(&self, scan: PartitionScan) {
        self.progress.send_modify(|progress| {
            progress.done += 1;
            progress.findings += scan.findings();
        });
        locked(&self.found).push(scan);
    }

    /// Both sides, the older one first.
    fn old_and_new(&self) -> (&Side, &Side) {
        match self.plan.is_swapped() {
            true => (&self.to, &self.from),
            false => (&self.from, &self.to),
        }
    }

    async fn partition(
        &self,
        holder: &Holder<'_>,
        partition: Partition,
    ) -> Result<(PartitionScan, Choice), RegistryError> {
        let Held { from, to, held } = holder.at_equal_marks(partition).await?;
        let began = Instant::now();
        let (mark_old, mark_new) = match self.plan.is_swapped() {
            true => (to, from),
            false => (from, to),
        };
        let (old, new) = self.old_and_new();
        let leaf_old = LeafRows::of(old.row.id, partition, &old.spec)?;
        let leaf_new = LeafRows::of(new.row.id, partition, &new.spec)?;
        let reader = &holder.reader;
        let passes = self.passes(reader, old.row.id, partition).await?;
        let (mut counts, mut samples) = (DiffCounts::default(), Vec::new());
        let (mut totals, mut choice) = (None, locked(&self.chosen).part());
        for class in 0..passes {
            let class = KeyShare::new(class, passes);
            let join = PairJoin::new(&self.plan, self.options.sample, choice);
            let leaves = (&leaf_old, &leaf_new);
            let (found, total) = self.compare(reader, leaves, class, join).await?;
            counts.add(&found.counts);
            samples.extend(found.samples);
            choice = found.chosen;
            totals = totals.or(Some(total));
        }
        holder.end_snapshot().await?;
        let mut scan = PartitionScan::new(partition.0, mark_old.next.0, &counts, samples);
        if let Some((total_old, total_new)) = totals {
            let stored = leaf_old.stored_sums(&mark_old.sums)?;
            untied(&old.spec, &stored, &total_old.sums, &mut scan.untied);
            let stored = leaf_new.stored_sums(&mark_new.sums)?;
            untied(&new.spec, &stored, &total_new.sums, &mut scan.untied);
        }
        scan.passes = u32::try_from(passes).unwrap_or(u32::MAX);
        scan.held_ms = held.as_secs_f64() * 1_000.0;
        scan.seconds = began.elapsed().as_secs_f64();
        Ok((scan, choice))
    }

    /// How often the rows have to be read, so that those of one class of keys fit into
    /// this worker's share of the memory.
    async fn passes(
        &self,
        reader: &Session,
        version: VersionId,
        partition: Partition,
    ) -> Result<u64, RegistryError> {
        let leaf = ddl::leaf_name(version, partition);
        let size = format!("select pg_table_size('{leaf}'::regclass) as bytes");
        let rows = query(reader, "ask for the size of a leaf", &size, &[]).await?;
        let bytes: i64 = match rows.first() {
            Some(row) => field(row, "bytes")?,
            None => 0,
        };
        let needed = bytes.unsigned_abs() * JOIN_BYTES_PER_DISK_BYTE as u64;
        let share = (self.options.memory / self.options.workers.max(1)).max(1);
        Ok(needed.div_ceil(share as u64).max(1))
    }

    /// Compares the rows of one class of keys in the reader's open snapshot.
    async fn compare(
        &self,
        reader: &Session,
        (old, new): (&LeafRows, &LeafRows),
        class: KeyShare,
        mut join: PairJoin<'_>,
    ) -> Result<(Joined, (LeafTotal, LeafTotal)), RegistryError> {
        let rate = self.options.rate;
        let pace = WorkerPace::new(rate);
        let keep = |row: RowRef<'_>| {
            if class.has(row.key) {
                join.keep_old(&row);
            }
        };
        let total_old = old
            .read(reader, rate, keep, |rows| self.pause(&pace, rows))
            .await?;
        let meet = |row: RowRef<'_>| {
            if class.has(row.key) {
                join.meet_new(&row);
            }
        };
        let total_new = new
            .read(reader, rate, meet, |rows| self.pause(&pace, rows))
            .await?;
        Ok((join.finish(), (total_old, total_new)))
    }

    async fn pause(&self, pace: &WorkerPace, rows: u64) {
        self.progress
            .send_modify(|progress| progress.rows_read += rows);
        pace.wait(rows).await;
    }

    fn report(&self, took: Duration) -> ScanReport {
        let mut partitions = locked(&self.found).clone();
        partitions.sort_by_key(|p| p.partition);
        let (old, new) = self.old_and_new();
        let names = |columns: Vec<&'static str>| columns.into_iter().map(str::to_owned).collect();
        ScanReport {
            id: self.id.to_string(),
            old: old.row.label.clone(),
            new: new.row.label.clone(),
            same: names(self.plan.same_columns()),
            differing: names(self.plan.differing_columns()),
            has_rule: self.plan.rule().is_some(),
            partitions,
            seconds: took.as_secs_f64(),
        }
    }
}

/// What a lock guards; a worker that panicked left it whole.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Names the columns whose rows do not add up to what the mark says.
fn untied(spec: &ProjectionSpec, stored: &Sums, found: &Sums, names: &mut Vec<String>) {
    let layout: SumLayout = spec.sum_layout();
    let label = spec.label();
    if stored.counts() != found.counts() {
        names.push(format!("{label}: number of rows"));
    }
    let differing = layout
        .names()
        .iter()
        .filter(|name| stored.column(&layout, name) != found.column(&layout, name));
    names.extend(differing.map(|name| format!("{label}.{name}")));
}
