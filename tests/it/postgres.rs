//! The store as the authority: its home for the conformance suite, and what only it can go through.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tollgate::authority::Postgres;
use tollgate::store::{GrantSettings, Store, StoreUrl};
use tollgate::till::protocol::{Answer, Authority, Life, News};
use uuid::Uuid;

use crate::authority::{Holder, Home, LEARN_FOR, Rig, account_that_began, account_to_come};
use crate::support::{PrivatePostgres, Relay, psql, shared_postgres, shared_url, try_psql, until};

/// A database of one test, on the server that all share.
pub(crate) struct StoreHome {
    database: String,
}

/// A server that can be lost.
struct OwnHome {
    url: String,
}

/// Who serves.
const LOGIN: &str = "tollgate_test";

/// Long: a busy machine must not make a test fail.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A server that was just promoted may take long over its first commits, and must not have learned before it is asked.
const LEARN_LONG: Duration = Duration::from_secs(8);

// === homes ===

impl Home for StoreHome {
    type Authority = Postgres;

    fn open() -> Self {
        let database = format!("tollgate_{}", Uuid::now_v7().simple());
        psql(&shared_postgres(), &format!("CREATE DATABASE {database} TEMPLATE {}", template()));
        StoreHome { database }
    }

    async fn connect(&self) -> Postgres {
        connect(&shared_url(LOGIN, &self.database), LEARN_FOR).await
    }

    fn listen(postgres: &Postgres) -> UnboundedReceiver<News> {
        listen(postgres)
    }

    fn forget(&self) {
        psql(&self.superusers_url(), "TRUNCATE grant_life, grant_accounts CASCADE");
    }
}

impl StoreHome {
    fn superusers_url(&self) -> String {
        shared_url("postgres", &self.database)
    }
}

impl Drop for StoreHome {
    fn drop(&mut self) {
        psql(&shared_postgres(), &format!("DROP DATABASE {} WITH (FORCE)", self.database));
    }
}

impl Home for OwnHome {
    type Authority = Postgres;

    fn open() -> Self {
        unreachable!("made from a server")
    }

    async fn connect(&self) -> Postgres {
        connect(&self.url, LEARN_LONG).await
    }

    fn listen(postgres: &Postgres) -> UnboundedReceiver<News> {
        listen(postgres)
    }

    fn forget(&self) {
        unreachable!("the server itself is lost")
    }
}

/// A database that was migrated once: copies are quicker. It goes away with the server.
fn template() -> &'static str {
    static TEMPLATE: OnceLock<String> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let database = format!("tollgate_{}", Uuid::now_v7().simple());
        make_login(&shared_postgres());
        psql(&shared_postgres(), &format!("CREATE DATABASE {database}"));
        migrate(&shared_url("postgres", &database), &shared_url(LOGIN, &database));
        database
    })
}

/// Other tests may make it at the same time.
fn make_login(server: &str) {
    psql(
        server,
        &format!(
            "DO $$ BEGIN CREATE ROLE {LOGIN} LOGIN NOINHERIT;
             EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
        ),
    );
}

fn migrate(owner: &str, serving: &str) {
    Runtime::new().expect("a runtime").block_on(async {
        let store = Store::open(&url(owner)).await.expect("a server");
        store.migrate_for(&url(serving)).await.expect("a schema");
        store.close().await;
    });
}

fn url(text: &str) -> StoreUrl {
    text.parse().expect("a URL")
}

async fn connect(text: &str, learn_for: Duration) -> Postgres {
    let store = Store::open(&url(text)).await.expect("a server");
    let settings = GrantSettings { timeout: TIMEOUT, learn_for, ..GrantSettings::default() };
    Postgres::new(store.grants(settings).expect("a store on Postgres"))
}

