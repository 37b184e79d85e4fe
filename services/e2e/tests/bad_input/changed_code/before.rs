use refold_projection::{
    Change, DecodeError, Envelope, Fingerprint, Payload, Projection, Row, source_fingerprint,
};

#[derive(Debug, Clone, PartialEq, Row)]
pub(crate) struct Total {
    pub(crate) cents: i64,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct TotalsV1;

impl Projection for TotalsV1 {
    type Key = i64;
    type Event<'a> = i64;
    type Row = Total;

    const NAME: &'static str = "totals";
    const VERSION: u32 = 1;
    const HANDLES: &'static [&'static str] = &["Paid"];
    const CODE: Fingerprint = source_fingerprint!();

    fn decode<'a>(_: &'a str, payload: Payload<'a>) -> Result<i64, DecodeError> {
        match payload {
            Payload::Json(text) => text.parse().map_err(DecodeError::new),
            Payload::Proto(_) => Err(DecodeError::new("JSON only")),
        }
    }

    fn fold(&self, row: Option<Total>, event: &Envelope<'_, i64>) -> Change<Total> {
        let before = row.map_or(0, |row| row.cents);
        Change::Put(Total {
            cents: before + event.event,
        })
    }
}
