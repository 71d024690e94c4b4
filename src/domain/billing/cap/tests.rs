use proptest::prelude::*;

use super::{AtCap, Sale, Shares, SpendCap};
use crate::clock::Timestamp;
use crate::domain::billing::{
    ChargeBy, Currency, Holding, Item, Level, Money, Proration, Rounding, Terms, UnitPrice, overage_minor,
};
use crate::domain::{Limit, Resource, Units, Zone};

fn currency(code: &str) -> Currency {
    Currency::parse(code).unwrap()
}

fn terms(code: &str, rounding: Rounding) -> Terms {
    Terms { currency: currency(code), proration: Proration::Day, rounding, zone: Zone::UTC }
}

fn cap(minor: i64, shares: Option<&str>) -> SpendCap {
    SpendCap {
        amount: Money { minor, currency: Currency::USD },
        then: AtCap::Stop,
        shares: shares.map(|shares| shares.parse().unwrap()),
        set_at: Timestamp::default(),
        set_by: String::new(),
    }
}

fn resource(name: &str) -> Resource {
    name.parse().unwrap()
}

fn units(units: u64) -> Units {
    Units::saturating(units)
}

fn counter(name: &str, used: u64, included: u64, price: &str) -> Sale {
    let (included, price) = (Limit::Of(units(included)), price.parse().unwrap());
    Sale::Counter { resource: resource(name), used: units(used), included, price }
}

/// Of a period of 30 seconds, which is charged for as 30 days are.
fn gauge(name: &str, levels: &[(i64, u64)], by: ChargeBy, included: u64, price: &str) -> Sale {
    let [start, end] = [0, 30].map(Timestamp::from_seconds);
    let mut holding = Holding::over(start, end);
    for (since, held) in levels {
        holding.becomes(Level { since: Timestamp::from_seconds(*since), units: units(*held) });
    }
    let item = Item::Gauge {
        resource_type: resource(name),
        charge_by: by,
        tier: "pro".to_owned(),
        start,
        end,
        held: holding.held(),
        included: Limit::Of(units(included)),
        price: price.parse().unwrap(),
        from: 0,
        to: 30,
        of: 30,
    };
    Sale::Gauge { resource: resource(name), item, holding }
}

fn left(cap: &SpendCap, fixed: i64, sales: &[Sale], now: i64) -> Vec<u64> {
    let terms = terms("USD", Rounding::HalfEven);
    let left = cap.leaves(fixed, sales, &terms, Timestamp::from_seconds(now));
    left.into_iter().map(Units::get).collect()
}

#[test]
fn what_the_subscription_leaves_buys_units_above_the_limit() {
    let calls = |price| [counter("api_calls", 0, 10_000, price)];
    assert_eq!(left(&cap(35_000, None), 29_900, &calls("1.00 per 1"), 0), [10_051]);
    // 51.00 buy 127,500 at 0.04 cents, and half a cent more is rounded down: 12 units.
    assert_eq!(left(&cap(35_000, None), 29_900, &calls("0.40 per 1000"), 0), [10_000 + 127_500 + 12]);
    assert_eq!(left(&cap(29_900, None), 29_900, &calls("1.00 per 1"), 0), [10_000], "nothing is left");
    assert_eq!(left(&cap(100, None), 29_900, &calls("1.00 per 1"), 0), [10_000], "less than nothing");
    assert_eq!(left(&cap(100, None), -5_000, &calls("1.00 per 1"), 0), [10_051], "a credit buys");
    let most = left(&cap(i64::MAX, None), 0, &calls("0.000000001 per 1000000000000"), 0);
    assert_eq!(most, [Units::MAX.get()]);
}

#[test]
fn money_is_divided_evenly_or_by_shares_and_what_is_spent_stays_spent() {
    let sales = |calls, alerts| {
        [counter("api_calls", calls, 10, "1.00 per 1"), counter("alerts", alerts, 5, "2.00 per 1")]
    };
    assert_eq!(left(&cap(10_000, None), 0, &sales(0, 0), 0), [60, 30]);
    assert_eq!(left(&cap(10_000, Some("api_calls=3,alerts=1")), 0, &sales(0, 0), 0), [85, 17]);
    assert_eq!(left(&cap(10_000, Some("alerts=1")), 0, &sales(0, 0), 0), [10, 55]);
    // 80.00 are spent of 100.00 by one that has a share of 50.00: the other gets what is left.
    assert_eq!(left(&cap(10_000, None), 0, &sales(90, 0), 0), [90, 15]);
    assert_eq!(left(&cap(10_000, None), 0, &sales(90, 15), 0), [90, 15]);
    assert_eq!(left(&cap(10_000, None), 0, &sales(90, 25), 0), [90, 25], "too late: nothing more of either");
    assert_eq!(left(&cap(10_000, Some("alerts=1")), 0, &sales(40, 5), 0), [40, 40], "30.00 without a share");
}