/// Returns once what is called out can be heard.
fn listen(postgres: &Postgres) -> UnboundedReceiver<News> {
    let (sender, mut receiver) = unbounded_channel();
    let mut hearing = postgres.listen();
    tokio::spawn(async move { while sender.send(hearing.next().await).is_ok() {} });
    until("a connection that listens", || receiver.try_recv().ok().filter(|news| *news == News::Gap));
    receiver
}

// === what only Postgres goes through ===

#[test]
fn connections_that_are_ended_in_the_middle_of_grants_cost_no_unit_and_add_none() {
    const LIMIT: u64 = 4_000;
    let rig = Rig::<StoreHome>::open();
    let account = account_to_come();
    rig.end_learning(&account);
    let is_over = AtomicBool::new(false);
    let (spent, lost) = std::thread::scope(|scope| {
        scope.spawn(|| {
            let terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE datname = current_database() AND application_name = 'tollgate grants'";
            while !is_over.load(Ordering::Relaxed) {
                psql(&rig.home.superusers_url(), terminate);
            }
        });
        let work: Vec<_> = (0..8)
            .map(|at| {
                let (authority, holder) = (rig.authority.clone(), Holder::of(account, LIMIT));
                rig.runtime.spawn(async move { spend_to_the_end(&authority, holder, 3 + at).await })
            })
            .collect();
        let done = work.into_iter().map(|task| rig.runtime.block_on(task).expect("no panic"));
        let sums = done.fold((0, 0), |(spent, lost), one| (spent + one.0, lost + one.1));
        is_over.store(true, Ordering::Relaxed);
        sums
    });
    println!("{lost} answers were lost");
    assert_eq!(spent, LIMIT);
    assert!(lost > 0, "nothing was put to the test");
}

/// Spends what it is granted until nothing is left; answers how much that was, and how many answers were lost.
async fn spend_to_the_end(authority: &Postgres, mut holder: Holder, more: u64) -> (u64, usize) {
    let mut lost = 0;
    loop {
        match &authority.renew(&[holder.ask(more)]).await[0] {
            Answer::Renewed(renewed) => {
                holder.claim.granted = holder.claim.granted.max(renewed.granted);
                holder.spend_all();
                if renewed.is_nothing_left() {
                    return (holder.claim.spent, lost);
                }
            }
            Answer::Lost(_) => {
                lost += 1;
                tokio::task::yield_now().await;
            }
            Answer::Unseeded(_) => panic!("an account of the future needs no seed"),
        }
    }
}

#[test]
fn a_promoted_standby_that_missed_grants_learns_them_before_it_grants() {
    let primary = PrivatePostgres::start();
    let superuser = primary.url("postgres", "postgres");
    make_login(&superuser);
    migrate(&superuser, &primary.url(LOGIN, "postgres"));
    let relay = Relay::to(primary.port());
    let url = format!("postgres://{LOGIN}@127.0.0.1:{}/postgres", relay.port());
    let rig = Rig::of(OwnHome { url });
    let account = account_to_come();
    rig.end_learning(&account);
    let (mut holder, mut dry) = (Holder::of(account, 10), Holder::of(account, 10));
    rig.fill(&mut holder, 4);
    let standby = primary.start_standby();
    let before = rig.lives().expect("an authority that answers")[0];
    standby.stop_following();
    rig.fill(&mut holder, 10);

    standby.promote();
    drop(primary);
    relay.lead_to(standby.port());
    let now = until("the standby", || rig.lives().ok());
    assert!(now.iter().all(|life| *life != before), "{now:?} after {before:?}");
    let answer = rig.renew(&mut dry, 10);
    assert!(answer.learning && answer.granted == 0, "{answer:?}");
    rig.renew(&mut holder, 0);
    rig.end_learning(&account);
    let answer = rig.renew(&mut dry, 10);
    assert_eq!((answer.granted, answer.remaining.get(), answer.idle_elsewhere.get()), (0, 0, 10));
}

/// The life after something was done to the database.
#[track_caller]
fn life_after(rig: &Rig<StoreHome>, what: &str) -> Life {
    psql(&rig.home.superusers_url(), what);
    rig.lives().expect("an authority that answers")[0]
}

