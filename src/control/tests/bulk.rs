//! One thing done to many tenants, each of them once.

use serde_json::json;

use super::{House, by_id, fields, named, of_tenant};
use crate::control::{Control, ControlError, NewBulkOperation, NewChannel, NewTenant};
use crate::domain::{
    AlertKind, BulkAction, BulkFilter, BulkId, BulkItem, BulkItemState, BulkOperation, BulkState,
    ChannelKind, Enforcement, Role, Tenant, TenantStatus,
};
use crate::store::Page;
use crate::store::testing::{TestStore, on_both};

on_both! {
    each_tenant_is_changed_once_and_audited_once,
    two_gateways_do_nothing_twice,
    a_dry_run_says_what_would_be_done_and_changes_nothing,
    what_one_tenant_refuses_is_said_there_and_tried_again_when_it_is_resumed,
    a_cancelled_operation_does_nothing_more_until_it_is_resumed,
    a_cheaper_tier_is_told_with_the_day_that_it_is_scheduled_for,
    tenants_are_those_that_a_filter_finds_when_the_operation_is_made,
    limits_are_set_and_messages_are_brought,
    what_makes_no_sense_is_refused_with_all_its_faults,
    nobody_but_the_platform_does_anything_to_many,
}

impl House {
    /// So many tenants of the free tier.
    async fn many(&self, number: usize) -> Vec<Tenant> {
        let mut tenants = Vec::new();
        for at in 0..number {
            tenants.push(self.tenant(&format!("Tenant {at}")).await);
        }
        tenants
    }

    async fn begins(&self, filter: BulkFilter, action: BulkAction) -> BulkOperation {
        let new = NewBulkOperation { filter, action };
        self.control.create_bulk_operation(&self.owner, new).await.unwrap()
    }

    /// Works off all that there is.
    async fn works_off(&self) {
        works_off(&self.control).await;
    }

    async fn operation(&self, id: BulkId) -> BulkOperation {
        self.control.bulk_operation(&self.owner, id).await.unwrap()
    }

    async fn items(&self, id: BulkId, state: Option<BulkItemState>) -> Vec<BulkItem> {
        self.control.bulk_items(&self.owner, id, state, &Page::default()).await.unwrap().items
    }

    async fn now(&self, tenant: &Tenant) -> Tenant {
        self.control.tenant(&self.owner, &by_id(tenant)).await.unwrap()
    }
}

async fn works_off(control: &Control) {
    while !control.work_off_bulk().await.unwrap().is_empty() {}
}

fn everybody() -> BulkFilter {
    BulkFilter { all: true, ..BulkFilter::default() }
}

fn of_tier(tier: &str) -> BulkFilter {
    BulkFilter { tier: Some(tier.to_owned()), ..BulkFilter::default() }
}

fn to_tier(tier: &str) -> BulkAction {
    BulkAction::Tier { tier: tier.to_owned() }
}

fn to_status(status: TenantStatus) -> BulkAction {
    BulkAction::Status { status, reason: None }
}

/// Changed, unchanged, failed, of how many.
fn counted(operation: &BulkOperation) -> [u64; 4] {
    [operation.changed, operation.unchanged, operation.failed, operation.total]
}

async fn each_tenant_is_changed_once_and_audited_once(store: TestStore) {
    let house = House::on(store);
    let tenants = house.many(5).await;
    let operation = house.begins(of_tier("free"), to_tier("professional")).await;
    assert_eq!((operation.state, counted(&operation)), (BulkState::Running, [0, 0, 0, 5]));
    assert_eq!(operation.action, to_tier("pro"), "as it is called");
    house.works_off().await;
    let operation = house.operation(operation.id).await;
    assert_eq!((operation.state, counted(&operation)), (BulkState::Done, [5, 0, 0, 5]));
    assert_eq!(operation.finished_at, Some(house.control.now()));
    for tenant in &tenants {
        let now = house.now(tenant).await;
        assert_eq!((now.tier.as_str(), now.version), ("pro", 2));
        let rows = house.audit(tenant).await;
        let of_it: Vec<_> = rows.iter().filter(|row| row.row.correlation == operation.id.0).collect();
        assert_eq!(of_it.len(), 1);
        let row = &of_it[0].row;
        assert_eq!((row.action.as_str(), &row.actor), ("tenant.change", &house.owner.actor));
    }
    let item = &house.items(operation.id, None).await[0];
    assert_eq!((item.tenant_id, item.state), (tenants[4].id, BulkItemState::Changed), "the newest is first");
    assert_eq!(item.before.as_ref().map(|before| &before["tier"]), Some(&json!("free")));
    assert_eq!(item.after.as_ref().map(|after| &after["tier"]), Some(&json!("pro")));
    let again = house.begins(of_tier("pro"), to_tier("pro")).await;
    house.works_off().await;
    assert_eq!(counted(&house.operation(again.id).await), [0, 5, 0, 5]);
    assert_eq!(house.now(&tenants[0]).await.version, 2);
}

