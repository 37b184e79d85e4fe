//! What prost makes of the bytes, and whether we agree.

use proptest::prelude::*;
use prost::Message;
use refold_proto::accounts::{AccountEvent, Booking, Status, decode_after, decode_event};
use refold_proto::pb::v1::envelope::AggregateId;
use refold_proto::{IdRef, Payload, decode_proto, pb};

pub(crate) type Parts = (IdRef<'static>, u64, String, i64, Vec<u8>);

/// What prost makes of the bytes, with the envelope's own rules on top.
pub(crate) fn reference(bytes: &[u8]) -> Option<Parts> {
    let event = pb::v1::Envelope::decode(bytes).ok()?;
    if event.format != 1 || event.version == 0 || event.r#type.is_empty() {
        return None;
    }
    let id = match event.aggregate_id? {
        AggregateId::Int(id) => IdRef::Int(id),
        AggregateId::Uuid(id) => IdRef::Uuid(id.try_into().ok()?),
        AggregateId::Text(id) => IdRef::Text(id.into()),
    };
    Some((
        id,
        event.version,
        event.r#type,
        event.ts_micros,
        event.payload,
    ))
}

pub(crate) fn agree(bytes: &[u8]) -> Result<(), TestCaseError> {
    let ours = decode_proto(bytes);
    if let Err(refused) = &ours {
        prop_assert!(refused.at <= bytes.len());
    }
    let ours = ours.ok().map(|event| {
        let Payload::Proto(payload) = event.payload else {
            panic!("a protobuf envelope holds a protobuf payload");
        };
        let id = match event.id {
            IdRef::Int(id) => IdRef::Int(id),
            IdRef::Uuid(id) => IdRef::Uuid(id),
            IdRef::Text(text) => IdRef::Text(text.into_owned().into()),
        };
        let kind = event.kind.into_owned();
        (id, event.version, kind, event.ts_micros, payload.to_vec())
    });
    prop_assert_eq!(ours, reference(bytes));
    Ok(())
}

/// The fields of the accounts messages that a fold asks for, as a smaller
/// schema: prost then passes over the others exactly as it should.
mod narrow {
    #[derive(prost::Message)]
    pub(crate) struct Amount {
        #[prost(int64, tag = "2")]
        pub(crate) cents: i64,
    }
    #[derive(prost::Message)]
    pub(crate) struct Opened {
        #[prost(string, tag = "2")]
        pub(crate) owner: String,
        #[prost(string, tag = "3")]
        pub(crate) currency: String,
        #[prost(int64, tag = "4")]
        pub(crate) overdraft_limit_cents: i64,
    }
    #[derive(prost::Message)]
    pub(crate) struct Reversed {
        #[prost(int64, tag = "2")]
        pub(crate) cents: i64,
        #[prost(uint64, tag = "3")]
        pub(crate) of_version: u64,
        #[prost(int32, tag = "4")]
        pub(crate) what: i32,
    }
    #[derive(prost::Message)]
    pub(crate) struct Closed {
        #[prost(sint64, tag = "2")]
        pub(crate) payout_cents: i64,
    }
    #[derive(prost::Message)]
    pub(crate) struct Nothing {}
    #[derive(prost::Message)]
    pub(crate) struct WithAfter {
        #[prost(message, optional, tag = "1")]
        pub(crate) after: Option<super::pb::accounts::AfterImage>,
    }
}

pub(crate) fn reference_event(kind: &str, bytes: &[u8]) -> Option<AccountEvent<'static>> {
    let event = match kind {
        "Deposited" | "Withdrawn" => {
            let cents = narrow::Amount::decode(bytes).ok()?.cents;
            if cents <= 0 {
                return None;
            }
            match kind {
                "Deposited" => AccountEvent::Deposited { cents },
                _ => AccountEvent::Withdrawn { cents },
            }
        }
        "Opened" => {
            let opened = narrow::Opened::decode(bytes).ok()?;
            AccountEvent::Opened {
                owner: opened.owner.into(),
                currency: opened.currency.into(),
                overdraft_limit_cents: opened.overdraft_limit_cents,
            }
        }
        "Reversed" => {
            let reversed = narrow::Reversed::decode(bytes).ok()?;
            if reversed.cents <= 0 || reversed.of_version == 0 {
                return None;
            }
            AccountEvent::Reversed {
                cents: reversed.cents,
                of_version: reversed.of_version,
                what: match reversed.what {
                    1 => Booking::Deposit,
                    2 => Booking::Withdrawal,
                    _ => return None,
                },
            }
        }
        "Closed" => AccountEvent::Closed {
            payout_cents: narrow::Closed::decode(bytes).ok()?.payout_cents,
        },
        other => {
            narrow::Nothing::decode(bytes).ok()?;
            match other {
                "Frozen" => AccountEvent::Frozen,
                "Unfrozen" => AccountEvent::Unfrozen,
                _ => AccountEvent::Reopened,
            }
        }
    };
    Some(event)
}

pub(crate) fn reference_after(bytes: &[u8]) -> Option<(i64, Status, u64)> {
    let after = narrow::WithAfter::decode(bytes).ok()?.after?;
    let status = match after.status {
        1 => Status::Open,
        2 => Status::Frozen,
        3 => Status::Closed,
        _ => return None,
    };
    Some((after.balance_cents, status, after.version))
}

pub(crate) fn payloads_agree(bytes: &[u8]) -> Result<(), TestCaseError> {
    for kind in refold_proto::accounts::KINDS {
        let ours = decode_event(kind, Payload::Proto(bytes));
        prop_assert_eq!(
            ours.ok().map(|event| event.expect("a known kind")),
            reference_event(kind, bytes),
            "{}",
            kind
        );
    }
    let ours = decode_after(Payload::Proto(bytes)).ok();
    prop_assert_eq!(
        ours.map(|after| (after.balance_cents, after.status, after.version)),
        reference_after(bytes)
    );
    Ok(())
}
