//! Every aggregate against the known final state.

use serde_json::Value;

use crate::process::Exit;
use crate::process::Launch;
use crate::world::World;
use crate::world::run;
use crate::world::with;

impl World {
    /// `refold verify -version VERSION -against AGAINST`: its report, 0 differences or not.
    ///
    /// # Panics
    /// When it answers no report.
    pub fn verify(&self, version: &str, against: &str) -> Value {
        let launch = Launch::new(["verify", "--json"])
            .flag("version", version)
            .flag("against", against);
        let answer = run(&with(with(launch, self.stream_flags()), self.store_flags()));
        assert!(
            matches!(answer.exit, Exit::Code(0 | 2)),
            "verify {version} against {against}: {answer:?}"
        );
        answer.json()
    }

    /// Holds every aggregate of a version against the oracle, which shares no code with
    /// the projections; and some rows once more, by hand.
    ///
    /// # Panics
    /// When one row is missing, different or too many.
    pub fn assert_equals_oracle(&self, version: &str) {
        let report = self.verify(version, "expected");
        assert_eq!(report["differences"], 0, "{version}: {report}");
        let aggregates = self.stream().aggregates;
        assert_eq!(report["rows_compared"], aggregates, "{version}: {report}");
        self.watch().assert_none_moved_back();
    }
}
