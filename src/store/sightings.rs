//! What gateways saw beside what they charged: denials, the networks of keys, and keys that don't work.

use std::time::Duration;

use ipnet::IpNet;
use uuid::Uuid;

use super::rows::Rows;
use super::sql::{Bind, Kind, Row, query};
use super::values::{get, parsed, whole};
use super::{Snapshot, Store, StoreError, Tx};
use crate::clock::Timestamp;
use crate::domain::{ApiKeyId, KeySeen, Sightings, TenantId};

/// A network that a key was used from for the first time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewNetwork {
    pub tenant: TenantId,
    pub key: ApiKeyId,
    pub key_name: String,
    pub network: IpNet,
    pub first_seen_at: Timestamp,
    /// Since when it is known where the key is used from.
    pub known_since: Timestamp,
}

/// Where keys came from, within an hour, that don't work.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadKeys {
    /// `None`: they are nobody's.
    pub tenant: Option<TenantId>,
    pub network: IpNet,
    pub hour: Timestamp,
    pub times: u64,
}

/// Networks of one key. One that is used from more is used from everywhere: another one is no news.
const NETWORKS_MAX: i64 = 64;
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

// === impl Store ===

impl Store {
    /// Writes down what was seen until `at`.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is written down then.
    pub async fn note_sightings(&self, seen: &Sightings, at: Timestamp) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        for key in &seen.networks {
            tx.note_network(key, at).await?;
        }
        let minute = begun(at, MINUTE).value();
        let denied =
            seen.denied.iter().map(|(tenant, times)| [tenant.0.value(), minute.clone(), number(*times)]);
        Rows::of(
            "denials",
            [("tenant_id", Kind::Id), ("minute", Kind::Instant), ("denied", Kind::Integer)],
            denied,
        )
        .insert(
            "ON CONFLICT (tenant_id, minute) DO UPDATE SET denied = denials.denied + excluded.denied",
            tx.connection(),
        )
        .await?;
        let hour = begun(at, HOUR).value();
        let bad = seen.bad_keys.iter().map(|((tenant, network), times)| {
            [nil_or(*tenant).value(), network.to_string().value(), hour.clone(), number(*times)]
        });
        let columns = [
            ("tenant_id", Kind::Id),
            ("network", Kind::Text),
            ("hour", Kind::Instant),
            ("times", Kind::Integer),
        ];
        Rows::of("bad_keys", columns, bad)
            .insert(
                "ON CONFLICT (tenant_id, network, hour) DO UPDATE SET times = bad_keys.times + excluded.times",
                tx.connection(),
            )
            .await?;
        tx.commit().await
    }

    /// Forgets denials and bad keys that are older than `counts`, and networks that no key was seen in since `networks`.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn forget_sightings(&self, counts: Timestamp, networks: Timestamp) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        for (old, before) in [
            ("DELETE FROM denials WHERE minute < $1", counts),
            ("DELETE FROM bad_keys WHERE hour < $1", counts),
            ("DELETE FROM key_networks WHERE last_seen_at < $1", networks),
        ] {
            query(old).bind(before).execute(tx.connection()).await?;
        }
        tx.commit().await
    }
}

/// The beginning of the span that an instant is in.
fn begun(at: Timestamp, span: Duration) -> Timestamp {
    let seconds = i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_seconds(at.seconds().div_euclid(seconds) * seconds)
}

fn number(times: u64) -> super::sql::Value {
    i64::try_from(times).unwrap_or(i64::MAX).value()
}

fn nil_or(tenant: Option<TenantId>) -> Uuid {
    tenant.map_or(Uuid::nil(), |tenant| tenant.0)
}

// === impl Snapshot ===

