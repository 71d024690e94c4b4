//! A store of one test: a real SQLite file or a real Postgres database that goes away with it.
//!
//! What is said of stores is said of both: a test that takes a [`TestStore`] is named in [`on_both!`], which runs it
//! twice.

use std::ops::Deref;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::sql::{Query, query};
use super::values::get;
use super::{Snapshot, Store, StoreError, StoreSettings, StoreUrl, Tx};
use crate::clock::Timestamp;
use crate::domain::{
    Actor, Anchor, ApiKey, ApiKeyId, AuditOutcome, AuditRow, KeyLimits, Slug, Tenant, TenantId, TenantStatus,
    User, UserId, Zone,
};

/// Makes of each named function, which takes a [`TestStore`], a test on SQLite and a test on Postgres. A function
/// could not: each of the two has to have a name of its own.
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            #[tokio::test]
            async fn sqlite() {
                super::$name($crate::store::testing::TestStore::sqlite().await).await;
            }

            #[tokio::test]
            async fn postgres() {
                super::$name($crate::store::testing::TestStore::postgres().await).await;
            }
        }
    )+};
}
pub(crate) use on_both;

/// A migrated store.
pub(crate) struct TestStore {
    store: Store,
    /// The same, opened by who owns the database.
    pub(crate) owner: Store,
    pub(crate) kept: Kept,
}

/// What goes away with the test.
pub(crate) enum Kept {
    Directory(TempDir),
    Database(TestDatabase),
}

/// A Postgres database.
pub(crate) struct TestDatabase {
    name: String,
}

/// Who serves in tests; owns nothing.
pub(crate) const LOGIN: &str = "tollgate_test";

// === impl TestStore ===

impl TestStore {
    pub(crate) async fn sqlite() -> TestStore {
        let (directory, store) = temporary().await;
        TestStore { owner: store.clone(), store, kept: Kept::Directory(directory) }
    }

    pub(crate) async fn postgres() -> TestStore {
        let database = TestDatabase::migrated().await;
        let store = Store::open(&database.url(LOGIN)).await.unwrap();
        let owner = Store::open(&database.superusers_url()).await.unwrap();
        TestStore { store, owner, kept: Kept::Database(database) }
    }

    /// A second store on the same database.
    pub(crate) async fn another(&self) -> Store {
        match &self.kept {
            Kept::Directory(directory) => open(directory.path()).await,
            Kept::Database(database) => Store::open(&database.url(LOGIN)).await.unwrap(),
        }
    }

    /// The same Postgres database through a line that swallows the answer to every other COMMIT: the connection ends
    /// instead, and who asked can't know whether it was done.
    pub(crate) async fn behind_a_line_that_swallows_commits(&self) -> Store {
        let Kept::Database(database) = &self.kept else { panic!("SQLite has no line") };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let commits = Arc::new(AtomicU64::new(0));
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, commits.clone()));
            }
        });
        let line = PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(port);
        let line = line.username(LOGIN).database(&database.name).ssl_mode(PgSslMode::Disable);
        Store::open(&StoreUrl::Postgres(line.to_url_lossy().to_string())).await.unwrap()
    }

    /// Does what only somebody with the database in hand can do. Answers how many rows it changed.
    pub(super) async fn do_as_owner(&self, query: Query) -> Result<u64, StoreError> {
        let mut tx = self.owner.begin_migration().await?;
        let changed = query.execute(tx.connection()).await?;
        tx.commit().await?;
        Ok(changed)
    }

    /// The same, of statements that are only text.
    pub(crate) async fn raw(&self, sql: &'static str) {
        let mut tx = self.owner.begin_migration().await.unwrap();
        tx.connection().run(sql).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// The same, of what may be refused.
    pub(crate) async fn tried(&self, sql: &'static str) -> Result<(), StoreError> {
        self.do_as_owner(query(sql)).await.map(drop)
    }

    /// What somebody else does for long, until it is dropped.
    pub(crate) async fn under_way(&self, sql: &'static str) -> Tx {
        let mut tx = self.owner.begin_migration().await.unwrap();
        tx.connection().run(sql).await.unwrap();
        tx
    }

    /// The same Postgres database with other settings.
    pub(crate) async fn with(&self, change: impl FnOnce(&mut StoreSettings)) -> Store {
        let Kept::Database(database) = &self.kept else { panic!("SQLite heeds no settings") };
        let mut settings = StoreSettings::from(database.url(LOGIN));
        change(&mut settings);
        Store::open_with(&settings).await.unwrap()
    }

    /// Every row that is the tenant's, of every table, as text.
    pub(crate) async fn rows_of(&self, tenant: TenantId) -> Vec<String> {
        let tables = match self.kept {
            Kept::Directory(_) => {
                "SELECT m.name AS name, (SELECT group_concat('quote(' || name || ')', '|| '','' ||')
                     FROM pragma_table_info(m.name)) AS line
                 FROM sqlite_master m JOIN pragma_table_info(m.name) c ON c.name = 'tenant_id'
                 WHERE m.type = 'table' ORDER BY m.name"
            }
            Kept::Database(_) => {
                "SELECT table_name::text AS name, 't::text' AS line FROM information_schema.columns
                 WHERE column_name = 'tenant_id' AND table_schema = current_schema() ORDER BY table_name"
            }
        };
        let mut tx = self.owner.begin_migration().await.unwrap();
        let mut all = Vec::new();
        for table in query(tables).fetch_all(tx.connection()).await.unwrap() {
            let (name, line): (String, String) = (get(&table, "name").unwrap(), get(&table, "line").unwrap());
            let mut rows = query("SELECT ");
            rows.push(&line)
                .push(" AS line FROM ")
                .push(&name)
                .push(" t WHERE tenant_id = ")
                .push_bind(tenant.0);
            rows.push(" ORDER BY 1");
            for row in rows.fetch_all(tx.connection()).await.unwrap() {
                all.push(format!("{name}: {}", get::<String>(&row, "line").unwrap()));
            }
        }
        all
    }

    /// All that is in the database, as whoever steals it would have it.
    pub(crate) async fn dump(&self) -> Vec<u8> {
        match &self.kept {
            Kept::Directory(directory) => {
                let files = std::fs::read_dir(directory.path()).unwrap().map(|file| file.unwrap().path());
                files.filter(|path| path.is_file()).flat_map(|path| std::fs::read(path).unwrap()).collect()
            }
            Kept::Database(database) => database.dump().await,
        }
    }

    pub(crate) fn is_postgres(&self) -> bool {
        matches!(self.kept, Kept::Database(_))
    }
}

