//! Real processes, killed with `kill -9` under load; then the books are compared: what the upstream saw, what the till
//! says, what the database holds.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::store::set_up_and_migrated;
use crate::support::redis::RedisServer;
use crate::support::{
    Customer, PrivatePostgres, Relay, StubUpstream, TestGateway, load_while, pass, psql, until,
};

const KILLS: u64 = 10;
const LIMIT: u64 = 6_000;
const CONNECTIONS: usize = 8;

/// What clients were told, over all lives of the gateway.
#[derive(Default)]
struct Told {
    passed: AtomicU64,
    denied: AtomicU64,
}

#[test]
fn killed_ten_times_under_load_the_books_balance_and_the_limit_is_exact() {
    let upstream = StubUpstream::start();
    let mut gateway = TestGateway::start(&upstream);
    let customer = gateway.customer_with_limit("Acme", LIMIT);
    let told = Told::default();
    for life in 1..=KILLS {
        let enough = told.passed.load(Ordering::Relaxed) + LIMIT / (KILLS + 2);
        under_load(gateway.proxy(), &customer, &told, || {
            until("requests to pass", || (told.passed.load(Ordering::Relaxed) >= enough).then_some(()));
            gateway.kill9();
        });
        gateway.restart();
        let books = gateway.json(&["reconcile"]);
        assert_eq!(books["difference"], 0, "life {life}: {books}");
    }
    under_load(gateway.proxy(), &customer, &told, || {
        until("the limit", || (told.denied.load(Ordering::Relaxed) > 0).then_some(()));
    });

    assert_eq!(used(&gateway, &customer), LIMIT, "the till");
    let books = gateway.json(&["reconcile"]);
    assert_eq!((&books["difference"], &books["till_units"]), (&0.into(), &LIMIT.into()), "{books}");
    assert!(gateway.terminate().success());
    gateway.restart();
    let (units, requests) = recorded(&gateway, &customer);
    assert_eq!((units, requests), (LIMIT, LIMIT), "the database");
    let bill = gateway.json(&["invoice", "show", &customer.slug]);
    let lines = bill["lines"].as_array().expect("lines");
    let calls = lines.iter().find(|line| line["item"]["resource_type"] == "api_calls").expect("api_calls");
    assert_eq!(calls["item"]["used"], LIMIT, "the invoice: {bill}");
    let (seen, passed) = (upstream.count() as u64, told.passed.load(Ordering::Relaxed));
    println!(
        "{KILLS} kills: till and database {LIMIT}, the upstream saw {seen}, clients were answered {passed}"
    );
    // A kill between the mark that a request leaves and the system call by which it leaves counts one too many: a few
    // instructions on each worker. Never one too few.
    assert!(seen <= LIMIT && LIMIT - seen <= KILLS, "the upstream saw {seen} of {LIMIT}");
    assert!(passed <= seen, "clients were answered {passed} times, the upstream saw {seen}");
}

#[test]
fn the_usage_log_is_complete_after_a_kill_and_a_restart() {
    let upstream = StubUpstream::start();
    let mut gateway = TestGateway::start(&upstream);
    let customer = gateway.customer_with_limit("Acme", 1_000);
    let mut client = gateway.client();
    for _ in 0..100 {
        assert_eq!(client.get("/", &customer.key).status, 200);
    }
    gateway.kill9();
    gateway.restart();
    until("the rows", || (recorded(&gateway, &customer) == (100, 100)).then_some(()));
    assert_eq!(used(&gateway, &customer), 100);
}

/// Keeps requests coming while `meanwhile` runs, which may end the gateway under them.
fn under_load(proxy: SocketAddr, customer: &Customer, told: &Told, meanwhile: impl FnOnce()) {
    let request = customer.request();
    let count = |status| match status {
        200 => drop(told.passed.fetch_add(1, Ordering::Relaxed)),
        429 => drop(told.denied.fetch_add(1, Ordering::Relaxed)),
        _ => {}
    };
    load_while(&[proxy], CONNECTIONS, &request, count, meanwhile);
}

fn used(gateway: &TestGateway, customer: &Customer) -> u64 {
    let usage = gateway.json(&["usage", &customer.slug]);
    let quotas = usage["quotas"].as_array().expect("quotas");
    let calls = quotas.iter().find(|quota| quota["resource_type"] == "api_calls").expect("api_calls");
    calls["used"].as_u64().expect("a number")
}

/// Units and requests in the usage log.
fn recorded(gateway: &TestGateway, customer: &Customer) -> (u64, u64) {
    let rows = gateway.usage_rows(customer);
    let sum = |field: &str| rows.iter().map(|row| row[field].as_u64().expect("a number")).sum();
    (sum("usage_amount"), sum("requests"))
}

#[test]
fn reconcile_without_a_gateway_says_that_it_needs_one() {
    let upstream = StubUpstream::start();
    let mut gateway = TestGateway::start(&upstream);
    assert!(gateway.terminate().success());
    let run = gateway.tollgate(&["reconcile"]);
    assert_eq!(run.status.code(), Some(1));
    assert!(run.stderr.contains("running gateway"), "{}", run.stderr);
}

/// A gateway, its authority and its database, all of which may die.
struct Storm {
    gateway: TestGateway,
    redis: RedisServer,
    postgres: PrivatePostgres,
    /// Leads to the gateway, wherever it listens.
    door: Relay,
    chance: Chance,
    kills: [u64; 3],
}

/// Numbers that a seed decides.
struct Chance(u64);

