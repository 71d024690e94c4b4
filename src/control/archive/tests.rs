//! Tenants exported from one store and imported into another.

use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use age::x25519;
use serde_json::{Value, json};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::clock::{Clock, TestClock};
use crate::control::{
    Attesting, CheckpointFile, Control, ControlError, NewChannel, NewKey, NewSetting, NewTenant, Permissions,
    Principal, QuotaChange, Rights, TenantChange, TenantRef,
};
use crate::domain::{
    Actor, ActorKind, AuditOutcome, ChannelKind, KeyLimits, Limit, Membership, Role, Tenant, TenantStatus,
    Units,
};
use crate::secret::archive::{ArchiveError, ArchiveReader, Item, Lock, Unlock};
use crate::secret::ed25519::SigningKey;
use crate::secret::hash::Pepper;
use crate::secret::seal::KeyRing;
use crate::store::testing::{TestStore, on_both};
use crate::store::usage_testing::{batch, log_of, start};
use crate::store::{
    AccountUse, AuditFilter, AuditVerdict, Page, Rollup, RollupPeriod, UsageBatch, UsageEvent, UsageFilter,
};

on_both! {
    what_is_not_genuine_or_here_already_is_refused_and_nothing_is_imported,
    a_tenants_owner_exports_its_own_tenant_and_imports_nothing,
    a_pruned_log_goes_on_where_it_was_imported,
    what_an_import_refers_to_must_be_here,
}

/// An installation.
struct House {
    control: Control,
    store: TestStore,
    clock: TestClock,
    owner: Principal,
    identity: x25519::Identity,
    directory: tempfile::TempDir,
}

const OWN: &str = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=";
const OTHER: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
const DAY: Duration = Duration::from_secs(86_400);

impl House {
    fn on(store: TestStore, key: &str) -> House {
        let directory = tempfile::tempdir().unwrap();
        let clock = TestClock::at("2026-11-23T06:00:00Z");
        let pepper = Pepper::new(1, &[7; 32]);
        // Another key on each: what was sealed here must be opened to be sealed there.
        let ring = KeyRing::parse([(1, if key == OWN { "01" } else { "02" }.repeat(32).as_str())]).unwrap();
        let control =
            Control::new((*store).clone(), Arc::new(clock.clone()), pepper.into(), Arc::new(Notify::new()))
                .with_secrets(ring)
                .with_spool(directory.path().to_owned())
                .with_attesting(Attesting {
                    key: SigningKey::parse(key).unwrap(),
                    trusted: vec![SigningKey::parse(OWN).unwrap().public()],
                    file: CheckpointFile::new(directory.path().join("checkpoints")),
                    kept_for: DAY,
                    retention: 60 * DAY,
                    holder: Uuid::from_u128(1),
                });
        let owner = Principal::platform(Actor::system("test"), Uuid::max());
        House { control, store, clock, owner, identity: x25519::Identity::generate(), directory }
    }

    async fn tenant(&self, name: &str, tier: &str) -> Tenant {
        let new = NewTenant {
            name: name.to_owned(),
            tier: Some(tier.to_owned()),
            billing_email: Some("pay@acme.example".to_owned()),
            timezone: Some("Europe/Zurich".to_owned()),
            ..NewTenant::default()
        };
        self.control.create_tenant(&self.owner, new).await.unwrap()
    }

