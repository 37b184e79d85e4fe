//! The fetch loop of one partition: asks ahead, and outlives lost connections
//! and leaders at the same position.

use std::time::Duration;
use std::time::Instant;

use refold_domain::position::Offset;
use refold_ports::source::SourceError;
use refold_ports::source::inside;

use super::cluster::Cluster;
use super::cluster::Leader;
use super::fault;
use super::fault::Failure;
use super::fault::Verdict;
use super::headers;
use super::message::FETCH_BY_NAME;
use super::message::Fetch;
use super::message::Fetched;
use super::message::NO_EPOCH;
use super::message::NO_ID;
use super::message::Request as _;

/// First pause after a failure; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(20);

/// Longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// An answer with the moment at which it was asked for: what it says of the
/// log's end is no younger.
pub(crate) struct Answer {
    pub(crate) fetched: Fetched,
    pub(crate) asked: Instant,
}

/// A request that is on its way.
struct Asked {
    version: i16,
    at: Instant,
}

/// Failures in a row.
struct Trouble {
    since: Instant,
    tries: u32,
    /// No further try before this.
    pause_until: Instant,
}

/// Fetches one partition.
pub(crate) struct Fetcher {
    cluster: Cluster,
    leader: Option<Leader>,
    asked: Option<Asked>,
    /// The broker wants no request before this.
    throttled_until: Instant,
    trouble: Option<Trouble>,
    /// Bytes to ask for: more than usual when one batch needs them.
    answer_bytes: i32,
    /// Leader epoch of the last batch that was fetched.
    last_epoch: i32,
    /// Since when the leader has claimed an end below the position.
    short_since: Option<Instant>,
}

impl Fetcher {
    /// Finds the leader, and checks that `from` is inside the log.
    ///
    /// # Errors
    /// As [`refold_ports::source::LogSource::open`].
    pub(crate) fn open(mut cluster: Cluster, from: Offset) -> Result<Self, SourceError> {
        let deadline = Instant::now() + cluster.options().deadline;
        let mut pause = FIRST_PAUSE;
        let leader = loop {
            let found = cluster.find_leader(deadline).and_then(|mut leader| {
                let ends = cluster.ends(&mut leader, deadline)?;
                inside(ends, cluster.partition(), from).map_err(Failure::Final)?;
                Ok(leader)
            });
            match found {
                Ok(leader) => break leader,
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing(what)) if Instant::now() + pause >= deadline => {
                    return Err(SourceError::Unreachable(format!(
                        "topic {}: {what}",
                        cluster.topic()
                    )));
                }
                Err(Failure::Passing(_)) => std::thread::sleep(jittered(pause)),
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        };
        let now = Instant::now();
        Ok(Self {
            answer_bytes: cluster.options().answer_bytes,
            cluster,
            leader: Some(leader),
            asked: None,
            throttled_until: now,
            trouble: None,
            last_epoch: NO_EPOCH,
            short_since: None,
        })
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Asks for what comes at `offset`, if nothing is on its way and the
    /// broker may be asked. A failure shows when the answer is collected.
    pub(crate) fn ask_ahead(&mut self, offset: Offset) {
        if self.asked.is_none() && Instant::now() >= self.throttled_until {
            // Whatever is wrong with the connection stays wrong until then.
            let _ = self.ask(offset);
        }
    }

    fn ask(&mut self, offset: Offset) -> Result<(), Failure> {
        let Some(leader) = &mut self.leader else {
            return Ok(());
        };
        let topic_id = self.cluster.topic_id();
        let ceiling = if topic_id == NO_ID {
            FETCH_BY_NAME
        } else {
            i16::MAX
        };
        let version = leader.connection.version(Fetch::API, ceiling)?;
        let options = self.cluster.options();
        let request = Fetch {
            topic: self.cluster.topic(),
            topic_id,
            partition: self.cluster.partition().0,
            offset: offset.0,
            leader_epoch: leader.epoch,
            last_epoch: self.last_epoch,
            max_wait_ms: options.broker_wait_ms,
            max_bytes: self.answer_bytes,
        };
        leader
            .connection
            .send(&request, version, options.deadline)?;
        self.asked = Some(Asked {
            version,
            at: Instant::now(),
        });
        Ok(())
    }

    /// The next answer, which is for `offset`; `None` when `until` is over.
    ///
    /// # Errors
    /// Transient ones once an outage has lasted for the deadline.
    pub(crate) fn receive(
        &mut self,
        offset: Offset,
        until: Instant,
    ) -> Result<Option<Answer>, SourceError> {
        loop {
            match self.step(offset, until) {
                Ok(Some(answer)) => return Ok(Some(answer)),
                Ok(None) if Instant::now() >= until => return Ok(None),
                Ok(None) => {}
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing(what)) => self.endure(&what)?,
            }
        }
    }

