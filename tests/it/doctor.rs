//! `tollgate doctor`, through the binary: each class of finding.

use serde_json::Value;
use tempfile::TempDir;

use crate::store::{set_up, set_up_and_migrated};
use crate::support::redis::RedisServer;
use crate::support::{StubUpstream, TestGateway, psql, tollgate};

/// What is found about a configuration, in a directory of its own.
struct Examined {
    directory: TempDir,
    json: Value,
    status: Option<i32>,
}

const PEPPER: &str =
    "identity.api_key.pepper = \"5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a\"\n";

/// With these lines of configuration.
fn examine(configuration: &str) -> Examined {
    let directory = tempfile::tempdir().expect("a directory");
    let configuration = format!("data.directory = \"data\"\n{configuration}");
    std::fs::write(directory.path().join("tollgate.toml"), configuration).expect("a file of ours");
    let run = tollgate(directory.path(), ["doctor", "--json"]);
    let json = serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {}", run.stderr));
    Examined { directory, json, status: run.status.code() }
}

impl Examined {
    #[track_caller]
    fn check(&self, about: &str, severity: &str, said: &str) {
        let findings = self.json["findings"].as_array().expect("findings");
        let is_meant = |finding: &&Value| {
            finding["about"] == about
                && finding["severity"] == severity
                && finding["what"].as_str().is_some_and(|what| what.contains(said))
        };
        assert!(
            findings.iter().any(|finding| is_meant(&finding)),
            "{severity} {about}: {said}: {findings:#?}"
        );
    }

    #[track_caller]
    fn check_status(&self, status: i32) {
        assert_eq!(self.status, Some(status), "{:#}", self.json);
        assert_eq!(self.json["ok"], status == 0);
    }
}

#[test]
fn a_fresh_directory_is_fit_to_serve_and_stays_as_it_was() {
    let examined = examine("");
    examined.check_status(0);
    examined.check("data", "ok", "is not there yet");
    examined.check("store", "ok", "is not there yet");
    examined.check("authority", "ok", "this gateway alone");
    let left: Vec<_> = std::fs::read_dir(examined.directory.path()).expect("a directory").collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn a_running_gateway_is_told_and_not_disturbed() {
    let upstream = StubUpstream::start();
    let gateway = TestGateway::start(&upstream);
    let run = gateway.tollgate(&["doctor"]);
    assert!(run.status.success(), "{}{}", run.stdout, run.stderr);
    for line in ["ok       data: a gateway runs on data\n", "ok       upstream: `stub` answers at "] {
        assert!(run.stdout.contains(line), "{line:?} is not in: {}", run.stdout);
    }
    let customer = gateway.customer("Acme", "free");
    assert_eq!(gateway.client().get("/", &customer.key).status, 200);
}

#[test]
fn an_upstream_that_is_not_there_is_a_fault() {
    let examined = examine("[[upstream]]\nname = \"gone\"\nurls = [\"http://127.0.0.1:1\"]\n");
    examined.check_status(1);
    examined.check("upstream", "fault", "`gone` can't be reached at 127.0.0.1:1");
}

#[test]
fn a_redis_that_may_drop_counters_and_one_that_is_gone_are_faults() {
    let redis = RedisServer::start();
    let configuration = |port: u16| {
        format!("{PEPPER}authority = {{ url = \"redis://127.0.0.1:{port}\", timeout = \"1s\" }}\n")
    };
    examine(&configuration(redis.port())).check("authority", "ok", "is Redis");
    redis.cli(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    let examined = examine(&configuration(redis.port()));
    examined.check_status(1);
    examined.check("authority", "fault", "set it to noeviction");
    let gone = examine(&configuration(1));
    gone.check_status(1);
    gone.check("authority", "fault", "127.0.0.1:1");
}

#[test]
fn a_database_that_was_not_migrated_or_does_not_keep_tenants_apart_is_a_fault() {
    let postgres = set_up();
    let configuration = |role| format!("store.url = \"{}\"\n", postgres.url(role, "tollgate"));
    let examined = examine(&configuration("tollgate"));
    examined.check_status(1);
    examined.check("store", "fault", "run `tollgate migrate`");
    drop(postgres);
    let gone = examine("store.url = \"postgres://tollgate@127.0.0.1:1/tollgate\"\n");
    gone.check_status(1);
    gone.check("store", "fault", "see to it that store.url is right");
}

#[test]
fn a_store_that_grants_is_good_and_one_that_does_not_sync_is_warned_of() {
    let (postgres, store) = set_up_and_migrated();
    let configuration = format!("{PEPPER}authority.url = \"store\"\nstore.url = \"{store}\"\n");
    let examined = examine(&configuration);
    examined.check_status(0);
    examined.check("authority", "ok", "the store grants units");
    let superuser = postgres.url("postgres", "postgres");
    psql(&superuser, "ALTER SYSTEM SET fsync = off");
    psql(&superuser, "SELECT pg_reload_conf()");
    let examined = examine(&configuration);
    examined.check_status(0);
    examined.check("store", "warning", "fsync = off");
}