async fn two_gateways_do_nothing_twice(store: TestStore) {
    let house = House::on(store);
    let tenants = house.many(30).await;
    let operation = house.begins(everybody(), to_tier("business")).await;
    let other = house.another_control();
    tokio::join!(house.works_off(), works_off(&other));
    assert_eq!(counted(&house.operation(operation.id).await), [30, 0, 0, 30]);
    for tenant in &tenants {
        assert_eq!(house.now(tenant).await.version, 2);
        let rows = house.audit(tenant).await;
        assert_eq!(rows.iter().filter(|row| row.row.correlation == operation.id.0).count(), 1);
    }
}

async fn a_cheaper_tier_is_told_with_the_day_that_it_is_scheduled_for(store: TestStore) {
    let house = House::on(store);
    let pro = NewTenant { tier: Some("pro".to_owned()), ..named("Pro") };
    house.control.create_tenant(&house.owner, pro).await.unwrap();
    let (free, scheduled) = (to_tier("free"), json!({ "tier": "free", "at": "2026-12-23T00:00:00.000000Z" }));
    let new = NewBulkOperation { filter: everybody(), action: free.clone() };
    let planned = house.control.plan_bulk_operation(&house.owner, new, &Page::default()).await.unwrap();
    let operation = house.begins(everybody(), free).await;
    house.works_off().await;
    for item in [&planned.items[0], &house.items(operation.id, None).await[0]] {
        assert_eq!(item.state, BulkItemState::Changed);
        assert_eq!(item.after, Some(json!({ "scheduled_tier": scheduled })));
    }
    let withdrawn = house.begins(everybody(), to_tier("pro")).await;
    house.works_off().await;
    let item = &house.items(withdrawn.id, None).await[0];
    assert_eq!(item.before, Some(json!({ "scheduled_tier": scheduled })));
}

async fn a_dry_run_says_what_would_be_done_and_changes_nothing(store: TestStore) {
    let house = House::on(store);
    let tenants = house.many(3).await;
    let pro = NewTenant { tier: Some("pro".to_owned()), ..named("Pro") };
    house.control.create_tenant(&house.owner, pro).await.unwrap();
    let before = house.changes().await;
    let new = || NewBulkOperation { filter: everybody(), action: to_tier("pro") };
    let planned = house.control.plan_bulk_operation(&house.owner, new(), &Page::default()).await.unwrap();
    let states: Vec<_> = planned.items.iter().map(|item| item.state).collect();
    let (changed, unchanged) = (BulkItemState::Changed, BulkItemState::Unchanged);
    assert_eq!((states, planned.total), (vec![unchanged, changed, changed, changed], Some(4)));
    assert_eq!(planned.items[1].after.as_ref().map(|after| &after["tier"]), Some(&json!("pro")));
    let first = Page::new(Some(1), None, None).unwrap();
    let part = house.control.plan_bulk_operation(&house.owner, new(), &first).await.unwrap();
    assert_eq!((part.items.len(), part.next_cursor.is_some()), (1, true));
    assert_eq!(house.now(&tenants[0]).await, tenants[0]);
    assert_eq!((house.changes().await, house.audit(&tenants[0]).await.len()), (before, 1));
    assert!(house.control.bulk_operations(&house.owner, &Page::default()).await.unwrap().items.is_empty());
}

