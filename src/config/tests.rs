use std::path::Path;
use std::time::Duration;

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::outside::Outside;
use super::*;
use crate::domain::{LossPolicy, Units};

const MINIMAL: &str = r#"
[[upstream]]
name = "orders"
urls = ["http://127.0.0.1:3000"]
[[route]]
name = "orders"
path = "/"
upstream = "orders"
"#;

fn variable(name: &str) -> Option<String> {
    let text = match name {
        "WORKERS" => "3",
        "PROXY" => "127.0.0.1:8081",
        "WORD" => "hunter2",
        "PEPPER" | "TOLLGATE_PEPPER" | "TOLLGATE_PLATFORM_TOKEN" | "TOLLGATE_SECRET_KEY" => {
            "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
        }
        "TOLLGATE_SIGNING_KEY" => "c2lnbmluZyBrZXk=",
        "TOLLGATE_STORE_URL" => "postgres://tollgate:hunter2@db.internal/tollgate",
        "TOLLGATE_AUTHORITY_URL" => "rediss-cluster://tollgate:hunter2@redis-1.internal:6379",
        "EMPTY" => "",
        _ => return None,
    };
    Some(text.to_owned())
}

fn parse(text: &str) -> Result<Config, Faults> {
    Config::parse_with(text, Path::new("x.toml"), &Outside::new(&variable))
}

#[track_caller]
fn read(text: &str) -> Config {
    parse(text).unwrap_or_else(|faults| panic!("{faults}"))
}

/// The report of `text`, of which the first line is line 1.
fn check(text: &str, report: &Expect) {
    let faults = parse(text.trim_start_matches('\n')).expect_err("a fault");
    report.assert_eq(&format!("{faults}\n"));
}

/// The report of a configuration that is sound but for `text`.
fn check_route(text: &str, report: &Expect) {
    check(
        &format!("[[upstream]]\nname = \"orders\"\nurls = [\"http://a\"]\n[[route]]\n{}", text.trim_start()),
        report,
    );
}

// === what is read ===

#[test]
fn each_shipped_file_is_sound() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    for name in ["tollgate.toml", "production.toml"] {
        let text = std::fs::read_to_string(directory.join(name)).unwrap();
        Config::parse_with(&text, Path::new(name), &Outside::new(&variable))
            .unwrap_or_else(|faults| panic!("{faults}"));
    }
}

#[test]
fn the_shipped_file_says_what_the_defaults_are() {
    let mut shipped = read(include_str!("../../config/tollgate.toml"));
    assert_eq!(
        shipped.routes.remove(0).charge[&"api_calls".parse().unwrap()],
        ChargeUnits::Fixed(Units::ONE)
    );
    assert_eq!(shipped.upstreams.remove(0).urls[0].url.to_string(), "http://127.0.0.1:3000");
    assert_eq!(shipped, Config::default());
}

#[test]
fn an_empty_file_is_all_defaults() {
    assert_eq!(read(""), Config::default());
}

#[test]
fn without_a_file_the_built_in_one_is_taken_and_named() {
    // Tests run in the package's root, where there is no `tollgate.toml`.
    let loaded = Config::load(None).unwrap();
    assert_eq!(loaded.source, Source::Defaults);
    assert_eq!(loaded.config.routes[0].path.as_deref(), Some("/"));
}

#[test]
fn a_named_file_is_read_and_one_that_is_missing_is_a_fault() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("own.toml");
    let missing = Config::load(Some(&path)).expect_err("no such file").to_string();
    assert!(missing.contains("own.toml: can't be read: "), "{missing}");
    std::fs::write(&path, "listen.workers = 2").unwrap();
    let loaded = Config::load(Some(&path)).unwrap();
    assert_eq!((loaded.config.listen.workers, loaded.source), (2, Source::File(path)));
}

#[test]
fn a_file_that_is_no_text_is_a_fault_and_no_panic() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("own.toml");
    std::fs::write(&path, [0xff, 0xfe, 0x00]).unwrap();
    let fault = Config::load(Some(&path)).expect_err("no text").to_string();
    assert!(fault.ends_with("can't be read: stream did not contain valid UTF-8"), "{fault}");
}

