//! The ways in which row-level security fails silently, each shown to be one, and each held shut.

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use uuid::Uuid;

use crate::domain::{Invitation, InvitationId, Membership, OwnRole, RoleName, Tenant};
use crate::secret::hash::KeyDigest;
use crate::store::sql::query;
use crate::store::testing::{Kept, LOGIN, TestDatabase, TestStore, audit_row, key, on_both, tenant, user};
use crate::store::usage::testing::{batch, log_of};
use crate::store::{Page, Reach, Store, StoreError, StoreSettings, Tx, UsageFilter};

on_both! { a_tenant_finds_its_own, a_tenant_writes_its_own }

/// Every table with rows of tenants, and the column that says whose.
const TABLES: [&str; 10] = [
    "organizations",
    "api_keys",
    "quota_changes",
    "tenant_audit_logs",
    "audit_chains",
    "tenant_usage_logs",
    "usage_rollups",
    "memberships",
    "roles",
    "invitations",
];

/// Two tenants with a row in each table.
async fn with_two(store: &TestStore) -> (Tenant, Tenant) {
    let (acme, other) = (tenant("acme"), tenant("other"));
    for (number, one) in [&acme, &other].into_iter().enumerate() {
        let mut tx = store.begin().await.unwrap();
        tx.insert_tenant(one, 30).await.unwrap();
        let number = u8::try_from(number).unwrap();
        let ci = key(one, "ci");
        tx.insert_key(&ci, &KeyDigest([number; 32]), 1).await.unwrap();
        people_of(&mut tx, one, number).await;
        tx.audit(&audit_row(Some(one.id), "test")).await.unwrap();
        tx.commit().await.unwrap();
        let range = 1_000 * u32::from(number);
        store.insert_usage(&batch(range, range + 1, vec![log_of(one.id, number.into())])).await.unwrap();
    }
    (acme, other)
}

/// A member, a role and an invitation.
async fn people_of(tx: &mut Tx, tenant: &Tenant, number: u8) {
    let (at, email) = (tenant.created_at, format!("{number}@example.com"));
    let new = user(&email);
    let user = tx.insert_login(&new).await.unwrap();
    let role: RoleName = "on-call".parse().unwrap();
    let member = Membership { tenant: tenant.id, user, email, role: role.clone(), created_at: at };
    tx.set_member(&member).await.unwrap();
    let RoleName::Own(name) = role.clone() else { panic!("{role} is no role of its own") };
    let own = OwnRole { name, permissions: vec!["key.read".to_owned()], created_at: at, updated_at: at };
    tx.set_own_role(tenant.id, &own).await.unwrap();
    let invitation = Invitation {
        id: InvitationId(Uuid::now_v7()),
        tenant: tenant.id,
        email: "new@example.com".to_owned(),
        role,
        invited_by: "test".to_owned(),
        created_at: at,
        expires_at: at,
    };
    tx.set_invitation(&invitation, &KeyDigest([number; 32])).await.unwrap();
}

fn database(store: &TestStore) -> &TestDatabase {
    let Kept::Database(database) = &store.kept else { panic!("only Postgres has roles") };
    database
}

async fn count(connection: &mut PgConnection, table: &str) -> i64 {
    let count = AssertSqlSafe(format!("SELECT COUNT(*) FROM {table}"));
    sqlx::query_scalar(count).fetch_one(connection).await.unwrap()
}

async fn run(connection: &mut PgConnection, sql: &str) {
    connection.execute(AssertSqlSafe(sql.to_owned())).await.unwrap();
}

/// The sentences with which serving the database is refused.
async fn refusals(store: &Store) -> Vec<String> {
    match store.prepare().await {
        Ok(()) => Vec::new(),
        Err(StoreError::NotIsolated(faults)) => faults,
        Err(other) => panic!("{other}"),
    }
}