async fn what_one_tenant_refuses_is_said_there_and_tried_again_when_it_is_resumed(store: TestStore) {
    let house = House::on(store);
    let tenants = house.many(3).await;
    let to = async |status| {
        house.control.set_status(&house.owner, &by_id(&tenants[1]), status, None).await.unwrap();
    };
    to(TenantStatus::Cancelled).await;
    let operation = house.begins(everybody(), to_status(TenantStatus::PastDue)).await;
    house.works_off().await;
    let done = house.operation(operation.id).await;
    assert_eq!((done.state, counted(&done)), (BulkState::Done, [2, 0, 1, 3]));
    let refused = &house.items(operation.id, Some(BulkItemState::Failed)).await[0];
    assert_eq!(refused.tenant_id, tenants[1].id);
    assert!(refused.error.as_ref().is_some_and(|why| why.contains("cancelled can't become past_due")));
    to(TenantStatus::Active).await;
    let resumed = house.control.resume_bulk_operation(&house.owner, operation.id).await.unwrap();
    assert_eq!((resumed.state, counted(&resumed)), (BulkState::Running, [2, 0, 0, 3]));
    house.works_off().await;
    assert_eq!(counted(&house.operation(operation.id).await), [3, 0, 0, 3]);
    assert_eq!(house.now(&tenants[1]).await.status, TenantStatus::PastDue);
    assert_eq!(house.now(&tenants[0]).await.version, 2, "once");
    let over = house.control.resume_bulk_operation(&house.owner, operation.id).await.unwrap();
    assert_eq!(over.state, BulkState::Done, "nothing is left to do");
}

async fn a_cancelled_operation_does_nothing_more_until_it_is_resumed(store: TestStore) {
    let house = House::on(store);
    // More than are worked off at once.
    let number = super::super::bulk::WORKED_AT_ONCE + 5;
    house.many(number).await;
    let operation = house.begins(everybody(), to_tier("pro")).await;
    let states = house.control.work_off_bulk().await.unwrap();
    assert_eq!(states.len(), number - 5);
    let cancelled = house.control.cancel_bulk_operation(&house.owner, operation.id).await.unwrap();
    assert_eq!((cancelled.state, cancelled.changed), (BulkState::Cancelled, states.len() as u64));
    house.works_off().await;
    assert_eq!(house.operation(operation.id).await, cancelled);
    assert_eq!(house.items(operation.id, Some(BulkItemState::Pending)).await.len(), 5);
    let again = house.control.cancel_bulk_operation(&house.owner, operation.id).await.unwrap();
    assert_eq!(again, cancelled);
    house.control.resume_bulk_operation(&house.owner, operation.id).await.unwrap();
    house.works_off().await;
    let done = house.operation(operation.id).await;
    assert_eq!((done.state, done.changed), (BulkState::Done, number as u64));
}

async fn tenants_are_those_that_a_filter_finds_when_the_operation_is_made(store: TestStore) {
    let house = House::on(store);
    let reseller = NewTenant { tier: Some("msp".to_owned()), ..named("Reseller") };
    house.control.create_tenant(&house.owner, reseller).await.unwrap();
    let child = NewTenant { parent: Some("reseller".to_owned()), ..named("Child") };
    let child = house.control.create_tenant(&house.owner, child).await.unwrap();
    let acme = house.tenant("Acme").await;
    let status = TenantStatus::Cancelled;
    house.control.set_status(&house.owner, &by_id(&acme), status, None).await.unwrap();
    let total = async |filter| house.begins(filter, to_status(TenantStatus::Active)).await.total;
    let parent = BulkFilter { parent: Some("reseller".to_owned()), ..BulkFilter::default() };
    assert_eq!(total(parent).await, 1);
    assert_eq!(total(BulkFilter { status: Some(status), ..BulkFilter::default() }).await, 1);
    assert_eq!(total(BulkFilter { q: Some("ACM".to_owned()), ..BulkFilter::default() }).await, 1);
    let both = BulkFilter { tenants: vec![child.id.to_string(), "acme".to_owned()], ..BulkFilter::default() };
    assert_eq!(total(both.clone()).await, 2);
    assert_eq!(total(BulkFilter { status: Some(status), ..both }).await, 1, "all that is said has to be so");
    assert_eq!(total(everybody()).await, 3);
    let late = house.tenant("Late").await;
    house.works_off().await;
    assert_eq!(house.now(&late).await.version, 1);
}