/// `TOLLGATE_STORM_SECONDS=300` is the storm that a release has to weather.
const STORM_SECONDS: u64 = 20;

/// Never reached: whatever dies, nobody is denied, so that what was used is compared and not what was left.
const UNREACHED: u64 = 1_000_000_000;

#[test]
fn whatever_of_gateway_redis_and_postgres_is_killed_in_whatever_order_the_books_agree() {
    let seconds = number("TOLLGATE_STORM_SECONDS").unwrap_or(STORM_SECONDS);
    let seed = number("TOLLGATE_STORM_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("TOLLGATE_STORM_SEED={seed} TOLLGATE_STORM_SECONDS={seconds}");
    let upstream = StubUpstream::start();
    let (mut storm, store) = Storm::gather(&upstream, Chance(seed));
    let customer = storm.gateway.customer_with_limit("Acme", UNREACHED);
    let door = SocketAddr::from(([127, 0, 0, 1], storm.door.port()));
    let (told, end) = (Told::default(), Instant::now() + Duration::from_secs(seconds));
    under_load(door, &customer, &told, || {
        while Instant::now() < end {
            storm.strike(&told);
        }
    });
    println!("{}", storm.check_books(&store, &upstream, &told));
}

// === impl Storm ===

impl Storm {
    fn gather(upstream: &StubUpstream, chance: Chance) -> (Storm, String) {
        let (postgres, store) = set_up_and_migrated();
        let redis = RedisServer::start();
        let configuration = format!(
            "[authority]\nurl = \"redis://127.0.0.1:{}\"\ntimeout = \"1s\"\n\
             [identity.api_key]\npepper = \"{}\"\n[journal]\nflush = \"20ms\"\n\
             [[upstream]]\nname = \"stub\"\nurls = [\"{}\"]\n\
             [[route]]\nname = \"all\"\npath = \"/\"\nupstream = \"stub\"\ncharge = {{ api_calls = 1 }}\n",
            redis.port(),
            "07".repeat(32),
            upstream.url()
        );
        let gateway = TestGateway::start_in(&store, &configuration);
        let door = Relay::to(gateway.proxy().port());
        (Storm { gateway, redis, postgres, door, chance, kills: [0; 3] }, store)
    }

    /// Kills some of the three one after the other, waits, and starts them again; then waits until requests pass.
    fn strike(&mut self, told: &Told) {
        let mut order = [0, 1, 2];
        self.chance.shuffle(&mut order);
        let victims = 1 + self.chance.below(3);
        for &victim in &order[..victims] {
            pass(Duration::from_millis(self.chance.below(200) as u64));
            self.kills[victim] += 1;
            match victim {
                0 => self.gateway.kill9(),
                1 => self.redis.kill(),
                _ => self.postgres.kill(),
            }
        }
        pass(Duration::from_millis(self.chance.below(200) as u64));
        let struck = &order[..victims];
        if struck.contains(&1) {
            self.redis.restart();
        }
        if struck.contains(&2) {
            self.postgres.restart();
        }
        // Last, for it does not start without its database.
        if struck.contains(&0) {
            self.gateway.restart();
            self.door.lead_to(self.gateway.proxy().port());
        }
        let before = told.passed.load(Ordering::Relaxed);
        until("requests to pass", || (told.passed.load(Ordering::Relaxed) > before + 50).then_some(()));
    }

    /// Answers what to tell of it.
    fn check_books(mut self, store: &str, upstream: &StubUpstream, told: &Told) -> String {
        let books = self.gateway.json(&["reconcile"]);
        assert_eq!((&books["difference"], &books["in_flight_units"]), (&0.into(), &0.into()), "{books}");
        let till = books["till_units"].as_u64().expect("a number");
        assert!(self.gateway.terminate().success());
        let ask = |sql: &str| psql(store, &format!("SET ROLE tollgate_platform; {sql}"));
        let sums = [
            "SELECT SUM(units) FROM account_units",
            "SELECT SUM(usage_amount) FROM tenant_usage_logs",
            "SELECT SUM(requests) FROM tenant_usage_logs",
            "SELECT SUM(records) FROM usage_batches",
            "SELECT SUM(units) FROM usage_rollups WHERE period = 'day'",
        ];
        for sum in sums {
            assert_eq!(ask(sum), till.to_string(), "{sum}");
        }
        let overlapping = "SELECT COUNT(*) FROM usage_batches AS a JOIN usage_batches AS b
            ON (a.journal, a.shard, a.sequence) = (b.journal, b.shard, b.sequence)
            AND a.from_offset < b.from_offset AND a.to_offset > b.from_offset";
        assert_eq!(ask(overlapping), "0", "no record is in two batches");
        let (seen, passed) = (upstream.count() as u64, told.passed.load(Ordering::Relaxed));
        let [gateway, redis, postgres] = self.kills;
        // As above: a kill may count a request that was just about to leave, on each worker.
        assert!(passed <= seen && seen <= till && till - seen <= 2 * gateway, "{passed} {seen} {till}");
        format!(
            "{gateway} kills of the gateway, {redis} of Redis, {postgres} of Postgres: clients were answered {passed}, \
             the upstream saw {seen}, the till and the database have {till}, in {} batches",
            ask("SELECT COUNT(*) FROM usage_batches")
        )
    }
}

// === impl Chance ===

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % bound
    }

    fn shuffle(&mut self, order: &mut [usize]) {
        for last in (1..order.len()).rev() {
            order.swap(last, self.below(last + 1));
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is no number")))
}