#[test]
fn a_gauge_is_limited_to_what_can_be_held_until_the_end() {
    let by = |by, levels: &[(i64, u64)], now| {
        left(&cap(10_000, None), 0, &[gauge("users", levels, by, 5, "3.00 per 1")], now)[0]
    };
    // 33 above the limit at 3.00 a month: 99.00.
    assert_eq!(by(ChargeBy::Maximum, &[(0, 5)], 15), 38);
    // Half the month is over, so each that is added costs half of it.
    assert_eq!(by(ChargeBy::Average, &[(0, 5)], 15), 5 + 66);
    // 12 above were held for half of the month, which is 18.00; 82.00 hold 54 for the rest.
    assert_eq!(by(ChargeBy::Average, &[(0, 17), (15, 5)], 15), 5 + 54);
    assert_eq!(
        by(ChargeBy::Maximum, &[(0, 17), (15, 5)], 15),
        38,
        "what was held is charged for: no more than before"
    );
    assert_eq!(by(ChargeBy::Maximum, &[(0, 99)], 15), 99, "it stays, and no more is had");
    let both = [
        gauge("users", &[(0, 99)], ChargeBy::Maximum, 5, "1.00 per 1"),
        counter("api_calls", 0, 10, "1.00 per 1"),
    ];
    assert_eq!(left(&cap(10_000, None), 0, &both, 15), [99, 10 + 6], "94.00 are spoken for");
}

