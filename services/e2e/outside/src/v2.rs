//! Version 2 of the read model `stock`: also what was shipped, and when somebody counted.

use refold_projection::{
    Change, DecodeError, Envelope, Fingerprint, Payload, Projection, Row, Timestamp, Uuid,
    source_fingerprint,
};

use crate::event::{self, Movement};
use crate::v1::StockV1;

/// An article's shelf and what went through it.
#[derive(Debug, Clone, PartialEq, Row)]
pub struct ShelfV2 {
    /// Pieces on the shelf.
    pub on_hand: i64,
    /// Pieces that left in all.
    #[row(new)]
    pub shipped: i64,
    /// When somebody counted last.
    #[row(new)]
    pub counted_at: Option<Timestamp>,
}

/// The read model `stock`, version 2, by article.
#[derive(Debug, Clone, Copy)]
pub struct StockV2;

impl Projection for StockV2 {
    type Key = Uuid;
    type Event<'a> = Movement;
    type Row = ShelfV2;

    const NAME: &'static str = "stock";
    const VERSION: u32 = 2;
    const HANDLES: &'static [&'static str] = event::HANDLES;
    const CODE: Fingerprint = source_fingerprint!("event.rs");
    const REPLACES: Option<u32> = Some(StockV1::VERSION);

    fn decode<'a>(kind: &'a str, payload: Payload<'a>) -> Result<Movement, DecodeError> {
        event::decode(kind, payload)
    }

    fn fold(&self, row: Option<ShelfV2>, event: &Envelope<'_, Movement>) -> Change<ShelfV2> {
        let mut row = row.unwrap_or(ShelfV2 {
            on_hand: 0,
            shipped: 0,
            counted_at: None,
        });
        match event.event {
            Movement::Received(n) => row.on_hand = row.on_hand.saturating_add(n),
            Movement::Shipped(n) => {
                row.on_hand = row.on_hand.saturating_sub(n);
                row.shipped = row.shipped.saturating_add(n);
            }
            Movement::Counted(n) => {
                row.on_hand = n;
                row.counted_at = Some(Timestamp(event.ts_micros));
            }
            Movement::Delisted => return Change::Delete,
        }
        Change::Put(row)
    }
}
