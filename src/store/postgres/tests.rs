use crate::store::testing::{TestStore, tenant};
use crate::store::usage::testing::{batch, log_of};
use crate::store::{AuditFilter, Changed, Page, StoreSettings, StoreUrl};

#[tokio::test]
async fn who_listens_hears_of_another_processs_commit_and_of_nothing_else() {
    let store = TestStore::postgres().await;
    let mut listening = store.another().await.listen().unwrap();
    listening.heard().await;
    let mut dropped = store.begin().await.unwrap();
    dropped.changed(Changed::Tier("dropped".to_owned()));
    drop(dropped);
    let start = store.latest_change().await.unwrap();
    let mut tx = store.begin().await.unwrap();
    tx.changed(Changed::Tier("told".to_owned()));
    tx.commit().await.unwrap();
    listening.heard().await;
    assert_eq!(store.latest_change().await.unwrap(), start + 1);
}

#[tokio::test]
async fn who_listens_hears_when_its_connection_was_lost() {
    let store = TestStore::postgres().await;
    let mut listening = store.another().await.listen().unwrap();
    listening.heard().await;
    let cut = "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE datname = current_database() AND query LIKE 'LISTEN%'";
    let mut owner = store.owner.begin_migration().await.unwrap();
    assert_eq!(owner.scalar(cut).await, 1);
    listening.heard().await;
}

#[tokio::test]
async fn versions_are_seen_in_their_order_whoever_commits_first() {
    let store = TestStore::postgres().await;
    let other = store.another().await;
    let mut first = store.begin().await.unwrap();
    first.changed(Changed::Tier("first".to_owned()));
    let second = async {
        let mut second = other.begin().await.unwrap();
        second.changed(Changed::Tier("second".to_owned()));
        second.commit().await.unwrap();
    };
    let mut second = std::pin::pin!(second);
    // It waits for its turn: as long as the first has not ended, nothing of it can be seen.
    let waited = async {
        first.scalar("SELECT COUNT(pg_sleep(0.2))").await;
        first.commit().await.unwrap();
    };
    tokio::join!(waited, &mut second);
    let changes = store.changes_after(store.latest_change().await.unwrap() - 2, 10).await.unwrap();
    let names: Vec<_> = changes.into_iter().map(|change| change.what).collect();
    assert_eq!(names, [Changed::Tier("first".to_owned()), Changed::Tier("second".to_owned())]);
}

#[tokio::test]
async fn usage_is_brought_while_an_administrator_holds_the_turn() {
    let store = TestStore::postgres().await;
    let mut tx = store.begin().await.unwrap();
    let acme = tenant("acme");
    tx.insert_tenant(&acme, 30).await.unwrap();
    store.another().await.insert_usage(&batch(0, 1, vec![log_of(acme.id, 1)])).await.unwrap();
    tx.commit().await.unwrap();
}

#[test]
fn an_address_shows_no_password() {
    let url: StoreUrl = "postgres://tollgate:hunter2@db/tollgate".parse().unwrap();
    let settings = StoreSettings::from(url.clone());
    assert!(!format!("{url:?} {settings:?}").contains("hunter2"));
}

#[tokio::test]
async fn a_newer_programs_columns_disturb_no_statement_that_is_prepared() {
    let store = TestStore::postgres().await;
    let acme = tenant("acme");
    let mut tx = store.begin().await.unwrap();
    tx.insert_tenant(&acme, 30).await.unwrap();
    tx.commit().await.unwrap();
    // Reads twice over the same statements; the pool hands out its connection again.
    for _ in 0..2 {
        let mut snapshot = store.read().await.unwrap();
        assert_eq!(snapshot.tenant(acme.id).await.unwrap(), Some(acme.clone()));
        assert_eq!(snapshot.tiers().await.unwrap().len(), 5);
        assert_eq!(snapshot.keys(acme.id, &Page::default()).await.unwrap().unwrap().items, []);
        assert_eq!(snapshot.own_quotas(acme.id).await.unwrap(), []);
        assert_eq!(
            snapshot
                .audit_entries(Some(acme.id), &AuditFilter::default(), &Page::default())
                .await
                .unwrap()
                .unwrap()
                .items,
            []
        );
        drop(snapshot);
        store
            .raw(
                "DO $$ DECLARE made text; BEGIN
                    FOREACH made IN ARRAY ARRAY['organizations', 'tier_versions', 'tier_quotas', 'api_keys',
                            'tenant_resource_quotas', 'tenant_audit_logs'] LOOP
                        EXECUTE format('ALTER TABLE %I ADD COLUMN IF NOT EXISTS later TEXT', made);
                    END LOOP;
                END $$",
            )
            .await;
    }
}
