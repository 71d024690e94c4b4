use std::collections::BTreeSet;

use super::{PARTS, Whose};
use crate::store::sql::query;
use crate::store::testing::TestStore;
use crate::store::values::get;

/// What is a tenant's and in no part, and why.
const APART: [(&str, &str); 27] = [
    ("tenant_settings", "a part of their own, in which secrets are text"),
    ("tenant_data_keys", "made anew where the secrets are sealed anew"),
    ("audit_chains", "the end of the log that is imported"),
    ("audit_checkpoints", "signed by who keeps the log"),
    ("usage_quarantine", "an operator of this installation decides"),
    ("alert_events", "what was told, here"),
    ("notification_channels", "a part of their own, with their secrets as text"),
    ("channel_secrets", "as the channels"),
    ("outbox", "what is on its way, from here"),
    ("tenant_health", "found out anew"),
    ("exhaustions", "as the health"),
    ("denials", "as the health"),
    ("key_networks", "seen anew, there"),
    ("bad_keys", "who tried, here"),
    ("bulk_items", "what was done to many, here"),
    ("memberships", "a part of their own, by addresses: people have other ids there"),
    ("invitations", "their links lead to here"),
    ("sessions", "of the installation"),
    ("logins", "as the sessions"),
    ("subscription_segments", "who sells it there begins anew"),
    ("scheduled_tiers", "as the segments"),
    ("invoices", "of whom it owed, here"),
    ("invoice_lines", "as the invoices"),
    ("billing_events", "what is brought to the collector of here"),
    ("billing_standings", "how it stands with that collector"),
    ("spend_caps", "as the segments"),
    ("spend_ceilings", "as the segments"),
];

async fn names(store: &TestStore, sql: &'static str, bound: &str) -> BTreeSet<String> {
    let mut snapshot = store.read().await.unwrap();
    let rows = query(sql).bind(bound).fetch_all(snapshot.connection()).await.unwrap();
    rows.iter().map(|row| get(row, "name").unwrap()).collect()
}

#[tokio::test]
async fn whatever_is_a_tenants_is_exported_or_stays_for_a_reason() {
    let store = TestStore::sqlite().await;
    let sql =
        "SELECT tables.name AS name FROM sqlite_master AS tables, pragma_table_info(tables.name) AS columns
        WHERE tables.type = 'table' AND columns.name IN ('tenant_id', 'owner_id') AND $1 IS NOT NULL";
    for table in names(&store, sql, "").await {
        let is_grant = table.starts_with("grant_");
        let is_known =
            PARTS.iter().any(|part| part.table == table) || APART.iter().any(|(apart, _)| *apart == table);
        assert!(is_known || is_grant, "{table}: is it exported?");
    }
}

#[tokio::test]
async fn a_part_has_every_column_of_its_table() {
    let store = TestStore::sqlite().await;
    for part in &PARTS {
        let mut expected = names(&store, "SELECT name FROM pragma_table_info($1)", part.table).await;
        if part.whose == Whose::TenantId {
            assert!(expected.remove("tenant_id"), "{}", part.name);
        }
        expected.retain(|column| !(part.table == "organizations" && column == "health_level"));
        let columns: BTreeSet<_> = part.columns.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(columns, expected, "{}", part.name);
    }
}
