use std::time::Duration;

use super::{Anchor, Period, Window, Zone};
use crate::clock::Timestamp;

fn window(period: Period, anchor: Anchor, zone: &str, now: &str) -> Window {
    period.window(anchor, &Zone::named(zone).unwrap(), Timestamp::parse(now).unwrap())
}

fn anniversary(text: &str) -> Anchor {
    Anchor::Anniversary(Timestamp::parse(text).unwrap())
}

fn check(window: Window, start: &str, end: &str) {
    let shown = |at: Timestamp| at.to_string().replace(".000000Z", "Z");
    assert_eq!((shown(window.start).as_str(), shown(window.end).as_str()), (start, end));
}

#[test]
fn a_calendar_month_is_local() {
    let zurich = |now| window(Period::Month, Anchor::Calendar, "Europe/Zurich", now);
    check(zurich("2026-03-31T21:59:59.999999Z"), "2026-02-28T23:00:00Z", "2026-03-31T22:00:00Z");
    check(zurich("2026-03-31T22:00:00Z"), "2026-03-31T22:00:00Z", "2026-04-30T22:00:00Z");
}

#[test]
fn an_anniversary_on_the_31st_is_clamped_and_returns() {
    let anchor = anniversary("2025-01-31T15:00:00Z");
    let at = |now| window(Period::Month, anchor, "UTC", now);
    check(at("2025-02-27T23:59:59Z"), "2025-01-31T00:00:00Z", "2025-02-28T00:00:00Z");
    check(at("2025-02-28T00:00:00Z"), "2025-02-28T00:00:00Z", "2025-03-31T00:00:00Z");
    check(at("2025-04-30T00:00:00Z"), "2025-04-30T00:00:00Z", "2025-05-31T00:00:00Z");
    check(at("2028-02-29T12:00:00Z"), "2028-02-29T00:00:00Z", "2028-03-31T00:00:00Z");
}

#[test]
fn a_midnight_in_a_gap_is_the_first_instant_after_it() {
    // Clocks went from 00:00 to 01:00 at 03:00Z.
    let day = |zone, now| window(Period::Day, Anchor::Calendar, zone, now);
    check(day("America/Sao_Paulo", "2018-11-04T12:00:00Z"), "2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z");
    check(day("Africa/Cairo", "2024-04-26T12:00:00Z"), "2024-04-25T22:00:00Z", "2024-04-26T21:00:00Z");
    check(day("Asia/Beirut", "2022-03-27T12:00:00Z"), "2022-03-26T22:00:00Z", "2022-03-27T21:00:00Z");
}

#[test]
fn a_skipped_day_has_no_window_of_its_own() {
    // Samoa went from the 29th straight to the 31st at 10:00Z on the 30th.
    let day = |now| window(Period::Day, Anchor::Calendar, "Pacific/Apia", now);
    check(day("2011-12-30T09:59:59Z"), "2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z");
    check(day("2011-12-30T10:00:00Z"), "2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z");
}

#[test]
fn weeks_begin_on_monday_or_on_the_anniversary() {
    check(
        window(Period::Week, Anchor::Calendar, "UTC", "2026-11-22T12:00:00Z"),
        "2026-11-16T00:00:00Z",
        "2026-11-23T00:00:00Z",
    );
    check(
        window(Period::Week, anniversary("2026-11-18T09:00:00Z"), "UTC", "2026-11-22T12:00:00Z"),
        "2026-11-18T00:00:00Z",
        "2026-11-25T00:00:00Z",
    );
}

#[test]
fn short_periods_are_aligned_to_utc_everywhere() {
    check(
        window(Period::Hour, Anchor::Calendar, "Asia/Kolkata", "2026-11-23T06:29:59Z"),
        "2026-11-23T06:00:00Z",
        "2026-11-23T07:00:00Z",
    );
}

/// Ten years of boundaries in the awkward zones: each window ends where the next begins, holds its own start and
/// not its end, and is never empty.
#[test]
fn windows_tile_ten_years_in_the_awkward_zones() {
    let zones = [
        "UTC",
        "America/Sao_Paulo",
        "Asia/Beirut",
        "Africa/Cairo",
        "Pacific/Kiritimati",
        "Pacific/Apia",
        "Australia/Lord_Howe",
        "America/New_York",
        "Asia/Kathmandu",
        "Africa/Casablanca",
    ];
    let anchors =
        [Anchor::Calendar, anniversary("2010-01-31T23:30:00Z"), anniversary("2008-02-29T00:00:00Z")];
    let until = Timestamp::parse("2028-01-01T00:00:00Z").unwrap();
    for name in zones {
        let zone = Zone::named(name).unwrap();
        for anchor in anchors {
            for period in [Period::Day, Period::Week, Period::Month] {
                let mut now = Timestamp::parse("2011-06-01T00:00:00Z").unwrap();
                while now < until {
                    let window = period.window(anchor, &zone, now);
                    let what = format!("{name} {period} at {now}: {window:?}");
                    assert!(window.contains(now) && !window.contains(window.end), "{what}");
                    let last = window.end.minus(Duration::from_micros(1));
                    assert_eq!(period.window(anchor, &zone, window.start), window, "{what}");
                    assert_eq!(period.window(anchor, &zone, last), window, "{what}");
                    assert_eq!(period.window(anchor, &zone, window.end).start, window.end, "{what}");
                    now = window.end;
                }
            }
        }
    }
}
