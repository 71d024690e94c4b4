use proptest::prelude::*;

use super::{
    BillingPeriod, ChargeBy, Currency, Held, Holding, Item, Level, Measure, Money, Plan, Proration, Rounding,
    Segment, UnitPrice, joined, line_items, next_period, stretches,
};
use crate::clock::Timestamp;
use crate::domain::billing::Priced;
use crate::domain::{Anchor, Limit, Units, Zone};

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

fn plan(tier: &str) -> Plan {
    Plan { tier: tier.to_owned(), tier_version: 1 }
}

fn segment(starts_at: Timestamp, tier: Option<&str>) -> Segment {
    Segment { starts_at, plan: tier.map(plan) }
}

fn currency(code: &str) -> Currency {
    Currency::parse(code).unwrap()
}

fn zones() -> Vec<String> {
    jiff::tz::db().available().map(|name| name.to_string()).collect()
}

#[test]
fn amounts_have_the_decimals_of_their_currency() {
    for (minor, code, text) in [
        (29_900, "USD", "299.00 USD"),
        (-5, "USD", "-0.05 USD"),
        (1_250, "KWD", "1.250 KWD"),
        (980, "JPY", "980 JPY"),
        (i64::MIN, "JPY", "-9223372036854775808 JPY"),
    ] {
        assert_eq!(Money { minor, currency: currency(code) }.to_string(), text);
    }
    for (text, code, minor) in [
        ("500", "USD", Some(50_000)),
        ("499.9", "USD", Some(49_990)),
        ("1.250", "KWD", Some(1_250)),
        ("7", "JPY", Some(7)),
        ("0.5", "JPY", None),
        ("1.234", "USD", None),
        ("-1", "USD", None),
        ("1.", "USD", None),
        (".5", "USD", None),
        ("", "USD", None),
        ("1e3", "USD", None),
        ("99999999999999999999", "USD", None),
    ] {
        assert_eq!(Money::parse(text, currency(code)).map(|money| money.minor), minor, "{text} {code}");
    }
    for bad in ["usd", "US", "USDT", "CLF", "€€€", ""] {
        assert_eq!(Currency::parse(bad), None, "{bad}");
    }
}

#[test]
fn half_a_minor_unit_goes_to_the_even_neighbour_or_away_from_zero() {
    for (numerator, even, up) in [(5, 2, 3), (7, 4, 4), (-5, -2, -3), (-7, -4, -4), (4, 2, 2), (1, 0, 1)] {
        assert_eq!(Rounding::HalfEven.divide(numerator, 2), even, "{numerator}/2");
        assert_eq!(Rounding::HalfUp.divide(numerator, 2), up, "{numerator}/2");
    }
    assert_eq!(Rounding::HalfEven.divide(2, 3), 1);
    assert_eq!(Rounding::HalfUp.divide(-2, 3), -1);
}

#[test]
fn a_price_is_an_exact_decimal_per_so_many_units() {
    let price = UnitPrice::new("0.40", 1_000).unwrap();
    assert_eq!(price.to_string(), "0.40 per 1000");
    assert_eq!("0.40 per 1000".parse::<UnitPrice>(), Ok(price));
    let cost = |units, code| price.minor(units, currency(code), Rounding::HalfEven);
    assert_eq!((cost(1_000, "USD"), cost(1_234, "USD"), cost(12, "USD")), (40, 49, 0));
    assert_eq!((cost(1_000, "KWD"), cost(1_000, "JPY"), cost(1_250, "JPY")), (400, 0, 0));
    assert_eq!(cost(1_251, "JPY"), 1, "half a yen and a bit");
    let largest = UnitPrice::new("999999999999999", 1).unwrap();
    assert_eq!(largest.minor((1 << 53) - 1, currency("KWD"), Rounding::HalfEven) % 1_000, 0);
    for (price, per) in [("", 1), (".5", 1), ("5.", 1), ("-1", 1), ("1e3", 1), ("1", 0), ("1.0000000001", 1)]
    {
        assert!(UnitPrice::new(price, per).is_err(), "{price} per {per}");
    }
}

#[test]
fn a_tenant_of_the_31st_is_billed_from_month_to_month() {
    let since = at("2026-01-31T15:00:00Z");
    let (segments, anchor) = ([segment(since, Some("pro"))], Anchor::Anniversary(since));
    let mut after = None;
    let mut starts = Vec::new();
    for _ in 0..5 {
        let period = next_period(&segments, after, anchor, &Zone::UTC).unwrap();
        starts.push(period.start.to_string()[..10].to_owned());
        after = Some(period.end);
    }
    assert_eq!(starts, ["2026-01-31", "2026-02-28", "2026-03-31", "2026-04-30", "2026-05-31"]);
}

