//! The derive macros as another crate uses them: names of this crate only by
//! their full path, no imports but the macros' own.

use refold_projection::cell::CellReader;
use refold_projection::harness::given;
use refold_projection::{
    CellValue, Change, Column, ColumnType, Compare, DecodeError, Envelope, Fingerprint, Json,
    Numeric, Payload, Projection, Row, TextValue, Timestamp, Uuid, source_fingerprint,
};

#[derive(Debug, Clone, Copy, PartialEq, TextValue)]
enum Status {
    Open,
    OnHold,
    #[text("CLOSED")]
    Closed,
}

#[derive(Debug, Clone, PartialEq, Row)]
struct Everything {
    big: i64,
    small: i32,
    flag: bool,
    name: String,
    at: Timestamp,
    amount: Numeric,
    document: Json,
    bytes: Vec<u8>,
    id: Uuid,
    #[row(text)]
    status: Status,
    #[row(new)]
    maybe: Option<i64>,
    #[row(differs)]
    maybe_name: Option<String>,
    #[row(new, text)]
    maybe_status: Option<Status>,
    r#type: Option<Json>,
}

fn everything() -> Everything {
    Everything {
        big: -1,
        small: 2,
        flag: true,
        name: "naïve".to_owned(),
        at: Timestamp(1),
        amount: Numeric::new(-1050, 2),
        document: Json::parse("{\"b\":1,\"a\":[]}").expect("it is JSON"),
        bytes: vec![1, 2, 3],
        id: Uuid([9; 16]),
        status: Status::OnHold,
        maybe: Some(5),
        maybe_name: None,
        maybe_status: Some(Status::Closed),
        r#type: None,
    }
}

#[test]
fn columns_follow_the_struct() {
    let columns: Vec<(&str, ColumnType, bool, Compare)> = Everything::COLUMNS
        .iter()
        .map(|c: &Column| (c.name, c.ty, c.nullable, c.compare))
        .collect();
    assert_eq!(
        columns,
        [
            ("big", ColumnType::Int8, false, Compare::Same),
            ("small", ColumnType::Int4, false, Compare::Same),
            ("flag", ColumnType::Bool, false, Compare::Same),
            ("name", ColumnType::Text, false, Compare::Same),
            ("at", ColumnType::Timestamptz, false, Compare::Same),
            ("amount", ColumnType::Numeric, false, Compare::Same),
            ("document", ColumnType::Jsonb, false, Compare::Same),
            ("bytes", ColumnType::Bytea, false, Compare::Same),
            ("id", ColumnType::Uuid, false, Compare::Same),
            ("status", ColumnType::Text, false, Compare::Same),
            ("maybe", ColumnType::Int8, true, Compare::New),
            ("maybe_name", ColumnType::Text, true, Compare::Differs),
            ("maybe_status", ColumnType::Text, true, Compare::New),
            ("type", ColumnType::Jsonb, true, Compare::Same),
        ]
    );
}

#[test]
fn a_row_comes_back_from_its_cells() {
    let row = everything();
    let mut bytes = Vec::new();
    row.encode(&mut bytes);
    let mut cells = CellReader::new(&bytes);
    assert_eq!(Everything::decode(&mut cells), Ok(row));
    assert!(cells.rest().is_empty());
}

#[test]
fn the_heap_of_a_row_is_counted() {
    let row = everything();
    assert!(row.heap_bytes() >= "naïve".len() + 3 + row.document.as_str().len());
}

#[test]
fn a_cell_that_does_not_fit_is_named_by_its_index() {
    let mut bytes = Vec::new();
    7i64.write(&mut bytes);
    7i64.write(&mut bytes);
    let error = Everything::decode(&mut CellReader::new(&bytes)).expect_err("a bigint");
    assert_eq!(error.to_string(), "cell 1: 8 bytes where 4 belong");
}

#[test]
fn an_unknown_name_is_refused() {
    assert_eq!(Status::from_text("on_hold"), Some(Status::OnHold));
    assert_eq!(Status::Closed.as_text(), "CLOSED");
    let mut bytes = Vec::new();
    "open!".to_owned().write(&mut bytes);
    let read = <Status as refold_projection::TextCell>::read_text(&mut CellReader::new(&bytes));
    let error = read.expect_err("no such name");
    assert_eq!(
        error.to_string(),
        "cell 0: \"open!\" is not one of the column's names"
    );
}

struct Latest;

impl Projection for Latest {
    type Key = String;
    type Event<'a> = &'a str;
    type Row = Everything;
    const NAME: &'static str = "latest";
    const VERSION: u32 = 1;
    const HANDLES: &'static [&'static str] = &["Named"];
    const CODE: Fingerprint = source_fingerprint!();

    fn decode<'a>(_: &'a str, payload: Payload<'a>) -> Result<&'a str, DecodeError> {
        match payload {
            Payload::Json(text) => Ok(text),
            Payload::Proto(_) => Err(DecodeError::new("this topic is JSON")),
        }
    }

    fn fold(&self, _: Option<Everything>, e: &Envelope<'_, &str>) -> Change<Everything> {
        Change::Put(Everything {
            name: e.event.to_owned(),
            ..everything()
        })
    }
}

#[test]
fn a_derived_row_folds() {
    given(Latest)
        .event("a", ("Named", "x"))
        .event("a", ("Named", "y"))
        .then(
            "a",
            Everything {
                name: "y".to_owned(),
                ..everything()
            },
        )
        .then_replay_safe()
        .then_deterministic();
}

#[test]
fn the_fingerprint_is_of_the_file_and_of_those_beside_it() {
    const HERE: Fingerprint = source_fingerprint!();
    const BOTH: Fingerprint = source_fingerprint!("../src/guard.rs");
    assert_eq!(HERE, Latest::CODE);
    assert_ne!(HERE, BOTH);
}