async fn a_tenant_finds_its_own(store: TestStore) {
    let (acme, other) = with_two(&store).await;
    let mut snapshot = store.read_as(Reach::Tenant(acme.id)).await.unwrap();
    assert_eq!(snapshot.tenant(acme.id).await.unwrap(), Some(acme.clone()));
    assert_eq!(snapshot.keys(acme.id, &Page::default()).await.unwrap().unwrap().items.len(), 1);
    let usage = snapshot.usage_rows(acme.id, &UsageFilter::default(), &Page::default()).await;
    assert_eq!(usage.unwrap().unwrap().items.len(), 1);
    assert_eq!(snapshot.tiers().await.unwrap().len(), 5);
    // On SQLite it is up to those who ask.
    if store.is_postgres() {
        assert_eq!(snapshot.tenant(other.id).await.unwrap(), None);
        assert_eq!(snapshot.keys(other.id, &Page::default()).await.unwrap().unwrap().items, []);
    }
}

async fn a_tenant_writes_its_own(store: TestStore) {
    let (acme, _) = with_two(&store).await;
    let mut tx = store.begin_as(Reach::Tenant(acme.id)).await.unwrap();
    let new = key(&acme, "new");
    tx.insert_key(&new, &KeyDigest([9; 32]), 1).await.unwrap();
    tx.audit(&audit_row(Some(acme.id), "key.create")).await.unwrap();
    tx.touch_tenant(acme.id, acme.created_at).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(store.read().await.unwrap().key(new.id).await.unwrap(), Some(new));
}

#[tokio::test]
async fn a_statement_without_a_filter_finds_rows_of_one_tenant_only() {
    let store = TestStore::postgres().await;
    let (acme, _) = with_two(&store).await;
    for table in TABLES {
        let mut found = Vec::new();
        for reach in [Reach::Tenant(acme.id), Reach::Platform] {
            let mut text = query("SELECT COUNT(DISTINCT tenant_id) FROM ");
            text.push(table).push(" WHERE tenant_id <> '00000000-0000-0000-0000-000000000000'");
            let mut snapshot = store.read_as(reach).await.unwrap();
            found.push(text.fetch_number(snapshot.connection()).await.unwrap());
        }
        let expected: &[i64] =
            if ["quota_changes", "usage_rollups"].contains(&table) { &[0, 0] } else { &[1, 2] };
        assert_eq!(found, expected, "{table}: rows of how many tenants a tenant and the platform see");
    }
}

#[tokio::test]
async fn a_tenant_cant_write_rows_of_another() {
    let store = TestStore::postgres().await;
    let (acme, other) = with_two(&store).await;
    let mut tx = store.begin_as(Reach::Tenant(acme.id)).await.unwrap();
    tx.touch_tenant(other.id, other.created_at).await.unwrap();
    let refused = tx.insert_key(&key(&other, "stolen"), &KeyDigest([9; 32]), 1).await.unwrap_err();
    assert!(format!("{refused:?}").contains("row-level security"), "{refused:?}");
    drop(tx);
    assert_eq!(store.read().await.unwrap().tenant(other.id).await.unwrap(), Some(other));
}

#[tokio::test]
async fn a_superuser_sees_through_forced_policies_and_is_not_served() {
    let store = TestStore::postgres().await;
    let (acme, _) = with_two(&store).await;
    let mut superuser = database(&store).connect("postgres").await;
    run(&mut superuser, &format!("SET app.tenant_id = '{}'", acme.id)).await;
    assert_eq!(count(&mut superuser, "api_keys").await, 2, "the trap: FORCE does not hold a superuser");
    let faults = refusals(&store.owner).await;
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].starts_with("the role postgres is a superuser"), "{faults:?}");
    assert_eq!(refusals(&store).await, [""; 0]);
}

