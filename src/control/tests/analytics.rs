//! What was used, as series, and what will have been used.

use std::time::Duration;

use super::alerts::of_acme;
use super::{House, by_id, limit, quota, resource};
use crate::clock::{Clock, Timestamp};
use crate::control::{AnalyticsQuery, ControlError};
use crate::domain::Tenant;
use crate::store::testing::{TestStore, on_both};
use crate::store::{Rollup, RollupPeriod, SeriesBy, UsageSums};

on_both! {
    series_are_of_buckets_and_are_compared_with_the_time_before,
    series_are_told_apart_by_key_route_or_resource,
    what_makes_no_sense_or_is_too_much_is_refused,
    a_quota_is_forecast_from_its_history,
    fine_rollups_are_forgotten_when_they_are_old,
}

const ALL: AnalyticsQuery = AnalyticsQuery {
    period: RollupPeriod::Hour,
    from: None,
    to: None,
    resource: None,
    key: None,
    route: None,
    by: Some(SeriesBy::Resource),
};

/// That many hours ago, at the full hour.
fn hour(house: &House, back: u64) -> Timestamp {
    let this = house.clock.now().seconds().div_euclid(3_600) * 3_600;
    Timestamp::from_seconds(this).minus(Duration::from_secs(back * 3_600))
}

fn rollup(
    tenant: &Tenant,
    period: RollupPeriod,
    start: Timestamp,
    of: &str,
    route: &str,
    units: u64,
) -> Rollup {
    let sums = UsageSums { units, requests: 1, statuses: [1, 0, 0, 0], ..UsageSums::default() };
    Rollup {
        tenant: tenant.id,
        period,
        start,
        resource: resource(of),
        key: None,
        route: route.to_owned(),
        sums,
    }
}

async fn series_are_of_buckets_and_are_compared_with_the_time_before(store: TestStore) {
    let (house, acme) = of_acme(store).await;
    let calls =
        |back, units| rollup(&acme, RollupPeriod::Hour, hour(&house, back), "api_calls", "orders", units);
    house.flushes(1, vec![calls(1, 30), calls(2, 20), calls(4, 40), calls(5, 7)], Vec::new()).await;
    house.flushes(2, vec![calls(1, 1)], Vec::new()).await;
    let query = AnalyticsQuery {
        from: Some(hour(&house, 2)),
        to: Some(hour(&house, 0)),
        resource: Some(resource("api_calls")),
        by: None,
        ..ALL
    };
    let found = house.control.analytics(&house.owner, &by_id(&acme), &query).await.unwrap();
    let points: Vec<_> = found.points.iter().map(|point| (point.start, point.sums.units)).collect();
    assert_eq!(points, [(hour(&house, 2), 20), (hour(&house, 1), 31)]);
    assert_eq!((found.total.units, found.total.requests, found.total.statuses), (51, 3, [3, 0, 0, 0]));
    assert_eq!(found.previous.units, 40, "hours 4 and 3, and not 5");
}

async fn series_are_told_apart_by_key_route_or_resource(store: TestStore) {
    let (house, acme) = of_acme(store).await;
    let of =
        |of: &str, route: &str, units| rollup(&acme, RollupPeriod::Hour, hour(&house, 1), of, route, units);
    let used = vec![of("api_calls", "orders", 1), of("api_calls", "search", 2), of("storage", "orders", 4)];
    house.flushes(1, used, Vec::new()).await;
    let groups = async |query: AnalyticsQuery| {
        let found = house.control.analytics(&house.owner, &by_id(&acme), &query).await.unwrap();
        let group = |group: &Option<String>| group.clone().unwrap_or_default();
        found.points.iter().map(|point| (group(&point.group), point.sums.units)).collect::<Vec<_>>()
    };
    let named = |names: &[(&str, u64)]| -> Vec<(String, u64)> {
        names.iter().map(|(name, units)| ((*name).to_owned(), *units)).collect()
    };
    assert_eq!(groups(ALL).await, named(&[("api_calls", 3), ("storage", 4)]));
    let calls = AnalyticsQuery { resource: Some(resource("api_calls")), ..ALL };
    let by_route = AnalyticsQuery { by: Some(SeriesBy::Route), ..calls.clone() };
    assert_eq!(groups(by_route.clone()).await, named(&[("orders", 1), ("search", 2)]));
    assert_eq!(groups(AnalyticsQuery { by: Some(SeriesBy::Key), ..calls }).await, named(&[("", 3)]));
    let one = AnalyticsQuery { route: Some("search".to_owned()), ..by_route };
    assert_eq!(groups(one).await, named(&[("search", 2)]));
}

async fn what_makes_no_sense_or_is_too_much_is_refused(store: TestStore) {
    let (house, acme) = of_acme(store).await;
    let now = house.clock.now();
    for bad in [
        AnalyticsQuery { by: None, ..ALL },
        AnalyticsQuery { by: Some(SeriesBy::Route), ..ALL },
        AnalyticsQuery { from: Some(now), to: Some(now), ..ALL },
        AnalyticsQuery {
            period: RollupPeriod::Minute,
            from: Some(now.minus(Duration::from_secs(400_000))),
            ..ALL
        },
    ] {
        let refused = house.control.analytics(&house.owner, &by_id(&acme), &bad).await;
        assert!(matches!(refused, Err(ControlError::Invalid(_))), "{bad:?}");
    }
}

async fn a_quota_is_forecast_from_its_history(store: TestStore) {
    let (house, acme) = of_acme(store).await;
    let monthly = async || {
        let all = house.control.forecasts(&house.owner, &by_id(&acme)).await.unwrap();
        all.into_iter().find(|of| of.quota.resource_type == resource("api_calls")).unwrap()
    };
    house.control.set_quota(&house.owner, &by_id(&acme), quota("api_calls", limit(10_000))).await.unwrap();
    assert_eq!(monthly().await.forecast, None);
    // Ten an hour for two weeks, half of which lie in the month that began a week ago.
    house.clock.advance(Duration::from_secs(7 * 86_400));
    let hours = (1..=14 * 24)
        .map(|back| rollup(&acme, RollupPeriod::Hour, hour(&house, back), "api_calls", "orders", 10));
    let used = 7 * 24 * 10;
    house.flushes(1, hours.collect(), Vec::new()).await;
    house.uses(&acme, 1, used).await;
    let found = monthly().await;
    let left = found.quota.window.end.since(house.clock.now()).as_secs() / 3_600;
    let forecast = found.forecast.unwrap();
    assert_eq!((found.quota.used.get(), forecast.units), (used, used + left * 10));
    assert_eq!(found.error, Some(0.0));
}

async fn fine_rollups_are_forgotten_when_they_are_old(store: TestStore) {
    let (house, acme) = of_acme(store).await;
    let all = [1, 49, 60, 100].map(|back| {
        RollupPeriod::ALL.map(|period| rollup(&acme, period, hour(&house, back), "api_calls", "orders", 1))
    });
    house.flushes(1, all.concat(), Vec::new()).await;
    let forgotten = house.store.forget_rollups(RollupPeriod::Minute, hour(&house, 48)).await.unwrap();
    assert_eq!(forgotten, 3);
    let left = "SELECT COUNT(*) FROM usage_rollups WHERE period = 'minute'";
    assert_eq!(house.store.read().await.unwrap().scalar(left).await, 1);
    let others = "SELECT COUNT(*) FROM usage_rollups WHERE period <> 'minute'";
    assert_eq!(house.store.read().await.unwrap().scalar(others).await, 12);
}