#[test]
fn a_zone_that_is_changed_makes_a_month_some_hours_longer_or_shorter_and_none_of_some_hours() {
    let since = at("2026-11-01T00:00:00Z");
    let segments = [segment(since, Some("pro"))];
    let first = next_period(&segments, None, Anchor::Calendar, &Zone::UTC).unwrap();
    for (zone, end) in [("America/New_York", "2027-01-01T05:00:00Z"), ("Asia/Tokyo", "2026-12-31T15:00:00Z")]
    {
        let zone = Zone::named(zone).unwrap();
        let next = next_period(&segments, Some(first.end), Anchor::Calendar, &zone).unwrap();
        assert_eq!(next, BillingPeriod { start: first.end, end: at(end) });
    }
}

#[test]
fn what_was_cancelled_is_billed_to_its_periods_end_and_again_when_it_begins_again() {
    let (begun, ended, again) =
        (at("2026-01-01T00:00:00Z"), at("2026-01-20T12:00:00Z"), at("2026-06-10T08:00:00Z"));
    let mut segments = vec![segment(begun, Some("pro")), segment(ended, None)];
    let next = |segments: &[Segment], after| next_period(segments, after, Anchor::Calendar, &Zone::UTC);
    let january = next(&segments, None).unwrap();
    assert_eq!(next(&segments, Some(january.end)), None);
    segments.push(segment(again, Some("free")));
    let june = next(&segments, Some(january.end)).unwrap();
    assert_eq!(june, BillingPeriod { start: at("2026-06-01T00:00:00Z"), end: at("2026-07-01T00:00:00Z") });
    let measure = Measure::of(january, Proration::Day, &Zone::UTC);
    let parts = stretches(&segments, &measure);
    assert_eq!(parts.iter().map(|part| part.to - part.from).collect::<Vec<_>>(), [19, 12]);
}

#[test]
fn an_upgrade_is_charged_for_the_days_from_its_own_on() {
    let (begun, raised) = (at("2026-04-01T09:00:00Z"), at("2026-04-11T15:00:00Z"));
    let segments = [segment(begun, Some("pro")), segment(raised, Some("business"))];
    let period = next_period(&segments, None, Anchor::Calendar, &Zone::UTC).unwrap();
    let measure = Measure::of(period, Proration::Day, &Zone::UTC);
    let priced = [("pro", 29_900), ("business", 79_900)].map(|(tier, price_minor)| Priced {
        plan: plan(tier),
        display: tier.to_owned(),
        price_minor,
    });
    let items = line_items(&measure, &stretches(&segments, &measure), &priced, &[]);
    let amounts = items.iter().map(|item| item.amount_minor(currency("USD"), Rounding::HalfEven).unwrap());
    // 10/30 of 299.00, and 799.00 less 10/30 of it.
    assert_eq!(amounts.collect::<Vec<_>>(), [9_967, 53_267]);
}

#[test]
fn each_version_of_a_tier_is_charged_for_at_its_own_price() {
    let (begun, changed) = (at("2026-04-01T00:00:00Z"), at("2026-04-16T00:00:00Z"));
    let version = |tier_version| Plan { tier_version, ..plan("pro") };
    let segments = [(begun, 1), (changed, 2)]
        .map(|(starts_at, number)| Segment { starts_at, plan: Some(version(number)) });
    let period = next_period(&segments, None, Anchor::Calendar, &Zone::UTC).unwrap();
    let measure = Measure::of(period, Proration::Day, &Zone::UTC);
    let priced = [(2, 40_000), (1, 30_000)].map(|(number, price_minor)| Priced {
        plan: version(number),
        display: "Pro".to_owned(),
        price_minor,
    });
    let items = line_items(&measure, &stretches(&segments, &measure), &priced, &[]);
    let amounts = items.iter().map(|item| item.amount_minor(currency("USD"), Rounding::HalfEven).unwrap());
    assert_eq!(amounts.collect::<Vec<_>>(), [15_000, 20_000]);
}

#[test]
fn a_change_in_the_middle_of_a_minute_is_charged_to_the_second() {
    let period = BillingPeriod { start: at("2026-04-01T00:00:00Z"), end: at("2026-04-01T01:00:00Z") };
    let measure = Measure::of(period, Proration::Second, &Zone::UTC);
    let segments =
        [segment(period.start, Some("pro")), segment(at("2026-04-01T00:01:31Z"), Some("business"))];
    let parts: Vec<_> = stretches(&segments, &measure).iter().map(|part| (part.from, part.to)).collect();
    assert_eq!(parts, [(0, 91), (91, 3_600)]);
    assert_eq!(
        measure.until(period.end.plus(std::time::Duration::from_secs(5))),
        3_600,
        "nothing is behind its end"
    );
}