#[tokio::test]
async fn a_partition_without_policies_gives_all_its_rows_and_is_not_served() {
    let store = TestStore::postgres().await;
    let (acme, _) = with_two(&store).await;
    let partition = "tenant_usage_logs_30_2026_11";
    let mut owner = database(&store).connect("postgres").await;
    // As an operator might, with GRANT … ON ALL TABLES.
    run(&mut owner, &format!("GRANT SELECT ON {partition} TO tollgate_app")).await;
    let mut app = database(&store).connect(LOGIN).await;
    let as_acme = format!("SET ROLE tollgate_app; SET app.tenant_id = '{}'", acme.id);
    sqlx::raw_sql(AssertSqlSafe(as_acme)).execute(&mut app).await.unwrap();
    assert_eq!(count(&mut app, partition).await, 1);
    assert_eq!(refusals(&store).await, [""; 0]);

    run(&mut owner, &format!("ALTER TABLE {partition} DISABLE ROW LEVEL SECURITY")).await;
    assert_eq!(count(&mut app, "tenant_usage_logs").await, 1);
    assert_eq!(count(&mut app, partition).await, 2, "the trap: the parent's policies don't hold here");
    let expected =
        format!("the table {partition} has no row-level security: SELECT tollgate_isolate('{partition}')");
    assert_eq!(refusals(&store).await, [expected.as_str()]);

    let (_, remedy) = expected.split_once(": ").unwrap();
    run(&mut owner, remedy).await;
    assert_eq!(refusals(&store).await, [""; 0], "what the sentence says to do");
    assert_eq!(count(&mut app, partition).await, 1);
}

#[tokio::test]
async fn a_pooled_connection_keeps_no_tenant_and_no_role() {
    let store = TestStore::postgres().await;
    let (acme, _) = with_two(&store).await;
    let one = StoreSettings { connections: 1, ..database(&store).url(LOGIN).into() };
    let pooled = Store::open_with(&one).await.unwrap();
    let mut tx = pooled.begin_as(Reach::Tenant(acme.id)).await.unwrap();
    tx.touch_tenant(acme.id, acme.created_at).await.unwrap();
    tx.commit().await.unwrap();
    // The same connection, as the app once more, whom nobody told which tenant it is.
    let mut next = pooled.begin_migration().await.unwrap();
    let is_somebody = "SELECT (current_user <> session_user)::int::bigint";
    assert_eq!(query(is_somebody).fetch_number(next.connection()).await.unwrap(), 0);
    let is_empty = "SELECT (current_setting('app.tenant_id', true) = '')::int::bigint";
    let is_empty = query(is_empty).fetch_number(next.connection()).await.unwrap();
    assert_eq!(is_empty, 1, "the trap: what was set once is '' and not NULL, and '' is no UUID");
    next.connection().run("SET LOCAL ROLE tollgate_app").await.unwrap();
    for table in TABLES {
        let mut text = query("SELECT COUNT(*) FROM ");
        text.push(table);
        assert_eq!(text.fetch_number(next.connection()).await.unwrap(), 0, "{table}");
    }
}

#[tokio::test]
async fn whoever_owns_or_could_lift_the_policies_is_not_served() {
    let store = TestStore::postgres().await;
    let mut superuser = database(&store).connect("postgres").await;
    let make = async |superuser: &mut PgConnection, grants: &str| {
        let role = format!("login_{}", Uuid::now_v7().simple());
        let grants = grants.replace("ROLE_", &role);
        sqlx::raw_sql(AssertSqlSafe(format!("CREATE ROLE {role} LOGIN NOINHERIT; {grants}")))
            .execute(superuser)
            .await
            .unwrap();
        role
    };
    let serves = "GRANT tollgate_platform, tollgate_app, tollgate_ingest TO ROLE_;";
    for (grants, fault) in [
        ("", "the role ROLE_ is no member of tollgate_app"),
        (&format!("{serves} ALTER ROLE ROLE_ BYPASSRLS"), "the role ROLE_ is or can become ROLE_"),
        (&format!("{serves} GRANT tollgate_owner TO ROLE_"), "the role ROLE_ owns account_units"),
        (
            &format!("ALTER ROLE ROLE_ INHERIT; {serves}"),
            "the role ROLE_ inherits the rights of tollgate_app",
        ),
    ] {
        let role = make(&mut superuser, grants).await;
        let faults = refusals(&Store::open(&database(&store).url(&role)).await.unwrap()).await;
        let expected = fault.replace("ROLE_", &role);
        assert!(faults.first().is_some_and(|fault| fault.starts_with(&expected)), "{expected}: {faults:?}");
        run(&mut superuser, &format!("DROP ROLE {role}")).await;
    }
    superuser.close().await.unwrap();
}