#[test]
fn the_contract_is_read_to_the_last_key() {
    let config = read(
        r#"
        [listen]
        proxy = ["0.0.0.0:8080", "[::]:8080"]
        limits = { header_bytes = "16KiB", headers = 50, target_bytes = 4096, body_bytes = "1GB", header_timeout = "5s", body_idle_timeout = "1m", body_min_rate = 100, write_timeout = "1500ms", idle_timeout = "1h", connections = 9, connections_per_ip = 3, memory_bytes = "2GiB" }
        trust = { proxies = ["10.0.0.0/8", "192.168.1.1", "fd00::/8"], proxy_protocol = "optional" }
        [listen.tls]
        address = "0.0.0.0:8443"
        certificates = [{ cert = "a.crt", key = "a.key", names = ["API.example.com"] }]
        client_ca = "ca.crt"
        [store]
        url = "postgres://u@h/db"
        [authority]
        url = "rediss-cluster://user:word@a:6379,b:6380"
        on_loss = "share"
        [journal]
        sync = "always"
        on_full = "count_only"
        [identity]
        order = ["jwt", "api_key"]
        api_key = { headers = ["X-Api-Key"], pepper = "env:PEPPER" }
        [[identity.jwt]]
        issuer = "https://login.example.com/"
        audiences = ["orders"]
        jwks = "file:keys.json"
        algorithms = ["RS256", "ES256", "EdDSA"]
        tenant_claim = "/app/tenant~1id"
        [[upstream]]
        name = "orders"
        urls = ["http://127.0.0.1:3000", { url = "h2c://[::1]", weight = 2 }, "https://orders.internal/"]
        balance = "hash(tenant)"
        health = { path = "/up", host = "up.test:81", statuses = [200, 401] }
        timeouts = { total = "5m" }
        retry = { attempts = 2, statuses = [503], try_timeout = "1s" }
        dns = { interval = "1m" }
        breaker = { failures_percent = 0 }
        pool = { idle_max = 8 }
        tls = { server_name = "orders" }
        [[route]]
        name = "orders"
        hosts = ["api.example.com", "*.example.org"]
        path = "/v1/"
        methods = ["GET", "PURGE"]
        upstream = "orders"
        charge = { api_calls = 1, up = "request_bytes", down = "response_bytes", tokens = { header = "X-Usage-Units", max = 4000 } }
        on = "success"
        scopes = ["orders:read"]
        rate = { per = "tenant", requests = 50, window = "1s", burst = 100 }
        strip_prefix = "/v1"
        timeout = "10s"
        identity = ["api_key"]
        [headers]
        dialects = ["legacy"]
        sign = { key = "env:WORD" }
        "#,
    );
    assert_eq!(config.listen.proxy.len(), 2);
    assert_eq!(config.listen.limits.body_bytes, 1_000_000_000);
    assert_eq!(config.listen.limits.write_timeout, Duration::from_millis(1_500));
    assert_eq!(config.listen.trust.proxies[1].to_string(), "192.168.1.1/32");
    assert_eq!(config.authority.on_loss, LossPolicy::Share);
    assert_eq!(config.journal.sync, JournalSync::Always);
    assert_eq!(config.identity.jwt[0].jwks, Some(JwksSource::File("keys.json".into())));
    let AuthorityUrl::Redis(redis) = &config.authority.url else { panic!("{:?}", config.authority.url) };
    assert_eq!(redis.without_credentials(), "rediss-cluster://a:6379,b:6380");
    assert_eq!(redis.password.as_ref().map(Secret::expose), Some("word"));
    let urls = &config.upstreams[0].urls;
    let authorities: Vec<String> = urls.iter().map(|endpoint| endpoint.url.authority()).collect();
    assert_eq!(authorities, ["127.0.0.1:3000", "[::1]:80", "orders.internal:443"]);
    assert_eq!(urls[1].weight, 2);
    let route = &config.routes[0];
    let tokens =
        ChargeUnits::Header { header: "x-usage-units".parse().unwrap(), max: Units::saturating(4_000) };
    assert_eq!(route.charge[&"tokens".parse().unwrap()], tokens);
    assert_eq!(route.rate.as_ref().map(|rate| rate.per), Some(RatePer::Tenant));
}

#[test]
fn redis_has_many_addresses() {
    let url = |text: &str| {
        read(&format!("authority.url = '{text}'\nidentity.api_key.pepper = '{}'", "5a".repeat(32)))
    };
    for (text, shown) in [
        ("redis://h", "redis://h:6379"),
        ("rediss://user:word@h:7000/3", "rediss://h:7000/3"),
        ("redis-sentinel://a,b:7000/fleet", "redis-sentinel://a:26379,b:7000/fleet"),
        ("rediss-sentinel://:word@[::1]/fleet", "rediss-sentinel://[::1]:26379/fleet"),
        ("redis-cluster://a,b:7000", "redis-cluster://a:6379,b:7000"),
    ] {
        let AuthorityUrl::Redis(redis) = url(text).authority.url else { panic!("{text}") };
        assert_eq!(redis.without_credentials(), shown);
    }
}

#[test]
fn any_value_may_come_from_the_environment_or_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("timeout");
    std::fs::write(&file, "7s\n").unwrap();
    let config = read(&format!(
        "listen = {{ workers = 'env:WORKERS', proxy = 'env:PROXY' }}\nauthority.timeout = 'file:{}'",
        file.display()
    ));
    assert_eq!(config.listen.workers, 3);
    assert_eq!(config.listen.proxy[0].to_string(), "127.0.0.1:8081");
    assert_eq!(config.authority.timeout, Duration::from_secs(7));
}

#[test]
fn secrets_are_never_printed() {
    let config = read(
        "store.url = 'postgres://u:hunter2@h/d'\nauthority.url = 'redis://:hunter2@h'\nheaders.sign.key = 'hunter2'\nidentity.api_key.pepper = 'env:PEPPER'",
    );
    let printed = format!("{config:?} {}", serde_json::to_string(&config).unwrap());
    assert!(!printed.contains("hunter2") && !printed.contains("0123456789"), "{printed}");
    let faults =
        parse("authority.url = 'rediz://:hunter2@h'\nlisten.workers = 'env:WORD'\njournal.sync = 'env:WORD'");
    let report = faults.expect_err("faults").to_string();
    assert!(!report.contains("hunter2"), "{report}");
}

