//! The scripts of the author's harness, on Kafka and Postgres: what a script says
//! in memory, the real table holds, whichever part of it came in by the bulk load
//! and whichever by batches.

#[path = "scripts/every_type.rs"]
mod every_type;
#[path = "scripts/stage.rs"]
mod stage;

use every_type::EveryTypeV1;
use refold_accounts::AccountsV3;
use refold_accounts::AccountsV4;
use refold_accounts::write_side::Event::{
    Closed, DepositReversed, Deposited, Frozen, Opened, Reopened, Unfrozen, WithdrawalReversed,
    Withdrawn,
};
use refold_domain::decode::WireFormat;
use refold_projection::Projection;
use refold_projection::Uuid;
use refold_projection::harness::Given;
use refold_projection::harness::given;
use refold_shipments::ShipmentsV1;
use stage::check;

/// Twelve accounts over three partitions, and every type of event.
fn accounts<P: Projection<Key = i64>>(projection: P) -> Given<P> {
    let opened = (1..=12).fold(given(projection), |given, id| {
        let currency = if id % 2 == 0 { "EUR" } else { "USD" };
        given
            .event(id, Opened(currency))
            .event(id, Deposited(100 * id))
    });
    opened
        .event(7, Deposited(200))
        .event(7, Withdrawn(100))
        .event(8, DepositReversed { cents: 800, of: 2 })
        .event(7, Frozen)
        .event(7, WithdrawalReversed { cents: 100, of: 4 })
        .event(7, Unfrozen)
        .event(8, Closed(0))
        .event(9, Withdrawn(i64::MAX))
        .event(8, Reopened)
        .event(8, Deposited(5))
        .event(8, Closed(5))
        .event(3, Deposited(1))
}

#[test]
fn accounts_v3_is_on_postgres_what_its_script_says_in_both_wire_forms() {
    for format in [WireFormat::Proto, WireFormat::Json] {
        for cut in [0, 13, 36] {
            check(accounts(AccountsV3).into_script(), format, cut);
        }
    }
}

#[test]
fn accounts_v4_is_on_postgres_what_its_script_says_in_both_wire_forms() {
    for (format, cut) in [(WireFormat::Proto, 0), (WireFormat::Json, 29)] {
        check(accounts(AccountsV4).into_script(), format, cut);
    }
}

const REGISTERED: (&str, &str) = (
    "Registered",
    r#"{"shipper":"550e8400-e29b-41d4-a716-446655440000","service":"same_day","weight_kg":12.350}"#,
);

/// Text keys that only just are keys, deletes, revivals, and events that are not handled.
fn shipments() -> Given<ShipmentsV1> {
    let odd = "Ünïcode \u{1f4e6} 'quoted' \"twice\" \\ back\tslash";
    let long = "L".repeat(900);
    given(ShipmentsV1)
        .event("RF-1", REGISTERED)
        .event(odd, REGISTERED)
        .event(long.as_str(), REGISTERED)
        .event("RF-1", ("LabelPrinted", "{}"))
        .event("RF-1", ("Scanned", r#"{"hub":"HAM","weight_kg":"12.5"}"#))
        .event("RF-2", REGISTERED)
        .event("never announced", ("Delivered", r#"{"signed_by":null}"#))
        .event("RF-1", ("DutyCharged", r#"{"amount":3.10}"#))
        .event("RF-1", ("DutyCharged", r#"{"amount":0.905}"#))
        .event(
            odd,
            ("Annotated", r#"{"po":1.50,"a":[true,null,"\u00fc"]}"#),
        )
        .event("RF-2", ("Erased", "{}"))
        .event("only erased", ("Erased", "{}"))
        .event("RF-1", ("Scanned", r#"{"hub":"ZRH"}"#))
        .event(
            long.as_str(),
            ("DutyCharged", r#"{"amount":-99999999999999999999.000001}"#),
        )
        .event("RF-2", ("Scanned", r#"{"hub":"MUC"}"#))
        .event("RF-1", ("Delivered", r#"{"signed_by":"Müller"}"#))
        .event("RF-2", REGISTERED)
        .event(odd, ("Delivered", "{}"))
        .event("RF-1", ("Erased", "{}"))
}

#[test]
fn shipments_are_on_postgres_what_their_script_says() {
    for cut in [0, 4, 11, 19] {
        check(shipments().into_script(), WireFormat::Json, cut);
    }
}

/// Every sample once per key, so that each value is inserted and each replaces another.
fn samples() -> Given<EveryTypeV1> {
    let keys: Vec<_> = (0..5u8).map(|n| Uuid([n.wrapping_mul(77); 16])).collect();
    let sample = |n: i64| n.to_string();
    (0..every_type::SAMPLES * 2).fold(given(EveryTypeV1), |given, n| {
        let key = keys[(n % 5) as usize];
        let sample = sample(n % every_type::SAMPLES);
        given.event(key, ("Sampled", sample.as_str()))
    })
}

#[test]
fn every_column_type_is_copied_upserted_and_fetched_as_it_was() {
    let events = 2 * every_type::SAMPLES as usize;
    for cut in [0, events / 3, events] {
        check(samples().into_script(), WireFormat::Json, cut);
    }
}
