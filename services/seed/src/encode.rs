//! From a decided event to the record that holds it.

use std::borrow::Cow;

use refold_proto::accounts::body::{
    Body, Closed, Deposited, Frozen, Opened, Reopened, Reversed, Unfrozen, Withdrawn,
};
use refold_proto::accounts::{After, Booking};
use refold_proto::{EnvelopeRef, IdRef, Payload, WireFormat};

use crate::account::Change;
use crate::layout::source;
use crate::params::SeedParams;
use crate::random::Source;
use crate::stream::DrawnEvent;
use crate::text::{self, Pick};

/// Encodes events of one log. Keeps its buffers, so that an event costs no
/// allocation.
#[derive(Debug)]
pub struct Encoder {
    format: WireFormat,
    texts: Source,
    scratch: Scratch,
    payload: Vec<u8>,
}

#[derive(Debug, Default)]
struct Scratch {
    name: String,
    iban: String,
    reference: String,
    case: String,
    note: String,
}

impl Encoder {
    /// An encoder for the log of `params`.
    pub fn new(params: &SeedParams) -> Self {
        Self {
            format: params.format,
            texts: source(params).derive(TEXTS),
            scratch: Scratch::default(),
            payload: Vec::with_capacity(1024),
        }
    }

    /// Appends the record value of `event` to `out`. It depends on the log's
    /// parameters and the event alone.
    pub fn encode(&mut self, event: &DrawnEvent, out: &mut Vec<u8>) {
        let pick = Pick::new(
            self.texts
                .derive(u64::from(event.id) << 32 | u64::from(event.version)),
        );
        self.payload.clear();
        let mut writer = BodyWriter {
            format: self.format,
            pick,
            event,
            scratch: &mut self.scratch,
            payload: &mut self.payload,
        };
        let kind = writer.write();
        let payload = match self.format {
            WireFormat::Proto => Payload::Proto(&self.payload),
            WireFormat::Json => Payload::Json(
                // The writer puts together whole strings only.
                std::str::from_utf8(&self.payload).unwrap_or("{}"),
            ),
        };
        EnvelopeRef {
            id: IdRef::Int(i64::from(event.id)),
            version: u64::from(event.version),
            kind: Cow::Borrowed(kind),
            ts_micros: event.ts_micros,
            payload,
        }
        .encode_to(out);
    }
}

const TEXTS: u64 = 3;
const MICROS_PER_YEAR: i64 = 31_557_600_000_000;

struct BodyWriter<'a> {
    format: WireFormat,
    pick: Pick,
    event: &'a DrawnEvent,
    scratch: &'a mut Scratch,
    payload: &'a mut Vec<u8>,
}

