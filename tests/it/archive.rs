//! A tenant moved from one installation to another by the command line; and keys of secrets exchanged, whatever is killed.

use std::io::Write;
use std::process::{Child, Command, Stdio};

use crate::store::set_up_and_migrated;
use crate::support::{Run, StubUpstream, TestGateway, charging_all, psql, tollgate, until};

/// Digits of a key.
const fn secret_key(version: u32) -> &'static str {
    match version {
        1 => "1111111111111111111111111111111111111111111111111111111111111111",
        _ => "2222222222222222222222222222222222222222222222222222222222222222",
    }
}

#[test]
fn a_tenant_is_moved_and_its_keys_and_counters_go_on() {
    let upstream = StubUpstream::start();
    let pepper = format!("[identity.api_key]\npepper = \"{}\"\n", "07".repeat(32));
    let configuration = format!("{}{pepper}", charging_all(&upstream));
    let (here, there) = (TestGateway::start_with(&configuration), TestGateway::start_with(&configuration));
    let customer = here.customer_with_limit("Acme", 10);
    let mut client = here.client();
    for _ in 0..4 {
        assert_eq!(client.get("/", &customer.key).status, 200);
    }
    until("the usage", || (here.usage_rows(&customer).len() == 1).then_some(()));
    std::fs::write(here.path("words.txt"), "correct horse battery staple\n").expect("a file of ours");
    let (file, words) = (here.path("acme.age"), here.path("words.txt"));
    let (file, words) = (file.to_str().expect("UTF-8"), words.to_str().expect("UTF-8"));
    let exported = here.json(&["export", &customer.slug, file, "--passphrase-file", words]);
    let again = here.tollgate(&["export", &customer.slug, file, "--passphrase-file", words]);
    assert!(again.stderr.contains("is there already"), "{}", again.stderr);

    let import = ["import", file, "--passphrase-file", words];
    let unknown = there.tollgate(&import);
    assert_eq!(unknown.status.code(), Some(1));
    let signer = exported["signer"].as_str().expect("a text");
    assert!(unknown.stderr.contains(signer), "{}", unknown.stderr);
    let imported = there.json(&[&import[..], &["--signed-by", signer]].concat());
    assert_eq!((&imported["rows"], &imported["keys_work"]), (&exported["rows"], &true.into()));
    // The gateway beside which that was done serves the tenant, from where it stood.
    let mut client = there.client();
    until("the key to work", || (client.get("/", &customer.key).status == 200).then_some(()));
    let statuses: Vec<u16> = (0..7).map(|_| client.get("/", &customer.key).status).collect();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 429, 429]);
    let verdict = there.json(&["audit", "verify", &customer.slug]);
    assert_eq!(verdict["verdict"], "whole", "{verdict}");
}

#[test]
fn a_gateway_leaves_checkpoints_when_it_ends_and_they_notice_what_was_cut_off() {
    let upstream = StubUpstream::start();
    let mut gateway = TestGateway::start(&upstream);
    let customer = gateway.customer_with_limit("Acme", 10);
    assert!(gateway.terminate().success());
    let lines = gateway.path("data/audit-checkpoints.ndjson");
    let lines = lines.to_str().expect("UTF-8");
    let verdict = gateway.json(&["audit", "verify", "--checkpoints", lines]);
    assert_eq!(verdict["verdict"], "whole", "{verdict}");
    assert!(verdict["chains"].as_array().expect("a list").len() >= 2, "{verdict}");
    let id = gateway.json(&["tenant", "show", &customer.slug])["tenant_id"].clone();
    let own = |verdict: &serde_json::Value| {
        let chains = verdict["chains"].as_array().expect("a list").clone();
        chains.into_iter().find(|chain| chain["tenant_id"] == id).expect("the tenant's")
    };
    // Somebody with another database in hand: nothing of what the lines say is there.
    let database = gateway.path("data/tollgate.db");
    for left in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{left}", database.display()));
    }
    let run = gateway.tollgate(&["audit", "verify", "--checkpoints", lines, "--json"]);
    assert_eq!(run.status.code(), Some(1), "{}", run.stderr);
    let verdict = serde_json::from_str(&run.stdout).expect("JSON");
    assert_eq!(own(&verdict)["fault"], "rows are missing at the end");
}

