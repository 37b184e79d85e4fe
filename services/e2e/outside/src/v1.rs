//! Version 1 of the read model `stock`: what is on the shelf.

use refold_projection::{
    Change, DecodeError, Envelope, Fingerprint, Payload, Projection, Row, Uuid, source_fingerprint,
};

use crate::event::{self, Movement};

/// An article's shelf.
#[derive(Debug, Clone, PartialEq, Row)]
pub struct ShelfV1 {
    /// Pieces on the shelf.
    pub on_hand: i64,
}

/// The read model `stock`, version 1, by article.
#[derive(Debug, Clone, Copy)]
pub struct StockV1;

impl Projection for StockV1 {
    type Key = Uuid;
    type Event<'a> = Movement;
    type Row = ShelfV1;

    const NAME: &'static str = "stock";
    const VERSION: u32 = 1;
    const HANDLES: &'static [&'static str] = event::HANDLES;
    const CODE: Fingerprint = source_fingerprint!("event.rs");

    fn decode<'a>(kind: &'a str, payload: Payload<'a>) -> Result<Movement, DecodeError> {
        event::decode(kind, payload)
    }

    fn fold(&self, row: Option<ShelfV1>, event: &Envelope<'_, Movement>) -> Change<ShelfV1> {
        let on_hand = row.map_or(0, |row| row.on_hand);
        match event.event {
            Movement::Received(n) => Change::Put(ShelfV1 {
                on_hand: on_hand.saturating_add(n),
            }),
            Movement::Shipped(n) => Change::Put(ShelfV1 {
                on_hand: on_hand.saturating_sub(n),
            }),
            Movement::Counted(n) => Change::Put(ShelfV1 { on_hand: n }),
            Movement::Delisted => Change::Delete,
        }
    }
}
