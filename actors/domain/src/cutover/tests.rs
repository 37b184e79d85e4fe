//! Evidence for and against a promotion, and what every gate says of it.

use super::*;

fn good() -> Evidence {
    Evidence {
        state: VersionState::Ready,
        behind: vec![],
        differences: Some(vec![]),
        scan: None,
        max_scan_age: None,
        parked: 0,
        gaps: 0,
        without_key: vec![],
        lag: 3,
        allowed_lag: 3,
    }
}

fn refused(evidence: &Evidence) -> Vec<Gate> {
    let reports = judge(evidence);
    reports.iter().filter(|r| !r.ok).map(|r| r.gate).collect()
}

const MINUTE: Duration = Duration::from_secs(60);

fn scan(findings: u64, seconds: u64) -> Option<ScanProof> {
    let age = Duration::from_secs(seconds);
    Some(ScanProof {
        findings,
        age,
        expected: 0,
        log: None,
    })
}

/// A young scan with rows that differ as expected, and what the log said of them.
fn expecting(expected: u64, log: Option<(u64, u64)>) -> Option<ScanProof> {
    scan(0, 1).map(|scan| ScanProof {
        expected,
        log: log.map(|(confirmed, contradicted)| LogProof {
            confirmed,
            contradicted,
        }),
        ..scan
    })
}

#[test]
fn rows_that_differ_as_expected_are_confirmed_by_the_log_or_hold_the_promotion_back() {
    let asked = |scan: Option<ScanProof>, wanted: bool| Evidence {
        scan,
        max_scan_age: wanted.then_some(MINUTE),
        ..good()
    };
    for (expected, log, passes) in [
        (0, None, true),
        (1, None, false),
        (7, Some((6, 0)), false),
        (7, Some((7, 0)), true),
        (9_999, Some((9_998, 0)), false),
        (9_999, Some((9_999, 0)), true),
        (1_000_000, Some((9_999, 0)), false),
        (1_000_000, Some((10_000, 0)), true),
        (1_000_000, Some((10_000, 1)), false),
    ] {
        let evidence = asked(expecting(expected, log), true);
        let shut = refused(&evidence);
        assert_eq!(shut.is_empty(), passes, "{expected} {log:?}: {shut:?}");
    }
    let report = &judge(&asked(expecting(12, Some((5, 0))), true))[1];
    for part in [
        "12 rows",
        "confirmed 5",
        "12 are needed",
        "refold verify",
        "-brokers",
    ] {
        assert!(report.detail.contains(part), "{part}: {}", report.detail);
    }
    // Where no scan is asked for, none of its parts is; a contradiction counts all the same.
    assert_eq!(refused(&asked(expecting(12, None), false)), []);
    let contradicted = asked(expecting(12, Some((11, 1))), false);
    assert_eq!(refused(&contradicted), [Gate::Verified]);
}

#[test]
fn good_evidence_passes_every_gate() {
    assert_eq!(refused(&good()), []);
    let scanned = Evidence {
        scan: scan(0, 60),
        max_scan_age: Some(MINUTE),
        ..good()
    };
    assert_eq!(refused(&scanned), []);
    // Nobody asked for a scan: an old one that found nothing does no harm.
    let old = Evidence {
        scan: scan(0, 1_000_000),
        ..good()
    };
    assert_eq!(refused(&old), []);
}

#[test]
fn a_gate_is_forced_alone_and_the_one_that_is_caught_up_never() {
    let bad = Evidence {
        parked: 1,
        lag: 4,
        state: VersionState::Building,
        ..good()
    };
    for gate in Gate::ALL {
        assert_eq!(Gate::parse(gate.word()), Some(gate));
        let forced = Forced {
            gate,
            reason: "known".to_owned(),
        };
        let reports = judge_forced(&bad, Some(&forced));
        let held = reports.iter().filter(|r| !r.passes()).count();
        // Three are shut; one of them is opened where that may be.
        let opens = matches!(gate, Gate::Parked | Gate::Lag);
        assert_eq!(held, if opens { 2 } else { 3 }, "{gate}");
        let noted = reports.iter().filter(|r| r.forced.is_some()).count();
        assert_eq!(noted, usize::from(opens));
    }
    assert_eq!(judge_forced(&bad, None), judge(&bad));
}

