//! The text around the numbers.
//!
//! Real payloads repeat themselves: the same shops, the same phones, the same
//! phrases with another number in them. Random text would not compress and
//! would make every byte figure wrong, so all text here is taken from lists
//! whose first entries are the most frequent ones, with a few fresh digits.

use crate::random::{Source, below};

/// Picks from lists and makes digits, all of it for one event.
pub(crate) struct Pick {
    source: Source,
    counter: u64,
}

impl Pick {
    pub(crate) fn new(source: Source) -> Self {
        Self { source, counter: 0 }
    }

    pub(crate) fn number(&mut self, bound: u64) -> u64 {
        self.counter += 1;
        below(self.source.at(self.counter), bound)
    }

    /// An index below `len`, the lower the likelier: half of the picks fall on
    /// the first eighth.
    fn skewed(&mut self, len: usize) -> usize {
        let random = self.number(1 << 21);
        let cubed = (random * random * random) >> 42;
        ((cubed * len as u64) >> 21) as usize
    }

    pub(crate) fn one_of(&mut self, list: &[&'static str]) -> &'static str {
        list[self.skewed(list.len())]
    }

    /// A company, the same IBAN for the same name.
    pub(crate) fn company(&mut self, name: &mut String, iban: &mut String) {
        let company = self.skewed(STEMS.len() * TRADES.len());
        name.clear();
        name.push_str(STEMS[company / TRADES.len()]);
        name.push(' ');
        name.push_str(TRADES[company % TRADES.len()]);
        // No check digits: nobody routes money with these.
        let account = 1_202_000_000 + company as u64 * 7_919;
        iban.clear();
        iban.push_str("DE");
        digits(iban, company as u64 % 97, 2);
        iban.push_str("50010517");
        digits(iban, account, 10);
    }

    /// A shop with its card terminal.
    pub(crate) fn shop(&mut self, name: &mut String, terminal: &mut String) {
        let shop = self.skewed(SHOPS.len() * BRANCHES);
        name.clear();
        name.push_str(SHOPS[shop / BRANCHES]);
        name.push_str(" Filiale ");
        name.push_str(CITIES[shop % BRANCHES]);
        terminal.clear();
        terminal.push_str("TERM-");
        digits(terminal, 10_000 + shop as u64 * 37, 5);
        terminal.push('-');
        digits(terminal, shop as u64 % 7, 2);
    }

    pub(crate) fn person(&mut self, name: &mut String) {
        name.clear();
        name.push_str(self.one_of(&FIRST_NAMES));
        name.push(' ');
        name.push_str(self.one_of(&LAST_NAMES));
    }

    /// A booking: the way it took and what is written on the statement go
    /// together.
    pub(crate) fn template(&mut self, list: &[Template]) -> Template {
        list[self.skewed(list.len())]
    }
}

/// A paper named after its clearing batch: `PREFIX-2024-00012345`.
pub(crate) fn reference(prefix: &str, year: i64, batch: u64, text: &mut String) {
    text.clear();
    text.push_str(prefix);
    text.push('-');
    digits(text, year.unsigned_abs(), 4);
    text.push('-');
    digits(text, batch, 8);
}

/// A phrase and the month of the event.
pub(crate) fn note(phrase: &str, month: usize, year: i64, text: &mut String) {
    text.clear();
    text.push_str(phrase);
    text.push(' ');
    text.push_str(MONTHS[month % 12]);
    text.push(' ');
    digits(text, year.unsigned_abs(), 4);
}

/// A number with zeros in front up to `width`. The formatting machinery takes
/// several times as long, and a log has four such numbers an event.
fn digits(text: &mut String, value: u64, width: usize) {
    let mut space = [b'0'; 20];
    let (mut start, mut rest) = (space.len(), value);
    while rest > 0 {
        start -= 1;
        space[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let start = start.min(space.len() - width);
    // Digits only, so it cannot be anything but UTF-8.
    text.push_str(std::str::from_utf8(&space[start..]).unwrap_or_default());
}

/// The way a booking took, what it was made with, and the phrase on the
/// statement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Template {
    pub(crate) channel: &'static str,
    pub(crate) device: &'static str,
    pub(crate) phrase: &'static str,
}

const fn template(channel: &'static str, device: &'static str, phrase: &'static str) -> Template {
    Template {
        channel,
        device,
        phrase,
    }
}

const CURRENCIES: [&str; 4] = ["EUR", "EUR", "EUR", "CHF"];

/// The currency of an account: a function of its id, so that the oracle knows
/// it without the text of the event that says it.
pub(crate) fn currency_of(id: u32) -> &'static str {
    CURRENCIES[(Source::new(u64::from(id)).at(0) % CURRENCIES.len() as u64) as usize]
}

pub(crate) const PRODUCTS: [&str; 5] = [
    "current account classic",
    "current account online",
    "student account",
    "business account",
    "savings account",
];
pub(crate) const OPENING_CHANNELS: [&str; 3] = ["mobile-app", "online-form", "branch-office"];
const IPHONE: &str = "ios/17.4 iPhone15,3 app/8.12.1 build 80412 de-DE";
const PIXEL: &str = "android/14 Pixel 8 app/8.12.1 build 80412 de-DE";
const GALAXY: &str = "android/13 SM-S911B app/8.12.0 build 80377 de-DE";
const BROWSER: &str = "web/firefox-123 linux-x86_64 portal/5.40.2 de-DE";
const CLEARING: &str = "core-banking/7.3 clearing-gateway/2.18.0 batch-window-4";
const POS: &str = "pos/verifone-v200c firmware 3.1.9 acquirer-gateway/4.02.9";
const MACHINE: &str = "cash-machine/procash-2050xe software 6.30.1 network-de";
pub(crate) const DEPOSITS: [Template; 10] = [
    template(
        "sepa-credit",
        CLEARING,
        "Settlement of invoice, thank you for your order, period",
    ),
    template(
        "payroll",
        CLEARING,
        "Salary payment including allowances for the month of",
    ),
    template(
        "sepa-credit",
        BROWSER,
        "Rent share for the flat on the second floor, month of",
    ),
    template(
        "instant-credit",
        IPHONE,
        "Refund of utility costs according to statement of",
    ),
    template(
        "cash-machine",
        MACHINE,
        "Cash deposit at a branch machine, counted in",
    ),
    template(
        "sepa-credit",
        CLEARING,
        "Monthly savings transfer from own account, month of",
    ),
    template(
        "instant-credit",
        PIXEL,
        "Reimbursement of travel expenses, report of",
    ),
    template(
        "sepa-credit",
        BROWSER,
        "Child benefit paid by the family office for",
    ),
    template(
        "instant-credit",
        GALAXY,
        "Gift from the family with the best wishes for",
    ),
    template(
        "sepa-credit",
        CLEARING,
        "Dividend and interest credit for the quarter of",
    ),
];
pub(crate) const WITHDRAWALS: [Template; 10] = [
    template(
        "card-contactless",
        POS,
        "Card purchase without PIN, thank you for your visit in",
    ),
    template(
        "card-online",
        BROWSER,
        "Online order, shipped by parcel service, order of",
    ),
    template(
        "card-contactless",
        IPHONE,
        "Groceries and household goods, receipt printed in",
    ),
    template(
        "sepa-debit",
        CLEARING,
        "Direct debit of the electricity bill for the month of",
    ),
    template(
        "cash-machine",
        MACHINE,
        "Cash withdrawal at a partner machine, fee waived in",
    ),
    template(
        "sepa-debit",
        CLEARING,
        "Standing order for the rent, due on the first of",
    ),
    template(
        "card-online",
        PIXEL,
        "Subscription renewal, cancel any time, month of",
    ),
    template(
        "sepa-debit",
        CLEARING,
        "Insurance premium, collective debit for the month of",
    ),
    template(
        "card-contactless",
        POS,
        "Fuel purchase at the pump, receipt printed in",
    ),
    template(
        "card-contactless",
        IPHONE,
        "Public transport ticket for two zones, valid in",
    ),
];
pub(crate) const REVERSAL_REASONS: [&str; 5] = [
    "disputed by the account holder",
    "duplicate booking found in reconciliation",
    "returned by the counterparty's bank",
    "merchant cancelled the order",
    "wrong recipient, recalled by the sender",
];
pub(crate) const FREEZE_REASONS: [&str; 4] = [
    "card reported lost or stolen",
    "unusual activity, under review",
    "identity document expired",
    "court order received",
];
pub(crate) const UNFREEZE_REASONS: [&str; 3] = [
    "identity confirmed by the account holder",
    "review finished without findings",
    "new identity document received",
];
pub(crate) const CLOSE_REASONS: [&str; 3] = [
    "account holder moved to another bank",
    "account holder moved abroad",
    "account was not used any more",
];
pub(crate) const REOPEN_REASONS: [&str; 2] = [
    "account holder withdrew the closing request",
    "account was closed by mistake",
];
pub(crate) const CASE_NOTES: [&str; 4] = [
    "Handled by phone, account holder informed in",
    "Handled in writing, letter sent in",
    "Handled in the branch, form signed in",
    "Handled automatically by the rule set of",
];
pub(crate) const CITIES: [&str; 16] = [
    "Berlin",
    "Hamburg",
    "Muenchen",
    "Koeln",
    "Frankfurt",
    "Stuttgart",
    "Leipzig",
    "Dresden",
    "Hannover",
    "Bremen",
    "Nuernberg",
    "Duisburg",
    "Bochum",
    "Bielefeld",
    "Bonn",
    "Muenster",
];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const STEMS: [&str; 24] = [
    "Nordwind",
    "Albrecht",
    "Hansa",
    "Rheintal",
    "Bergmann",
    "Seehafen",
    "Kaltenbach",
    "Lindner",
    "Morgenstern",
    "Westfalen",
    "Alpenblick",
    "Schwarzwald",
    "Elbe",
    "Donau",
    "Petersen",
    "Steinbruck",
    "Wagner",
    "Hofmeister",
    "Adler",
    "Falkenstein",
    "Marienhof",
    "Osterberg",
    "Kranich",
    "Silberbach",
];
const TRADES: [&str; 3] = ["Logistik GmbH", "Versicherung AG", "Handels KG"];
/// Branches of every shop: in the first cities of the list.
const BRANCHES: usize = 3;
const SHOPS: [&str; 20] = [
    "Frischmarkt",
    "Backhaus Krume",
    "Drogerie Morgen",
    "Tankhof",
    "Buchladen am Tor",
    "Elektro Blitz",
    "Kaffeerosterei Nord",
    "Gartencenter Gruen",
    "Modehaus Linde",
    "Apotheke am Markt",
    "Fahrrad Eck",
    "Moebelwelt",
    "Getraenke Quelle",
    "Pizzeria Vesuv",
    "Baumarkt Hammer",
    "Spielwaren Kreisel",
    "Optik Klar",
    "Reisebuero Fern",
    "Kino Palast",
    "Sporthaus Gipfel",
];
const FIRST_NAMES: [&str; 20] = [
    "Anna", "Ben", "Clara", "David", "Emma", "Felix", "Greta", "Hannes", "Ida", "Jonas", "Katja",
    "Lukas", "Mia", "Noah", "Olga", "Paul", "Rosa", "Simon", "Tessa", "Viktor",
];
const LAST_NAMES: [&str; 20] = [
    "Mueller",
    "Schmidt",
    "Schneider",
    "Fischer",
    "Weber",
    "Meyer",
    "Wagner",
    "Becker",
    "Schulz",
    "Hoffmann",
    "Koch",
    "Bauer",
    "Richter",
    "Klein",
    "Wolf",
    "Neumann",
    "Schwarz",
    "Zimmermann",
    "Braun",
    "Krueger",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_padded_as_the_formatter_pads_them() {
        for value in [0, 7, 10, 99, 12_345_678, 123_456_789, u64::MAX] {
            for width in [2, 4, 5, 8, 10] {
                let mut text = String::from("x");
                digits(&mut text, value, width);
                assert_eq!(text, format!("x{value:0width$}"));
            }
        }
    }
}