    fn step(&mut self, offset: Offset, until: Instant) -> Result<Option<Answer>, Failure> {
        if self.leader.is_none() && !self.reconnect(until)? {
            return Ok(None);
        }
        if self.asked.is_none() {
            if !pause(self.throttled_until, until) {
                return Ok(None);
            }
            self.ask(offset)?;
        }
        self.collect(offset, until)
    }

    /// Finds the leader again, once the pause after the last failure is over.
    fn reconnect(&mut self, until: Instant) -> Result<bool, Failure> {
        let now = Instant::now();
        let (since, pause_until) = self
            .trouble
            .as_ref()
            .map_or((now, now), |trouble| (trouble.since, trouble.pause_until));
        if !pause(pause_until, until) {
            return Ok(false);
        }
        // What is left of the outage's deadline bounds this try.
        let deadline = (since + self.cluster.options().deadline).max(Instant::now() + FIRST_PAUSE);
        self.leader = Some(self.cluster.find_leader(deadline)?);
        Ok(true)
    }

    fn collect(&mut self, offset: Offset, until: Instant) -> Result<Option<Answer>, Failure> {
        let (Some(leader), Some(asked)) = (&mut self.leader, &self.asked) else {
            return Ok(None);
        };
        let (version, at) = (asked.version, asked.at);
        let Some(mut body) = leader.connection.poll(until)? else {
            let options = self.cluster.options();
            let owed = Duration::from_millis(options.broker_wait_ms.max(0) as u64);
            if leader.connection.silence() > options.deadline + owed {
                let address = leader.connection.address();
                let what = format!(
                    "broker {address} does not answer for {:?}",
                    options.deadline
                );
                return Err(self.give_up(what));
            }
            return Ok(None);
        };
        self.asked = None;
        let fetched = Fetch::read(&mut body, version)?;
        let throttle = Duration::from_millis(fetched.throttle_ms.max(0) as u64);
        self.throttled_until = Instant::now() + throttle;
        self.check(&fetched, offset)?;
        self.trouble = None;
        if self.falls_short(Offset(fetched.high_watermark), offset)? {
            let pause = Duration::from_millis(self.cluster.options().broker_wait_ms.max(1) as u64);
            self.throttled_until = Instant::now() + throttle.max(pause);
            return Ok(None);
        }
        if let Some(epoch) = headers::last_epoch(&fetched.records) {
            self.last_epoch = epoch;
        }
        Ok(Some(Answer { fetched, asked: at }))
    }

    /// An outage that has lasted for the whole deadline already.
    fn give_up(&mut self, what: String) -> Failure {
        let deadline = self.cluster.options().deadline;
        let now = Instant::now();
        self.trouble = Some(Trouble {
            since: now.checked_sub(deadline).unwrap_or(now),
            tries: 0,
            pause_until: now,
        });
        Failure::Passing(what)
    }

    /// What an answer's error or divergence means at `offset`.
    fn check(&mut self, fetched: &Fetched, offset: Offset) -> Result<(), Failure> {
        let partition = self.cluster.partition();
        let place = format!("{partition} at offset {offset}");
        let reason = fault::describe(fetched.code);
        match fault::judge(fetched.code) {
            Verdict::Fine => {}
            Verdict::OffsetRefused => {
                self.check_inside(offset)?;
                // The leader may have forgotten the epoch rather than the offset.
                self.last_epoch = NO_EPOCH;
                return Err(Failure::Passing(format!("{place} was refused: {reason}")));
            }
            // Finding the leader again tells whether the topic is gone or another one.
            Verdict::Passing | Verdict::TopicGone => {
                return Err(Failure::Passing(format!("{place}: {reason}")));
            }
            Verdict::Corrupt => {
                return Err(Failure::Final(SourceError::Corrupt {
                    partition,
                    offset,
                    reason: format!("the broker cannot read its log: {reason}"),
                }));
            }
            Verdict::Fatal => return Err(Failure::fatal(format!("{place}: {reason}"))),
        }
        if let Some(high) = fetched.diverges_at {
            return Err(Failure::Final(SourceError::BeyondEnd {
                partition,
                wanted: offset,
                high: Offset(high),
            }));
        }
        Ok(())
    }

