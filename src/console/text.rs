//! Values as people read them.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::domain::Zone;
use crate::domain::billing::{BillingPeriod, Money};

pub(super) use crate::domain::{grouped, in_words as words};

/// An amount with its thousands apart: 2,999.00 USD.
pub(super) fn money(money: Money) -> String {
    let told = money.to_string();
    let digits = told.bytes().skip_while(|byte| *byte == b'-').take_while(u8::is_ascii_digit).count();
    let (sign, rest) = told.split_at(usize::from(told.starts_with('-')));
    let (whole, rest) = rest.split_at(digits);
    let whole = whole.parse().map_or_else(|_| whole.to_owned(), grouped);
    format!("{sign}{whole}{rest}")
}

/// The first and the last day of a period, as the tenant counts days.
pub(super) fn days(period: BillingPeriod, zone: &Zone) -> String {
    let last = Timestamp::from_micros(period.end.micros() - 1);
    let [first, last] = [period.start, last].map(|at| zone.date(at).strftime("%-d %b %Y").to_string());
    format!("{first} to {last}")
}

/// An instant to the minute.
pub(super) fn instant(at: Timestamp) -> String {
    at.to_jiff().strftime("%-d %b %Y, %H:%M UTC").to_string()
}

/// The day of an instant.
pub(super) fn date(at: Timestamp) -> String {
    at.to_jiff().strftime("%-d %b %Y").to_string()
}

/// The day of an instant, as fields of dates have it.
pub(super) fn day(at: Timestamp) -> String {
    at.to_jiff().strftime("%Y-%m-%d").to_string()
}

/// A length of time by its largest unit, rounded down: “3 days”.
pub(super) fn span(length: Duration) -> String {
    let seconds = length.as_secs();
    let (count, unit) = match seconds {
        172_800.. => (seconds / 86_400, "days"),
        7_200.. => (seconds / 3_600, "hours"),
        120.. => (seconds / 60, "minutes"),
        _ => (seconds, "seconds"),
    };
    format!("{count} {unit}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{days, money, span};
    use crate::clock::Timestamp;
    use crate::domain::Zone;
    use crate::domain::billing::{BillingPeriod, Currency, Money};

    #[test]
    fn spans_read_well() {
        assert_eq!(
            [59, 3_600, 90_000, 259_200].map(|s| span(Duration::from_secs(s))),
            ["59 seconds", "60 minutes", "25 hours", "3 days"]
        );
    }

    #[test]
    fn amounts_have_their_thousands_apart_and_the_decimals_of_their_currency() {
        for (minor, code, text) in [
            (299_900, "USD", "2,999.00 USD"),
            (-123_456_789, "USD", "-1,234,567.89 USD"),
            (-5, "USD", "-0.05 USD"),
            (1_234_567, "JPY", "1,234,567 JPY"),
            (1_234_567, "KWD", "1,234.567 KWD"),
        ] {
            let currency = Currency::parse(code).unwrap();
            assert_eq!(money(Money { minor, currency }), text);
        }
    }

    #[test]
    fn the_days_of_a_period_are_those_of_its_zone() {
        let instant = |text| Timestamp::parse(text).unwrap();
        let period =
            BillingPeriod { start: instant("2026-10-31T15:00:00Z"), end: instant("2026-11-30T15:00:00Z") };
        assert_eq!(days(period, &Zone::named("Asia/Tokyo").unwrap()), "1 Nov 2026 to 30 Nov 2026");
        assert_eq!(days(period, &Zone::UTC), "31 Oct 2026 to 30 Nov 2026");
    }
}