impl Deref for TestStore {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

/// Carries bytes between a client and the server until a COMMIT's answer is swallowed, which ends both connections.
async fn carry(mut client: TcpStream, commits: Arc<AtomicU64>) {
    let server = server();
    let socket = server.get_socket().expect("tests/run starts a server that is reached by a socket");
    let mut server =
        UnixStream::connect(socket.join(format!(".s.PGSQL.{}", server.get_port()))).await.unwrap();
    let (mut to_server, mut to_client) = ([0; 8_192], [0; 8_192]);
    loop {
        tokio::select! {
            read = client.read(&mut to_server) => match read {
                Ok(length @ 1..) if server.write_all(&to_server[..length]).await.is_ok() => {}
                _ => return,
            },
            read = server.read(&mut to_client) => match read {
                Ok(length @ 1..) => {
                    let bytes = &to_client[..length];
                    let is_commit = bytes.windows(7).any(|bytes| bytes == b"COMMIT\0");
                    let is_swallowed = is_commit && commits.fetch_add(1, Ordering::Relaxed).is_multiple_of(2);
                    if is_swallowed || client.write_all(bytes).await.is_err() {
                        return;
                    }
                }
                _ => return,
            },
        }
    }
}

// === impl TestDatabase ===

impl TestDatabase {
    /// A copy of one that was migrated once: that is quicker.
    pub(crate) async fn migrated() -> TestDatabase {
        static TEMPLATE: OnceCell<String> = OnceCell::const_new();
        let template = TEMPLATE.get_or_init(async || {
            let template = TestDatabase::empty().await;
            let name = template.name.clone();
            let owner = Store::open(&template.superusers_url()).await.unwrap();
            owner.migrate_for(&template.url(LOGIN)).await.unwrap();
            owner.close().await;
            // Every database is copied from it: it goes away with the server.
            std::mem::forget(template);
            name
        });
        TestDatabase::made(&format!("TEMPLATE {}", template.await)).await
    }

    /// Nothing in it.
    pub(crate) async fn empty() -> TestDatabase {
        let make_login = format!(
            "DO $$ BEGIN CREATE ROLE {LOGIN} LOGIN NOINHERIT;
             EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
        );
        TestDatabase::administer(&make_login).await;
        TestDatabase::made("").await
    }

    async fn made(from: &str) -> TestDatabase {
        let name = format!("tollgate_{}", Uuid::now_v7().simple());
        TestDatabase::administer(&format!("CREATE DATABASE {name} {from}")).await;
        TestDatabase { name }
    }