    /// Whether the leader claims an end below what was read from it. One that
    /// has just been elected may not know yet how far its followers are; it
    /// gets the deadline's time to find out, and nothing that it says until
    /// then tells where the log ends.
    fn falls_short(&mut self, high: Offset, offset: Offset) -> Result<bool, Failure> {
        if high >= offset {
            self.short_since = None;
            return Ok(false);
        }
        let since = *self.short_since.get_or_insert_with(Instant::now);
        if since.elapsed() < self.cluster.options().deadline {
            return Ok(true);
        }
        self.short_since = None;
        Err(Failure::Final(SourceError::BeyondEnd {
            partition: self.cluster.partition(),
            wanted: offset,
            high,
        }))
    }

    fn check_inside(&mut self, offset: Offset) -> Result<(), Failure> {
        let deadline = Instant::now() + self.cluster.options().deadline;
        let Some(leader) = &mut self.leader else {
            return Ok(());
        };
        let ends = self.cluster.ends(leader, deadline)?;
        inside(ends, self.cluster.partition(), offset).map_err(Failure::Final)
    }

    /// Drops the connection after a failure that may pass.
    ///
    /// # Errors
    /// Once failures have followed each other for the deadline. The next try
    /// begins a new outage, so that a caller who asks again gets an answer in time.
    fn endure(&mut self, what: &str) -> Result<(), SourceError> {
        self.leader = None;
        self.asked = None;
        let now = Instant::now();
        let trouble = self.trouble.get_or_insert(Trouble {
            since: now,
            tries: 0,
            pause_until: now,
        });
        let pause = FIRST_PAUSE * 2_u32.pow(trouble.tries.min(10));
        trouble.tries += 1;
        trouble.pause_until = now + jittered(pause.min(LONGEST_PAUSE));
        let partition = self.cluster.partition();
        tracing::debug!(%partition, tries = trouble.tries, "reading is interrupted: {what}");
        if trouble.since.elapsed() < self.cluster.options().deadline {
            return Ok(());
        }
        trouble.since = now;
        Err(SourceError::Unreachable(format!(
            "{partition} of topic {}: {what}",
            self.cluster.topic()
        )))
    }

    /// Asks for `bytes` from now on, because one batch is that large; 0 asks
    /// for the usual amount again.
    pub(crate) fn set_answer_bytes(&mut self, bytes: usize) {
        let usual = self.cluster.options().answer_bytes;
        let wanted = i32::try_from(bytes).unwrap_or(i32::MAX);
        self.answer_bytes = wanted.max(usual);
    }
}

/// Waits until `then`, but not longer than `until`; tells whether `then` has come.
fn pause(then: Instant, until: Instant) -> bool {
    let now = Instant::now();
    if then > now {
        std::thread::sleep(then.min(until).saturating_duration_since(now));
    }
    then <= Instant::now()
}

/// Between half of `pause` and one and a half, so that the readers of one
/// broker do not come back to it in step.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_cut_short_by_the_end_of_the_callers_wait() {
        let begun = Instant::now();
        let soon = begun + Duration::from_millis(2);
        assert!(!pause(begun + Duration::from_secs(60), soon));
        assert!(pause(soon, begun + Duration::from_secs(60)));
        assert!(begun.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn pauses_are_spread_around_their_length() {
        let pause = Duration::from_millis(100);
        let spread: Vec<_> = (0..100).map(|_| jittered(pause)).collect();
        let bounds = Duration::from_millis(50)..=Duration::from_millis(150);
        assert!(spread.iter().all(|pause| bounds.contains(pause)));
        assert!(spread.iter().any(|other| *other != spread[0]));
    }
}
