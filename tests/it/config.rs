//! `tollgate check` and `tollgate schema`, as an operator runs them.

use std::path::Path;

use expect_test::expect;

use crate::support::{tollgate, tollgate_with};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn check_names_all_five_faults_with_line_and_column() {
    let directory = tempfile::tempdir().unwrap();
    let text = r#"[listen]
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
"#;
    std::fs::write(directory.path().join("x.toml"), text).unwrap();
    let run = tollgate(directory.path(), ["check", "--config", "x.toml"]);
    assert_eq!(run.status.code(), Some(1), "{}", run.stderr);
    let lines: Vec<&str> = run.stdout.lines().filter(|line| line.starts_with("x.toml:")).collect();
    expect![[r#"
        x.toml:2:1: listen.proxy: expected an IP address with a port, such as "0.0.0.0:8080" or "[::]:8080", found "0.0.0.0"
        x.toml:3:1: listen.wokers: unknown key `wokers`; did you mean `workers`?
        x.toml:6:1: journal.sync: expected a duration such as "50ms", or "always" or "never", found the integer 50
        x.toml:14:1: route[0].path: must start with `/`
        x.toml:15:1: route[0].upstream: there is no upstream `ordres`; did you mean `orders`?"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn check_finds_no_fault_in_the_shipped_files() {
    let secret = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    let variables = [
        ("TOLLGATE_STORE_URL", "postgres://tollgate@db.internal/tollgate"),
        ("TOLLGATE_AUTHORITY_URL", "rediss-cluster://redis-1.internal:6379,redis-2.internal:6379"),
        ("TOLLGATE_PEPPER", secret),
        ("TOLLGATE_SECRET_KEY", secret),
        ("TOLLGATE_SIGNING_KEY", secret),
        ("TOLLGATE_PLATFORM_TOKEN", secret),
        ("TOLLGATE_SECRET_KEY", secret),
    ];
    for (file, variables) in [("config/tollgate.toml", &[][..]), ("config/production.toml", &variables)] {
        let run = tollgate_with(variables, root(), &["check", "--config", file]);
        assert!(run.status.success(), "{file}: {}{}", run.stdout, run.stderr);
    }
}

#[test]
fn a_file_that_is_named_but_missing_is_a_fault() {
    let directory = tempfile::tempdir().unwrap();
    let run = tollgate(directory.path(), ["check", "--config", "missing.toml"]);
    assert_eq!(run.status.code(), Some(1));
    assert!(run.stdout.contains("missing.toml: can't be read"), "{}{}", run.stdout, run.stderr);
}

#[test]
fn schema_prints_the_schema_in_the_repository() {
    let run = tollgate(root(), ["schema"]);
    assert!(run.status.success(), "{}", run.stderr);
    assert_eq!(run.stdout, std::fs::read_to_string(root().join("config/schema.json")).unwrap());
}