/// Tenants with a secret each, on a Postgres: more than one rotation rewraps at once.
const TENANTS: usize = 230;

#[test]
fn a_rotation_that_is_killed_goes_on_where_it_was() {
    let (_postgres, store) = set_up_and_migrated();
    let directory = tempfile::tempdir().expect("a directory");
    let configure = |versions: &[u32]| {
        let key = |version: &u32| format!("{{ version = {version}, key = \"{}\" }}", secret_key(*version));
        let keys: Vec<_> = versions.iter().map(key).collect();
        let text = format!(
            "data.directory = \"data\"\nstore.url = \"{store}\"\ncontrol.secret_keys = [{}]\n",
            keys.join(", ")
        );
        std::fs::write(directory.path().join("tollgate.toml"), text).expect("a file of ours");
    };
    let run = |arguments: &[&str]| {
        let run = tollgate(directory.path(), arguments);
        assert!(run.status.success(), "{arguments:?}: {}", run.stderr);
        run
    };
    let tenant = |number| {
        format!("[[tenant]]\nslug = \"t{number}\"\nsecrets = {{ \"custom.token\" = \"secret {number}\" }}\n")
    };
    let manifest: String = (0..TENANTS).map(tenant).collect();
    std::fs::write(directory.path().join("tenants.toml"), manifest).expect("a file of ours");
    configure(&[1]);
    run(&["apply", "tenants.toml"]);

    configure(&[1, 2]);
    let last = "SELECT tenant_id FROM tenant_data_keys ORDER BY ctid DESC LIMIT 1 FOR UPDATE";
    let mut holding = held(&store, last);
    let mut rotation = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(["settings", "rotate"])
        .current_dir(directory.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary starts");
    let rotated = || {
        let count =
            "SET ROLE tollgate_platform; SELECT COUNT(*) FROM tenant_data_keys WHERE ring_version = 2";
        psql(&store, count).parse::<usize>().expect("a number")
    };
    until("some batches", || (rotated() > 0).then_some(()));
    rotation.kill().expect("it waits for the row");
    rotation.wait().expect("it is ours");
    drop(holding.stdin.take());
    holding.wait().expect("it is ours");
    let some = rotated();
    assert!((1..TENANTS).contains(&some), "killed in the middle: {some} of {TENANTS}");

    // What is wrapped by either key opens meanwhile; then the old one is not needed any more.
    let words = directory.path().join("words");
    std::fs::write(&words, "correct horse battery staple").expect("a file of ours");
    let exports = |run: &dyn Fn(&[&str]) -> Run, name: &str, number: usize| {
        let (slug, file) = (format!("t{number}"), format!("{name}.age"));
        run(&["export", &slug, &file, "--passphrase-file", words.to_str().expect("UTF-8")]);
    };
    exports(&run, "first", 0);
    let left = run(&["settings", "rotate", "--json"]).stdout;
    let left: serde_json::Value = serde_json::from_str(&left).expect("JSON");
    assert_eq!((&left["rewrapped"], rotated()), (&(TENANTS - some).into(), TENANTS));
    configure(&[2]);
    exports(&run, "last", TENANTS - 1);
    // One that made a key for itself is told so before it seals anything.
    configure(&[]);
    let refused = tollgate(directory.path(), ["tenant", "list"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.stderr.contains("control.secret_keys"), "{}", refused.stderr);
}

/// Holds rows until its input ends.
fn held(store: &str, sql: &str) -> Child {
    let mut psql = Command::new("psql")
        .args(["-X", "-q", "-At", store])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("psql comes with Postgres: tests/run");
    let input = psql.stdin.as_mut().expect("piped");
    writeln!(input, "SET ROLE tollgate_platform; BEGIN; {sql};").expect("it reads");
    let output = psql.stdout.as_mut().expect("piped");
    let mut one = [0];
    std::io::Read::read_exact(output, &mut one).expect("the row is held");
    psql
}
