use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use clap::{CommandFactory, Parser};
use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::ask::Ask;
use super::session::{self, Place};
use super::{Args, Command, Failure, Found, ask, found, show};
use crate::admin::{self, AdminParts};
use crate::api::{Client, LocalDoor, LocalToken, Method};
use crate::secret::hash::Pepper;
use crate::store::StoreUrl;
use crate::telemetry::readiness::Readiness;

fn parse(line: &str) -> Args {
    Args::try_parse_from(words(line)).unwrap_or_else(|error| panic!("{line}: {error}"))
}

/// Splits at blanks; what stands in quotes is one word.
fn words(line: &str) -> Vec<String> {
    let quoted = line.split('"').enumerate().flat_map(|(index, part)| match index % 2 {
        0 => part.split_whitespace().map(str::to_owned).collect(),
        _ => vec![part.to_owned()],
    });
    quoted.collect()
}

fn asked(command: &Command) -> Ask {
    match command {
        Command::Tenant(tenant) => ask::tenant(tenant),
        Command::Quota(quota) => ask::quota(quota),
        Command::Key(key) => ask::key(key),
        Command::Member(member) => ask::member(member),
        Command::User(user) => ask::user(user),
        Command::Usage(name) => ask::usage(name),
        Command::Settings(settings) => ask::settings(settings).unwrap(),
        Command::Apply(apply) => ask::apply(apply).unwrap(),
        Command::Alert(alert) => alert.ask(),
        Command::Billing(billing) => billing.ask(),
        Command::Invoice(invoice) => invoice.ask(),
        Command::Tier(tier) => tier.ask().expect("a file that can be read"),
        Command::Channel(channel) => channel.ask(),
        Command::Bulk(bulk) => bulk.ask(),
        Command::Report(report) => report.ask(),
        other => panic!("{other:?} asks nothing"),
    }
}

/// What each command asks, line by line.
fn check_asks(lines: &[&str], expected: &Expect) {
    let mut asks = String::new();
    for line in lines {
        let ask = asked(&parse(line).command);
        let body = ask.body.map(|body| format!(" {body}")).unwrap_or_default();
        writeln!(asks, "{line}\n  {} {}{body}", ask.method, ask.path).unwrap();
    }
    expected.assert_eq(&asks);
}

#[test]
fn the_definitions_hold_together() {
    Args::command().debug_assert();
}

#[test]
fn every_command_has_examples() {
    fn leaves(command: &clap::Command, path: &str, without: &mut Vec<String>) {
        let path = format!("{path} {}", command.get_name());
        for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
            leaves(inner, &path, without);
        }
        let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        if !command.has_subcommands() && !examples.contains("tollgate ") {
            without.push(path);
        }
    }
    let mut without = Vec::new();
    leaves(&Args::command(), "", &mut without);
    assert_eq!(without, Vec::<String>::new());
}

