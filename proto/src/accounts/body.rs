//! Whole accounts events, for whoever writes a log.
//!
//! Every struct writes itself in both forms, with the fields in the order of
//! `accounts.proto` and empty ones left out, byte for byte as prost would. The
//! fields are described there.
#![allow(missing_docs, reason = "accounts.proto describes the fields")]

use super::{After, Booking};
use crate::envelope::WireFormat;
use crate::write;

/// Where the fields of a body go: one implementation for each form.
trait Fields {
    fn after(&mut self, after: &After);
    fn int(&mut self, field: u32, name: &str, value: i64);
    fn sint(&mut self, field: u32, name: &str, value: i64);
    fn text(&mut self, field: u32, name: &str, value: &str);
    fn symbol(&mut self, field: u32, name: &str, value: (u64, &str));
}

struct ProtoFields<'a>(&'a mut Vec<u8>);

impl Fields for ProtoFields<'_> {
    fn after(&mut self, after: &After) {
        write::key(self.0, 1, crate::wire::BYTES);
        let length_at = self.0.len();
        // Three varints and their keys need at most 33 bytes, so the length
        // always fits into the one byte that is kept free here.
        self.0.push(0);
        write::uint_field(self.0, 1, write::zigzag(after.balance_cents));
        write::uint_field(self.0, 2, after.status.number());
        write::uint_field(self.0, 3, after.version);
        self.0[length_at] = (self.0.len() - length_at - 1) as u8;
    }

    fn int(&mut self, field: u32, _: &str, value: i64) {
        write::uint_field(self.0, field, value as u64);
    }

    fn sint(&mut self, field: u32, _: &str, value: i64) {
        write::uint_field(self.0, field, write::zigzag(value));
    }

    fn text(&mut self, field: u32, _: &str, value: &str) {
        write::bytes_field(self.0, field, value.as_bytes());
    }

    fn symbol(&mut self, field: u32, _: &str, (number, _): (u64, &str)) {
        write::uint_field(self.0, field, number);
    }
}

struct JsonFields<'a>(&'a mut Vec<u8>);

impl JsonFields<'_> {
    fn name(&mut self, name: &str) {
        self.0.extend_from_slice(b",\"");
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
    }
}

impl Fields for JsonFields<'_> {
    fn after(&mut self, after: &After) {
        // Always the first member, so every other one starts with a comma.
        self.0.extend_from_slice(b"{\"after\":{\"balance_cents\":");
        write::json_number(self.0, i128::from(after.balance_cents));
        self.symbol(2, "status", (0, after.status.name()));
        self.name("version");
        write::json_number(self.0, i128::from(after.version));
        self.0.push(b'}');
    }

    fn int(&mut self, _: u32, name: &str, value: i64) {
        if value != 0 {
            self.name(name);
            write::json_number(self.0, i128::from(value));
        }
    }

    fn sint(&mut self, field: u32, name: &str, value: i64) {
        self.int(field, name, value);
    }

    fn text(&mut self, _: u32, name: &str, value: &str) {
        if !value.is_empty() {
            self.name(name);
            write::json_text(self.0, value);
        }
    }

    fn symbol(&mut self, _: u32, name: &str, (_, symbol): (u64, &str)) {
        self.name(name);
        write::json_text(self.0, symbol);
    }
}

macro_rules! bodies {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $kind:ident = $number:literal),* $(,)? })*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Copy, PartialEq, Eq)]
            pub struct $name<'a> {
                pub after: After,
                $(pub $field: bodies!(@type $kind 'a),)*
            }

            impl $name<'_> {
                /// The event's type as the envelope names it.
                pub const KIND: &'static str = stringify!($name);

                fn fields(&self, to: &mut impl Fields) {
                    to.after(&self.after);
                    $(bodies!(@write $kind to, $number, stringify!($field), self.$field);)*
                }
            }

            impl Body for $name<'_> {
                fn kind(&self) -> &'static str {
                    Self::KIND
                }

                fn encode_to(&self, format: WireFormat, out: &mut Vec<u8>) {
                    match format {
                        WireFormat::Proto => self.fields(&mut ProtoFields(out)),
                        WireFormat::Json => {
                            self.fields(&mut JsonFields(out));
                            out.push(b'}');
                        }
                    }
                }
            }
        )*
    };
    (@type text $life:lifetime) => { &$life str };
    (@type booking $life:lifetime) => { Booking };
    (@type version $life:lifetime) => { u64 };
    (@type $kind:ident $life:lifetime) => { i64 };
    (@write text $to:ident, $number:literal, $name:expr, $value:expr) => {
        $to.text($number, $name, $value)
    };
    (@write int $to:ident, $number:literal, $name:expr, $value:expr) => {
        $to.int($number, $name, $value)
    };
    (@write sint $to:ident, $number:literal, $name:expr, $value:expr) => {
        $to.sint($number, $name, $value)
    };
    (@write version $to:ident, $number:literal, $name:expr, $value:expr) => {
        $to.int($number, $name, $value as i64)
    };
    (@write booking $to:ident, $number:literal, $name:expr, $value:expr) => {
        $to.symbol($number, $name, ($value.number(), $value.name()))
    };
}

/// An event body that can be written in both forms.
pub trait Body {
    /// The event's type as the envelope names it.
    fn kind(&self) -> &'static str;

    /// Appends the encoded body to `out`.
    fn encode_to(&self, format: WireFormat, out: &mut Vec<u8>);
}

bodies! {
    /// The account exists.
    Opened {
        owner: text = 2, currency: text = 3, overdraft_limit_cents: int = 4, product: text = 5,
        branch: text = 6, channel: text = 7, reference: text = 8, note: text = 9,
    }
    /// Money came in.
    Deposited {
        cents: int = 2, channel: text = 3, reference: text = 4, counterparty: text = 5,
        counterparty_iban: text = 6, device: text = 7, note: text = 8,
    }
    /// Money went out.
    Withdrawn {
        cents: int = 2, channel: text = 3, reference: text = 4, merchant: text = 5,
        terminal: text = 6, device: text = 7, note: text = 8,
    }
    /// An earlier booking was taken back.
    Reversed {
        cents: int = 2, of_version: version = 3, what: booking = 4, reason: text = 5,
        reference: text = 6, case_id: text = 7, operator: text = 8, note: text = 9,
    }
    /// Outgoing bookings are stopped.
    Frozen { reason: text = 2, case_id: text = 3, operator: text = 4, note: text = 5 }
    /// A frozen account is open again.
    Unfrozen { reason: text = 2, case_id: text = 3, operator: text = 4, note: text = 5 }
    /// The account ended.
    Closed {
        payout_cents: sint = 2, payout_iban: text = 3, reason: text = 4, operator: text = 5,
        note: text = 6,
    }
    /// A closed account is open again.
    Reopened { reason: text = 2, case_id: text = 3, operator: text = 4, note: text = 5 }
}