    /// Something in each part, in some of them more than is read at once.
    async fn furnish(&self, tenant: &Tenant) {
        let (control, owner, of) = (&self.control, &self.owner, TenantRef::Id(tenant.id));
        let key = NewKey { name: "ci".to_owned(), limits: KeyLimits::default(), test: false };
        let key = control.create_key(owner, &of, key).await.unwrap().key;
        let quota = |key, units| QuotaChange {
            resource: "api_calls".parse().unwrap(),
            limit: Limit::Of(Units::new(units).unwrap()),
            period: None,
            enforcement: None,
            on_loss: None,
            key,
            reason: Some("contract".to_owned()),
            expires_at: None,
        };
        for (key, units) in [(None, 5_000), (None, 6_000), (Some(key.id.0), 50)] {
            control.set_quota(owner, &of, quota(key, units)).await.unwrap();
        }
        for (name, is_encrypted, value) in
            [("upgrade_prompts", None, json!(true)), ("custom.smtp_password", Some(true), json!("hunter2"))]
        {
            let new = NewSetting { value, is_encrypted };
            control.set_setting(owner, &of, name, new).await.unwrap();
        }
        self.gather(tenant).await;
        for number in 0..520 {
            let name = Some(format!("Acme {number}"));
            let change = TenantChange { name, ..TenantChange::default() };
            control.change_tenant(owner, &of, change).await.unwrap();
        }
        self.use_some(tenant).await;
        let mut tx = self.store.begin().await.unwrap();
        tx.insert_usage_event(&UsageEvent {
            tenant: tenant.id,
            event: "nightly".to_owned(),
            request: Uuid::from_u128(77),
            resource: "users".parse().unwrap(),
            amount: 3,
            description: Some("import".to_owned()),
            answer: json!({ "used": 3 }),
            at: self.clock.now(),
        })
        .await
        .unwrap();
        let account = self.account(tenant, "users");
        tx.add_held_units(&account, 3, self.clock.now()).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// People with a role of the tenant's own, and where they are told.
    async fn gather(&self, tenant: &Tenant) {
        let (control, owner, of) = (&self.control, &self.owner, TenantRef::Id(tenant.id));
        control.set_role(owner, &of, "watcher", &["tenant.read".to_owned()]).await.unwrap();
        let mut tx = self.store.begin().await.unwrap();
        for (number, role) in ["owner", "watcher"].into_iter().enumerate() {
            let email = format!("{role}@acme.example");
            let user = tx.insert_login(&control.new_user(&email, start())).await.unwrap();
            let created_at = start().plus(Duration::from_secs(number as u64));
            let role = role.parse().unwrap();
            tx.set_member(&Membership { tenant: tenant.id, user, email, role, created_at }).await.unwrap();
        }
        tx.commit().await.unwrap();
        let channel = NewChannel {
            name: "hook".to_owned(),
            kind: ChannelKind::Webhook,
            target: "https://hooks.acme.example/".to_owned(),
            kinds: Vec::new(),
        };
        let made = control.create_channel(owner, &of, channel).await.unwrap();
        control.rotate_channel(owner, &of, made.channel.id, Duration::from_secs(3_600)).await.unwrap();
    }

    async fn use_some(&self, tenant: &Tenant) {
        let mut logs: Vec<_> = (0..1_200).map(|number| log_of(tenant.id, number)).collect();
        // Months whose partitions are not there.
        logs[0].date = start().minus(400 * DAY);
        let account = self.account(tenant, "api_calls");
        let rollup = Rollup {
            tenant: tenant.id,
            period: RollupPeriod::Hour,
            start: start(),
            resource: account.resource,
            key: None,
            route: "orders".to_owned(),
            sums: logs[3].sums,
        };
        let accounts = vec![AccountUse { account, units: 42, overage: 1 }];
        self.store
            .insert_usage(&UsageBatch { rollups: vec![rollup], accounts, ..batch(0, 9, logs) })
            .await
            .unwrap();
    }

    fn account(&self, tenant: &Tenant, resource: &str) -> crate::domain::AccountKey {
        let period =
            if resource == "users" { crate::domain::Period::Forever } else { crate::domain::Period::Month };
        let window = period.window(tenant.anchor, &tenant.timezone, self.clock.now());
        crate::domain::AccountKey {
            owner: crate::domain::Owner::Tenant(tenant.id),
            resource: resource.parse().unwrap(),
            window,
        }
    }

    async fn export(&self, tenant: &TenantRef) -> Vec<u8> {
        let lock = Lock::Recipient(self.identity.to_public());
        let exported = self.control.export_tenant(&self.owner, tenant, lock, Vec::new()).await;
        exported.unwrap().1
    }

    async fn import(&self, archive: Vec<u8>, identity: &x25519::Identity) -> Result<u64, ControlError> {
        let unlock = Unlock::Identity(identity.clone());
        let imported = self.control.import_tenant(&self.owner, Cursor::new(archive), unlock, None).await;
        imported.map(|imported| imported.rows)
    }

    async fn verdict(&self, tenant: &TenantRef) -> AuditVerdict {
        self.control.verify_audit(&self.owner, Some(tenant), None).await.unwrap().0
    }
}

/// What an archive holds, line by line, but for its envelope.
fn lines(archive: &[u8], identity: &x25519::Identity) -> Vec<String> {
    let (mut reader, _) = ArchiveReader::open(archive, &Unlock::Identity(identity.clone())).unwrap();
    let mut lines = Vec::new();
    loop {
        match reader.read().unwrap() {
            Item::Part(name) => lines.push(format!("part {name}")),
            Item::Row(row) => lines.push(row.to_string()),
            Item::End(_) => return lines,
        }
    }
}

async fn round_trip(from: TestStore, to: TestStore) {
    let (here, there) = (House::on(from, OWN), House::on(to, OTHER));
    let acme = here.tenant("Acme", "enterprise").await;
    here.furnish(&acme).await;
    let of = TenantRef::Id(acme.id);
    let archive = here.export(&of).await;
    let lines = lines(&archive, &here.identity);
    for part in [
        "tier",
        "settings",
        "members",
        "channels",
        "roles",
        "keys",
        "quotas",
        "quota_changes",
        "events",
        "audit_log",
        "usage_log",
        "counters",
    ] {
        let at = lines.iter().position(|line| *line == format!("part {part}")).unwrap();
        assert!(lines[at + 1].starts_with('{'), "there is something in {part}");
    }
    assert!(lines.iter().any(|line| line.contains("hunter2")), "secrets are in it");
    let rows = there.import(archive, &here.identity).await.unwrap();
    assert_eq!(rows, lines.iter().filter(|line| line.starts_with('{')).count() as u64);

    let again = there.export(&of).await;
    for (at, (line, again)) in lines.iter().zip(&self::lines(&again, &there.identity)).enumerate() {
        assert_eq!(line, again, "line {at}");
    }
    assert_eq!(lines.len(), self::lines(&again, &there.identity).len());
    assert_eq!(
        there.control.secret(acme.id, "custom.smtp_password").await.unwrap().as_deref(),
        Some("hunter2")
    );
    let tenant = there.control.tenant(&there.owner, &of).await.unwrap();
    assert_eq!(tenant, here.control.tenant(&here.owner, &of).await.unwrap());
    let whole = there.verdict(&of).await;
    assert!(matches!(whole, AuditVerdict::Whole { rows: 531, pruned: 0, .. }), "{whole:?}");
    // It goes on from there: the chain, the counters, the names of events.
    there
        .control
        .set_status(&there.owner, &of, TenantStatus::Suspended, Some("moved".to_owned()))
        .await
        .unwrap();
    let whole = there.verdict(&of).await;
    assert!(matches!(whole, AuditVerdict::Whole { rows: 532, .. }), "{whole:?}");
    let used =
        there.store.read().await.unwrap().account_units(&[there.account(&acme, "users")]).await.unwrap();
    assert_eq!(used, [Units::new(3).unwrap()]);
    let log =
        there.control.platform_audit_logs(&there.owner, &AuditFilter::default(), &Page::default()).await;
    assert_eq!(log.unwrap().items[0].row.action, "tenant.import");
}

#[tokio::test]
async fn an_export_of_sqlite_makes_the_same_state_on_postgres() {
    round_trip(TestStore::sqlite().await, TestStore::postgres().await).await;
}

#[tokio::test]
async fn an_export_of_postgres_makes_the_same_state_on_sqlite() {
    round_trip(TestStore::postgres().await, TestStore::sqlite().await).await;
}

async fn what_is_not_genuine_or_here_already_is_refused_and_nothing_is_imported(store: TestStore) {
    let here = House::on(TestStore::sqlite().await, OWN);
    let acme = here.tenant("Acme", "enterprise").await;
    here.use_some(&acme).await;
    let of = TenantRef::Id(acme.id);
    let archive = here.export(&of).await;
    let there = House::on(store, OTHER);
    let is_empty = async || {
        let mut snapshot = there.store.read().await.unwrap();
        assert!(!snapshot.has_rows_of(acme.id).await.unwrap(), "nothing half imported");
    };
    let cut = there.import(archive[..archive.len() - 1_000].to_vec(), &here.identity).await;
    assert!(
        matches!(cut, Err(ControlError::Archive(ArchiveError::Truncated | ArchiveError::Damaged))),
        "{cut:?}"
    );
    is_empty().await;
    let locked = there.import(archive.clone(), &there.identity).await;
    assert!(matches!(locked, Err(ControlError::Archive(ArchiveError::Locked))), "{locked:?}");
    is_empty().await;

    // The exporter believes nobody but itself.
    let foreign = there.tenant("Beta", "free").await;
    let foreign = there.export(&TenantRef::Id(foreign.id)).await;
    let unknown = here.import(foreign.clone(), &there.identity).await.unwrap_err();
    let signer = SigningKey::parse(OTHER).unwrap().public().id();
    assert!(matches!(&unknown, ControlError::Conflict(what) if what.contains(&signer)), "{unknown}");
    let unlock = Unlock::Identity(there.identity.clone());
    let named = here.control.import_tenant(&here.owner, Cursor::new(foreign), unlock, Some(&signer)).await;
    assert_eq!(named.unwrap().slug.as_str(), "beta");

    // One of the name is here: what was imported before that was found is taken back.
    let namesake = there.tenant("Acme", "free").await;
    let taken = there.import(archive.clone(), &here.identity).await.unwrap_err();
    assert!(matches!(&taken, ControlError::Conflict(what) if what.contains("`acme`")), "{taken}");
    let change = TenantChange { slug: Some("acme-two".to_owned()), ..TenantChange::default() };
    there.control.change_tenant(&there.owner, &TenantRef::Id(namesake.id), change).await.unwrap();
    is_empty().await;
    there.import(archive.clone(), &here.identity).await.unwrap();
    let twice = there.import(archive, &here.identity).await.unwrap_err();
    assert!(matches!(&twice, ControlError::Conflict(what) if what.contains("here already")), "{twice}");
    let rows = there.control.usage_logs(&there.owner, &of, &UsageFilter::default(), &Page::default()).await;
    assert!(!rows.unwrap().items.is_empty());
}

async fn a_tenants_owner_exports_its_own_tenant_and_imports_nothing(store: TestStore) {
    let house = House::on(store, OWN);
    let (acme, other) = (house.tenant("Acme", "enterprise").await, house.tenant("Other", "pro").await);
    house.furnish(&acme).await;
    let of = TenantRef::Id(acme.id);
    let actor = Actor { kind: ActorKind::ApiKey, ..Actor::system("ci") };
    let with = |role| Principal {
        actor: actor.clone(),
        rights: Rights::in_tenant(acme.id, Permissions::of(role)),
        correlation: Uuid::now_v7(),
    };
    let export = async |principal: Principal, tenant: &TenantRef| {
        let lock = Lock::Recipient(house.identity.to_public());
        house.control.spool_export(&principal, tenant, lock).await
    };
    let (exported, mut file) = export(with(Role::Owner), &of).await.unwrap();
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut file, &mut bytes).unwrap();
    let lines = lines(&bytes, &house.identity);
    assert!(exported.rows > 1_000 && lines.iter().any(|line| line.contains("hunter2")));
    assert!(!lines.iter().any(|line| line.contains(&other.id.to_string())));
    let denied = export(with(Role::Admin), &of).await;
    assert!(matches!(denied, Err(ControlError::Forbidden { .. })));
    let foreign = export(with(Role::Owner), &TenantRef::Id(other.id)).await;
    assert!(matches!(foreign, Err(ControlError::NotFound { .. })));
    let unlock = Unlock::Identity(house.identity.clone());
    let imports = house.control.import_tenant(&with(Role::Owner), Cursor::new(bytes), unlock, None).await;
    assert!(matches!(imports, Err(ControlError::Forbidden { .. })));
    let log = house.control.audit_logs(&house.owner, &of, &AuditFilter::default(), &Page::default()).await;
    let told: Vec<Value> =
        log.unwrap().items.iter().take(3).map(|entry| json!([entry.row.action, entry.row.outcome])).collect();
    let expected = [
        json!(["tenant.export", "denied"]),
        json!(["tenant.export", "denied"]),
        json!(["tenant.export", "done"]),
    ];
    assert_eq!(told, expected, "what was tried is in the tenant's own log");
    let log =
        house.control.platform_audit_logs(&house.owner, &AuditFilter::default(), &Page::default()).await;
    let row = log.unwrap().items.remove(0).row;
    assert_eq!((row.action.as_str(), row.outcome), ("tenant.import", AuditOutcome::Denied));
}