#[test]
fn durations_and_sizes_are_written_as_they_are_read() {
    let json = serde_json::to_value(Config::default()).unwrap();
    assert_eq!(json["authority"]["timeout"], "25ms");
    assert_eq!(json["listen"]["limits"]["body_bytes"], "64MiB");
    assert_eq!(json["listen"]["proxy"], "0.0.0.0:8080");
}

#[test]
fn the_schema_in_the_repository_is_the_one_of_the_types() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/schema.json");
    let expected = format!("{:#}\n", schema());
    expect_test::expect_file![path].assert_eq(&expected);
}

// === what is refused ===

#[test]
fn five_faults_are_reported_at_once() {
    check(
        r#"
[listen]
proxy = "0.0.0.0"
wokers = 2

[journal]
sync = 50

[[upstream]]
name = "orders"
urls = ["http://127.0.0.1:3000"]

[[route]]
name = "orders"
path = "v1/"
upstream = "ordres"
"#,
        &expect![[r#"
            x.toml:2:1: listen.proxy: expected an IP address with a port, such as "0.0.0.0:8080" or "[::]:8080", found "0.0.0.0"
            x.toml:3:1: listen.wokers: unknown key `wokers`; did you mean `workers`?
            x.toml:6:1: journal.sync: expected a duration such as "50ms", or "always" or "never", found the integer 50
            x.toml:14:1: route[0].path: must start with `/`
            x.toml:15:1: route[0].upstream: there is no upstream `ordres`; did you mean `orders`?
        "#]],
    );
}

#[test]
fn broken_toml_is_reported_where_it_breaks() {
    check(
        "listen = {\nworkers 3",
        &expect![[r#"
        x.toml:2:9: missing assignment between key-value pairs, expected `=`
    "#]],
    );
    check(
        "a = 1\na = 2",
        &expect![[r#"
        x.toml:2:1: duplicate key
    "#]],
    );
    check(
        "ä = 'ö",
        &expect![[r#"
        x.toml:1:1: invalid unquoted key, expected letters, numbers, `-`, `_`
    "#]],
    );
}

#[test]
fn unknown_keys_are_faults_with_a_suggestion() {
    check(
        r#"
lisen = {}
[authority]
time_out = "1s"
[headers.sign]
key = "k"
algorithm = "x"
[[upstream]]
name = "a"
urls = [{ url = "http://a", wieght = 2 }]
"#,
        &expect![[r#"
            x.toml:1:1: lisen: unknown key `lisen`; did you mean `listen`?
            x.toml:3:1: authority.time_out: unknown key `time_out`; did you mean `timeout`?
            x.toml:6:1: headers.sign.algorithm: unknown key `algorithm`; known here: `key` or `lifetime`
            x.toml:9:29: upstream[0].urls[0].wieght: unknown key `wieght`; did you mean `weight`?
        "#]],
    );
}

#[test]
fn wrong_types_are_faults_that_say_what_was_found() {
    check(
        r#"
listen = { workers = "two", proxy = 8080, limits = { body_bytes = "64 megs", headers = -1 } }
store = "sqlite:x"
authority = { timeout = 25, on_loss = "opne", open_percent = 99999999999, url = "redis" }
data = { directory = 2026-01-01 }
journal = { on_full = 1, sync = "sometimes" }
identity = { order = "api_key", jwt = [{ discovery = "yes" }] }
route = [[]]
upstream = [7]
telemetry = { access_log = 1.5 }
"#,
        &expect![[r#"
            x.toml:1:12: listen.workers: expected an integer of at least 0, found "two"
            x.toml:1:29: listen.proxy: expected an IP address with a port, such as "0.0.0.0:8080" or "[::]:8080", or a list of them, found the integer 8080
            x.toml:1:54: listen.limits.body_bytes: expected a number of bytes such as 65536, "64KiB" or "64MiB", found "64 megs"
            x.toml:1:78: listen.limits.headers: expected an integer of at least 0, found the integer -1
            x.toml:2:1: store: expected a table, found "sqlite:x"
            x.toml:3:15: authority.timeout: expected a duration such as "25ms", "10s", "5m", "1h" or "30d", found the integer 25
            x.toml:3:29: authority.on_loss: expected `till`, `open`, `closed` or `share`, found "opne"; did you mean `open`?
            x.toml:3:47: authority.open_percent: expected an integer from 0 to 4294967295, found the integer 99999999999
            x.toml:3:75: authority.url: expected "embedded", "store", "redis://host:6379", "redis-sentinel://a:26379/master" or "redis-cluster://a:6379,b:6379", found "redis"
            x.toml:4:10: data.directory: expected a path, found the date 2026-01-01
            x.toml:5:13: journal.on_full: expected `block` or `count_only`, found the integer 1
            x.toml:5:26: journal.sync: expected a duration such as "50ms", or "always" or "never", found "sometimes"
            x.toml:6:14: identity.order: expected a list, found "api_key"
            x.toml:6:40: identity.jwt[0].algorithms: is missing: for example ["RS256"]
            x.toml:6:40: identity.jwt[0].audiences: is missing: without it any token of the issuer, for whatever service, would pass
            x.toml:6:40: identity.jwt[0].issuer: is missing: what the claim `iss` must be
            x.toml:6:40: identity.jwt[0].jwks: is missing: one of `jwks`, `discovery = true` or `secret`
            x.toml:6:42: identity.jwt[0].discovery: expected true or false, found "yes"
            x.toml:7:10: route[0]: expected a table, found a list
            x.toml:8:13: upstream[0]: expected a table, found the integer 7
            x.toml:9:15: telemetry.access_log: expected true or false, found the number 1.5
        "#]],
    );
}

#[test]
fn missing_keys_are_faults_of_the_table_that_lacks_them() {
    check(
        r#"
[listen.tls]
client_ca = "ca.crt"
[[identity.jwt]]
jwks = "https://login.example.com/jwks.json"
[[upstream]]
[[route]]
rate = {}
charge = { tokens = { header = "x-units" } }
[headers.sign]
"#,
        &expect![[r#"
            x.toml:1:9: listen.tls.address: is missing: an address to speak TLS on
            x.toml:1:9: listen.tls.certificates: is missing: at least one `{ cert, key }`
            x.toml:3:1: identity.jwt[0].algorithms: is missing: for example ["RS256"]
            x.toml:3:1: identity.jwt[0].audiences: is missing: without it any token of the issuer, for whatever service, would pass
            x.toml:3:1: identity.jwt[0].issuer: is missing: what the claim `iss` must be
            x.toml:5:1: upstream[0].name: is missing: a name that routes can refer to
            x.toml:5:1: upstream[0].urls: is missing: for example ["http://127.0.0.1:3000"]
            x.toml:6:1: route[0].name: is missing: a name for metrics and records
            x.toml:6:1: route[0].path: is missing: a prefix such as "/v1/", or `exact`
            x.toml:6:1: route[0].upstream: is missing: the name of an `[[upstream]]`
            x.toml:7:1: route[0].rate.requests: is missing: how many requests per `window`, at least 1
            x.toml:8:12: route[0].charge.tokens: needs `max`, the units that are reserved until the header is known, for example { header = "x-usage-units", max = 4000 }
            x.toml:9:10: headers.sign.key: is missing: an Ed25519 private key
        "#]],
    );
}

#[test]
fn unresolved_references_are_faults() {
    check(
        r#"
store.url = "env:NOWHERE"
data.directory = "file:/no/such/file"
control.platform_token = "env:EMPTY"
listen.workers = "env:WORD"
authority.on_loss = "env:WORD"
journal.sync = "env:a=b"
"#,
        &expect![[r#"
            x.toml:1:7: store.url: the environment variable `NOWHERE` is not set
            x.toml:2:6: data.directory: the file `/no/such/file` can't be read: No such file or directory (os error 2)
            x.toml:3:9: control.platform_token: `env:EMPTY` is empty
            x.toml:4:8: listen.workers: expected an integer of at least 0, found what `env:WORD` holds
            x.toml:5:11: authority.on_loss: expected `till`, `open`, `closed` or `share`, found what `env:WORD` holds
            x.toml:6:9: journal.sync: the environment variable `a=b` is not set
        "#]],
    );
}

#[test]
fn values_out_of_range_are_faults() {
    check(
        r#"
listen = { workers = 100_000, drain_timeout = "0s", limits = { header_bytes = 1, headers = 0, connections = 0 } }
store = { connections = 0 }
authority = { timeout = "0ms", fleet_size = 0 }
data = { directory = "", accounts_max = 1 }
journal = { sync = "0s", segment_bytes = "1KiB", capacity_bytes = "1MiB" }
control = { platform_token = "short" }
telemetry = { log_filter = " ", tenants_max = 100_000 }
identity = { order = [], api_key = { pepper = "short", pepper_version = 0 } }
headers = { tenant_prefix = "x-", dialects = ["legacy", "legacy"] }
"#,
        &expect![[r#"
            x.toml:1:12: listen.workers: must be from 0 to 1024, found 100000
            x.toml:1:31: listen.drain_timeout: must be longer than zero
            x.toml:1:53: listen.limits.target_bytes: must be from 64 to 64, found 8192
            x.toml:1:64: listen.limits.header_bytes: must be from 1024 to 1048576, found 1
            x.toml:1:82: listen.limits.headers: must be from 8 to 128, found 0
            x.toml:1:95: listen.limits.connections: must be at least 1
            x.toml:2:11: store.connections: must be from 1 to 1000, found 0
            x.toml:3:15: authority.timeout: must be longer than zero
            x.toml:3:32: authority.fleet_size: must be from 1 to 10000, found 0
            x.toml:4:10: data.directory: must not be empty
            x.toml:4:26: data.accounts_max: must be from 1024 to 268435456, found 1
            x.toml:5:13: journal.sync: must be longer than zero, or "always"
            x.toml:5:26: journal.segment_bytes: must be from 1048576 to 1073741824, found 1024
            x.toml:6:13: control.platform_token: must have at least 32 characters
            x.toml:7:15: telemetry.log_filter: must not be empty
            x.toml:7:33: telemetry.tenants_max: must be from 0 to 10000, found 100000
            x.toml:8:14: identity.order: must name at least one of `api_key`, `jwt`, `certificate`
            x.toml:8:38: identity.api_key.pepper: must be 64 hexadecimal digits: `openssl rand -hex 32` makes one
            x.toml:8:56: identity.api_key.pepper_version: must be at least 1
            x.toml:9:13: headers.tenant_prefix: covers `x-request-id`, which would be dropped
            x.toml:9:57: headers.dialects[1]: `legacy` is there already
        "#]],
    );
}

#[test]
fn peppers_are_exchanged_in_the_order_of_their_versions() {
    let old = "old_peppers = [{ version = 1, pepper = 'env:PEPPER' }]";
    let next = "next_pepper = { version = 3, pepper = 'env:PEPPER' }";
    let api_key =
        read(&format!("[identity.api_key]\npepper = 'env:PEPPER'\npepper_version = 2\n{old}\n{next}"));
    let api_key = api_key.identity.api_key;
    assert_eq!((api_key.old_peppers[0].version, api_key.next_pepper.map(|next| next.version)), (1, Some(3)));
    check(
        &format!("[identity.api_key]\n{old}"),
        &expect![[r#"
        x.toml:1:11: identity.api_key.pepper: is missing: the one that was made is version 1, in the file `pepper` of the data directory
        x.toml:2:18: identity.api_key.old_peppers[0].version: must be at least 1 and below `pepper_version`
    "#]],
    );
    check(
        "[identity.api_key]\npepper = 'env:PEPPER'\npepper_version = 2\nnext_pepper = { version = 2, pepper = 'b' }\n\
         old_peppers = [{ version = 2, pepper = 'a' }, { version = 1, pepper = 'env:PEPPER' }, \
         { version = 1, pepper = 'env:PEPPER' }, { version = 0, pepper = 'env:PEPPER' }]",
        &expect![[r#"
            x.toml:4:17: identity.api_key.next_pepper.version: must be above `pepper_version`
            x.toml:4:30: identity.api_key.next_pepper.pepper: must be 64 hexadecimal digits: `openssl rand -hex 32` makes one
            x.toml:5:18: identity.api_key.old_peppers[0].version: must be at least 1 and below `pepper_version`
            x.toml:5:31: identity.api_key.old_peppers[0].pepper: must be 64 hexadecimal digits: `openssl rand -hex 32` makes one
            x.toml:5:87: identity.api_key.old_peppers[2]: `1` is there already
            x.toml:5:129: identity.api_key.old_peppers[3].version: must be at least 1 and below `pepper_version`
        "#]],
    );
}

#[test]
fn a_provider_of_log_ins_is_safe_and_somebody_has_a_role() {
    check(
        r#"
[control.oidc]
issuer = "http://login.example.com"
client_id = " "
scopes = ["email"]
algorithms = ["HS256"]
[[control.oidc.roles]]
group = ""
role = "owner"
[[control.oidc.roles]]
group = "a"
tenant = "Not A Slug"
role = "platform_owner"
"#,
        &expect![[r#"
            x.toml:1:10: control.oidc: needs `control.url`, where the provider sends people back to
            x.toml:2:1: control.oidc.issuer: must be an https URL
            x.toml:3:1: control.oidc.client_id: must not be empty
            x.toml:4:1: control.oidc.scopes: must hold `openid`
            x.toml:5:1: control.oidc.algorithms: must be of public keys, for example ["RS256"]
            x.toml:7:1: control.oidc.roles[0].group: must not be empty
            x.toml:8:1: control.oidc.roles[0].role: must be platform_owner or platform_support, or have a `tenant`
            x.toml:11:1: control.oidc.roles[1].tenant: expected a tenant's id or slug
            x.toml:12:1: control.oidc.roles[1].role: expected a role in a tenant, like developer
        "#]],
    );
}

#[test]
fn admin_on_the_port_of_the_proxy_is_a_fault() {
    check(
        "listen = { proxy = '0.0.0.0:9090' }",
        &expect![[r#"
        x.toml:1:1: listen.admin: is on the proxy's port (0.0.0.0:9090): the two must be apart
    "#]],
    );
    check(
        "[listen]\nproxy = ['127.0.0.1:1', '127.0.0.1:1']\n[listen.tls]\naddress = '0.0.0.0:1'\ncertificates = [{ cert = 'a' }]",
        &expect![[r#"
            x.toml:2:25: listen.proxy[1]: `127.0.0.1:1` is there already
            x.toml:4:1: listen.tls.address: 0.0.0.0:1 is on the port of 127.0.0.1:1, which speaks no TLS
            x.toml:5:17: listen.tls.certificates[0].key: is missing: a PEM file
        "#]],
    );
    read("listen = { proxy = ['127.0.0.1:0', '127.0.0.1:0'], admin = '127.0.0.1:0' }");
}

#[test]
fn a_proxy_protocol_that_anyone_may_speak_is_a_fault() {
    check(
        "listen.trust.proxy_protocol = 'required'",
        &expect![[r#"
        x.toml:1:14: listen.trust.proxy_protocol: needs `proxies`: the networks whose PROXY headers are believed, or any client could choose its address
    "#]],
    );
}

#[test]
fn an_authority_that_does_not_fit_the_store_is_a_fault() {
    check(
        "store.url = 'sqlite::memory:'",
        &expect![[r#"
        x.toml:1:7: store.url: expected "sqlite:PATH" or "postgres://user@host/database", found "sqlite::memory:"
    "#]],
    );
    check(
        "authority.url = 'store'",
        &expect![[r#"
        x.toml:1:1: identity.api_key.pepper: is missing: the gateways of a fleet must share one, or each would refuse the others' keys
        x.toml:1:11: authority.url: `store` needs a `store.url` of Postgres: SQLite serves one gateway, for which `embedded` is exact
    "#]],
    );
    check(
        "authority.url = 'redis://a,b'",
        &expect![[r#"
        x.toml:1:11: authority.url: expected "embedded", "store", "redis://host:6379", "redis-sentinel://a:26379/master" or "redis-cluster://a:6379,b:6379", found "redis://a,b"
    "#]],
    );
    check(
        "authority.url = 'redis-cluster://a,b/2'",
        &expect![[r#"
        x.toml:1:11: authority.url: expected "embedded", "store", "redis://host:6379", "redis-sentinel://a:26379/master" or "redis-cluster://a:6379,b:6379", found "redis-cluster://a,b/2"
    "#]],
    );
    check(
        "authority.url = 'redis://a:6379'",
        &expect![[r#"
        x.toml:1:1: identity.api_key.pepper: is missing: the gateways of a fleet must share one, or each would refuse the others' keys
    "#]],
    );
}

#[test]
fn issuers_that_would_let_forged_tokens_pass_are_faults() {
    check(
        r#"
[[identity.jwt]]
issuer = "a"
audiences = ["x"]
algorithms = ["RS256", "HS256", "none"]
jwks = "http://login.example.com/"
[[identity.jwt]]
issuer = "a"
audiences = ["x"]
algorithms = ["RS256"]
secret = "s"
discovery = true
leeway = "1h"
tenant_claim = "/a~2"
"#,
        &expect![[r#"
            x.toml:4:33: identity.jwt[0].algorithms[2]: expected `RS256`, `RS384`, `RS512`, `PS256`, `PS384`, `PS512`, `ES256`, `ES384`, `ES512`, `EdDSA`, `HS256`, `HS384` or `HS512`, found "none"
            x.toml:5:1: identity.jwt[0].jwks: expected an https URL or "file:PATH", found "http://login.example.com/"
            x.toml:6:1: identity.jwt[1]: only one of `jwks`, `discovery` and `secret` may be given
            x.toml:7:1: identity.jwt[1].issuer: `a` is there already
            x.toml:9:15: identity.jwt[1].algorithms[0]: RS256 can't be checked with a `secret`
            x.toml:11:1: identity.jwt[1].discovery: needs an `issuer` that is an https URL
            x.toml:12:1: identity.jwt[1].leeway: must be at most 5m
            x.toml:13:1: identity.jwt[1].tenant_claim: expected a claim's name or a JSON pointer
        "#]],
    );
}

#[test]
fn upstreams_that_can_not_work_are_faults() {
    check(
        r#"
[[upstream]]
name = "a"
urls = ["http://a/path", "ftp://a", "http://a:0", { weight = 2 }, "http://user@a"]
[[upstream]]
name = "a"
urls = ["http://a", { url = "http://a", weight = 0 }]
balance = "random"
health = { path = "up", healthy_after = 0, host = "a b", statuses = [20] }
timeouts = { connect = "0s", total = "0s" }
retry = { attempts = 99, budget_percent = 101, statuses = [600], try_timeout = "0s" }
breaker = { requests_min = 0 }
pool = { idle_timeout = "0s" }
dns = { interval = "0s" }
tls = { cert = "a.crt", server_name = "a b" }
"#,
        &expect![[r#"
            x.toml:3:9: upstream[0].urls[0]: expected a URL without a path, such as "http://127.0.0.1:3000", "https://…" or "h2c://…", found "http://a/path"
            x.toml:3:26: upstream[0].urls[1]: expected a URL without a path, such as "http://127.0.0.1:3000", "https://…" or "h2c://…", found "ftp://a"
            x.toml:3:37: upstream[0].urls[2]: expected a URL without a path, such as "http://127.0.0.1:3000", "https://…" or "h2c://…", found "http://a:0"
            x.toml:3:51: upstream[0].urls[3]: `url` is missing
            x.toml:3:67: upstream[0].urls[4]: expected a URL without a path, such as "http://127.0.0.1:3000", "https://…" or "h2c://…", found a text with credentials
            x.toml:5:1: upstream[1].name: there is an upstream `a` already
            x.toml:6:21: upstream[1].urls[1]: `http://a:80` is there already
            x.toml:6:41: upstream[1].urls[1].weight: must be from 1 to 1000, found 0
            x.toml:7:1: upstream[1].balance: expected `round_robin`, `least_request` or `hash(tenant)`, found "random"
            x.toml:8:12: upstream[1].health.path: must start with `/`
            x.toml:8:25: upstream[1].health.healthy_after: must be at least 1
            x.toml:8:44: upstream[1].health.host: expected a host, with a port or without
            x.toml:8:58: upstream[1].health.statuses: expected statuses from 200 to 599
            x.toml:9:14: upstream[1].timeouts.connect: must be longer than zero
            x.toml:9:30: upstream[1].timeouts.total: must be longer than zero
            x.toml:10:11: upstream[1].retry.attempts: must be from 0 to 10, found 99
            x.toml:10:26: upstream[1].retry.budget_percent: must be from 0 to 100, found 101
            x.toml:10:48: upstream[1].retry.statuses: expected statuses from 200 to 599
            x.toml:10:66: upstream[1].retry.try_timeout: must be longer than zero
            x.toml:11:13: upstream[1].breaker.requests_min: must be at least 1
            x.toml:12:10: upstream[1].pool.idle_timeout: must be longer than zero
            x.toml:13:9: upstream[1].dns.interval: must be longer than zero
            x.toml:14:1: upstream[1].tls: is of no use: no URL of this upstream is https
            x.toml:14:1: upstream[1].tls.key: is missing: the key of `cert`
            x.toml:14:25: upstream[1].tls.server_name: expected the name of a host
        "#]],
    );
}

#[test]
fn a_route_to_no_upstream_is_a_fault() {
    check_route(
        "name = 'a'\npath = '/'\nupstream = 'order'",
        &expect![[r#"
        x.toml:7:1: route[0].upstream: there is no upstream `order`; did you mean `orders`?
    "#]],
    );
    check_route(
        "name = 'a'\npath = '/'\nupstream = 'billing'",
        &expect![[r#"
        x.toml:7:1: route[0].upstream: there is no upstream `billing`
    "#]],
    );
}

#[test]
fn malformed_matches_are_faults() {
    check_route(
        "name = 'a'\nupstream = 'orders'\npath = 'v1'\nhosts = ['a:80', 'a b', 'a', 'A']\nmethods = ['get', 'CONNECT', 'GET']\nstrip_prefix = '/v2'",
        &expect![[r#"
            x.toml:7:1: route[0].path: must start with `/`
            x.toml:8:10: route[0].hosts[0]: expected a host without a port, such as "api.example.com" or "*.example.com", found "a:80"
            x.toml:8:18: route[0].hosts[1]: expected a host without a port, such as "api.example.com" or "*.example.com", found "a b"
            x.toml:9:12: route[0].methods[0]: expected a method in capitals, such as "GET"; CONNECT and TRACE are never proxied, found "get"
            x.toml:9:19: route[0].methods[1]: expected a method in capitals, such as "GET"; CONNECT and TRACE are never proxied, found "CONNECT"
            x.toml:10:1: route[0].strip_prefix: is no prefix of the route's path, so it would never be cut
        "#]],
    );
    check_route(
        "name = 'a'\nupstream = 'orders'\nhosts = ['a', 'A']\nexact = '/a?b'\npath = '/'",
        &expect![[r#"
            x.toml:7:15: route[0].hosts[1]: `a` is there already
            x.toml:8:1: route[0].exact: only one of `path` and `exact` may be given
        "#]],
    );
}

#[test]
fn malformed_charges_are_faults() {
    check_route(
        "name = 'a'\nupstream = 'orders'\npath = '/'\n[route.charge]\nApi = 1\napi_calls = 0\nbytes = 'all'\nlarge = 9007199254740992\nlist = []\ntokens = { header = 'x y', max = 1 }\nunits = { header = 'x', max = 0 }\nmore = { heeder = 'x' }",
        &expect![[r#"
            x.toml:9:1: route[0].charge.Api: `Api` is no resource name: 1 to 31 of a-z, 0-9 and _, beginning with a letter
            x.toml:10:1: route[0].charge.api_calls: must be at least 1
            x.toml:11:1: route[0].charge.bytes: expected units: an integer, "request_bytes", "response_bytes" or { header, max }, found "all"
            x.toml:12:1: route[0].charge.large: 9007199254740992 is outside 0..=9007199254740991 (2^53 - 1)
            x.toml:13:1: route[0].charge.list: expected units: an integer, "request_bytes", "response_bytes" or { header, max }, found a list
            x.toml:14:12: route[0].charge.tokens.header: expected the name of a header, such as "x-api-key", found "x y"
            x.toml:15:1: route[0].charge.units: needs `max`, the units that are reserved until the header is known, for example { header = "x-usage-units", max = 4000 }
            x.toml:16:10: route[0].charge.more.heeder: unknown key `heeder`; did you mean `header`?
        "#]],
    );
    let many: String = ('a'..='i').map(|name| format!("{name} = 1\n")).collect();
    check_route(
        &format!("name = 'a'\nupstream = 'orders'\npath = '/'\n[route.charge]\n{many}"),
        &expect![[r#"
            x.toml:8:8: route[0].charge: a request may have at most 8 charges
        "#]],
    );
}

#[test]
fn a_public_route_with_anything_that_needs_identity_is_a_fault() {
    check_route(
        "name = 'a'\nupstream = 'orders'\npath = '/'\npublic = true\ncharge = { api_calls = 1 }\nscopes = ['a']\nrate = { requests = 1 }\nidentity = ['jwt']",
        &expect![[r#"
            x.toml:9:1: route[0].charge: has no effect on a public route: nobody is identified there
            x.toml:10:1: route[0].scopes: has no effect on a public route: nobody is identified there
            x.toml:11:1: route[0].rate: has no effect on a public route: nobody is identified there
            x.toml:12:1: route[0].identity: has no effect on a public route: nobody is identified there
            x.toml:12:1: route[0].identity: names `jwt`, but there is no `[[identity.jwt]]`
        "#]],
    );
}

#[test]
fn rates_that_mean_nothing_are_faults() {
    check_route(
        "name = 'a'\nupstream = 'orders'\npath = '/'\ntimeout = '0s'\nscopes = ['a b']\n[route.rate]\nper = 'ip'\nwindow = '0s'\nburst = 0",
        &expect![[r#"
            x.toml:8:1: route[0].timeout: must be longer than zero
            x.toml:9:11: route[0].scopes[0]: expected a scope such as "orders:read"
            x.toml:10:8: route[0].rate.requests: is missing: how many requests per `window`, at least 1
            x.toml:11:1: route[0].rate.per: expected `key` or `tenant`, found "ip"
            x.toml:12:1: route[0].rate.window: must be longer than zero
            x.toml:13:1: route[0].rate.burst: must be at least 1
        "#]],
    );
}

#[test]
fn two_routes_for_the_same_requests_are_a_fault() {
    check_route(
        "name = 'a'\nupstream = 'orders'\npath = '/'\nhosts = ['x', 'y']\n[[route]]\nname = 'b'\nupstream = 'orders'\npath = '/'\nhosts = ['y']\n[[route]]\nname = 'a'\nupstream = 'orders'\nexact = '/'\nhosts = ['y']\n",
        &expect![[r#"
            x.toml:9:1: route[1]: matches the same requests as route[0] (`a`)
            x.toml:15:1: route[2].name: there is a route `a` already
        "#]],
    );
    read(&format!("{MINIMAL}[[route]]\nname = 'get'\npath = '/'\nmethods = ['GET']\nupstream = 'orders'"));
}

#[test]
fn a_fault_brings_no_others_with_it() {
    // The name can't be read, so the route's reference to it can't be judged.
    check(
        "[[upstream]]\nname = 5\nurls = ['x']\n[[route]]\nname = 'a'\npath = '/'\nupstream = 'orders'",
        &expect![[r#"
            x.toml:2:1: upstream[0].name: expected a string, found the integer 5
            x.toml:3:9: upstream[0].urls[0]: expected a URL without a path, such as "http://127.0.0.1:3000", "https://…" or "h2c://…", found "x"
        "#]],
    );
}

#[test]
fn a_report_is_bounded() {
    let text: String = (0..1_000).map(|index| format!("unknown_{index} = 1\n")).collect();
    assert_eq!(parse(&text).expect_err("faults").len(), 100);
}

#[test]
fn deep_nesting_is_a_fault_and_no_overflow() {
    for text in [
        format!("a = {}1{}", "[".repeat(100_000), "]".repeat(100_000)),
        format!("{}a = 1", "a.".repeat(50)),
        format!("{}a = 1", "a.".repeat(100_000)),
        format!("[{}a]\nb = 1", "a.".repeat(100_000)),
        "a = {".repeat(100_000),
        format!("a = {}1{}", "[".repeat(60), "]".repeat(60)),
    ] {
        assert!(parse(&text).is_err());
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in any::<String>()) {
        let _ = parse(&text);
    }

    #[test]
    fn no_change_of_a_good_file_panics(from in 0..7_000usize, length in 0..40usize, piece in "[\\[\\]{}=\"'.,\n a-z0-9ä-]{0,8}") {
        let text = include_str!("../../config/production.toml");
        let head: String = text.chars().take(from).collect();
        let tail: String = text.chars().skip(from + length).collect();
        let changed = format!("{head}{piece}{tail}");
        if let Err(faults) = parse(&changed) {
            let lines = changed.lines().count();
            for fault in &faults {
                let position = fault.position.expect("each fault of a text has a position");
                prop_assert!(position.line <= lines + 1 && !fault.message.is_empty(), "{fault}");
            }
        }
    }
}

#[test]
fn whoever_collects_what_is_owed_is_named_whole_or_not_at_all() {
    let text = format!(
        "{}\n[billing.export]\nkind = 'lago'\nsecret = 'env:WORD'\nmeters = {{ api_calls = 'calls' }}\n",
        MINIMAL.trim_start()
    );
    let export = read(&text).billing.export.expect("it is there");
    assert_eq!((export.url(), export.secret.expose()), ("https://api.getlago.com", "hunter2"));
    check(
        "[billing.export]\nkind = 'paddle'\nurl = 'http://lago.example.com'\nsecret = 'a b'\nmeters = { api_calls = 'a' }\n",
        &expect![[r#"
            x.toml:2:1: billing.export.kind: expected `stripe` or `lago`, found "paddle"
            x.toml:3:1: billing.export.url: must be an https URL without a query
            x.toml:4:1: billing.export.secret: must be an API key, in printable ASCII without blanks
        "#]],
    );
    check(
        "[billing.export]\nurl = 'http://lago.example.com'\nsecret = 'a b'\nmeters = { calls = '' }\ndelay = '2d'\n",
        &expect![[r#"
            x.toml:2:1: billing.export.url: must be an https URL without a query
            x.toml:3:1: billing.export.secret: must be an API key, in printable ASCII without blanks
            x.toml:4:12: billing.export.meters.calls: must have 1 to 100 characters
            x.toml:5:1: billing.export.delay: must be 24 hours at most
        "#]],
    );
    check(
        "[billing.export]\nkind = 'stripe'\n",
        &expect![[r#"
            x.toml:1:10: billing.export.meters: is missing: without it nothing is brought there
            x.toml:1:10: billing.export.secret: must be an API key, in printable ASCII without blanks
        "#]],
    );
}
