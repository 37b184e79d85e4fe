//! Messages as every encoder writes them, and what is nearly that.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::fields::{Field, soup};

/// A message of the usual shape, with up to two things that are not: a byte of it is
/// another one, a field comes again, it ends early.
#[derive(Debug, Clone)]
pub(crate) struct Flaws {
    byte: Option<(prop::sample::Index, u8)>,
    repeated: Option<(prop::sample::Index, prop::sample::Index)>,
    cut: Option<prop::sample::Index>,
}

pub(crate) fn flaws() -> impl Strategy<Value = Flaws> {
    use prop::option::weighted;
    let index = any::<prop::sample::Index>;
    let byte = weighted(0.4, (index(), any::<u8>()));
    let repeated = weighted(0.2, (index(), index()));
    let cut = weighted(0.1, index());
    (byte, repeated, cut).prop_map(|(byte, repeated, cut)| Flaws {
        byte,
        repeated,
        cut,
    })
}

impl Flaws {
    pub(crate) fn apply(self, mut fields: Vec<Field>) -> Vec<u8> {
        if let Some((from, to)) = self.repeated {
            let again = fields[from.index(fields.len())].clone();
            fields.insert(to.index(fields.len() + 1), again);
        }
        let mut bytes = soup(&fields);
        if let Some((at, byte)) = self.byte {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = self.cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        bytes
    }
}

pub(crate) fn any_text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => "[ -~]{0,40}".prop_map(String::into_bytes),
        1 => "[a-zäöü€😀]{0,20}".prop_map(String::into_bytes),
        1 => "[a-z]{120,140}".prop_map(String::into_bytes),
    ]
}

/// Positive for the most part, of any length.
pub(crate) fn usual_number() -> impl Strategy<Value = u64> {
    (any::<u64>(), 0_u32..64).prop_map(|(number, shift)| number >> shift)
}

pub(crate) fn usual_after() -> impl Strategy<Value = Field> {
    (usual_number(), 0_u64..4, usual_number()).prop_map(|(balance, status, version)| {
        let fields = [(1, balance), (2, status), (3, version)];
        Field::Message(1, fields.map(|(n, v)| Field::Varint(n, v)).to_vec())
    })
}

/// An amount's or an opening's fields in their order.
pub(crate) fn usual_payload() -> impl Strategy<Value = Vec<Field>> {
    let texts = |from: u32| {
        vec(any_text(), 0..7).prop_map(move |texts| {
            let numbered = (from..).zip(texts);
            numbered
                .map(|(n, text)| Field::Bytes(n, text))
                .collect::<Vec<_>>()
        })
    };
    let amount = (usual_after(), usual_number(), texts(3))
        .prop_map(|(after, cents, texts)| [vec![after, Field::Varint(2, cents)], texts].concat());
    let opened = (
        usual_after(),
        any_text(),
        "[A-Z]{3}",
        prop::option::of(usual_number()),
        texts(5),
    );
    let opened = opened.prop_map(|(after, owner, currency, limit, texts)| {
        let mut fields = vec![
            after,
            Field::Bytes(2, owner),
            Field::Bytes(3, currency.into_bytes()),
        ];
        fields.extend(limit.map(|limit| Field::Varint(4, limit)));
        [fields, texts].concat()
    });
    prop_oneof![amount, opened]
}