#[test]
fn each_lack_is_refused_by_its_own_gate() {
    type Spoil = fn(&mut Evidence);
    let lacks: [(Gate, Spoil); 11] = [
        (Gate::CaughtUp, |e| {
            e.behind.push(Behind {
                partition: Partition(7),
                events: 40_102,
            });
        }),
        (Gate::CaughtUp, |e| e.state = VersionState::Building),
        (Gate::Verified, |e| e.differences = None),
        (Gate::Verified, |e| {
            e.differences = Some(vec![SumDifference {
                partition: Partition(0),
                column: "balance",
                buckets: vec![1],
            }]);
        }),
        (Gate::Verified, |e| e.max_scan_age = Some(MINUTE)),
        (Gate::Verified, |e| e.scan = scan(1, 0)),
        (Gate::Verified, |e| {
            e.max_scan_age = Some(MINUTE);
            e.scan = scan(0, 61);
        }),
        (Gate::Parked, |e| e.parked = 1),
        (Gate::Gaps, |e| e.gaps = 1),
        (Gate::Keys, |e| e.without_key.push(Partition(2))),
        (Gate::Lag, |e| e.lag = 4),
    ];
    for (gate, spoil) in lacks {
        let mut evidence = good();
        spoil(&mut evidence);
        assert_eq!(refused(&evidence), [gate]);
    }
}

/// What a gate says of evidence that `spoil` was done to, and whether it passes.
fn said(gate: Gate, spoil: impl Fn(&mut Evidence)) -> (bool, String) {
    let mut evidence = good();
    spoil(&mut evidence);
    let reports = judge(&evidence);
    let report = reports.into_iter().find(|report| report.gate == gate);
    report
        .map(|report| (report.ok, report.detail))
        .expect("every gate is judged")
}

fn passed(detail: &str) -> (bool, String) {
    (true, detail.to_owned())
}

fn held(detail: &str) -> (bool, String) {
    (false, detail.to_owned())
}

#[test]
fn an_operator_is_told_what_is_so_where_a_gate_is_passed() {
    let sums = "the checksums are equal at the switch vector";
    for (gate, detail) in [
        (Gate::CaughtUp, "every partition passed its switch offset"),
        (Gate::Verified, sums),
        (Gate::Parked, "0 parked events"),
        (Gate::Gaps, "0 events missing from the log"),
        (Gate::Keys, "every leaf has its primary key"),
        (
            Gate::Lag,
            "the worst partition is 3 events behind the serving version, 3 are allowed",
        ),
    ] {
        assert_eq!(said(gate, |_| {}), passed(detail));
    }
    let scanned = |expected, log| {
        let scan = expecting(expected, log);
        said(Gate::Verified, move |e| e.scan = scan)
    };
    let scan = format!("{sums}; a scan of both tables 1 s ago found nothing");
    assert_eq!(scanned(0, None), passed(&scan));
    assert_eq!(
        scanned(12, None),
        passed(&format!(
            "{scan}; 12 rows differ as expected, about which the log was not asked"
        ))
    );
    assert_eq!(
        scanned(12, Some((11, 0))),
        passed(&format!(
            "{scan}; of 12 rows that differ as expected the log was asked about 11 and confirmed each"
        ))
    );
}

#[test]
fn an_operator_is_told_what_is_missing_where_a_gate_is_shut() {
    let behind = |partition, events| Behind {
        partition: Partition(partition),
        events,
    };
    let told = said(Gate::CaughtUp, |e| {
        e.behind = vec![behind(1, 5), behind(7, 40_102), behind(9, 6)];
    });
    assert_eq!(
        told,
        held("3 partitions have not passed the switch offset; p7 is 40102 events behind")
    );
    for (state, word) in [
        (VersionState::Building, "building"),
        (VersionState::Failed, "failed"),
        (VersionState::Retired, "retired"),
        (VersionState::Dropped, "dropped"),
    ] {
        let told = said(Gate::CaughtUp, |e| e.state = state);
        assert_eq!(told, held(&format!("the version is {word}, not ready")));
    }
    for state in [VersionState::Active, VersionState::Previous] {
        assert!(said(Gate::CaughtUp, |e| e.state = state).0);
    }
    let difference = |partition, column| SumDifference {
        partition: Partition(partition),
        column,
        buckets: vec![1],
    };
    let told = said(Gate::Verified, |e| {
        e.differences = Some(vec![difference(4, "balance"), difference(0, "owner")]);
    });
    assert_eq!(
        told,
        held("2 checksums differ at the switch vector; first: column balance in p4")
    );
    let told = said(Gate::Verified, |e| {
        e.max_scan_age = Some(MINUTE);
        e.scan = scan(0, 61);
    });
    assert_eq!(
        told,
        held("the last scan of both tables is 61 s old, 60 s are allowed; run `refold verify`")
    );
    let told = said(Gate::Verified, |e| e.scan = expecting(12, Some((9, 2))));
    assert_eq!(
        told,
        held(
            "the log contradicts 2 of the rows that differ as expected; `refold verify` names \
             them, `refold repair` puts rows right"
        )
    );
    let told = said(Gate::Keys, |e| {
        e.without_key = vec![Partition(2), Partition(5)];
    });
    assert_eq!(
        told,
        held("2 leaves are missing or have no primary key; first: p2")
    );
}

#[test]
fn a_gate_is_shown_by_the_word_that_names_it() {
    let words = Gate::ALL.map(|gate| gate.to_string());
    assert_eq!(
        words,
        ["caught-up", "verified", "parked", "gaps", "keys", "lag"]
    );
}
