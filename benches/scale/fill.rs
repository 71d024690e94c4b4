//! Many tenants in a database, quickly: each active, of the largest tier, with a limit of its own that no run reaches, and
//! with one key.

use std::path::Path;

use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteSynchronous};
use tollgate::secret::hash::{KeyKind, KeyText, Pepper};
use tollgate::secret::hex;
use tollgate::store::{Store, StoreUrl};

use crate::gateway::SECRET;
use crate::postgres;
use crate::rig::Fault;

/// Tenants per statement.
const CHUNK: u32 = 10_000;

/// The ids of a tenant and its key end with its number. `$1` is how many there are, `$2` the first one's number, `$3` the
/// keys' digests one after the other.
const NUMBERS: &str =
    "WITH RECURSIVE numbers (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < $1),
    ids AS (SELECT $2 + n AS number, unhex(printf('019a0001000070008000%012x', $2 + n)) AS tenant,
        unhex(printf('019a0002000070008000%012x', $2 + n)) AS key, substr($3, 32 * n + 1, 32) AS digest,
        strftime('%Y-%m-%dT%H:%M:%S.000000Z', 'now', '-1 hour') AS made FROM numbers)";

/// What each tenant has, on any database.
const TABLES: [&str; 4] = [
    "INSERT INTO organizations (tenant_id, name, slug, status, tier, tier_version, timezone, locale, retention_class,
        version, created_at, updated_at)
     SELECT tenant, 'Tenant ' || number, 'tenant-' || number, 'active', 'enterprise', 1, 'UTC', 'en', 30, 1, made, made
     FROM ids",
    "INSERT INTO subscription_segments (tenant_id, starts_at, tier, tier_version)
     SELECT tenant, made, 'enterprise', 1 FROM ids",
    "INSERT INTO api_keys (tenant_id, key_id, name, prefix, digest, pepper_version, scopes, routes, networks, enabled,
        created_at)
     SELECT tenant, key, 'key', 'tg_live_0123456789', digest, 1, '[]', '[]', '[]', TRUE, made FROM ids",
    "INSERT INTO tenant_resource_quotas (tenant_id, owner_kind, owner_id, resource_type, period, limit_amount,
        enforcement, version, created_at, updated_at)
     SELECT tenant, 'tenant', tenant, 'api_calls', 'month', 1000000000000, 'hard', 1, made, made FROM ids",
];

/// Makes the database on a Postgres with so many tenants; no more than fit a command line. The keys of all.
pub(crate) fn fill_postgres(server: &str, tenants: u32) -> Result<Vec<String>, Fault> {
    runtime()?.block_on(async { postgres::database(server).await.close().await });
    let keys = texts(tenants)?;
    let pepper = Pepper::new(1, &SECRET);
    let digests: String = keys.iter().map(|key| hex::encoded(&pepper.digest(key.as_bytes()).0)).collect();
    let numbers = format!(
        "WITH ids AS (SELECT n AS number, ('019a0001-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid AS tenant,
            ('019a0002-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid AS key,
            substring(decode('{digests}', 'hex') FROM 32 * n + 1 FOR 32) AS digest,
            CURRENT_TIMESTAMP - interval '1 hour' AS made FROM generate_series(0, {tenants} - 1) AS n)"
    );
    let owner = postgres::at(server, "postgres");
    TABLES.iter().for_each(|table| drop(postgres::psql(&owner, &insertion(table, &numbers))));
    Ok(keys.iter().map(|key| key.as_str().to_owned()).collect())
}

/// Makes a database with so many tenants. The keys of `active` of them, evenly spread over all.
pub(crate) fn fill(database: &Path, tenants: u32, active: u32) -> Result<Vec<String>, Fault> {
    runtime()?.block_on(async {
        make(database).await.map_err(|error| format!("{}: {error}", database.display()))?;
        let pool = open(database).await.map_err(|error| format!("{}: {error}", database.display()))?;
        let every = (tenants / active.max(1)).max(1);
        let mut keys = Vec::new();
        for first in (0..tenants).step_by(CHUNK as usize) {
            let chunk = texts(CHUNK.min(tenants - first))?;
            insert(&pool, first, &chunk).await.map_err(|error| format!("filling: {error}"))?;
            let is_active = |(number, _): &(u32, &KeyText)| number.is_multiple_of(every);
            let chosen = (first..).zip(&chunk).filter(is_active).map(|(_, key)| key.as_str().to_owned());
            keys.extend(chosen);
        }
        pool.close().await;
        keys.truncate(active as usize);
        Ok(keys)
    })
}

/// Says what is different from that, in a database that nobody serves yet.
pub(crate) fn change(database: &Path, statements: &[&str]) -> Result<(), Fault> {
    let change = async {
        let pool = open(database).await?;
        for statement in statements {
            sqlx::query(sqlx::AssertSqlSafe((*statement).to_owned())).execute(&pool).await?;
        }
        pool.close().await;
        Ok(())
    };
    runtime()?.block_on(change).map_err(|error: sqlx::Error| format!("{}: {error}", database.display()))
}

/// What a statement answers.
#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
pub(crate) fn number(database: &Path, statement: &'static str) -> Result<f64, Fault> {
    let number = async {
        let pool = open(database).await?;
        let number: i64 = sqlx::query_scalar(statement).fetch_one(&pool).await?;
        pool.close().await;
        Ok(number as f64)
    };
    runtime()?.block_on(number).map_err(|error: sqlx::Error| format!("{}: {error}", database.display()))
}

fn runtime() -> Result<tokio::runtime::Runtime, Fault> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| format!("a runtime: {error}"))
}

/// With schema, tiers and resources, as a gateway's first start makes it.
async fn make(database: &Path) -> Result<(), tollgate::store::StoreError> {
    let store = Store::open(&StoreUrl::Sqlite(database.to_owned())).await?;
    store.prepare().await?;
    store.close().await;
    Ok(())
}

/// Nobody mourns the file if this machine loses power meanwhile.
async fn open(database: &Path) -> Result<SqlitePool, sqlx::Error> {
    let options = SqliteConnectOptions::new()
        .filename(database)
        .synchronous(SqliteSynchronous::Off)
        .foreign_keys(false)
        .pragma("cache_size", "-500000");
    sqlx::sqlite::SqlitePoolOptions::new().max_connections(1).connect_with(options).await
}

fn texts(count: u32) -> Result<Vec<KeyText>, Fault> {
    let keys: Result<_, _> = (0..count).map(|_| KeyText::generate(KeyKind::Live)).collect();
    keys.map_err(|error| format!("a key: {error}"))
}

/// Tenants from the number `first` on, one for each key.
async fn insert(pool: &SqlitePool, first: u32, keys: &[KeyText]) -> Result<(), sqlx::Error> {
    let pepper = Pepper::new(1, &SECRET);
    let digests: Vec<u8> = keys.iter().flat_map(|key| pepper.digest(key.as_bytes()).0).collect();
    let count = i64::try_from(keys.len()).unwrap_or(i64::MAX);
    let mut transaction = pool.begin().await?;
    for table in TABLES {
        sqlx::query(sqlx::AssertSqlSafe(insertion(table, NUMBERS)))
            .bind(count)
            .bind(i64::from(first))
            .bind(digests.as_slice())
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await
}

/// The numbers stand between what is inserted into and what is selected.
fn insertion(table: &str, numbers: &str) -> String {
    let (into, rows) = table.split_once("SELECT").unwrap_or((table, ""));
    format!("{into} {numbers} SELECT {rows}")
}
