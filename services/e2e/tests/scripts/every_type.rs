//! A projection whose row holds every column type, each also as one that may be null.

use refold_projection::{
    Change, DecodeError, Envelope, Fingerprint, Json, Numeric, Payload, Projection, Row, Timestamp,
    Uuid,
};

/// Samples are numbered from 0; the last one deletes, the one before it skips.
pub(crate) const SAMPLES: i64 = 12;

/// One of everything.
#[derive(Debug, Clone, PartialEq, Row)]
pub(crate) struct EveryType {
    pub(crate) whole: i64,
    pub(crate) small: i32,
    pub(crate) flag: bool,
    pub(crate) words: String,
    pub(crate) moment: Timestamp,
    pub(crate) amount: Numeric,
    pub(crate) document: Json,
    pub(crate) bytes: Vec<u8>,
    pub(crate) id: Uuid,
    pub(crate) maybe_whole: Option<i64>,
    pub(crate) maybe_small: Option<i32>,
    pub(crate) maybe_flag: Option<bool>,
    pub(crate) maybe_words: Option<String>,
    pub(crate) maybe_moment: Option<Timestamp>,
    pub(crate) maybe_amount: Option<Numeric>,
    pub(crate) maybe_document: Option<Json>,
    pub(crate) maybe_bytes: Option<Vec<u8>>,
    pub(crate) maybe_id: Option<Uuid>,
}

/// Puts the sample that an event names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EveryTypeV1;

impl Projection for EveryTypeV1 {
    type Key = Uuid;
    type Event<'a> = i64;
    type Row = EveryType;

    const NAME: &'static str = "every_type";
    const VERSION: u32 = 1;
    const HANDLES: &'static [&'static str] = &["Sampled"];
    const CODE: Fingerprint = Fingerprint(1);

    fn decode<'a>(_: &'a str, payload: Payload<'a>) -> Result<i64, DecodeError> {
        match payload {
            Payload::Json(text) => text.parse().map_err(DecodeError::new),
            Payload::Proto(_) => Err(DecodeError::new("JSON only")),
        }
    }

    fn fold(&self, row: Option<EveryType>, event: &Envelope<'_, i64>) -> Change<EveryType> {
        let sample = event.event;
        if sample == SAMPLES - 1 {
            return Change::Delete;
        }
        if sample == SAMPLES - 2 {
            return Change::Skip;
        }
        // What was there before shows in the row, so that a wrong read shows as well.
        let before = row.map_or(0, |row| row.whole);
        Change::Put(row_of(sample as usize, before))
    }
}

fn row_of(n: usize, before: i64) -> EveryType {
    let wholes = [0, 1, -1, i64::MAX - 1, i64::MIN + 1];
    let smalls = [i32::MIN, 0, i32::MAX];
    let words = ["", "a", "Zeile\nzwei\t\\N \u{7f} \u{10ffff}", "null"];
    let moments = [0, -1, 946_684_800_000_000, 4_102_444_800_999_999, 1];
    let amounts = [
        Numeric::new(0, 0),
        Numeric::new(0, 20),
        Numeric::new(-1, 10),
        Numeric::new(i128::MAX / 10, 7),
        Numeric::new(-10_000, 4),
        Numeric::new(123_456_789_012_345_678_901, 0),
    ];
    let documents = [
        "null",
        r#"{"a":{"b":[1,2.50,-3e2]},"":"\u0001"}"#,
        "[]",
        r#""text""#,
        "1.10",
    ];
    let bytes: [&[u8]; 3] = [b"", b"\0\xff\\x", &[7; 3_000]];
    let row = EveryType {
        whole: wholes[n % 5].saturating_add(before % 10),
        small: smalls[n % 3],
        flag: n.is_multiple_of(2),
        words: words[n % 4].to_owned(),
        moment: Timestamp(moments[n % 5]),
        amount: amounts[n % 6],
        document: Json::parse(documents[n % 5]).expect("it is JSON"),
        bytes: bytes[n % 3].to_vec(),
        id: Uuid([n as u8; 16]),
        maybe_whole: None,
        maybe_small: None,
        maybe_flag: None,
        maybe_words: None,
        maybe_moment: None,
        maybe_amount: None,
        maybe_document: None,
        maybe_bytes: None,
        maybe_id: None,
    };
    if n.is_multiple_of(3) {
        return row;
    }
    EveryType {
        maybe_whole: Some(row.whole),
        maybe_small: Some(row.small),
        maybe_flag: Some(row.flag),
        maybe_words: Some(row.words.clone()),
        maybe_moment: Some(row.moment),
        maybe_amount: Some(row.amount),
        maybe_document: Some(row.document.clone()),
        maybe_bytes: Some(row.bytes.clone()),
        maybe_id: Some(row.id),
        ..row
    }
}
