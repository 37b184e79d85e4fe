//! A binary of an author's own: Refold with the read model `stock` inside.

mod event;
mod v1;
mod v2;

use v1::StockV1;
use v2::StockV2;

refold::main!(StockV1, StockV2);

#[cfg(test)]
mod tests {
    use refold_projection::harness::given;
    use refold_projection::{Timestamp, Uuid};

    use super::*;
    use crate::v2::ShelfV2;

    #[test]
    fn an_article_is_received_shipped_counted_and_delisted() {
        let article = Uuid::parse("9f3a1c2e-0000-4000-8000-000000000001").expect("a uuid");
        let counted = Timestamp(1_700_000_000_000_000);
        given(StockV2)
            .event(article, ("Received", "12"))
            .event(article, ("Shipped", "5"))
            .at(counted)
            .event(article, ("Counted", "6"))
            .then(
                article,
                ShelfV2 {
                    on_hand: 6,
                    shipped: 5,
                    counted_at: Some(counted),
                },
            )
            .then_agrees_with(StockV1)
            .event(article, ("Delisted", "0"))
            .then_none(article)
            .then_replay_safe();
    }
}
