//! Losing the database, and restoring it by the very commands of `deploy/README.md`: what is lost then is what that page
//! says, and how long it took is printed.
//!
//! `tests/run -- cargo test --test it slow::restore -- --nocapture`

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;
use tempfile::TempDir;

use crate::store::set_up_and_migrated;
use crate::support::{Customer, PrivatePostgres, StubUpstream, TestGateway, psql, until};

const LIMIT: usize = 100;
/// Requests before the backup, and between it and the loss.
const BEFORE: usize = 30;
const AFTER: usize = 20;

/// A gateway on a database that is about to be lost.
struct Drill {
    postgres: PrivatePostgres,
    gateway: TestGateway,
    backup: TempDir,
    customer: Customer,
    /// Made after the backup.
    late: Customer,
    _upstream: StubUpstream,
}

#[test]
fn when_everything_is_lost_what_came_after_the_backup_is_and_nothing_else() {
    let mut drill = Drill::begin();
    drill.gateway.kill9();
    fs::remove_dir_all(drill.gateway.path("data")).expect("the gateway's directory");
    drill.lose_and_restore();

    assert_eq!(drill.pass(), LIMIT - BEFORE, "nobody knows of what was used after the backup");
    drill.is_recorded(LIMIT);
    assert_eq!(drill.difference(), 0);
}

#[test]
fn when_the_database_is_lost_limits_go_on_counting_what_it_lacks() {
    let mut drill = Drill::begin();
    assert!(drill.gateway.terminate().success());
    drill.lose_and_restore();

    assert_eq!(drill.pass(), LIMIT - BEFORE - AFTER, "nobody gets a unit twice");
    drill.is_recorded(LIMIT - AFTER);
    assert_eq!(drill.difference(), AFTER, "what the database lacks");
}

// === impl Drill ===

impl Drill {
    /// Load, a backup, and more load, all of it in the database.
    fn begin() -> Drill {
        let (postgres, store) = set_up_and_migrated();
        let upstream = StubUpstream::start();
        let gateway = TestGateway::start_on(&store, &upstream);
        let customer = gateway.customer_with_limit("Acme", LIMIT as u64);
        let backup = tempfile::tempdir().expect("a temporary folder");
        let late = customer.clone();
        let mut drill = Drill { postgres, gateway, backup, customer, late, _upstream: upstream };
        drill.spend(BEFORE);
        drill.is_recorded(BEFORE);
        drill.run("To back it up:");
        drill.late = drill.gateway.customer_with_limit("Late", LIMIT as u64);
        drill.spend(AFTER);
        drill.is_recorded(BEFORE + AFTER);
        drill
    }

    /// A new server in the place of the one that is lost, what the backup has, and the gateway on it.
    #[expect(clippy::print_stdout, reason = "figures for whoever runs it with --nocapture")]
    fn lose_and_restore(&mut self) {
        self.postgres.lose_everything();
        let began = Instant::now();
        self.run("To restore it on a new server:");
        self.gateway.restart();
        assert_eq!(self.gateway.client().get("/", &self.late.key).status, 401, "made after the backup");
        println!("from an empty server to the first answer: {:?}", began.elapsed());
    }

    /// Runs the commands that the page gives below that line.
    #[expect(clippy::print_stdout, reason = "figures for whoever runs it with --nocapture")]
    fn run(&self, line: &str) {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/README.md");
        let page = fs::read_to_string(page).expect("a page");
        let (_, below) = page.split_once(line).unwrap_or_else(|| panic!("{line:?} is not on the page"));
        let commands = below.split("```").nth(1).expect("commands");
        let began = Instant::now();
        let mut bash = Command::new("bash");
        bash.current_dir(self.backup.path()).args(["-euo", "pipefail", "-c", commands]).stdin(Stdio::null());
        let output = bash.env("DATABASE_SERVER", self.server()).output().expect("bash");
        assert!(output.status.success(), "{commands}{}", String::from_utf8_lossy(&output.stderr));
        println!("{line} {:?}", began.elapsed());
    }

    /// Where its superuser finds the server, without a database.
    fn server(&self) -> String {
        self.postgres.url("postgres", "").trim_end_matches('/').to_owned()
    }

    fn spend(&self, requests: usize) {
        let mut client = self.gateway.client();
        for _ in 0..requests {
            assert_eq!(client.get("/", &self.customer.key).status, 200);
        }
    }

    /// How many requests pass until one is refused.
    fn pass(&self) -> usize {
        let mut client = self.gateway.client();
        (0..=LIMIT).take_while(|_| client.get("/", &self.customer.key).status == 200).count()
    }

    /// Waits until the usage log has so much of the customer's.
    fn is_recorded(&self, units: usize) {
        let superuser = self.postgres.url("postgres", "tollgate");
        let sum = "SELECT SUM(usage_amount) FROM tenant_usage_logs";
        until("the usage", || (psql(&superuser, sum) == units.to_string()).then_some(()));
    }

    /// How many units the till knows of and the database does not.
    fn difference(&self) -> Value {
        let run = self.gateway.tollgate(&["reconcile", "--json"]);
        let mut books: Value = serde_json::from_str(&run.stdout).expect("books");
        books["difference"].take()
    }
}
