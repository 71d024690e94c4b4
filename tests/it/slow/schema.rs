//! The API does what its document says, whatever is sent: a fuzzer makes requests of the document, good ones and bad
//! ones, and holds every answer against it.

use std::process::Command;

use serde_json::json;

use crate::store::set_up_and_migrated;
use crate::support::{StubUpstream, TestGateway, peers};

/// Requests per operation and phase. For more: `SCHEMA_EXAMPLES=1000 tests/run -- cargo test --test it slow::schema`.
const EXAMPLES: &str = "10";

/// What no schema can tell: which names there are, what is over already, which version is the present one. And what is
/// open to everybody on purpose.
const UNTOLD: &str = "positive_data_acceptance,ignored_auth";

/// What is wrong in a request may be told by its precondition, too; and in a batch each event is answered by itself.
const JUDGED: &str = r#"
[checks.negative_data_rejection]
expected-statuses = ["400", "401", "403", "404", "405", "406", "409", "412", "413", "415", "422", "429"]

[[operations]]
include-name = "POST /api/tenants/{tenant}/usage/increment/batch"
checks.negative_data_rejection.enabled = false
"#;

#[test]
fn every_answer_is_in_the_document_on_sqlite() {
    let upstream = StubUpstream::start();
    println!("{}", check(&TestGateway::start(&upstream)));
}

#[test]
fn every_answer_is_in_the_document_on_postgres() {
    let (_postgres, store) = set_up_and_migrated();
    let upstream = StubUpstream::start();
    println!("{}", check(&TestGateway::start_on(&store, &upstream)));
}

/// Answers how many requests were sent. Once with names that nobody has, and once with those of a tenant that has something of everything.
fn check(gateway: &TestGateway) -> String {
    let unaimed = fuzz(gateway, JUDGED, &[]);
    let customer = gateway.customer("Acme", "msp");
    let tenant = format!("/api/tenants/{}", customer.slug);
    let (status, _) =
        gateway.api(&format!("PUT {tenant}/settings/custom.note"), Some(&json!({ "setting_value": 7 })));
    assert_eq!(status, 200);
    let config = format!(
        "[parameters]\n\"path.tenant\" = \"{}\"\n\"path.key\" = \"{}\"\n\
         \"path.setting\" = \"custom.note\"\n\"path.resource\" = \"api_calls\"\n{JUDGED}",
        customer.slug, customer.key_id
    );
    // What would take the tenant away from all others.
    let ends = ["--exclude-path-regex", "/(erase|status)", "--exclude-name", "DELETE /api/tenants/{tenant}"];
    let aimed = fuzz(gateway, &config, &ends);
    // Of what was made and changed nothing has unsettled the books.
    assert_eq!(gateway.json(&["reconcile"])["difference"], 0);
    format!("{unaimed}; {aimed}")
}

fn fuzz(gateway: &TestGateway, config: &str, options: &[&str]) -> String {
    let file = gateway.path("schemathesis.toml");
    std::fs::write(&file, config).expect("a file of ours");
    let examples = std::env::var("SCHEMA_EXAMPLES").unwrap_or(EXAMPLES.to_owned());
    let address = format!("http://{}", gateway.admin());
    let mut fuzzer = Command::new(peers().join("python/bin/st"));
    fuzzer.arg("--config-file").arg(file).args([
        "run",
        &format!("{address}/api/openapi.json"),
        "--url",
        &address,
    ]);
    fuzzer.args(["--header", &format!("Authorization: Bearer {}", gateway.token())]);
    fuzzer.args(["--generation-deterministic", "--max-examples", &examples, "--exclude-checks", UNTOLD]);
    fuzzer.args(["--phases", "examples,coverage,fuzzing", "--no-color", "--warnings", "off"]).args(options);
    let ran = fuzzer.current_dir(gateway.path("")).output().expect("tests/run installs it");
    let told = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{told}\n{}", String::from_utf8_lossy(&ran.stderr));
    told.lines().find(|line| line.contains(" generated")).unwrap_or_default().trim().to_owned()
}