impl BodyWriter<'_> {
    fn write(&mut self) -> &'static str {
        let after = After {
            balance_cents: self.event.balance_cents,
            status: self.event.status,
            version: u64::from(self.event.version),
        };
        match self.event.change {
            Change::Opened {
                overdraft_limit_cents,
            } => self.opened(after, i64::from(overdraft_limit_cents)),
            Change::Deposited { cents } => self.deposited(after, i64::from(cents)),
            Change::Withdrawn { cents } => self.withdrawn(after, i64::from(cents)),
            Change::Reversed {
                cents,
                of_version,
                what,
            } => self.reversed(after, i64::from(cents), (u64::from(of_version), what)),
            Change::Closed { payout_cents } => self.closed(after, payout_cents),
            Change::Frozen | Change::Unfrozen | Change::Reopened => self.case(after),
        }
    }

    fn body<B: Body>(payload: &mut Vec<u8>, format: WireFormat, body: &B) -> &'static str {
        body.encode_to(format, payload);
        body.kind()
    }

    /// Year and month (from 0) of the event, near enough for a text.
    fn date(&self) -> (i64, usize) {
        let months = self.event.ts_micros / (MICROS_PER_YEAR / 12);
        (1970 + months / 12, (months % 12) as usize)
    }

    /// The clearing batch that the event went through: 256 neighbours in the
    /// log share one.
    fn batch(&self) -> u64 {
        (self.event.offset >> 8) % 100_000_000
    }

    fn opened(&mut self, after: After, overdraft_limit_cents: i64) -> &'static str {
        let (year, month) = self.date();
        let batch = self.batch();
        let Scratch {
            name,
            reference,
            note,
            ..
        } = &mut *self.scratch;
        let pick = &mut self.pick;
        pick.person(name);
        text::reference("APP", year, batch, reference);
        text::note(pick.one_of(&text::CASE_NOTES), month, year, note);
        let opened = Opened {
            after,
            owner: name,
            currency: text::currency_of(self.event.id),
            overdraft_limit_cents,
            product: pick.one_of(&text::PRODUCTS),
            branch: pick.one_of(&text::CITIES),
            channel: pick.one_of(&text::OPENING_CHANNELS),
            reference,
            note,
        };
        Self::body(self.payload, self.format, &opened)
    }

    fn deposited(&mut self, after: After, cents: i64) -> &'static str {
        let (year, month) = self.date();
        let batch = self.batch();
        let Scratch {
            name,
            iban,
            reference,
            note,
            ..
        } = &mut *self.scratch;
        let pick = &mut self.pick;
        pick.company(name, iban);
        text::reference("CRED", year, batch, reference);
        let template = pick.template(&text::DEPOSITS);
        text::note(template.phrase, month, year, note);
        let deposited = Deposited {
            after,
            cents,
            channel: template.channel,
            reference,
            counterparty: name,
            counterparty_iban: iban,
            device: template.device,
            note,
        };
        Self::body(self.payload, self.format, &deposited)
    }

    fn withdrawn(&mut self, after: After, cents: i64) -> &'static str {
        let (year, month) = self.date();
        let batch = self.batch();
        let Scratch {
            name,
            case,
            reference,
            note,
            ..
        } = &mut *self.scratch;
        let pick = &mut self.pick;
        pick.shop(name, case);
        text::reference("DEBT", year, batch, reference);
        let template = pick.template(&text::WITHDRAWALS);
        text::note(template.phrase, month, year, note);
        let withdrawn = Withdrawn {
            after,
            cents,
            channel: template.channel,
            reference,
            merchant: name,
            terminal: case,
            device: template.device,
            note,
        };
        Self::body(self.payload, self.format, &withdrawn)
    }

    fn reversed(&mut self, after: After, cents: i64, of: (u64, Booking)) -> &'static str {
        self.case_texts();
        let Scratch {
            reference,
            case,
            note,
            ..
        } = &*self.scratch;
        let reversed = Reversed {
            after,
            cents,
            of_version: of.0,
            what: of.1,
            reason: self.pick.one_of(&text::REVERSAL_REASONS),
            reference,
            case_id: case,
            operator: OPERATORS[self.pick.number(4) as usize],
            note,
        };
        Self::body(self.payload, self.format, &reversed)
    }

    fn closed(&mut self, after: After, payout_cents: i64) -> &'static str {
        self.case_texts();
        let Scratch {
            name, iban, note, ..
        } = &mut *self.scratch;
        self.pick.company(name, iban);
        let closed = Closed {
            after,
            payout_cents,
            payout_iban: iban,
            reason: self.pick.one_of(&text::CLOSE_REASONS),
            operator: OPERATORS[self.pick.number(4) as usize],
            note,
        };
        Self::body(self.payload, self.format, &closed)
    }

    /// The three events that change nothing but the status.
    fn case(&mut self, after: After) -> &'static str {
        self.case_texts();
        let operator = OPERATORS[self.pick.number(4) as usize];
        let Scratch {
            case: case_id,
            note,
            ..
        } = &*self.scratch;
        let (payload, format) = (&mut *self.payload, self.format);
        match self.event.change {
            Change::Frozen => {
                let reason = self.pick.one_of(&text::FREEZE_REASONS);
                let frozen = Frozen {
                    after,
                    reason,
                    case_id,
                    operator,
                    note,
                };
                Self::body(payload, format, &frozen)
            }
            Change::Unfrozen => {
                let reason = self.pick.one_of(&text::UNFREEZE_REASONS);
                let unfrozen = Unfrozen {
                    after,
                    reason,
                    case_id,
                    operator,
                    note,
                };
                Self::body(payload, format, &unfrozen)
            }
            _ => {
                let reason = self.pick.one_of(&text::REOPEN_REASONS);
                let reopened = Reopened {
                    after,
                    reason,
                    case_id,
                    operator,
                    note,
                };
                Self::body(payload, format, &reopened)
            }
        }
    }

    fn case_texts(&mut self) {
        let (year, month) = self.date();
        let batch = self.batch();
        let phrase = self.pick.one_of(&text::CASE_NOTES);
        text::reference("REV", year, batch, &mut self.scratch.reference);
        text::reference("CASE", year, batch / 10, &mut self.scratch.case);
        text::note(phrase, month, year, &mut self.scratch.note);
    }
}