fn held(levels: &[Level], start: Timestamp, end: Timestamp) -> Held {
    let mut holding = Holding::over(start, end);
    levels.iter().for_each(|level| holding.becomes(*level));
    holding.held()
}

fn level(since: i64, units: u64) -> Level {
    Level { since: Timestamp::from_micros(since), units: Units::saturating(units) }
}

fn gauge(held: Held, charge_by: ChargeBy, included: u64, price: &str, [from, to, of]: [u64; 3]) -> Item {
    let instant = Timestamp::from_seconds(0);
    Item::Gauge {
        resource_type: "users".parse().unwrap(),
        charge_by,
        tier: "pro".to_owned(),
        start: instant,
        end: instant,
        held,
        included: Limit::Of(Units::saturating(included)),
        price: price.parse().unwrap(),
        from,
        to,
        of,
    }
}

#[test]
fn a_gauge_is_charged_by_its_most_or_its_average_for_its_part_of_the_month() {
    let [start, end] = [0, 30_000_000].map(Timestamp::from_micros);
    // Ten seconds each of 12, 3 and 7: 22 / 3 on average. What lies before and behind counts for nothing.
    let levels = [level(-5, 12), level(10_000_000, 3), level(20_000_000, 7), level(30_000_000, 99)];
    let held = held(&levels, start, end);
    assert_eq!((held.maximum.get(), held.average.get(), held.rest), (12, 7, 10_000_000));
    assert_eq!([ChargeBy::Maximum, ChargeBy::Average].map(|by| held.told(by)), ["12", "7.33"]);
    let amount = |by, included, part| {
        let item = gauge(held, by, included, "5.00 per 1", part);
        item.amount_minor(currency("USD"), Rounding::HalfEven).unwrap()
    };
    assert_eq!(amount(ChargeBy::Maximum, 10, [0, 30, 30]), 1_000);
    assert_eq!(amount(ChargeBy::Average, 7, [0, 30, 30]), 167, "a third of 5.00, rounded once");
    assert_eq!(amount(ChargeBy::Average, 7, [10, 30, 30]), 111, "two thirds of a third, and not of 1.67");
    assert_eq!((amount(ChargeBy::Average, 8, [0, 30, 30]), amount(ChargeBy::Maximum, 12, [0, 1, 1])), (0, 0));
}

#[test]
fn a_gauge_of_petabytes_is_charged_exactly_and_one_beyond_counting_is_refused() {
    let micros = 31 * 86_400_000_000;
    let all = Units::MAX.get();
    let held =
        held(&[level(0, all), level(7, all - 1)], Timestamp::from_micros(0), Timestamp::from_micros(micros));
    let amount = |price| {
        gauge(held, ChargeBy::Average, 0, price, [0, 31, 31])
            .amount_minor(currency("USD"), Rounding::HalfEven)
    };
    // 9,007,199.254740990 GB and a bit at 0.023.
    assert_eq!(amount("0.023 per 1000000000"), Ok(20_716_558));
    assert!(amount("999999999999999 per 1").is_err());
}

/// Years in which zones have changed their offset, their day, or both.
fn instants() -> impl Strategy<Value = i64> {
    at("1995-01-01T00:00:00Z").seconds()..at("2037-01-01T00:00:00Z").seconds()
}

#[test]
fn segments_tile_a_period_in_every_zone() {
    let run = |zone: &str, since: i64, cuts: &[i64], proration, is_calendar: bool| {
        let zone = Zone::named(zone).unwrap();
        let since = Timestamp::from_seconds(since);
        let anchor = if is_calendar { Anchor::Calendar } else { Anchor::Anniversary(since) };
        let mut starts: Vec<_> =
            cuts.iter().map(|cut| Timestamp::from_seconds(since.seconds() + cut)).collect();
        starts.push(since);
        starts.sort_unstable();
        starts.dedup();
        let segments: Vec<_> = starts.into_iter().map(|at| segment(at, Some("pro"))).collect();
        let mut after = None;
        for _ in 0..3 {
            let period = next_period(&segments, after, anchor, &zone).unwrap();
            assert!(after.is_none_or(|after| after == period.start) && period.start < period.end);
            let measure = Measure::of(period, proration, &zone);
            let parts = stretches(&segments, &measure);
            assert_eq!((parts[0].start, parts[0].from), (period.start, 0), "{zone:?}");
            assert_eq!(parts.last().map(|part| (part.end, part.to)), Some((period.end, measure.whole())));
            for pair in parts.windows(2) {
                assert_eq!((pair[0].end, pair[0].to), (pair[1].start, pair[1].from), "{zone:?}");
                assert!(pair[0].start < pair[0].end);
            }
            after = Some(period.end);
        }
    };
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(4));
    let cuts = prop::collection::vec(0_i64..100 * 86_400, 0..6);
    for zone in zones() {
        let cases = (instants(), cuts.clone(), any::<bool>(), any::<bool>());
        runner
            .run(&cases, |(since, cuts, by_day, is_calendar)| {
                let proration = if by_day { Proration::Day } else { Proration::Second };
                run(&zone, since, &cuts, proration, is_calendar);
                Ok(())
            })
            .unwrap();
    }
}