impl Snapshot {
    /// Where keys that work were used from for the first time since `from`.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn new_networks(&mut self, from: Timestamp) -> Result<Vec<NewNetwork>, StoreError> {
        let rows = query(
            "SELECT seen.tenant_id, seen.key_id, api_keys.name, seen.network, seen.first_seen_at,
                 (SELECT MIN(first_seen_at) FROM key_networks AS all_seen
                  WHERE all_seen.tenant_id = seen.tenant_id AND all_seen.key_id = seen.key_id) AS known_since
             FROM key_networks AS seen
             JOIN api_keys ON api_keys.tenant_id = seen.tenant_id AND api_keys.key_id = seen.key_id
             JOIN organizations AS tenant ON tenant.tenant_id = seen.tenant_id
             WHERE seen.first_seen_at >= $1 AND api_keys.revoked_at IS NULL AND tenant.status <> 'deleted'
             ORDER BY seen.tenant_id, seen.key_id, seen.network",
        )
        .bind(from)
        .fetch_all(self.connection())
        .await?;
        let network = |row| {
            Ok(NewNetwork {
                tenant: TenantId(get(row, "tenant_id")?),
                key: ApiKeyId(get(row, "key_id")?),
                key_name: get(row, "name")?,
                network: parsed(row, "network", |text| text.parse().ok())?,
                first_seen_at: get(row, "first_seen_at")?,
                known_since: get(row, "known_since")?,
            })
        };
        rows.iter().map(network).collect()
    }

    /// Where so many bad keys came from within an hour that had not ended by `from`, as far as they were not
    /// [told of](Tx::tell_bad_keys).
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn bad_keys(&mut self, from: Timestamp, times_min: u64) -> Result<Vec<BadKeys>, StoreError> {
        let rows = query(
            "SELECT tenant_id, network, hour, times FROM bad_keys
             WHERE hour > $1 AND times >= $2 AND told = $3 ORDER BY tenant_id, network, hour",
        )
        .bind(from.minus(HOUR))
        .bind(i64::try_from(times_min).unwrap_or(i64::MAX))
        .bind(false)
        .fetch_all(self.connection())
        .await?;
        rows.iter().map(bad_keys).collect()
    }
}

fn bad_keys(row: &Row) -> Result<BadKeys, StoreError> {
    let tenant: Uuid = get(row, "tenant_id")?;
    Ok(BadKeys {
        tenant: (!tenant.is_nil()).then_some(TenantId(tenant)),
        network: parsed(row, "network", |text| text.parse().ok())?,
        hour: get(row, "hour")?,
        times: whole(row, "times")?,
    })
}

// === impl Tx ===

impl Tx {
    /// Takes it for the caller to tell of; answers whether nobody had.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn tell_bad_keys(&mut self, bad: &BadKeys) -> Result<bool, StoreError> {
        let taken = query(
            "UPDATE bad_keys SET told = $4 WHERE tenant_id = $1 AND network = $2 AND hour = $3 AND told <> $4",
        )
        .bind(nil_or(bad.tenant))
        .bind(bad.network.to_string())
        .bind(bad.hour)
        .bind(true)
        .execute(self.connection())
        .await?;
        Ok(taken > 0)
    }

    /// Forgets where the tenant's keys were used from: who had them erased is not to be found by it.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn forget_networks_of(&mut self, tenant: TenantId) -> Result<(), StoreError> {
        for rows in
            ["DELETE FROM key_networks WHERE tenant_id = $1", "DELETE FROM bad_keys WHERE tenant_id = $1"]
        {
            query(rows).bind(tenant.0).execute(self.connection()).await?;
        }
        Ok(())
    }

    async fn note_network(&mut self, seen: &KeySeen, at: Timestamp) -> Result<(), StoreError> {
        query(
            "INSERT INTO key_networks (tenant_id, key_id, network, first_seen_at, last_seen_at)
             SELECT tenant_id, key_id, $3, $4, $4 FROM api_keys WHERE tenant_id = $1 AND key_id = $2
                 AND ((SELECT COUNT(*) FROM key_networks WHERE tenant_id = $1 AND key_id = $2) < $5
                     OR EXISTS (SELECT 1 FROM key_networks WHERE tenant_id = $1 AND key_id = $2 AND network = $3))
             ON CONFLICT (tenant_id, key_id, network) DO UPDATE SET last_seen_at = excluded.last_seen_at",
        )
        .bind(seen.tenant.0)
        .bind(seen.key.0)
        .bind(seen.network.to_string())
        .bind(at)
        .bind(NETWORKS_MAX)
        .execute(self.connection())
        .await?;
        Ok(())
    }
}
