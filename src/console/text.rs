//! Values as people read them.

use std::time::Duration;

use crate::clock::Timestamp;

/// A name of ours as words: `past_due` is “Past due”.
pub(super) fn words(name: &str) -> String {
    let spaced = name.replace(['_', '-'], " ");
    let mut letters = spaced.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}", letters.as_str())
}

/// A number with its thousands apart: 12,345.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut told = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            told.push(',');
        }
        told.push(digit);
    }
    told
}

/// An instant to the minute.
pub(super) fn instant(at: Timestamp) -> String {
    at.to_jiff().strftime("%Y-%m-%d %H:%M UTC").to_string()
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

    use super::{grouped, span, words};

    #[test]
    fn values_read_well() {
        assert_eq!(words("past_due"), "Past due");
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [59, 3_600, 90_000, 259_200].map(|s| span(Duration::from_secs(s))),
            ["59 seconds", "60 minutes", "25 hours", "3 days"]
        );
    }
}