#[test]
fn shares_are_weights_of_some_resources() {
    let shares: Shares = "alerts=1, api_calls=3".parse().unwrap();
    assert_eq!(shares.to_string(), "alerts=1,api_calls=3");
    let json = serde_json::to_string(&shares).unwrap();
    assert_eq!(json, r#"{"alerts":1,"api_calls":3}"#);
    assert_eq!(serde_json::from_str::<Shares>(&json).unwrap(), shares);
    for bad in
        ["", "alerts", "alerts=", "alerts=0", "alerts=1001", "alerts=-1", "Alerts=1", "alerts=1;users=2"]
    {
        assert!(bad.parse::<Shares>().is_err(), "{bad}");
    }
    assert!(serde_json::from_str::<Shares>("{}").is_err());
}

fn price() -> impl Strategy<Value = UnitPrice> {
    (1_u64..1_000_000, 0_u32..6, 1_u64..5_000).prop_map(|(digits, scale, per)| {
        let unit = 10_u64.pow(scale);
        let places = usize::try_from(scale).unwrap();
        let text = if scale == 0 {
            digits.to_string()
        } else {
            format!("{}.{:0places$}", digits / unit, digits % unit)
        };
        UnitPrice::new(&text, per).unwrap()
    })
}

prop_compose! {
    fn any_counter()(used in 0_u64..50_000, included in 0_u64..50_000, price in price()) -> (u64, u64, UnitPrice) {
        (used, included, price)
    }
}

fn terms_of(code: &str, half_up: bool) -> Terms {
    terms(code, if half_up { Rounding::HalfUp } else { Rounding::HalfEven })
}

const CODES: [&str; 3] = ["USD", "JPY", "KWD"];

proptest! {
    /// The greatest number of units whose line is within the money: with one more it would not be.
    #[test]
    fn of_one_resource_a_cap_leaves_the_most_that_it_pays_for(
        amount in 1_i64..10_000_000, fixed in 0_i64..5_000_000, included in 0_u64..1_000_000, price in price(),
        half_up in any::<bool>(), code in 0_usize..3,
    ) {
        let terms = terms_of(CODES[code], half_up);
        let included = Limit::Of(units(included));
        let sale = Sale::Counter { resource: resource("api_calls"), used: Units::ZERO, included, price };
        let most = cap(amount, None).leaves(fixed, &[sale], &terms, Timestamp::default())[0];
        let total = |used: Units| {
            fixed + overage_minor(used, included, Some(price), terms.currency, terms.rounding).unwrap()
        };
        prop_assert!(most >= included.units().unwrap(), "what is included is not refused");
        prop_assert!(total(most) <= amount.max(fixed), "{} of {}", total(most), amount);
        prop_assert!(most == Units::MAX || total(most.saturating_add(Units::ONE)) > amount, "{most:?} are too few");
    }

    /// Whatever is used within what is left, in whatever order, and however often it is computed again.
    #[test]
    fn of_many_resources_a_cap_is_never_exceeded_and_never_takes_back_what_it_left(
        amount in 1_i64..3_000_000, fixed in 0_i64..1_000_000, counters in prop::collection::vec(any_counter(), 1..5),
        weights in prop::option::of(prop::collection::vec(1_u32..1_000, 5)), take in prop::collection::vec(0_u64..=100, 5),
        half_up in any::<bool>(), code in 0_usize..3,
    ) {
        let terms = terms_of(CODES[code], half_up);
        let name = |at: usize| resource(&format!("r{at}"));
        let sales = |used: &[u64]| -> Vec<Sale> {
            counters.iter().zip(used).enumerate().map(|(at, ((_, included, price), used))| Sale::Counter {
                resource: name(at), used: units(*used), included: Limit::Of(units(*included)), price: *price,
            }).collect()
        };
        let cost = |used: &[u64]| -> i64 {
            counters.iter().zip(used).map(|((_, included, price), used)| {
                overage_minor(units(*used), Limit::Of(units(*included)), Some(*price), terms.currency, terms.rounding).unwrap()
            }).sum()
        };
        let mut cap = cap(amount, None);
        cap.shares = weights.map(|weights| {
            Shares::new(weights.into_iter().enumerate().map(|(at, weight)| (name(at), weight)).collect()).unwrap()
        });
        let before: Vec<u64> = counters.iter().map(|(used, ..)| *used).collect();
        let leaves = |used: &[u64]| -> Vec<u64> {
            let left = cap.leaves(fixed, &sales(used), &terms, Timestamp::default());
            left.into_iter().map(Units::get).collect()
        };
        let left = leaves(&before);
        let spent = fixed + cost(&before);
        // A limit that is below what is used admits nothing.
        let all: Vec<u64> = left.iter().zip(&before).map(|(left, used)| *left.max(used)).collect();
        prop_assert!(fixed + cost(&all) <= amount.max(spent), "{} of {amount}, {spent} before", fixed + cost(&all));
        // Some of it is used, and it is looked at again.
        let some: Vec<u64> = all.iter().zip(&before).zip(&take).map(|((all, used), part)| {
            used + u64::try_from(u128::from(all - used) * u128::from(*part) / 100).unwrap()
        }).collect();
        let again = leaves(&some);
        prop_assert!(again.iter().zip(&left).all(|(again, left)| again >= left), "{left:?} became {again:?}");
    }

    /// What is held changes as it may: never above what is left at that time.
    #[test]
    fn a_gauge_that_keeps_to_what_is_left_is_charged_for_within_the_money(
        amount in 1_i64..1_000_000, included in 0_u64..1_000, first in 0_u64..1_000, price in price(),
        parts in prop::collection::vec(0_u64..=100, 1..29), by_average in any::<bool>(),
    ) {
        let by = if by_average { ChargeBy::Average } else { ChargeBy::Maximum };
        let (cap, terms) = (cap(amount, None), terms("USD", Rounding::HalfEven));
        let price = price.to_string();
        let sale = |levels: &[(i64, u64)]| gauge("users", levels, by, included, &price);
        let charged = |levels: &[(i64, u64)]| match sale(levels) {
            Sale::Gauge { item, .. } => item.amount_minor(terms.currency, terms.rounding).unwrap(),
            Sale::Counter { .. } => unreachable!("a gauge"),
        };
        let mut levels = vec![(0, first)];
        let spoken_for = charged(&levels);
        for (at, part) in (1..).zip(parts) {
            let most = cap.leaves(0, &[sale(&levels)], &terms, Timestamp::from_seconds(at))[0].get();
            let held = levels.last().unwrap().1;
            // Given back, kept, or grown up to what is left.
            let next = if part < 50 { held * part / 50 } else { held.max(most.min(1 << 40) * part / 100) };
            levels.push((at, next));
        }
        prop_assert!(charged(&levels) <= amount.max(spoken_for), "{} of {amount}: {levels:?}", charged(&levels));
    }
}
