//! A scenario: what is run, and which faults are injected.

use serde::Deserialize;

use crate::kind::Kind;
use crate::kind::Victim;

/// A scenario that cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ScenarioError(pub(crate) String);

/// The version of a projector process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Version {
    /// The one that serves first.
    Live,
    /// The one that is built beside it.
    New,
}

/// One kind of fault of a scenario.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Fault {
    /// What happens.
    pub kind: Kind,
    /// How often in a round, in which every fault of the scenario has its turn.
    #[serde(default = "one")]
    pub weight: u32,
    /// Whose projector is hit; drawn where it is not said.
    pub target: Option<Version>,
    /// How long it lasts, `[least, most]` in milliseconds.
    pub lasts_ms: Option<[u64; 2]>,
}

const fn one() -> u32 {
    1
}

/// A run: a log that is seeded, a version that is built from it beside the one that serves, and a
/// live phase at a stated rate; faults in both.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Scenario {
    /// Decides the log, the order of the faults, where they hit and how long they last.
    pub seed: u64,
    /// Events of the log before anything is built.
    pub events: u64,
    /// Aggregates.
    pub aggregates: u64,
    /// Partitions.
    pub partitions: u32,
    /// Events a second that keep coming.
    pub rate: u64,
    /// Reads a second, open loop, of the api.
    pub reads: u64,
    /// Events a second at which the new version is built, so that faults meet it on the way.
    pub build_rate: u64,
    /// Faults while it is built, at least.
    #[serde(default)]
    pub build_faults: u32,
    /// Faults of the live phase, at least.
    #[serde(default)]
    pub faults: u32,
    /// Seconds of the live phase, at least.
    #[serde(default)]
    pub seconds: u64,
    /// Between the gate of a fault and the next fault, `[least, most]` in milliseconds.
    #[serde(default = "pauses")]
    pub pause_ms: [u64; 2],
    /// Offsets that each version has to commit when a fault is over.
    #[serde(default = "offsets")]
    pub gate_offsets: u64,
    /// Seconds within which it has to.
    #[serde(default = "within")]
    pub gate_seconds: u64,
    /// Memory that a projector may take, in MiB.
    #[serde(default = "memory")]
    pub memory_mib: u64,
    /// Whether the projectors' commits do not wait for the disk. A mark may then go back when the
    /// database is killed; what is lost is applied again.
    #[serde(default)]
    pub async_commit: bool,
    /// The faults.
    #[serde(default, rename = "fault")]
    pub mix: Vec<Fault>,
}

const fn pauses() -> [u64; 2] {
    [200, 1_000]
}

const fn offsets() -> u64 {
    1_000
}

const fn within() -> u64 {
    60
}

const fn memory() -> u64 {
    2_048
}

/// Bounds of the numbers: name, least, most.
type Bound = (&'static str, u64, u64);

impl Scenario {
    /// Reads a scenario.
    ///
    /// # Errors
    /// One sentence with what is not understood or cannot be done, and what there is.
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        let read: Result<Self, _> = toml::from_str(text);
        let scenario = read.map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            let line = 1 + text[..at.min(text.len())].matches('\n').count();
            let sentence = error.message().replace('\n', " ");
            ScenarioError(format!("line {line}: {sentence}"))
        })?;
        scenario.check_numbers()?;
        scenario.check_sense()?;
        scenario.mix.iter().try_for_each(Fault::check)?;
        Ok(scenario)
    }

    fn check_numbers(&self) -> Result<(), ScenarioError> {
        let bounds: [(Bound, u64); 12] = [
            (("events", 10_000, 1_000_000_000), self.events),
            (("aggregates", 100, 100_000_000), self.aggregates),
            (("partitions", 1, 256), u64::from(self.partitions)),
            (("rate", 100, 200_000), self.rate),
            (("reads", 1, 100_000), self.reads),
            (("build-rate", 1_000, 10_000_000), self.build_rate),
            (("build-faults", 0, 1_000), u64::from(self.build_faults)),
            (("faults", 0, 100_000), u64::from(self.faults)),
            (("seconds", 0, 604_800), self.seconds),
            (("gate-offsets", 1, 1_000_000), self.gate_offsets),
            (("gate-seconds", 1, 600), self.gate_seconds),
            (("memory-mib", 64, 1 << 20), self.memory_mib),
        ];
        for ((name, least, most), value) in bounds {
            if !(least..=most).contains(&value) {
                return refuse(format!("{name} = {value}: it goes from {least} to {most}"));
            }
        }
        check_span("pause-ms", self.pause_ms, 0)
    }

    fn check_sense(&self) -> Result<(), ScenarioError> {
        if self.aggregates > self.events {
            return refuse("aggregates is above events: each has one event at least");
        }
        if self.aggregates < 100 * u64::from(self.partitions) {
            return refuse(
                "partitions is above a hundredth of aggregates: one could stay without events, \
                 and a gate waits for each of them",
            );
        }
        if self.build_rate <= self.rate {
            return refuse("build-rate is not above rate: the new version would never catch up");
        }
        if self.rate * self.gate_seconds < 2 * self.gate_offsets {
            return refuse(
                "gate-offsets is more than half of what comes in gate-seconds at this rate: \
                 no version could commit so much in time",
            );
        }
        if self.mix.is_empty() {
            let known: Vec<_> = Kind::all().map(Kind::word).collect();
            return refuse(format!(
                "there is no [[fault]]; a fault is one of {}",
                known.join(", ")
            ));
        }
        if self.faults == 0 && self.seconds == 0 {
            return refuse("say how long by faults, by seconds or by both");
        }
        if self.build_faults > 0 && !self.mix.iter().any(|fault| fault.kind.fits_a_build()) {
            return refuse("build-faults wants faults, but none of the [[fault]]s fits a build");
        }
        Ok(())
    }
}