/// Levels of forty days, in their order.
fn levels() -> impl Strategy<Value = Vec<Level>> {
    let levels = prop::collection::btree_map(-1_000_i64..40 * 86_400_000_000, 0_u64..1 << 45, 0..20);
    levels.prop_map(|levels| levels.into_iter().map(|(since, units)| level(since, units)).collect())
}

/// Units times microseconds.
fn sum(held: &Held) -> u128 {
    u128::from(held.average.get()) * u128::from(held.micros) + u128::from(held.rest)
}

proptest! {
    #[test]
    fn what_is_held_all_the_time_is_its_own_average_and_its_most(
        units in 0_u64..1 << 53, since in -1_000_i64..=0, length in 1_i64..100 * 86_400_000_000,
    ) {
        let held = held(&[level(since, units)], Timestamp::from_micros(0), Timestamp::from_micros(length));
        prop_assert_eq!((held.average.get(), held.rest, held.maximum.get()), (units, 0, units));
    }

    #[test]
    fn it_does_not_matter_where_a_time_is_cut_and_an_average_is_never_above_the_most(
        levels in levels(), cut in 1_i64..30 * 86_400_000_000, included in 0_u64..1 << 45,
    ) {
        let [start, cut, end] = [0, cut, 30 * 86_400_000_000].map(Timestamp::from_micros);
        let whole = held(&levels, start, end);
        let (one, other) = (held(&levels, start, cut), held(&levels, cut, end));
        prop_assert_eq!(sum(&whole), sum(&one) + sum(&other));
        prop_assert_eq!(whole.maximum, one.maximum.max(other.maximum));
        // Said again, it is the same level.
        let at_cut = levels.iter().rev().find(|level| level.since <= cut).map_or(Units::ZERO, |level| level.units);
        let mut again = levels.clone();
        again.push(Level { since: cut, units: at_cut });
        again.sort_by_key(|level| level.since);
        prop_assert_eq!(held(&again, start, end), whole);
        let charged = |by| gauge(whole, by, included, "0.30 per 1000", [0, 30, 30]).amount_minor(currency("USD"), Rounding::HalfUp);
        prop_assert!(whole.average < whole.maximum || (whole.average == whole.maximum && whole.rest == 0));
        prop_assert!(charged(ChargeBy::Average).unwrap() <= charged(ChargeBy::Maximum).unwrap());
    }

    #[test]
    fn a_plan_that_was_cut_anywhere_is_measured_as_one(
        cuts in prop::collection::btree_set(0_i64..30 * 86_400, 0..8), by_day in any::<bool>(),
    ) {
        let period = BillingPeriod { start: at("2026-04-01T00:00:00Z"), end: at("2026-05-01T00:00:00Z") };
        let begun = |cut: i64| Timestamp::from_seconds(period.start.seconds() + cut);
        let mut segments = vec![segment(begun(-86_400), Some("pro"))];
        segments.extend(cuts.into_iter().map(|cut| segment(begun(cut), Some("pro"))));
        let proration = if by_day { Proration::Day } else { Proration::Second };
        let measure = Measure::of(period, proration, &Zone::UTC);
        let joined = joined(&stretches(&segments, &measure));
        let one: Vec<_> = joined.iter().map(|part| (part.start, part.end, part.from, part.to)).collect();
        prop_assert_eq!(one, [(period.start, period.end, 0, measure.whole())]);
    }

    #[test]
    fn the_parts_of_an_unchanged_price_add_up_to_it(
        price_minor in 0_i64..10_000_000_000,
        of in 1_u64..3_000_000,
        cuts in prop::collection::vec(0_u64..3_000_000, 0..12),
        half_up in any::<bool>(),
    ) {
        let mut ends: Vec<u64> = cuts.into_iter().map(|cut| cut % of).chain([0, of]).collect();
        ends.sort_unstable();
        let rounding = if half_up { Rounding::HalfUp } else { Rounding::HalfEven };
        let instant = Timestamp::from_seconds(0);
        let part = |from, to| Item::Subscription {
            tier: String::new(), tier_version: 1, display: String::new(), start: instant, end: instant, price_minor,
            from, to, of,
        };
        let amounts = ends.windows(2).map(|pair| part(pair[0], pair[1]).amount_minor(currency("USD"), rounding));
        prop_assert_eq!(amounts.sum::<Result<i64, _>>().unwrap(), price_minor);
    }
}