const OPERATORS: [&str; 4] = [
    "back-office team 1",
    "back-office team 2",
    "fraud desk",
    "branch staff",
];

#[cfg(test)]
mod tests {
    use refold_proto::accounts::{AccountEvent, decode_after, decode_event};
    use refold_proto::decode;

    use super::*;
    use crate::layout::Layout;
    use crate::stream::PartitionStream;

    fn params(format: WireFormat) -> SeedParams {
        SeedParams {
            events: 20_000,
            aggregates: 2_000,
            partitions: 2,
            format,
            ..SeedParams::default()
        }
    }

    /// What a reader gets to see of a decided event.
    fn as_read(change: Change) -> Option<AccountEvent<'static>> {
        let cents = |cents| i64::from(cents);
        Some(match change {
            // Carries text, which the reader checks elsewhere.
            Change::Opened { .. } => return None,
            Change::Deposited { cents: c } => AccountEvent::Deposited { cents: cents(c) },
            Change::Withdrawn { cents: c } => AccountEvent::Withdrawn { cents: cents(c) },
            Change::Reversed {
                cents: c,
                of_version,
                what,
            } => AccountEvent::Reversed {
                cents: cents(c),
                of_version: u64::from(of_version),
                what,
            },
            Change::Frozen => AccountEvent::Frozen,
            Change::Unfrozen => AccountEvent::Unfrozen,
            Change::Closed { payout_cents } => AccountEvent::Closed { payout_cents },
            Change::Reopened => AccountEvent::Reopened,
        })
    }

    #[test]
    fn every_record_decodes_to_the_event_that_was_decided() {
        for format in [WireFormat::Proto, WireFormat::Json] {
            let params = params(format);
            let layout = Layout::new(&params).expect("a log");
            let mut encoder = Encoder::new(&params);
            let mut stream = PartitionStream::new(&layout, 0).expect("has aggregates");
            let (mut value, mut kinds) = (Vec::new(), std::collections::HashSet::new());
            for _ in 0..layout.events(0) {
                let event = stream.next_event();
                value.clear();
                encoder.encode(&event, &mut value);
                let read = decode(format, &value).expect("decodes");
                assert_eq!(read.id.int(), Some(i64::from(event.id)));
                assert_eq!(read.version, u64::from(event.version));
                assert_eq!(read.ts_micros, event.ts_micros);
                let after = decode_after(read.payload).expect("decodes");
                assert_eq!(after.balance_cents, event.balance_cents);
                assert_eq!(after.status, event.status);
                assert_eq!(after.version, read.version);
                let body = decode_event(&read.kind, read.payload).expect("decodes");
                match as_read(event.change) {
                    Some(expected) => assert_eq!(body, Some(expected)),
                    None => assert_eq!(read.kind, "Opened"),
                }
                if let Change::Reversed { what, .. } = event.change {
                    kinds.insert(what == Booking::Deposit);
                }
            }
            assert_eq!(kinds.len(), 2, "both kinds of reversals occur");
        }
    }

    #[test]
    fn values_have_the_size_that_the_log_is_described_with() {
        let params = params(WireFormat::Proto);
        let layout = Layout::new(&params).expect("a log");
        let mut encoder = Encoder::new(&params);
        let mut stream = PartitionStream::new(&layout, 1).expect("has aggregates");
        let mut bytes = Vec::new();
        for _ in 0..layout.events(1) {
            encoder.encode(&stream.next_event(), &mut bytes);
        }
        let mean = bytes.len() as u64 / layout.events(1);
        assert!((200..=400).contains(&mean), "{mean} bytes");
    }
}
