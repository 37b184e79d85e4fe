//! Version 1 of the read model `shipments`.

use refold_projection::{
    Change, DecodeError, Envelope, Fingerprint, Json, Numeric, Payload, Projection, Row, Timestamp,
    Uuid, source_fingerprint,
};

use crate::event::{self, Service, ShipmentEvent};

/// A shipment as its shipper tracks it.
#[derive(Debug, Clone, PartialEq, Row)]
pub struct ShipmentV1 {
    /// Who sends it.
    pub shipper: Uuid,
    /// How it travels.
    #[row(text)]
    pub service: Service,
    /// The last weight that was declared or measured, kilograms.
    pub weight_kg: Numeric,
    /// Sum of the duties charged.
    pub duties: Numeric,
    /// How many scans there were before the delivery.
    pub scans: i32,
    /// The hub that scanned it last.
    pub last_hub: Option<String>,
    /// The shipper's own data.
    pub notes: Option<Json>,
    /// Whether it was handed over.
    pub delivered: bool,
    /// When it was handed over.
    pub delivered_at: Option<Timestamp>,
    /// Who signed for it.
    pub signed_by: Option<String>,
}

/// The read model `shipments`, version 1, by tracking number.
#[derive(Debug, Clone, Copy, Default)]
pub struct ShipmentsV1;

impl Projection for ShipmentsV1 {
    type Key = String;
    type Event<'a> = ShipmentEvent;
    type Row = ShipmentV1;

    const NAME: &'static str = "shipments";
    const VERSION: u32 = 1;
    const HANDLES: &'static [&'static str] = event::HANDLES;
    const CODE: Fingerprint = source_fingerprint!("event.rs");

    fn decode<'a>(kind: &'a str, payload: Payload<'a>) -> Result<ShipmentEvent, DecodeError> {
        event::decode(kind, payload)
    }

    fn fold(
        &self,
        row: Option<ShipmentV1>,
        event: &Envelope<'_, ShipmentEvent>,
    ) -> Change<ShipmentV1> {
        match (row, &event.event) {
            (_, ShipmentEvent::Erased) => Change::Delete,
            (
                None,
                ShipmentEvent::Registered {
                    shipper,
                    service,
                    weight_kg,
                },
            ) => Change::Put(registered(*shipper, *service, *weight_kg)),
            // What arrives about a shipment that was erased, or was never
            // announced, is not kept.
            (None, _) => Change::Skip,
            (Some(row), event_body) => underway(row, event_body, Timestamp(event.ts_micros)),
        }
    }
}

fn registered(shipper: Uuid, service: Service, weight_kg: Numeric) -> ShipmentV1 {
    ShipmentV1 {
        shipper,
        service,
        weight_kg,
        duties: Numeric::new(0, 2),
        scans: 0,
        last_hub: None,
        notes: None,
        delivered: false,
        delivered_at: None,
        signed_by: None,
    }
}

fn underway(mut row: ShipmentV1, event: &ShipmentEvent, ts: Timestamp) -> Change<ShipmentV1> {
    match event {
        // A second announcement comes from a client that tried again.
        ShipmentEvent::Registered { .. } => return Change::Skip,
        // Hand scanners upload late, and what they saw is history by then.
        ShipmentEvent::Scanned { .. } if row.delivered => return Change::Skip,
        ShipmentEvent::Scanned { hub, weight_kg } => {
            row.scans = row.scans.saturating_add(1);
            row.last_hub = Some(hub.clone());
            row.weight_kg = weight_kg.unwrap_or(row.weight_kg);
        }
        ShipmentEvent::DutyCharged { amount } => {
            // A sum beyond 38 digits stays at the last one that fits.
            row.duties = row.duties.checked_add(*amount).unwrap_or(row.duties);
        }
        ShipmentEvent::Annotated(notes) => row.notes = Some(notes.clone()),
        ShipmentEvent::Delivered { signed_by } => {
            row.delivered = true;
            row.delivered_at = Some(ts);
            row.signed_by.clone_from(signed_by);
        }
        ShipmentEvent::Erased => return Change::Delete,
    }
    Change::Put(row)
}
