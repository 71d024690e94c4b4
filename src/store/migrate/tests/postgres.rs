//! What only Postgres has: logins that may not migrate, servers of many databases, tables that are there already.

use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

use crate::domain::{Slug, TenantId};
use crate::store::testing::{LOGIN, TestDatabase, at, key, tenant, user};
use crate::store::{Store, StoreError};

async fn run(connection: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.unwrap();
}

async fn owner_of(database: &TestDatabase) -> Store {
    Store::open(&database.superusers_url()).await.unwrap()
}

#[tokio::test]
async fn serving_a_database_that_was_not_migrated_says_what_to_run() {
    let database = TestDatabase::empty().await;
    let refused = Store::open(&database.url(LOGIN)).await.unwrap().prepare().await;
    let error = refused.unwrap_err().to_string();
    assert_eq!(error, "the database lacks migration 1 (0001_control_plane): run `tollgate migrate`");
}

#[tokio::test]
async fn two_that_migrate_at_once_both_succeed() {
    let database = TestDatabase::empty().await;
    let (one, other) = (owner_of(&database).await, owner_of(&database).await);
    let (one, other) = tokio::join!(one.migrate(), other.migrate());
    one.unwrap();
    other.unwrap();
}

#[tokio::test]
async fn a_login_that_is_not_there_is_named() {
    let database = TestDatabase::empty().await;
    let refused = owner_of(&database).await.migrate_for(&database.url("nobody_of_that_name")).await;
    assert!(
        matches!(&refused, Err(StoreError::NoLogin(login)) if login == "nobody_of_that_name"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn the_owner_of_a_database_migrates_it_without_being_a_superuser() {
    let database = TestDatabase::empty().await;
    let mut superuser = database.connect("postgres").await;
    let owner = format!("owner_{}", uuid::Uuid::now_v7().simple());
    run(&mut superuser, &format!("CREATE ROLE {owner} LOGIN CREATEROLE")).await;
    let name: String =
        sqlx::query_scalar("SELECT current_database()").fetch_one(&mut superuser).await.unwrap();
    run(&mut superuser, &format!("ALTER DATABASE {name} OWNER TO {owner}")).await;
    let migrating = Store::open(&database.url(&owner)).await.unwrap();
    migrating.migrate_for(&database.url(LOGIN)).await.unwrap();
    migrating.migrate_for(&database.url(LOGIN)).await.unwrap();
    Store::open(&database.url(LOGIN)).await.unwrap().prepare().await.unwrap();
    migrating.close().await;
    let reassign = format!("REASSIGN OWNED BY {owner} TO postgres; DROP OWNED BY {owner}; DROP ROLE {owner}");
    run(&mut superuser, &reassign).await;
}

#[tokio::test]
async fn organizations_that_were_there_become_tenants_and_stay_what_they_were() {
    let database = TestDatabase::empty().await;
    let mut other = database.connect("postgres").await;
    run(
        &mut other,
        "CREATE TABLE organizations (id SERIAL PRIMARY KEY, name VARCHAR(80), colour TEXT DEFAULT 'blue');
         CREATE TABLE users (id SERIAL PRIMARY KEY, email TEXT NOT NULL);
         INSERT INTO organizations (name) VALUES ('Zürich & Söhne'), ('Acme'), ('ACME'), (NULL), ('1. FC');
         INSERT INTO users (email) VALUES ('ann@example.com')",
    )
    .await;
    let owner = owner_of(&database).await;
    owner.migrate_for(&database.url(LOGIN)).await.unwrap();
    owner.migrate_for(&database.url(LOGIN)).await.unwrap();

    // Tollgate sees them, and can add to them.
    let store = Store::open(&database.url(LOGIN)).await.unwrap();
    store.prepare().await.unwrap();
    let mut snapshot = store.read().await.unwrap();
    let rows =
        sqlx::query("SELECT tenant_id, name, slug FROM organizations ORDER BY id").fetch_all(&mut other);
    let mut slugs = Vec::new();
    for row in rows.await.unwrap() {
        let found = snapshot.tenant(TenantId(row.get("tenant_id"))).await.unwrap().unwrap();
        assert_eq!((found.name.as_str(), found.tier.as_str()), (row.get("name"), "free"));
        slugs.push(found.slug.to_string());
    }
    assert_eq!((slugs[0].as_str(), slugs[4].as_str()), ("z-rich-s-hne", "org-1-fc"));
    assert!(
        slugs[1].starts_with("acme-") && slugs[2].starts_with("acme-") && slugs[1] != slugs[2],
        "{slugs:?}"
    );
    assert!(slugs[3].starts_with("organization-"), "{slugs:?}");
    let (new, mut tx) = (tenant("new"), store.begin().await.unwrap());
    tx.insert_tenant(&new, 30).await.unwrap();
    tx.insert_key(&key(&new, "ci"), &crate::secret::hash::KeyDigest([1; 32]), 1).await.unwrap();
    tx.commit().await.unwrap();

    // The other program goes on as before, and what it adds is a tenant.
    run(&mut other, "INSERT INTO organizations (name) VALUES ('later'); UPDATE users SET email = 'a@b.c'")
        .await;
    let counted = sqlx::query("SELECT COUNT(*) AS all, COUNT(colour) AS coloured FROM organizations");
    let counted = counted.fetch_one(&mut other).await.unwrap();
    assert_eq!((counted.get::<i64, _>("all"), counted.get::<i64, _>("coloured")), (7, 7));
    let later: String = sqlx::query_scalar("SELECT slug FROM organizations WHERE name = 'later'")
        .fetch_one(&mut other)
        .await
        .unwrap();
    assert!(
        store.read().await.unwrap().tenant_by_slug(&later.parse::<Slug>().unwrap()).await.unwrap().is_some()
    );
    other.close().await.unwrap();
}

#[tokio::test]
async fn users_that_were_there_are_the_persons_who_log_in_and_go_with_their_rows() {
    let database = TestDatabase::empty().await;
    let mut other = database.connect("postgres").await;
    run(
        &mut other,
        "CREATE TABLE organizations (id SERIAL PRIMARY KEY, name TEXT);
         CREATE TABLE users (id SERIAL PRIMARY KEY, email VARCHAR(200) NOT NULL, colour TEXT DEFAULT 'blue');
         INSERT INTO organizations (name) VALUES ('Acme');
         INSERT INTO users (email) VALUES ('Ann@Example.com'), ('bob@example.com')",
    )
    .await;
    let owner = owner_of(&database).await;
    owner.migrate_for(&database.url(LOGIN)).await.unwrap();
    owner.migrate_for(&database.url(LOGIN)).await.unwrap();
    let store = Store::open(&database.url(LOGIN)).await.unwrap();
    store.prepare().await.unwrap();

    let mut tx = store.begin().await.unwrap();
    let (ann, new) = (user("ann@example.com"), user("new@example.com"));
    let (anns, news) = (tx.insert_login(&ann).await.unwrap(), tx.insert_login(&new).await.unwrap());
    tx.commit().await.unwrap();
    let known: uuid::Uuid = sqlx::query_scalar("SELECT user_id FROM users WHERE email = 'Ann@Example.com'")
        .fetch_one(&mut other)
        .await
        .unwrap();
    assert_eq!((anns.0, news), (known, new.id), "who was there stays who they are");

    // The other program goes on as before; whom it removes can't log in any more.
    run(
        &mut other,
        "INSERT INTO users (email) VALUES ('later@example.com'); DELETE FROM users WHERE email = 'Ann@Example.com'",
    )
    .await;
    let mut snapshot = store.read().await.unwrap();
    assert_eq!(snapshot.user(anns).await.unwrap(), None);
    assert!(snapshot.user(news).await.unwrap().is_some());
    let coloured: i64 =
        sqlx::query_scalar("SELECT COUNT(colour) FROM users").fetch_one(&mut other).await.unwrap();
    assert_eq!(coloured, 3);
}

#[tokio::test]
async fn users_of_another_make_are_left_alone_and_the_column_is_named() {
    for (columns, fault) in [
        ("id SERIAL, email INT", "email is integer and should be text"),
        ("id SERIAL, email TEXT, name TEXT NOT NULL", "since name may not be NULL and has no default"),
    ] {
        let database = TestDatabase::empty().await;
        let mut other = database.connect("postgres").await;
        run(&mut other, &format!("CREATE TABLE users ({columns})")).await;
        let error = owner_of(&database).await.migrate().await.unwrap_err();
        assert!(format!("{error:?}").contains(fault), "{error:?}");
    }
}

#[tokio::test]
async fn uuids_that_were_there_are_the_tenants_ids() {
    let database = TestDatabase::empty().await;
    let mut other = database.connect("postgres").await;
    run(
        &mut other,
        "CREATE TABLE organizations (id UUID PRIMARY KEY, name TEXT NOT NULL);
         INSERT INTO organizations VALUES (gen_random_uuid(), 'Acme')",
    )
    .await;
    owner_of(&database).await.migrate_for(&database.url(LOGIN)).await.unwrap();
    let same: bool =
        sqlx::query_scalar("SELECT id = tenant_id FROM organizations").fetch_one(&mut other).await.unwrap();
    assert!(same);
    let store = Store::open(&database.url(LOGIN)).await.unwrap();
    let mut tx = store.begin().await.unwrap();
    tx.insert_tenant(&tenant("new"), 30).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn a_table_that_cant_be_adopted_is_left_alone_and_its_columns_are_named() {
    for (columns, fault) in [
        ("id SERIAL, name TEXT, status INT", "status is integer and should be text"),
        ("id SERIAL, name TEXT, owner TEXT NOT NULL", "since owner may not be NULL and has no default"),
    ] {
        let database = TestDatabase::empty().await;
        let mut other = database.connect("postgres").await;
        run(&mut other, &format!("CREATE TABLE organizations ({columns})")).await;
        let error = owner_of(&database).await.migrate().await.unwrap_err();
        assert!(format!("{error:?}").contains(fault), "{error:?}");
        let left = "SELECT COUNT(*) FROM information_schema.columns WHERE table_name = 'organizations'";
        let left: i64 = sqlx::query_scalar(left).fetch_one(&mut other).await.unwrap();
        assert_eq!(left, 3);
    }
}

#[tokio::test]
async fn in_a_schema_of_its_own_it_stands_beside_tables_of_the_same_names() {
    let database = TestDatabase::empty().await;
    let mut other = database.connect("postgres").await;
    run(
        &mut other,
        "CREATE TABLE organizations (id SERIAL); CREATE TABLE api_keys (id SERIAL); CREATE SCHEMA gate;
         DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = gate', current_database()); END $$",
    )
    .await;
    owner_of(&database).await.migrate_for(&database.url(LOGIN)).await.unwrap();
    let store = Store::open(&database.url(LOGIN)).await.unwrap();
    store.prepare().await.unwrap();
    let (new, mut tx) = (tenant("new"), store.begin().await.unwrap());
    tx.insert_tenant(&new, 30).await.unwrap();
    tx.commit().await.unwrap();
    store.keep_partitions(at("2031-05-31T23:00:00Z")).await.unwrap();
    let columns = "SELECT COUNT(*) FROM information_schema.columns
        WHERE table_schema = 'public' AND table_name IN ('organizations', 'api_keys')";
    let columns: i64 = sqlx::query_scalar(columns).fetch_one(&mut other).await.unwrap();
    assert_eq!(columns, 2, "what was there is as it was");
}