    pub(crate) fn url(&self, role: &str) -> StoreUrl {
        let options = server().database(&self.name).username(role);
        StoreUrl::Postgres(options.to_url_lossy().to_string())
    }

    pub(crate) fn superusers_url(&self) -> StoreUrl {
        self.url(server().get_username())
    }

    /// A connection of that role's that is in no pool.
    pub(crate) async fn connect(&self, role: &str) -> PgConnection {
        server().database(&self.name).username(role).connect().await.unwrap()
    }

    /// Every row of every table, as text; bytes as what they stand for, where that is text.
    async fn dump(&self) -> Vec<u8> {
        let mut superuser = self.connect("postgres").await;
        let rows = "SELECT string_agg(query_to_xml(format('SELECT * FROM %I', tablename), false, false, '')::text, '')
            FROM pg_tables WHERE schemaname = 'public'";
        let set = sqlx::raw_sql("SET bytea_output = 'escape'");
        set.execute(&mut superuser).await.unwrap();
        let text: String = sqlx::query_scalar(rows).fetch_one(&mut superuser).await.unwrap();
        text.into_bytes()
    }

    async fn administer(sql: &str) {
        let mut connection = server().connect().await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        // The test's own runtime is busy with this.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(TestDatabase::administer(&drop));
        });
        dropped.join().unwrap();
    }
}

/// The server that tests share, as its superuser.
fn server() -> PgConnectOptions {
    let url = std::env::var("TOLLGATE_TEST_POSTGRES").expect(
        "TOLLGATE_TEST_POSTGRES names no server: run the tests with tests/run, or with `tests/run -- cargo test`",
    );
    PgConnectOptions::from_str(&url).unwrap()
}

/// Doors for the tests of the rooms above, which speak no SQL themselves.
impl Snapshot {
    pub(crate) async fn scalar(&mut self, sql: &'static str) -> i64 {
        query(sql).fetch_number(self.connection()).await.unwrap()
    }
}

/// Keep the directory as long as the store.
pub(crate) async fn temporary() -> (TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).await;
    store.migrate().await.unwrap();
    (directory, store)
}

/// Not migrated.
pub(crate) async fn open(directory: &Path) -> Store {
    Store::open(&StoreUrl::Sqlite(directory.join("tollgate.db"))).await.unwrap()
}

pub(crate) fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

/// An active tenant on the free tier.
pub(crate) fn tenant(slug: &str) -> Tenant {
    let created_at = at("2026-11-23T06:00:00Z");
    Tenant {
        id: TenantId(Uuid::now_v7()),
        name: slug.to_owned(),
        slug: slug.parse::<Slug>().unwrap(),
        status: TenantStatus::Active,
        tier: "free".to_owned(),
        tier_version: 1,
        parent: None,
        billing_email: None,
        contact_phone: None,
        timezone: Zone::UTC,
        locale: "en".to_owned(),
        anchor: Anchor::Anniversary(created_at),
        created_at,
        updated_at: created_at,
        version: 1,
    }
}

/// Somebody without a password and without a role.
pub(crate) fn user(email: &str) -> User {
    User {
        id: UserId(Uuid::now_v7()),
        email: email.to_owned(),
        platform_role: None,
        has_password: false,
        is_multi_factor: false,
        created_at: at("2026-11-23T06:00:00Z"),
    }
}

pub(crate) fn key(tenant: &Tenant, name: &str) -> ApiKey {
    ApiKey {
        id: ApiKeyId(Uuid::now_v7()),
        tenant: tenant.id,
        name: name.to_owned(),
        prefix: "tg_live_0123456789".to_owned(),
        limits: KeyLimits::default(),
        enabled: true,
        created_at: tenant.created_at,
        revoked_at: None,
        last_used_at: None,
        version: 1,
    }
}

pub(crate) fn audit_row(tenant: Option<TenantId>, action: &str) -> AuditRow {
    AuditRow {
        at: at("2026-11-23T06:00:00.000001Z"),
        tenant,
        actor: Actor {
            ip: Some("2001:db8::1".parse().unwrap()),
            user_agent: Some("curl/8".to_owned()),
            ..Actor::system("test")
        },
        action: action.to_owned(),
        target_kind: "tenant".to_owned(),
        target_id: "acme".to_owned(),
        outcome: AuditOutcome::Done,
        before: Some(serde_json::json!({"b": 1, "a": [null, true, "\u{1F600} \"quoted\"\n"]})),
        after: None,
        reason: None,
        correlation: Uuid::now_v7(),
    }
}
