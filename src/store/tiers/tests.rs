use crate::domain::{Enforcement, Limit, Period, ResourceKind, Units};
use crate::store::testing::{TestStore, on_both};

on_both! {
    the_five_tiers_have_these_numbers,
    users_devices_and_storage_are_gauges,
    aliases_name_their_tier,
}

/// slug, price in cents, users, devices, storage, calls, alerts, retention, security level, flags
type Row = (&'static str, i64, [u64; 5], i64, &'static str, &'static [&'static str]);

const GB: u64 = 1_000_000_000;
const TIERS: [Row; 5] = [
    ("free", 0, [5, 10, GB, 1_000, 100], 30, "basic", &[]),
    ("pro", 29_900, [50, 100, 10 * GB, 10_000, 1_000], 90, "standard", &[]),
    ("business", 79_900, [500, 1_000, 100 * GB, 100_000, 10_000], 365, "advanced", &[]),
    ("enterprise", 199_900, [1_000, 5_000, 500 * GB, 500_000, 50_000], 730, "enterprise", &[]),
    (
        "msp",
        299_900,
        [1_000, 10_000, 1_000 * GB, 1_000_000, 100_000],
        730,
        "enterprise",
        &["multi_tenant", "reseller"],
    ),
];
const RESOURCES: [(&str, Period); 5] = [
    ("users", Period::Forever),
    ("devices", Period::Forever),
    ("storage", Period::Forever),
    ("api_calls", Period::Month),
    ("alerts", Period::Month),
];

async fn the_five_tiers_have_these_numbers(store: TestStore) {
    let tiers = store.read().await.unwrap().tiers().await.unwrap();
    assert_eq!(tiers.len(), TIERS.len());
    for (tier, (slug, price, limits, retention, level, flags)) in tiers.iter().zip(TIERS) {
        assert_eq!((tier.slug.as_str(), tier.version, tier.price_minor), (slug, 1, price));
        assert_eq!((tier.currency.as_str(), tier.retention_days), ("USD", retention), "{slug}");
        assert_eq!((tier.security_level.as_str(), tier.flags.as_slice()), (level, &flags.map_to_owned()[..]));
        assert_eq!(tier.quotas.len(), 5, "{slug}");
        for ((resource, period), limit) in RESOURCES.into_iter().zip(limits) {
            let quota = tier.quotas.iter().find(|quota| quota.resource.as_str() == resource).unwrap();
            assert_eq!(quota.limit, Limit::Of(Units::new(limit).unwrap()), "{slug} {resource}");
            assert_eq!((quota.period, quota.enforcement), (period, Enforcement::Hard), "{slug} {resource}");
        }
    }
}

async fn users_devices_and_storage_are_gauges(store: TestStore) {
    let resources = store.read().await.unwrap().resource_types().await.unwrap();
    assert_eq!(resources.len(), RESOURCES.len());
    for (name, period) in RESOURCES {
        let resource = resources.iter().find(|resource| resource.slug.as_str() == name).unwrap();
        assert_eq!(resource.kind == ResourceKind::Gauge, period == Period::Forever, "{name}");
    }
}

async fn aliases_name_their_tier(store: TestStore) {
    let mut snapshot = store.read().await.unwrap();
    for (alias, slug) in [("professional", "pro"), ("msp_bundle", "msp"), ("free", "free")] {
        assert_eq!(snapshot.tier(alias).await.unwrap().unwrap().slug, slug);
    }
    assert_eq!(snapshot.tier("gold").await.unwrap(), None);
}

trait MapToOwned {
    fn map_to_owned(&self) -> Vec<String>;
}

impl MapToOwned for &[&str] {
    fn map_to_owned(&self) -> Vec<String> {
        self.iter().map(|&text| text.to_owned()).collect()
    }
}