#[test]
fn the_forms_of_the_contract_mean_these_requests() {
    check_asks(
        &[
            "tollgate tenant create \"Acme\" --tier pro --json",
            "tollgate quota set acme api_calls --limit 10000 --json",
            "tollgate key create acme --name ci --json",
            "tollgate tenant status acme suspended --reason \"unpaid\"",
            "tollgate key revoke 0192f0c1-7a3b-7000-8000-000000000000",
            "tollgate usage acme --json",
        ],
        &expect![[r#"
            tollgate tenant create "Acme" --tier pro --json
              POST /api/tenants {"organization_name":"Acme","tenant_tier":"pro"}
            tollgate quota set acme api_calls --limit 10000 --json
              PUT /api/tenants/acme/quotas/api_calls {"limit":10000}
            tollgate key create acme --name ci --json
              POST /api/tenants/acme/keys {"name":"ci","networks":[],"routes":[],"scopes":[],"test":false}
            tollgate tenant status acme suspended --reason "unpaid"
              POST /api/tenants/acme/status/suspended {"reason":"unpaid"}
            tollgate key revoke 0192f0c1-7a3b-7000-8000-000000000000
              POST /api/keys/0192f0c1-7a3b-7000-8000-000000000000/revoke {}
            tollgate usage acme --json
              GET /api/tenants/acme/quotas
        "#]],
    );
}

#[test]
fn the_other_forms_mean_these_requests() {
    check_asks(
        &[
            "tollgate tenant create Acme --slug a --billing-email a@b.ch --contact-phone 1 --timezone UTC --locale de",
            "tollgate tenant list",
            "tollgate tenant list --status active --tier pro --search \"a & b\" --health critical --sort -name --limit 5",
            "tollgate tenant show ../tiers?x#y",
            "tollgate tenant show ..",
            "tollgate quota set acme alerts --limit unlimited --period day --enforcement soft --reason r --expires 2027-01-01T00:00:00Z",
            "tollgate quota set acme api_calls --limit 0 --key 0192f0c1-7a3b-7000-8000-000000000000",
            "tollgate quota list acme",
            "tollgate key create acme --name ci --scope a --scope b --route orders --network ::1/128 --test",
            "tollgate key list acme --limit 3",
            "tollgate member list acme --limit 3",
            "tollgate member invite acme ann@example.com --role owner --valid-seconds 60",
            "tollgate member role acme 0192f0c1-7a3b-7000-8000-000000000000 admin",
            "tollgate member remove acme 0192f0c1-7a3b-7000-8000-000000000000",
            "tollgate user list",
            "tollgate user create ann@example.com --role platform_owner",
            "tollgate user remove ann@example.com",
            "tollgate user reset-password 0192f0c1-7a3b-7000-8000-000000000000",
        ],
        &expect![[r#"
            tollgate tenant create Acme --slug a --billing-email a@b.ch --contact-phone 1 --timezone UTC --locale de
              POST /api/tenants {"billing_email":"a@b.ch","contact_phone":"1","locale":"de","organization_name":"Acme","slug":"a","tenant_tier":"free","timezone":"UTC"}
            tollgate tenant list
              GET /api/tenants
            tollgate tenant list --status active --tier pro --search "a & b" --health critical --sort -name --limit 5
              GET /api/tenants?status=active&tier=pro&q=a%20%26%20b&health=critical&sort=-name&limit=5
            tollgate tenant show ../tiers?x#y
              GET /api/tenants/..%2Ftiers%3Fx%23y
            tollgate tenant show ..
              GET /api/tenants/%2E%2E
            tollgate quota set acme alerts --limit unlimited --period day --enforcement soft --reason r --expires 2027-01-01T00:00:00Z
              PUT /api/tenants/acme/quotas/alerts {"enforcement":"soft","expires_at":"2027-01-01T00:00:00Z","limit":null,"period":"day","reason":"r"}
            tollgate quota set acme api_calls --limit 0 --key 0192f0c1-7a3b-7000-8000-000000000000
              PUT /api/tenants/acme/quotas/api_calls {"key_id":"0192f0c1-7a3b-7000-8000-000000000000","limit":0}
            tollgate quota list acme
              GET /api/tenants/acme/quotas
            tollgate key create acme --name ci --scope a --scope b --route orders --network ::1/128 --test
              POST /api/tenants/acme/keys {"name":"ci","networks":["::1/128"],"routes":["orders"],"scopes":["a","b"],"test":true}
            tollgate key list acme --limit 3
              GET /api/tenants/acme/keys?limit=3
            tollgate member list acme --limit 3
              GET /api/tenants/acme/members?limit=3
            tollgate member invite acme ann@example.com --role owner --valid-seconds 60
              POST /api/tenants/acme/members {"email":"ann@example.com","role":"owner","valid_seconds":60}
            tollgate member role acme 0192f0c1-7a3b-7000-8000-000000000000 admin
              PATCH /api/tenants/acme/members/0192f0c1-7a3b-7000-8000-000000000000 {"role":"admin"}
            tollgate member remove acme 0192f0c1-7a3b-7000-8000-000000000000
              DELETE /api/tenants/acme/members/0192f0c1-7a3b-7000-8000-000000000000
            tollgate user list
              GET /api/users
            tollgate user create ann@example.com --role platform_owner
              PUT /api/users {"email":"ann@example.com","platform_role":"platform_owner"}
            tollgate user remove ann@example.com
              PUT /api/users {"email":"ann@example.com","platform_role":null}
            tollgate user reset-password 0192f0c1-7a3b-7000-8000-000000000000
              POST /api/users/0192f0c1-7a3b-7000-8000-000000000000/reset-password {}
        "#]],
    );
}

#[test]
fn global_options_may_stand_anywhere() {
    for line in [
        "tollgate --config a.toml --json tenant list",
        "tollgate tenant --config a.toml list --json",
        "tollgate tenant list --json --config a.toml",
    ] {
        let args = parse(line);
        assert_eq!((args.config.as_deref(), args.json), (Some(Path::new("a.toml")), true), "{line}");
    }
    let args = parse("tollgate check a.toml --json");
    assert!(matches!(args.command, Command::Check(check) if check.file == Some(PathBuf::from("a.toml"))));
    let args = parse("tollgate demo --keep dir");
    assert!(matches!(args.command, Command::Demo(demo) if demo.keep == Some(PathBuf::from("dir"))));
}

#[test]
fn wrong_usage_is_2_and_help_is_0() {
    for (line, status) in [
        ("tollgate", 2),
        ("tollgate fly", 2),
        ("tollgate tenant create", 2),
        ("tollgate quota set acme api_calls", 2),
        ("tollgate quota set acme api_calls --limit -1", 2),
        ("tollgate quota set acme api_calls --limit many", 2),
        ("tollgate quota set acme api_calls --limit 1 --enforcement stern", 2),
        ("tollgate check a.toml --config b.toml", 2),
        ("tollgate --help", 0),
        ("tollgate key create --help", 0),
        ("tollgate --version", 0),
    ] {
        let usage = Args::try_parse_from(words(line)).unwrap_err();
        assert_eq!(usage.exit_code(), status, "{line}");
    }
}

#[test]
fn a_manifest_in_toml_is_sent_as_json() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tenants.toml");
    let text = "[[tenant]]\nslug = \"acme\"\n[[tenant.quota]]\nresource = \"api_calls\"\nlimit = 5\n\
                expires_at = 2027-01-01T00:00:00Z\n";
    fs::write(&file, text).unwrap();
    let apply = |dry_run| super::args::Apply { file: file.clone(), dry_run };
    let ask = ask::apply(&apply(true)).unwrap();
    assert_eq!((ask.method.as_str(), ask.path.as_str()), ("POST", "/api/apply?dry_run=true"));
    let quota = json!({ "resource": "api_calls", "limit": 5, "expires_at": "2027-01-01T00:00:00Z" });
    assert_eq!(ask.body.unwrap(), json!({ "tenant": [{ "slug": "acme", "quota": [quota] }] }));
    assert_eq!(ask::apply(&apply(false)).unwrap().path, "/api/apply");

    fs::write(&file, "[[tenant]\n").unwrap();
    let failure = ask::apply(&apply(true)).unwrap_err().to_string();
    assert!(failure.contains("tenants.toml can't be read") && failure.contains("line 1"), "{failure}");
}

#[test]
fn answers_are_shown_in_aligned_columns() {
    let quota = |resource: &str, limit: Value, used: u64, end: Value| {
        let remaining = limit.as_u64().map(|limit| limit - used);
        json!({
            "resource_type": resource, "limit": limit, "used": used, "remaining": remaining,
            "percent": remaining.map(|_| 12.34), "period": "month", "source": "tier", "key_id": null,
            "window": { "start": "2026-11-01T00:00:00.000000Z", "end": end },
        })
    };
    let quotas = json!([
        quota("api_calls", json!(10_000), 1_234, json!("2026-12-01T00:00:00.000000Z")),
        quota("users", json!(null), 7, json!(null)),
    ]);
    expect![[r#"
        RESOURCE   PERIOD  USED      LIMIT  REMAINING     %  RESETS                SOURCE
        api_calls  month   1234      10000       8766  12.3  2026-12-01T00:00:00Z  tier
        users      month      7  unlimited  unlimited     -  -                     tier
    "#]]
    .assert_eq(&show::usage(&json!({ "quotas": quotas })));

    let tenants = json!({ "next_cursor": "00ff", "items": [
        { "slug": "acme", "organization_name": "Acme", "tenant_status": "active", "tenant_tier": "pro", "tenant_id": "1" },
        { "slug": "beta-gmbh", "organization_name": "Beta ÄÖÜ", "tenant_status": "suspended", "tenant_tier": "free", "tenant_id": "2" },
    ]});
    expect![[r#"
        SLUG       NAME      STATUS     TIER  ID
        acme       Acme      active     pro    1
        beta-gmbh  Beta ÄÖÜ  suspended  free   2

        more: --cursor 00ff
    "#]]
    .assert_eq(&show::tenants(&tenants));
    expect![[r#"
        no tenants: create one with `tollgate tenant create NAME --tier TIER`
    "#]]
    .assert_eq(&show::tenants(&json!({ "items": [] })));
}

#[test]
fn a_plan_is_shown_as_a_difference() {
    let plan = json!({ "dry_run": true, "changes": [
        { "action": "create", "what": "tenant acme", "before": null, "after": { "tier": "pro" } },
        { "action": "change", "what": "tenant beta", "before": { "tier": "free", "name": "B" },
          "after": { "tier": "pro", "name": "B" } },
        { "action": "none", "what": "tenant gamma", "before": {}, "after": {} },
    ]});
    expect![[r#"
        + tenant acme
            tier: pro
        ~ tenant beta
            tier: free -> pro

        2 changes to make; nothing was changed
    "#]]
    .assert_eq(&show::applied(&plan));
    expect![[r#"
        everything is as it should be
    "#]]
    .assert_eq(&show::applied(&json!({ "dry_run": false, "changes": [] })));
}

/// A configuration in a directory of its own.
fn configured() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tollgate.toml");
    let (data, database) = (directory.path().join("data"), directory.path().join("data/tollgate.db"));
    let text = format!("[store]\nurl = \"sqlite:{}\"\n[data]\ndirectory = {data:?}\n", database.display());
    fs::write(&file, text).unwrap();
    (directory, file)
}

/// What `--json` prints.
fn json(found: &Found) -> Value {
    serde_json::from_str(&found.json).unwrap()
}

fn execute(config: &Path, line: &str) -> Result<Found, Failure> {
    let mut args = parse(&format!("tollgate {line}"));
    args.config = Some(config.to_owned());
    found(args)
}

#[test]
fn commands_work_without_a_gateway() {
    let (_directory, config) = configured();
    execute(&config, "migrate").unwrap();
    let tenant = execute(&config, "tenant create \"Acme\" --tier pro").unwrap();
    assert!(tenant.json.starts_with(r#"{"tenant_id":""#), "{}", tenant.json);
    let tenant = json(&tenant);
    assert_eq!(tenant["slug"], "acme");
    let id = tenant["tenant_id"].as_str().unwrap();

    let quota = execute(&config, &format!("quota set {id} api_calls --limit 12345")).unwrap();
    assert_eq!(json(&quota)["limit"], 12_345);
    assert_eq!(quota.text, "api_calls per month: limit 12345, used 0\n");
    let key = execute(&config, "key create acme --name ci").unwrap();
    let (text, key) = (&key.text, json(&key));
    assert!(text.contains(key["key"].as_str().unwrap()));
    let key_id = key["key_id"].as_str().unwrap();
    let usage = execute(&config, "usage acme").unwrap();
    assert!(usage.text.contains("12345"), "{}", usage.text);
    execute(&config, "tenant status acme suspended --reason unpaid").unwrap();
    let revoked = execute(&config, &format!("key revoke {key_id}")).unwrap();
    assert!(revoked.text.starts_with(&format!("key {key_id} (ci) is revoked since ")), "{}", revoked.text);
    let listed = execute(&config, "key list acme").unwrap();
    assert!(listed.text.contains("revoked"), "{}", listed.text);
    let shown = execute(&config, "tenant show acme").unwrap();
    assert!(shown.text.contains("status    suspended"), "{}", shown.text);
    let listed = execute(&config, "tenant list").unwrap();
    assert!(listed.text.contains(id), "{}", listed.text);
}

#[test]
fn a_failure_says_what_happened_and_what_to_do() {
    let (_directory, config) = configured();
    let failure = |line: &str| execute(&config, line).unwrap_err().to_string();
    expect![[r#"
        error: there is no tenant `nobody`
        help: `tollgate tenant list` shows the tenants there are
    "#]]
    .assert_eq(&failure("tenant show nobody"));
    expect![[r#"
        error: there is no key `0192f0c1-7a3b-7000-8000-000000000000`
        help: `tollgate key list TENANT` shows a tenant's keys
    "#]]
    .assert_eq(&failure("key revoke 0192f0c1-7a3b-7000-8000-000000000000"));
    expect![[r#"
        error: Some fields are wrong
          tenant_tier: there is no such tier; there are free, pro, business, enterprise, msp
          timezone: `Mars/Olympus` is no IANA time zone, like Europe/Zurich
    "#]]
    .assert_eq(&failure("tenant create Acme --tier gold --timezone Mars/Olympus"));
}

#[test]
fn check_names_every_fault_and_fails() {
    let (_directory, config) = configured();
    let good = execute(&config, "check").unwrap();
    assert_eq!((good.status, &json(&good)["ok"]), (0, &json!(true)));
    fs::write(&config, "[listn]\n[data]\ndirectory = 7\n").unwrap();
    let bad = execute(&config, "check").unwrap();
    assert_eq!((bad.status, &json(&bad)["ok"]), (1, &json!(false)));
    assert_eq!(json(&bad)["faults"].as_array().map(Vec::len), Some(2));
    assert!(bad.text.contains("tollgate.toml:1:") && bad.text.ends_with("2 faults\n"), "{}", bad.text);
    let failure = execute(&config, "tenant list").unwrap_err().to_string();
    assert!(failure.contains("tollgate.toml:1:"), "{failure}");
}

#[test]
fn documents_are_json_in_both_forms() {
    for command in ["schema", "openapi"] {
        let document = execute(Path::new("none.toml"), command).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&document.text).unwrap(), json(&document));
    }
}

/// A gateway's admin address over the place's store, and the lock that says that it runs.
async fn serving(place: &Place) -> (LocalDoor, fs::File) {
    let Ok(Client::InProcess(api, token)) = session::client(place).await else { panic!("nobody runs yet") };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let door = LocalDoor::new(listener.local_addr().unwrap(), token);
    let parts = AdminParts {
        registry: prometheus::Registry::new(),
        readiness: Readiness::default(),
        signing_keys: String::new(),
        console: axum::Router::new(),
        api,
    };
    tokio::spawn(admin::serve(listener, parts, std::future::pending()));
    let lock = fs::File::create(place.data.join("lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    (door, lock)
}

fn place(directory: &Path) -> Place {
    let store = StoreUrl::Sqlite(directory.join("tollgate.db"));
    Place {
        data: directory.to_owned(),
        store: store.into(),
        peppers: Some(Pepper::new(1, &[7; 32]).into()),
        secrets: None,
        audit: crate::config::AuditConfig::default(),
        channels: crate::control::ChannelSettings::default(),
        watch: crate::control::WatchSettings::default(),
        billing: crate::control::BillingSettings::default(),
    }
}

#[tokio::test]
async fn a_running_gateway_is_asked_and_one_that_is_gone_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let place = place(directory.path());
    let (door, lock) = serving(&place).await;

    // The door of a gateway that was killed: nobody listens there any more.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    LocalDoor::new(gone, LocalToken::draw().unwrap()).write(directory.path()).unwrap();
    let (client, written) = tokio::join!(session::client(&place), async {
        tokio::task::yield_now().await;
        door.write(directory.path())
    });
    written.unwrap();
    assert!(matches!(client.unwrap(), Client::Remote(found) if found.address() == door.address()));

    // The same port, but another gateway's token: the lock is free, so nobody runs here.
    drop(lock);
    LocalDoor::new(door.address(), LocalToken::draw().unwrap()).write(directory.path()).unwrap();
    assert!(matches!(session::client(&place).await.unwrap(), Client::InProcess(..)));
}

#[tokio::test]
async fn both_ways_answer_alike() {
    let directory = tempfile::tempdir().unwrap();
    let place = place(directory.path());
    let near = session::client(&place).await.unwrap();
    let (door, _lock) = serving(&place).await;
    let far = Client::Remote(door);
    let made = ask::tenant(match &parse("tollgate tenant create Acme").command {
        Command::Tenant(tenant) => tenant,
        other => panic!("{other:?}"),
    });
    let made = far.send(made.method, &made.path, made.body.as_ref()).await.unwrap();
    assert_eq!(made.status, 201, "{:#}", made.body);
    for path in ["/api/tenants/acme", "/api/tenants/acme/quotas/", "/api/tenants"] {
        let answers = [far.send(Method::GET, path, None).await, near.send(Method::GET, path, None).await];
        let [far, near] = answers.map(|answer| without_instants(answer.unwrap().body));
        assert_eq!(far, near, "{path}");
    }
}

/// When a number was true differs from answer to answer.
fn without_instants(mut body: Value) -> Value {
    for quota in body["quotas"].as_array_mut().into_iter().flatten() {
        quota["as_of"].take();
    }
    body
}

#[test]
fn forms_of_channels_mean_these_requests() {
    check_asks(
        &[
            "tollgate channel create acme --name ops --kind webhook --target https://ops.example/in --only quota",
            "tollgate channel list acme",
            "tollgate channel disable acme c",
            "tollgate channel enable acme c",
            "tollgate channel remove acme c",
            "tollgate channel rotate acme c --grace-seconds 0",
            "tollgate channel test acme c",
            "tollgate channel deliveries acme --channel c --state dead --limit 2",
            "tollgate channel resend acme d",
        ],
        &expect![[r#"
            tollgate channel create acme --name ops --kind webhook --target https://ops.example/in --only quota
              POST /api/tenants/acme/channels {"kind":"webhook","kinds":["quota"],"name":"ops","target":"https://ops.example/in"}
            tollgate channel list acme
              GET /api/tenants/acme/channels
            tollgate channel disable acme c
              PATCH /api/tenants/acme/channels/c {"enabled":false}
            tollgate channel enable acme c
              PATCH /api/tenants/acme/channels/c {"enabled":true}
            tollgate channel remove acme c
              DELETE /api/tenants/acme/channels/c
            tollgate channel rotate acme c --grace-seconds 0
              POST /api/tenants/acme/channels/c/rotate {"grace_seconds":0}
            tollgate channel test acme c
              POST /api/tenants/acme/channels/c/test {}
            tollgate channel deliveries acme --channel c --state dead --limit 2
              GET /api/tenants/acme/deliveries?channel_id=c&state=dead&limit=2
            tollgate channel resend acme d
              POST /api/tenants/acme/deliveries/d/resend {}
        "#]],
    );
}

#[test]
fn forms_of_alerts_mean_these_requests() {
    check_asks(
        &[
            "tollgate alert list acme",
            "tollgate alert list acme --kind quota --severity critical --unseen --limit 2 --cursor 00",
            "tollgate alert acknowledge acme a",
            "tollgate alert rules acme",
            "tollgate alert rule acme quota --threshold 50 --resource api_calls",
            "tollgate alert rule acme health --off",
            "tollgate alert forget acme r",
        ],
        &expect![[r#"
            tollgate alert list acme
              GET /api/tenants/acme/alerts
            tollgate alert list acme --kind quota --severity critical --unseen --limit 2 --cursor 00
              GET /api/tenants/acme/alerts?kind=quota&severity=critical&acknowledged=false&limit=2&cursor=00
            tollgate alert acknowledge acme a
              POST /api/tenants/acme/alerts/a/acknowledge {}
            tollgate alert rules acme
              GET /api/tenants/acme/alert-rules
            tollgate alert rule acme quota --threshold 50 --resource api_calls
              POST /api/tenants/acme/alert-rules {"enabled":true,"kind":"quota","resource_type":"api_calls","threshold":50}
            tollgate alert rule acme health --off
              POST /api/tenants/acme/alert-rules {"enabled":false,"kind":"health"}
            tollgate alert forget acme r
              DELETE /api/tenants/acme/alert-rules/r
        "#]],
    );
}

#[test]
fn the_forms_of_invoices_mean_these_requests() {
    check_asks(
        &[
            "tollgate invoice list acme --state exported --limit 3",
            "tollgate invoice show acme",
            "tollgate invoice show acme 1 --json",
            "tollgate invoice preview acme business",
            "tollgate invoice finalize acme",
            "tollgate invoice void acme 1 --reason \"wrong name\"",
            "tollgate invoice paid acme 1",
            "tollgate invoice verify acme 1",
            "tollgate invoice cap acme",
            "tollgate invoice cap acme --amount 500.00",
            "tollgate invoice cap acme --amount 500.00 --stop --shares api_calls=3,alerts=1",
            "tollgate invoice cap acme --none",
            "tollgate tier list",
        ],
        &expect![[r#"
            tollgate invoice list acme --state exported --limit 3
              GET /api/tenants/acme/invoices?state=exported&limit=3
            tollgate invoice show acme
              GET /api/tenants/acme/invoices/draft
            tollgate invoice show acme 1 --json
              GET /api/tenants/acme/invoices/1
            tollgate invoice preview acme business
              POST /api/tenants/acme/subscription/preview {"tenant_tier":"business"}
            tollgate invoice finalize acme
              POST /api/tenants/acme/invoices/finalize {}
            tollgate invoice void acme 1 --reason "wrong name"
              POST /api/tenants/acme/invoices/1/void {"reason":"wrong name"}
            tollgate invoice paid acme 1
              POST /api/tenants/acme/invoices/1/paid {}
            tollgate invoice verify acme 1
              GET /api/tenants/acme/invoices/1/verify
            tollgate invoice cap acme
              GET /api/tenants/acme/spend-cap
            tollgate invoice cap acme --amount 500.00
              PUT /api/tenants/acme/spend-cap {"amount":"500.00","then":"notify"}
            tollgate invoice cap acme --amount 500.00 --stop --shares api_calls=3,alerts=1
              PUT /api/tenants/acme/spend-cap {"amount":"500.00","shares":{"alerts":1,"api_calls":3},"then":"stop"}
            tollgate invoice cap acme --none
              DELETE /api/tenants/acme/spend-cap
            tollgate tier list
              GET /api/tiers
        "#]],
    );
}

#[test]
fn many_tenants_are_asked_for_by_a_filter_and_reports_by_their_days() {
    check_asks(
        &[
            "tollgate bulk tier business --where-tier pro --where-status active --dry-run --limit-rows 5",
            "tollgate bulk status suspended --reason unpaid --tenant acme --tenant globex",
            "tollgate bulk quota api_calls --limit unlimited --where-parent acme",
            "tollgate bulk message \"Maintenance on Sunday\" --text Slow. --all",
            "tollgate bulk items abc --state failed --limit 7",
            "tollgate bulk cancel abc",
            "tollgate bulk resume abc",
            "tollgate report idle",
            "tollgate report idle --keys --days 90",
            "tollgate report oversized --limit 5",
            "tollgate quota recommend acme",
        ],
        &expect![[r#"
            tollgate bulk tier business --where-tier pro --where-status active --dry-run --limit-rows 5
              POST /api/bulk-operations/dry-run?limit=5 {"action":{"kind":"tier","tier":"business"},"filter":{"status":"active","tier":"pro"}}
            tollgate bulk status suspended --reason unpaid --tenant acme --tenant globex
              POST /api/bulk-operations {"action":{"kind":"status","reason":"unpaid","status":"suspended"},"filter":{"tenants":["acme","globex"]}}
            tollgate bulk quota api_calls --limit unlimited --where-parent acme
              POST /api/bulk-operations {"action":{"kind":"quota","limit":null,"resource_type":"api_calls"},"filter":{"parent":"acme"}}
            tollgate bulk message "Maintenance on Sunday" --text Slow. --all
              POST /api/bulk-operations {"action":{"kind":"message","subject":"Maintenance on Sunday","text":"Slow."},"filter":{"all":true}}
            tollgate bulk items abc --state failed --limit 7
              GET /api/bulk-operations/abc/items?state=failed&limit=7
            tollgate bulk cancel abc
              POST /api/bulk-operations/abc/cancel {}
            tollgate bulk resume abc
              POST /api/bulk-operations/abc/resume {}
            tollgate report idle
              GET /api/reports/idle-tenants
            tollgate report idle --keys --days 90
              GET /api/reports/idle-keys?days=90
            tollgate report oversized --limit 5
              GET /api/reports/oversized?limit=5
            tollgate quota recommend acme
              GET /api/tenants/acme/recommendation
        "#]],
    );
}

#[test]
fn forms_of_billing_mean_these_requests() {
    check_asks(
        &[
            "tollgate billing status",
            "tollgate billing events",
            "tollgate billing events --tenant acme --state dead --limit 2",
            "tollgate billing resend e",
            "tollgate billing settle e --as abandoned --reason test",
            "tollgate billing unbilled --limit 2",
        ],
        &expect![[r#"
            tollgate billing status
              GET /api/billing-exports
            tollgate billing events
              GET /api/billing-events
            tollgate billing events --tenant acme --state dead --limit 2
              GET /api/billing-events?tenant=acme&state=dead&limit=2
            tollgate billing resend e
              POST /api/billing-events/e/resend {}
            tollgate billing settle e --as abandoned --reason test
              POST /api/billing-events/e/settle {"as":"abandoned","reason":"test"}
            tollgate billing unbilled --limit 2
              GET /api/reports/unbilled-tenants?limit=2
        "#]],
    );
}
