//! Windows as tenants live through them: a whole gateway in this process, with a clock that is told what time it is.

use tollgate::clock::Timestamp;
use tollgate::control::{NewKey, NewTenant, Principal, QuotaChange, TenantRef};
use tollgate::domain::{Actor, Limit, Period, Units};

use crate::calendar::Calendar;
use crate::support::{RawClient, Response};

#[test]
fn an_anniversary_on_the_31st_resets_on_the_last_day_of_shorter_months() {
    let calendar = Calendar::at("2026-01-31T15:00:00Z");
    let key = calendar.tenant("UTC", Period::Month, 2);
    calendar.exhaust(&key, 2, "2026-02-28T00:00:00.000000Z");
    calendar.clock.set("2026-02-27T23:59:59.999999Z");
    assert_eq!(calendar.get(&key).status, 429);
    calendar.clock.set("2026-02-28T00:00:00Z");
    calendar.exhaust(&key, 2, "2026-03-31T00:00:00.000000Z");
    calendar.clock.set("2026-03-31T00:00:00Z");
    calendar.exhaust(&key, 2, "2026-04-30T00:00:00.000000Z");
}

#[test]
fn a_month_ends_at_local_midnight() {
    let calendar = Calendar::at("2026-03-01T12:00:00Z");
    let key = calendar.tenant("Europe/Zurich", Period::Month, 1);
    // Summer time has begun by then: midnight is at 22:00 UTC.
    calendar.exhaust(&key, 1, "2026-03-31T22:00:00.000000Z");
    calendar.clock.set("2026-03-31T21:59:59Z");
    assert_eq!(calendar.get(&key).status, 429);
    calendar.clock.set("2026-03-31T22:00:00Z");
    calendar.exhaust(&key, 1, "2026-04-30T22:00:00.000000Z");
}

#[test]
fn a_day_whose_midnight_does_not_exist_begins_after_the_gap() {
    let calendar = Calendar::at("2018-11-03T12:00:00Z");
    let key = calendar.tenant("America/Sao_Paulo", Period::Day, 1);
    // The clocks went from 00:00 to 01:00, which was 03:00 UTC; the day after has 23 hours.
    calendar.exhaust(&key, 1, "2018-11-04T03:00:00.000000Z");
    calendar.clock.set("2018-11-04T02:59:59Z");
    assert_eq!(calendar.get(&key).status, 429);
    calendar.clock.set("2018-11-04T03:00:00Z");
    calendar.exhaust(&key, 1, "2018-11-05T02:00:00.000000Z");
}

#[test]
fn an_override_that_ends_gives_way_to_the_tier_by_itself() {
    let calendar = Calendar::at("2026-03-01T12:00:00Z");
    let key = calendar.tenant_until("UTC", Period::Month, 1, Some("2026-03-01T13:00:00Z"));
    calendar.exhaust(&key, 1, "2026-04-01T00:00:00.000000Z");
    calendar.clock.set("2026-03-01T12:59:59Z");
    assert_eq!(calendar.get(&key).status, 429);
    calendar.clock.set("2026-03-01T13:00:00Z");
    let passed = calendar.get(&key);
    // The tier's own limit, and what was used under the override.
    assert_eq!((passed.status, passed.header("x-ratelimit-limit")), (200, Some("1000")));
    assert_eq!(passed.header("x-ratelimit-remaining"), Some("998"));
}

// === impl Calendar ===

impl Calendar {
    /// A new tenant with that limit of `api_calls` besides its tier's, and its key.
    fn tenant(&self, timezone: &str, period: Period, limit: u64) -> String {
        self.tenant_until(timezone, period, limit, None)
    }

    fn tenant_until(&self, timezone: &str, period: Period, limit: u64, expires_at: Option<&str>) -> String {
        let control = self.gateway().control();
        let correlation = uuid::Uuid::nil();
        let test = Principal::platform(Actor::system("test"), correlation);
        self.wait_for(async {
            let timezone = Some(timezone.to_owned());
            let new = NewTenant { name: "Acme".to_owned(), timezone, ..NewTenant::default() };
            let tenant = TenantRef::Id(control.create_tenant(&test, new).await.expect("a tenant").id);
            let quota = QuotaChange {
                resource: "api_calls".parse().expect("a resource"),
                limit: Limit::Of(Units::saturating(limit)),
                period: Some(period),
                enforcement: None,
                on_loss: None,
                key: None,
                reason: None,
                expires_at: expires_at.and_then(Timestamp::parse),
            };
            control.set_quota(&test, &tenant, quota).await.expect("a quota");
            let key = NewKey { name: "test".to_owned(), ..NewKey::default() };
            control.create_key(&test, &tenant, key).await.expect("a key").text
        })
    }

    fn get(&self, key: &str) -> Response {
        RawClient::connect(self.gateway().report().proxy[0]).get("/", key)
    }

    /// Exactly `limit` requests pass, and the next is told when there will be more.
    #[track_caller]
    fn exhaust(&self, key: &str, limit: u64, resets_at: &str) {
        for request in 1..=limit {
            assert_eq!(self.get(key).status, 200, "request {request} of {limit}");
        }
        let denied = self.get(key);
        assert_eq!(denied.status, 429);
        let problem: serde_json::Value = serde_json::from_str(&denied.text()).expect("a problem");
        assert_eq!(problem["resets_at"], resets_at);
    }
}
