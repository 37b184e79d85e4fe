//! What version 1 of `shipments` says about a few shipments.

use proptest::prelude::*;

use refold_projection::harness::{FIRST_TS, Given, arb_script, given};
use refold_projection::{Json, Numeric, Timestamp, Uuid};
use refold_shipments::{Service, ShipmentV1, ShipmentsV1};

const REGISTERED: (&str, &str) = (
    "Registered",
    r#"{"shipper":"550e8400-e29b-41d4-a716-446655440000","service":"same_day","weight_kg":12.350}"#,
);

fn fresh() -> ShipmentV1 {
    ShipmentV1 {
        shipper: Uuid::parse("550e8400-e29b-41d4-a716-446655440000").expect("it is a UUID"),
        service: Service::SameDay,
        weight_kg: Numeric::new(12_350, 3),
        duties: Numeric::new(0, 2),
        scans: 0,
        last_hub: None,
        notes: None,
        delivered: false,
        delivered_at: None,
        signed_by: None,
    }
}

fn journey() -> Given<ShipmentsV1> {
    given(ShipmentsV1)
        .event("RF-1", REGISTERED)
        .event("RF-1", ("LabelPrinted", "{}"))
        .event("RF-1", ("Scanned", r#"{"hub":"HAM","weight_kg":"12.5"}"#))
        .event("RF-2", REGISTERED)
        .event("RF-1", ("DutyCharged", r#"{"amount":3.10}"#))
        .event("RF-1", ("DutyCharged", r#"{"amount":0.905}"#))
        .event("RF-1", ("Annotated", r#"{"po":1.50,"a":[true]}"#))
        .event("RF-2", ("Erased", "{}"))
        .event("RF-1", ("Scanned", r#"{"hub":"ZRH"}"#))
        .event("RF-1", ("Delivered", r#"{"signed_by":"Müller"}"#))
        .event("RF-1", ("Scanned", r#"{"hub":"MUC"}"#))
        .event("RF-2", ("Scanned", r#"{"hub":"MUC"}"#))
}

fn delivered() -> ShipmentV1 {
    ShipmentV1 {
        weight_kg: Numeric::new(125, 1),
        duties: Numeric::new(4_005, 3),
        scans: 2,
        last_hub: Some("ZRH".to_owned()),
        notes: Some(Json::parse(r#"{"a":[true],"po":1.50}"#).expect("it is JSON")),
        delivered: true,
        delivered_at: Some(Timestamp(FIRST_TS.0 + 9_000_000)),
        signed_by: Some("Müller".to_owned()),
        ..fresh()
    }
}

#[test]
fn a_shipment_is_followed_to_its_delivery() {
    journey()
        .as_of("RF-1", 1, fresh())
        .as_of("RF-1", 2, fresh())
        .then("RF-1", delivered());
}

#[test]
fn a_scan_that_is_uploaded_after_the_delivery_changes_nothing() {
    journey()
        .as_of("RF-1", 8, delivered())
        .as_of("RF-1", 9, delivered());
}

#[test]
fn an_erased_shipment_has_no_row_and_gets_none_from_late_events() {
    journey()
        .as_of("RF-2", 1, fresh())
        .as_of_none("RF-2", 2)
        .then_none("RF-2");
}

#[test]
fn a_tracking_number_can_be_used_again_after_the_erasure() {
    journey().event("RF-2", REGISTERED).then("RF-2", fresh());
}

#[test]
fn a_shipment_that_was_never_announced_has_no_row() {
    given(ShipmentsV1)
        .event("RF-3", ("Delivered", r#"{"signed_by":null}"#))
        .then_none("RF-3");
}

#[test]
fn reading_any_part_of_the_log_again_changes_nothing() {
    journey().then_replay_safe().then_deterministic();
}

#[test]
fn malformed_events_are_refused() {
    for (kind, payload) in [
        ("Registered", "{}"),
        (
            "Registered",
            r#"{"shipper":"x","service":"express","weight_kg":1}"#,
        ),
        (
            "Registered",
            r#"{"shipper":"550e8400-e29b-41d4-a716-446655440000","service":"rocket","weight_kg":1}"#,
        ),
        ("DutyCharged", r#"{"amount":1e3}"#),
        ("DutyCharged", r#"{"amount":"three"}"#),
        ("DutyCharged", r#"{"amount":null}"#),
        ("Scanned", r#"{"hub":"A\u0000B"}"#),
        ("Delivered", r#"{"signed_by":"\u0000"}"#),
        ("Annotated", r#"{"a":"\u0000"}"#),
        ("Annotated", "{"),
        ("Erased", "null"),
    ] {
        given(ShipmentsV1)
            .event("RF-1", REGISTERED)
            .event("RF-1", (kind, payload))
            .then_undecodable();
    }
}

fn arb_event() -> impl Strategy<Value = (&'static str, &'static str)> {
    prop::sample::select(vec![
        REGISTERED,
        ("Scanned", r#"{"hub":"HAM","weight_kg":0.10}"#),
        ("DutyCharged", r#"{"amount":0.01}"#),
        ("Annotated", "[]"),
        ("Delivered", "{}"),
        ("Erased", "{}"),
        ("LabelPrinted", "{}"),
    ])
}

proptest! {
    // A failure prints its smallest case; files beside the tests would also be
    // written by the build that is meant to fail.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_cut_and_overlap_of_any_log_changes_nothing(
        log in arb_script(
            vec!["RF-1".to_owned(), "RF-2".to_owned()],
            prop::collection::vec(arb_event(), 0..15),
        )
    ) {
        given(ShipmentsV1).events(log).then_replay_safe().then_deterministic();
    }
}
