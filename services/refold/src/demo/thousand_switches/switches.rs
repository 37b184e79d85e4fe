//! The switches of a run, as they were answered.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use tokio::time::Instant;

use crate::cli::Failure;
use crate::cli::Kind;
use crate::command::cutover::ask_proven;
use crate::demo::scene::Scene;
use crate::http::Answer;
use crate::load::Interval;
use crate::load::Readers;
use crate::load::nearest_rank;

/// How old the scan may be that a switch rests on.
const SCAN_AGE: Duration = Duration::from_secs(60);

/// How long the reason of a refusal may last.
const REFUSED_AT_MOST: Duration = Duration::from_secs(30);

/// Between a refusal and the next try.
const RETRY: Duration = Duration::from_millis(500);

/// A read meets a switch when it lives within this of the commit.
const MARGIN: Duration = Duration::from_millis(50);

/// A request that was answered with 200.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Asked {
    /// Not a dry run.
    real: bool,
    to: &'static str,
    sent: Duration,
    answered: Duration,
    pub(super) flip_ms: f64,
    generation: i64,
    /// The sum of the switch vector.
    offsets: i64,
}

impl Asked {
    /// Reads that live in it may have met the transaction.
    fn interval(&self) -> Interval {
        let flip = Duration::try_from_secs_f64(self.flip_ms / 1_000.0).unwrap_or_default();
        Interval::around(self.answered.saturating_sub(flip), self.answered, MARGIN)
    }
}

/// What became of the requests.
#[derive(Debug, Default)]
pub(super) struct Switches {
    pub(super) asked: Vec<Asked>,
    /// Which version served in which generation, as the answers say.
    pub(super) history: BTreeMap<i64, String>,
    /// How often which gate refused.
    pub(super) refusals: BTreeMap<String, u64>,
    pub(super) cycles: u64,
}

