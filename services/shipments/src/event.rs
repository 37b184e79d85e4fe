//! Shipment events: JSON objects, one type each.

use refold_projection::{DecodeError, Json, Numeric, Payload, TextValue, Uuid};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

/// The event types that are folded.
pub const HANDLES: &[&str] = &[
    "Registered",
    "Scanned",
    "DutyCharged",
    "Annotated",
    "Delivered",
    "Erased",
];

/// How a shipment travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, TextValue)]
pub enum Service {
    /// By road.
    Standard,
    /// By air.
    Express,
    /// On the day that it is handed over.
    SameDay,
}

/// A decoded shipment event.
#[derive(Debug, Clone, PartialEq)]
pub enum ShipmentEvent {
    /// The shipment was announced.
    Registered {
        /// Who sends it.
        shipper: Uuid,
        /// How it travels.
        service: Service,
        /// Declared weight in kilograms.
        weight_kg: Numeric,
    },
    /// A hub has seen it.
    Scanned {
        /// The hub's code.
        hub: String,
        /// What the hub's scale said, in kilograms.
        weight_kg: Option<Numeric>,
    },
    /// Customs charged a duty.
    DutyCharged {
        /// In the currency of the destination.
        amount: Numeric,
    },
    /// The shipper's own data about it was replaced.
    Annotated(Json),
    /// It was handed over.
    Delivered {
        /// Who signed for it.
        signed_by: Option<String>,
    },
    /// Its data had to be forgotten.
    Erased,
}

#[derive(Deserialize)]
struct Registered {
    shipper: String,
    service: String,
    weight_kg: Box<RawValue>,
}

#[derive(Deserialize)]
struct Scanned {
    hub: String,
    weight_kg: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct DutyCharged {
    amount: Box<RawValue>,
}

#[derive(Deserialize)]
struct Delivered {
    signed_by: Option<String>,
}

#[derive(Deserialize)]
struct Erased {}

/// Decodes the payload of an event of type `kind`.
///
/// # Errors
/// [`DecodeError`] for protobuf payloads, for text that is not the event's JSON
/// object, and for members that are not what they should be.
pub fn decode(kind: &str, payload: Payload<'_>) -> Result<ShipmentEvent, DecodeError> {
    let Payload::Json(text) = payload else {
        return Err(DecodeError::new("shipments are written as JSON"));
    };
    match kind {
        "Registered" => {
            let body: Registered = members(text)?;
            Ok(ShipmentEvent::Registered {
                shipper: Uuid::parse(&body.shipper)
                    .ok_or_else(|| wrong("shipper", &body.shipper))?,
                service: Service::from_text(&body.service)
                    .ok_or_else(|| wrong("service", &body.service))?,
                weight_kg: decimal("weight_kg", &body.weight_kg)?,
            })
        }
        "Scanned" => {
            let body: Scanned = members(text)?;
            let weight = body.weight_kg.as_deref();
            Ok(ShipmentEvent::Scanned {
                hub: storable("hub", body.hub)?,
                weight_kg: weight.map(|raw| decimal("weight_kg", raw)).transpose()?,
            })
        }
        "DutyCharged" => {
            let body: DutyCharged = members(text)?;
            Ok(ShipmentEvent::DutyCharged {
                amount: decimal("amount", &body.amount)?,
            })
        }
        "Annotated" => Json::parse(text)
            .map(ShipmentEvent::Annotated)
            .map_err(DecodeError::new),
        "Delivered" => {
            let body: Delivered = members(text)?;
            let signed_by = body.signed_by.map(|name| storable("signed_by", name));
            Ok(ShipmentEvent::Delivered {
                signed_by: signed_by.transpose()?,
            })
        }
        "Erased" => members(text).map(|Erased {}| ShipmentEvent::Erased),
        _ => Err(DecodeError::new(format!("{kind} is not a shipment event"))),
    }
}

fn members<T: DeserializeOwned>(text: &str) -> Result<T, DecodeError> {
    serde_json::from_str(text).map_err(DecodeError::new)
}

fn wrong(member: &str, found: &str) -> DecodeError {
    DecodeError::new(format!("{member}: {found:?} is not one"))
}

/// Reads `12.350` or `"12.350"` digit by digit: as a float it would be another
/// number, and its last zero would be lost.
fn decimal(member: &str, raw: &RawValue) -> Result<Numeric, DecodeError> {
    let text = raw.get();
    let digits = text
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap_or(text);
    digits
        .parse()
        .map_err(|error| DecodeError::new(format!("{member}: {error}")))
}

/// JSON strings may hold NUL, `text` columns may not: such an event stops its
/// partition here, where it has a name, and not in the database.
fn storable(member: &str, text: String) -> Result<String, DecodeError> {
    if text.contains('\0') {
        return Err(DecodeError::new(format!("{member} holds NUL")));
    }
    Ok(text)
}