async fn a_pruned_log_goes_on_where_it_was_imported(store: TestStore) {
    let here = House::on(store, OWN);
    here.clock.set("2024-01-01T00:00:00Z");
    let acme = here.tenant("Acme", "enterprise").await;
    here.control.keep_audit().await.unwrap();
    here.clock.advance(91 * DAY);
    assert_eq!(here.control.keep_audit().await.unwrap().pruned, 1);
    let archive = here.export(&TenantRef::Id(acme.id)).await;
    let there = House::on(TestStore::sqlite().await, OTHER);
    there.import(archive, &here.identity).await.unwrap();
    let verdict = there.verdict(&TenantRef::Id(acme.id)).await;
    assert!(matches!(verdict, AuditVerdict::Whole { rows: 1, pruned: 1, .. }), "{verdict:?}");
    assert!(there.directory.path().exists());
}

async fn what_an_import_refers_to_must_be_here(store: TestStore) {
    let here = House::on(TestStore::sqlite().await, OWN);
    let reseller = here.tenant("Reseller", "msp").await;
    let parent = Some(reseller.id.to_string());
    let new = NewTenant { name: "Child".to_owned(), parent, ..NewTenant::default() };
    let child = here.control.create_tenant(&here.owner, new).await.unwrap();
    let there = House::on(store, OTHER);
    let (of_child, of_reseller) =
        (here.export(&TenantRef::Id(child.id)).await, here.export(&TenantRef::Id(reseller.id)).await);
    let early = there.import(of_child.clone(), &here.identity).await.unwrap_err();
    assert!(matches!(&early, ControlError::Conflict(what) if what.contains("reseller")), "{early}");
    there.import(of_reseller, &here.identity).await.unwrap();
    there.import(of_child, &here.identity).await.unwrap();
}
