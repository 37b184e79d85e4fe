//! The events behind the golden files: one of each type and one of each kind
//! of id, with values at the edges of their ranges.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use refold_proto::accounts::body::{
    Body, Closed, Deposited, Frozen, Opened, Reopened, Reversed, Unfrozen, Withdrawn,
};
use refold_proto::accounts::{After, Booking, Status};
use refold_proto::{EnvelopeRef, IdRef, Payload, WireFormat};

/// Where the files are.
pub(crate) fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

/// Every golden event in one form: name of the file and its bytes.
pub(crate) fn encoded(format: WireFormat) -> Vec<(String, Vec<u8>)> {
    let extension = match format {
        WireFormat::Proto => "bin",
        WireFormat::Json => "json",
    };
    events()
        .into_iter()
        .map(|(name, id, version, body)| {
            let mut payload = Vec::new();
            body.encode_to(format, &mut payload);
            let event = EnvelopeRef {
                id,
                version,
                kind: Cow::Borrowed(body.kind()),
                ts_micros: 1_709_208_000_000_123 + version as i64,
                payload: match format {
                    WireFormat::Proto => Payload::Proto(&payload),
                    WireFormat::Json => {
                        Payload::Json(std::str::from_utf8(&payload).expect("JSON is UTF-8"))
                    }
                },
            };
            let mut bytes = Vec::new();
            event.encode_to(&mut bytes);
            (format!("{name}.{extension}"), bytes)
        })
        .collect()
}

type Event = (&'static str, IdRef<'static>, u64, Box<dyn Body>);

fn events() -> Vec<Event> {
    let uuid = *b"\x55\x0e\x84\x00\xe2\x9b\x41\xd4\xa7\x16\x44\x66\x55\x44\x00\x00";
    let text = IdRef::Text(Cow::Borrowed("konto \"Grün\"\n7"));
    vec![
        ("opened", IdRef::Int(42), 1, Box::new(opened())),
        ("deposited", IdRef::Int(42), 2, Box::new(deposited())),
        ("withdrawn", IdRef::Int(-1), 3, Box::new(withdrawn())),
        ("reversed", IdRef::Int(i64::MIN), 4, Box::new(reversed())),
        ("frozen", IdRef::Int(0), 5, Box::new(frozen())),
        ("unfrozen", IdRef::Uuid(uuid), 6, Box::new(unfrozen())),
        ("closed", text, 7, Box::new(closed())),
        (
            "reopened",
            IdRef::Int(i64::MAX),
            1 << 40,
            Box::new(reopened()),
        ),
    ]
}

fn after(balance_cents: i64, status: Status, version: u64) -> After {
    After {
        balance_cents,
        status,
        version,
    }
}

fn opened() -> Opened<'static> {
    Opened {
        after: after(0, Status::Open, 1),
        owner: "Maja Lindqvist",
        currency: "EUR",
        overdraft_limit_cents: 50_000,
        product: "giro",
        branch: "Hamburg-Altona",
        channel: "branch",
        reference: "APP-2024-000042",
        note: "",
    }
}

fn deposited() -> Deposited<'static> {
    Deposited {
        after: after(12_345, Status::Open, 2),
        cents: 12_345,
        channel: "sepa",
        reference: "SAL-2024-000017",
        counterparty: "Nordwind Logistik GmbH",
        counterparty_iban: "DE02120300000000202051",
        device: "core-banking/7.3",
        note: "Salary March",
    }
}

fn withdrawn() -> Withdrawn<'static> {
    Withdrawn {
        after: after(-40_000, Status::Open, 3),
        cents: 52_345,
        channel: "card",
        reference: "POS-2024-118822",
        merchant: "Café Müller",
        terminal: "T-88121-03",
        device: "",
        note: "\"two\" \\ tables",
    }
}

fn reversed() -> Reversed<'static> {
    Reversed {
        after: after(12_345, Status::Open, 4),
        cents: 52_345,
        of_version: 3,
        what: Booking::Withdrawal,
        reason: "disputed by the owner",
        reference: "REV-2024-000003",
        case_id: "CASE-55120",
        operator: "ops-17",
        note: "",
    }
}

fn frozen() -> Frozen<'static> {
    Frozen {
        after: after(12_345, Status::Frozen, 5),
        reason: "card reported lost",
        case_id: "CASE-55121",
        operator: "ops-17",
        note: "",
    }
}

fn unfrozen() -> Unfrozen<'static> {
    Unfrozen {
        after: after(i64::MAX, Status::Open, 6),
        reason: "identity confirmed",
        case_id: "CASE-55121",
        operator: "ops-03",
        note: "",
    }
}

fn closed() -> Closed<'static> {
    Closed {
        after: after(0, Status::Closed, 7),
        payout_cents: -12_345,
        payout_iban: "DE02500105170137075030",
        reason: "moved abroad",
        operator: "ops-03",
        note: "",
    }
}

fn reopened() -> Reopened<'static> {
    Reopened {
        after: after(i64::MIN, Status::Open, 1 << 40),
        reason: "",
        case_id: "",
        operator: "",
        note: "",
    }
}