async fn limits_are_set_and_messages_are_brought(store: TestStore) {
    let house = House::on(store);
    let tenants = house.many(2).await;
    let quota = BulkAction::Quota {
        resource_type: super::resource("api_calls"),
        limit: super::limit(7),
        period: None,
        enforcement: Some(Enforcement::Soft),
        on_loss: None,
        reason: Some("launch".to_owned()),
        expires_at: None,
    };
    house.begins(everybody(), quota).await;
    let channel = NewChannel {
        name: "ops".to_owned(),
        kind: ChannelKind::Webhook,
        target: "https://example.com/in".to_owned(),
        kinds: vec![AlertKind::Message],
    };
    house.control.create_channel(&house.owner, &by_id(&tenants[0]), channel).await.unwrap();
    let (subject, text) = ("Maintenance".to_owned(), "On Sunday.\nAll day.".to_owned());
    let told = house.begins(everybody(), BulkAction::Message { subject, text }).await;
    house.works_off().await;
    for tenant in &tenants {
        let set = house.quota(tenant, "api_calls").await;
        assert_eq!((set.limit, set.enforcement), (super::limit(7), Enforcement::Soft));
        let alerts = house.alerts(tenant).await;
        assert_eq!((alerts.len(), alerts[0].kind), (1, AlertKind::Message));
        assert_eq!(
            (alerts[0].summary.as_str(), &alerts[0].details["text"]),
            ("Maintenance", &json!("On Sunday.\nAll day."))
        );
        let rows = house.audit(tenant).await;
        let sent: Vec<_> = rows.iter().filter(|row| row.row.action == "message.send").collect();
        assert_eq!((sent.len(), sent[0].row.correlation), (1, told.id.0));
    }
    let items = house.items(told.id, None).await;
    let deliveries = |at: usize| items[at].after.as_ref().map(|after| after["deliveries"].clone());
    assert_eq!((deliveries(0), deliveries(1)), (Some(json!(0)), Some(json!(1))));
}

async fn what_makes_no_sense_is_refused_with_all_its_faults(store: TestStore) {
    let house = House::on(store);
    let refused = async |filter, action| {
        let new = NewBulkOperation { filter, action };
        let refused = house.control.create_bulk_operation(&house.owner, new).await.unwrap_err();
        fields(&refused).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let nobody = BulkFilter {
        tier: Some("gold".to_owned()),
        parent: Some("nobody".to_owned()),
        tenants: vec!["Not a slug".to_owned()],
        ..BulkFilter::default()
    };
    assert_eq!(
        refused(nobody, to_tier("gold")).await,
        ["filter.tier", "filter.parent", "filter.tenants[0]", "action.tier"]
    );
    let empty = BulkFilter { q: Some(String::new()), ..BulkFilter::default() };
    assert_eq!(refused(empty, to_status(TenantStatus::Deleted)).await, ["filter", "action.status"]);
    let deleted = BulkFilter { status: Some(TenantStatus::Deleted), ..BulkFilter::default() };
    assert_eq!(
        refused(deleted, to_status(TenantStatus::Suspended)).await,
        ["filter.status", "action.reason"]
    );
    let message = BulkAction::Message { subject: "a\nb".to_owned(), text: " ".to_owned() };
    assert_eq!(refused(everybody(), message).await, ["action.subject", "action.text"]);
}

async fn nobody_but_the_platform_does_anything_to_many(store: TestStore) {
    let house = House::on(store);
    let acme = house.tenant("Acme").await;
    let owner = of_tenant(&acme, Role::Owner);
    let operation = house.begins(everybody(), to_tier("pro")).await;
    let new = || NewBulkOperation { filter: everybody(), action: to_tier("msp") };
    let page = Page::default();
    let is_forbidden =
        |error: Option<ControlError>| assert!(matches!(error, Some(ControlError::Forbidden { .. })));
    is_forbidden(house.control.create_bulk_operation(&owner, new()).await.err());
    is_forbidden(house.control.plan_bulk_operation(&owner, new(), &page).await.err());
    is_forbidden(house.control.bulk_operations(&owner, &page).await.err());
    is_forbidden(house.control.bulk_operation(&owner, operation.id).await.err());
    is_forbidden(house.control.bulk_items(&owner, operation.id, None, &page).await.err());
    is_forbidden(house.control.cancel_bulk_operation(&owner, operation.id).await.err());
    is_forbidden(house.control.resume_bulk_operation(&owner, operation.id).await.err());
    assert_eq!(house.operation(operation.id).await, operation);
}