#[test]
fn grants_that_were_set_back_begin_a_new_life() {
    let rig = Rig::<StoreHome>::open();
    let account = account_that_began();
    let mut holder = Holder::of(account, 10);
    rig.seed(&holder, &[]);
    rig.fill(&mut holder, 1);
    let first = rig.lives().expect("an authority that answers")[0];
    assert_eq!(life_after(&rig, "VACUUM FULL grant_life"), first, "nothing was lost");
    // As a dump brings it back: the same row, written by somebody else.
    let restored = life_after(
        &rig,
        "CREATE TEMPORARY TABLE dump AS TABLE grant_life; DELETE FROM grant_life;
         INSERT INTO grant_life TABLE dump",
    );
    assert_ne!(restored, first);
    let elsewhere = life_after(&rig, "UPDATE grant_life SET timeline = '00000000'");
    assert_ne!(elsewhere, restored);
    let emptied = life_after(&rig, "TRUNCATE grant_life");
    assert_ne!(emptied, elsewhere);
}

#[test]
fn a_server_that_has_written_less_than_was_seen_begins_a_new_life() {
    let rig = Rig::<StoreHome>::open();
    let life = rig.lives().expect("an authority that answers")[0];
    let ask = |seen_life: u64, seen_wal: &str| {
        let ask = format!(
            "SET ROLE tollgate_ingest; SELECT in_life FROM tollgate_lives(100000, {seen_life}, {seen_wal})"
        );
        psql(&rig.home.superusers_url(), &ask).parse().map(Life).expect("a life")
    };
    let written = "(pg_current_wal_insert_lsn() - '0/0')::bigint";
    assert_eq!(ask(life.0, written), life);
    let ahead = format!("{written} + 1000000000");
    assert_eq!(ask(life.0 - 1, &ahead), life, "what was seen in another life says nothing about this one");
    let next = ask(life.0, &ahead);
    assert_ne!(next, life);
    assert_eq!(ask(life.0, &ahead), next, "once");
}

#[test]
fn only_who_brings_usage_may_ask_for_grants_and_nobody_may_touch_them() {
    let home = StoreHome::open();
    let as_role =
        |role: &str, sql: &str| try_psql(&home.superusers_url(), &format!("SET ROLE {role}; {sql}"));
    assert!(as_role("tollgate_ingest", "SELECT FROM tollgate_lives(1, 0, 0)").is_ok());
    for role in ["tollgate_app", "tollgate_platform", LOGIN] {
        let refused = as_role(role, "SELECT FROM tollgate_lives(1, 0, 0)").unwrap_err();
        assert!(refused.contains("permission denied"), "{role}: {refused}");
    }
    for role in ["tollgate_app", "tollgate_platform", "tollgate_ingest", LOGIN] {
        for sql in [
            "SELECT FROM grant_life",
            "UPDATE grant_accounts SET committed = 0",
            "DELETE FROM grant_claims",
            "SELECT FROM tollgate_life('1 s', 0, 0, false)",
        ] {
            let refused = as_role(role, sql).unwrap_err();
            assert!(refused.contains("permission denied"), "{role}, {sql}: {refused}");
        }
    }
}

#[test]
fn grants_of_ended_windows_are_forgotten_and_others_are_kept() {
    let rig = Rig::<StoreHome>::open();
    let (ended, running) = (account_to_come(), account_to_come());
    for account in [ended, running] {
        rig.renew(&mut Holder::of(account, 10), 1);
    }
    let url = rig.home.superusers_url();
    let late = format!(
        "UPDATE grant_accounts SET expires_at = now() - interval '1 second' WHERE account = '{ended}';
         SET ROLE tollgate_ingest; SELECT tollgate_forget_grants(now())"
    );
    assert_eq!(psql(&url, &late), "1");
    assert_eq!(psql(&url, "SELECT account FROM grant_claims"), running.to_string());
}