impl Switches {
    /// Asks for a switch, or for its dry run, until it is granted. `false` when the reason of a
    /// refusal did not pass.
    pub(super) async fn ask(
        &mut self,
        scene: &mut Scene,
        readers: &Readers,
        to: &'static str,
        real: bool,
    ) -> Result<bool, Failure> {
        let deadline = Instant::now() + REFUSED_AT_MOST;
        loop {
            scene.check_roles()?;
            let sent = readers.elapsed();
            let answer = ask_proven(scene.api(), to, !real, SCAN_AGE).await?;
            let times = (sent, readers.elapsed());
            if answer.status == 200 {
                self.note(&answer.body, to, real, times)?;
                return Ok(true);
            }
            let gate = refusing(&answer);
            scene.note(&format!("{gate} refused {to}: {}", answer.problem()));
            *self.refusals.entry(gate).or_default() += 1;
            if Instant::now() >= deadline {
                return Ok(false);
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Keeps what a granted request answered.
    fn note(
        &mut self,
        body: &Value,
        to: &'static str,
        real: bool,
        (sent, answered): (Duration, Duration),
    ) -> Result<(), Failure> {
        let strange = |what: &str| Failure::new(Kind::Error, format!("{what}: {body}"));
        let is_open = |gate: &Value| gate["ok"] == json!(true);
        let gates = body["gates"].as_array();
        if !gates.is_some_and(|gates| !gates.is_empty() && gates.iter().all(is_open)) {
            return Err(strange("granted although not every gate is open"));
        }
        // A dry run of what serves already is answered with the promotion that made it so.
        let judged = body["cutover_id"].as_str().is_none_or(str::is_empty);
        if (body["changed"] == json!(true)) != real || judged == real {
            return Err(strange("somebody else switches, too"));
        }
        let serves = match real {
            true => Some(to),
            false => body["from"].as_str(),
        };
        let (Some(generation), Some(flip_ms), Some(offsets), Some(serves)) = (
            body["generation"].as_i64(),
            body["flip_ms"].as_f64(),
            body["offset_sum"].as_i64(),
            serves,
        ) else {
            return Err(strange("the answer lacks a field"));
        };
        let known = self.history.entry(generation);
        if known.or_insert_with(|| serves.to_owned()).as_str() != serves {
            return Err(strange("one generation with two versions"));
        }
        self.asked.push(Asked {
            real,
            to,
            sent,
            answered,
            flip_ms,
            generation,
            offsets,
        });
        Ok(())
    }

    pub(super) fn of(&self, real: bool) -> impl Iterator<Item = &Asked> {
        self.asked.iter().filter(move |asked| asked.real == real)
    }

    pub(super) fn intervals(&self, real: bool) -> Vec<Interval> {
        self.of(real).map(Asked::interval).collect()
    }

    /// When each of them was answered.
    pub(super) fn moments(&self, real: bool) -> Vec<Duration> {
        self.of(real).map(|asked| asked.answered).collect()
    }

    /// Milliseconds of a quantile of the transactions.
    pub(super) fn flip_ms(&self, real: bool, quantile: f64) -> Option<f64> {
        let mut flips: Vec<_> = self.of(real).map(|asked| asked.flip_ms).collect();
        flips.sort_by(f64::total_cmp);
        nearest_rank(&flips, quantile)
    }

    /// Events that came between the first switch and the last.
    pub(super) fn tail_events(&self) -> i64 {
        let mut sums = self.of(true).map(|asked| asked.offsets);
        let first = sums.next().unwrap_or_default();
        sums.last().unwrap_or(first) - first
    }

    pub(super) fn csv(&self) -> String {
        let mut csv = "seconds,kind,to,generation,flip_ms,ask_ms\n".to_owned();
        for asked in &self.asked {
            let kind = if asked.real { "real" } else { "sham" };
            let took = asked.answered.saturating_sub(asked.sent);
            csv.push_str(&format!(
                "{:.6},{kind},{},{},{:.3},{:.3}\n",
                asked.answered.as_secs_f64(),
                asked.to,
                asked.generation,
                asked.flip_ms,
                took.as_secs_f64() * 1_000.0
            ));
        }
        csv
    }
}

/// The gate that held a request back, or how else it was refused.
fn refusing(answer: &Answer) -> String {
    let gates = answer.body["gates"].as_array();
    let shut = gates
        .into_iter()
        .flatten()
        .find(|gate| gate["ok"] == json!(false));
    let named = shut.and_then(|gate| gate["gate"].as_str());
    let named = named.or(answer.body["code"].as_str());
    named.map_or_else(|| format!("status {}", answer.status), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::LIVE;
    use crate::demo::NEW;

    fn answer(generation: i64, from: &str, real: bool) -> Value {
        json!({
            "cutover_id": if real { "id" } else { "" },
            "from": from,
            "generation": generation,
            "changed": real,
            "offset_sum": 1_000 * generation,
            "flip_ms": 2.5 * generation as f64,
            "gates": [{ "gate": "verified", "ok": true, "detail": "" }],
        })
    }

    fn note(switches: &mut Switches, body: &Value, to: &'static str, real: bool) -> bool {
        let times = (Duration::from_millis(100), Duration::from_millis(200));
        switches.note(body, to, real, times).is_ok()
    }

    #[test]
    fn the_history_is_what_dry_runs_and_switches_answer() {
        let mut switches = Switches::default();
        assert!(note(&mut switches, &answer(1, LIVE, false), NEW, false));
        assert!(note(&mut switches, &answer(2, LIVE, true), NEW, true));
        assert!(note(&mut switches, &answer(2, NEW, false), LIVE, false));
        assert!(note(&mut switches, &answer(3, NEW, true), LIVE, true));
        let history = [(1, LIVE), (2, NEW), (3, LIVE)];
        let history = history.map(|(generation, version)| (generation, version.to_owned()));
        assert_eq!(switches.history, BTreeMap::from(history));
        assert_eq!(switches.tail_events(), 1_000);
        assert_eq!(switches.flip_ms(true, 1.0), Some(7.5));
        assert_eq!(switches.flip_ms(false, 0.99), Some(5.0));
        let csv = switches.csv();
        assert_eq!(csv.lines().count(), 5);
        let last = "0.200000,real,accounts_v3,3,7.500,100.000";
        assert_eq!(csv.lines().next_back(), Some(last));
    }

    #[test]
    fn answers_that_do_not_fit_are_not_kept() {
        let mut switches = Switches::default();
        assert!(note(&mut switches, &answer(2, LIVE, true), NEW, true));
        let mut shut = answer(3, NEW, true);
        shut["gates"][0]["ok"] = json!(false);
        assert!(!note(&mut switches, &shut, LIVE, true));
        // It served already.
        assert!(!note(&mut switches, &answer(2, LIVE, false), NEW, true));
        // The same generation with another version.
        assert!(!note(&mut switches, &answer(2, LIVE, false), NEW, false));
        assert_eq!(switches.asked.len(), 1);
    }

    #[test]
    fn a_refusal_is_counted_under_its_gate() {
        let gates = json!([{ "gate": "caught-up", "ok": true }, { "gate": "lag", "ok": false }]);
        let refused = |body| Answer { status: 409, body };
        assert_eq!(refusing(&refused(json!({ "gates": gates }))), "lag");
        let code = json!({ "code": "conflict" });
        assert_eq!(refusing(&refused(code)), "conflict");
        assert_eq!(refusing(&refused(Value::Null)), "status 409");
    }
}