impl Fault {
    fn check(&self) -> Result<(), ScenarioError> {
        let kind = self.kind;
        if !(1..=1_000).contains(&self.weight) {
            return refuse(format!("{kind}: weight goes from 1 to 1000"));
        }
        if self.target.is_some() && kind.victim() != Victim::Projector {
            let with: Vec<_> = Kind::all()
                .filter(|kind| kind.victim() == Victim::Projector)
                .map(Kind::word)
                .collect();
            return refuse(format!(
                "{kind} has no target: it hits what both versions share; a target \
                 (\"live\" or \"new\") belongs to {}",
                with.join(", ")
            ));
        }
        match (self.lasts_ms, kind.lasts_ms()) {
            (Some(_), None) => refuse(format!(
                "{kind} has no lasts-ms: it is over when it is done"
            )),
            (Some(span), Some(_)) => check_span(&format!("{kind}: lasts-ms"), span, 1),
            (None, _) => Ok(()),
        }
    }

    /// How long it lasts, `[least, most]` in milliseconds; `[0, 0]` where it is over when it is done.
    pub fn span_ms(&self) -> [u64; 2] {
        self.lasts_ms.or(self.kind.lasts_ms()).unwrap_or_default()
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Longest span of a fault or a pause.
const MOST_MS: u64 = 300_000;

fn check_span(name: &str, [least, most]: [u64; 2], from: u64) -> Result<(), ScenarioError> {
    if from <= least && least <= most && most <= MOST_MS {
        return Ok(());
    }
    refuse(format!(
        "{name} = [{least}, {most}]: the least comes first, and both go from {from} to {MOST_MS}"
    ))
}

fn refuse<T>(sentence: impl Into<String>) -> Result<T, ScenarioError> {
    Err(ScenarioError(sentence.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "
seed = 7
events = 100_000
aggregates = 10_000
partitions = 4
rate = 5_000
reads = 100
build-rate = 50_000
build-faults = 2
faults = 10

[[fault]]
kind = \"projector-kill\"
target = \"live\"

[[fault]]
kind = \"kafka-blackhole\"
weight = 3
lasts-ms = [100, 200]
";

    #[test]
    fn every_scenario_that_comes_with_the_project_can_be_run() {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../ops/chaos");
        let files = std::fs::read_dir(dir).expect("the scenarios");
        let mut read = 0;
        for file in files {
            let path = file.expect("a file").path();
            let text = std::fs::read_to_string(&path).expect("a scenario");
            let scenario = Scenario::parse(&text);
            assert!(scenario.is_ok(), "{}: {scenario:?}", path.display());
            read += 1;
        }
        assert!(read >= 5, "{read} scenarios");
    }

    #[test]
    fn a_scenario_is_read_with_its_defaults() {
        let scenario = Scenario::parse(GOOD).expect("a good scenario");
        assert_eq!((scenario.gate_offsets, scenario.gate_seconds), (1_000, 60));
        assert_eq!(scenario.mix[0].weight, 1);
        assert_eq!(scenario.mix[0].target, Some(Version::Live));
        assert_eq!(scenario.mix[0].span_ms(), [0, 0]);
        assert_eq!(scenario.mix[1].span_ms(), [100, 200]);
    }

    #[test]
    fn what_cannot_be_run_is_refused_with_what_there_is() {
        let kill = "kind = \"projector-kill\"\ntarget = \"live\"";
        for (good, bad, says) in [
            (
                kill,
                "kind = \"projector-explode\"",
                "projector-kill-mid-batch",
            ),
            (
                kill,
                "kind = \"postgres-kill\"\ntarget = \"live\"",
                "has no target",
            ),
            (
                kill,
                "kind = \"projector-kill\"\ntarget = \"old\"",
                "`live` or `new`",
            ),
            (
                kill,
                "kind = \"projector-kill\"\nlasts-ms = [1, 2]",
                "no lasts-ms",
            ),
            (
                kill,
                "kind = \"projector-kill\"\nweight = 0",
                "weight goes from 1",
            ),
            ("[100, 200]", "[200, 100]", "the least comes first"),
            ("faults = 10", "faults = 0", "by faults, by seconds"),
            ("faults = 10", "fault-count = 10", "unknown field"),
            ("partitions = 4", "partitions = 0", "from 1 to 256"),
            (
                "partitions = 4",
                "partitions = 200",
                "a hundredth of aggregates",
            ),
            (
                "events = 100_000",
                "events = 10_000_000_000",
                "from 10000 to",
            ),
            ("rate = 5_000", "rate = 50_000", "never catch up"),
            (
                "rate = 5_000",
                "rate = 5_000\ngate-offsets = 900_000",
                "in time",
            ),
            ("seed = 7", "", "missing field `seed`"),
            ("seed = 7", "seed = \"x\"", "line 2"),
        ] {
            assert!(GOOD.contains(good), "{good}");
            let text = GOOD.replacen(good, bad, 1);
            let refused = Scenario::parse(&text).expect_err(bad).to_string();
            assert!(refused.contains(says), "{bad}: {refused}");
            assert!(!refused.contains('\n'), "{refused}");
        }
    }

    #[test]
    fn a_scenario_without_faults_and_one_whose_faults_do_not_fit_the_build_are_refused() {
        let head = GOOD.split("[[fault]]").next().expect("a head");
        let refused = Scenario::parse(head).expect_err("no fault").to_string();
        assert!(refused.contains("kafka-blackhole"), "{refused}");
        let text = format!("{head}[[fault]]\nkind = \"switch\"\n");
        let refused = Scenario::parse(&text).expect_err("only switches");
        assert!(refused.to_string().contains("fits a build"), "{refused}");
    }
}
