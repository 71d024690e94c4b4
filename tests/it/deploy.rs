//! What `deploy/` ships, checked by the programs that it is for: Prometheus, systemd, and Kubernetes' own schemas.

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{RawClient, StubIssuer, StubUpstream, TestGateway, python, tollgate_with, until};

const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A real Prometheus that scrapes one gateway, under the configuration and the rules that are shipped.
struct Prometheus {
    directory: TempDir,
    address: SocketAddr,
    process: Child,
}

fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(path)
}

fn read(path: &str) -> String {
    let path = shipped(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Runs a program that must find no fault.
#[track_caller]
fn check(command: &mut Command, package: &str) {
    let name = command.get_program().to_owned();
    let ran = command.stdin(Stdio::null()).output();
    let ran =
        ran.unwrap_or_else(|error| panic!("{name:?} does not start ({error}): apt-get install {package}"));
    let said = [ran.stdout, ran.stderr].concat();
    assert!(ran.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&said));
}

#[track_caller]
fn promtool(arguments: &[&str]) {
    check(Command::new("promtool").args(arguments).current_dir(shipped("prometheus")), "prometheus");
}

#[test]
fn prometheus_accepts_its_configuration_and_the_alerts() {
    promtool(&["check", "config", "prometheus.yml"]);
    promtool(&["check", "rules", "alerts.yml"]);
}

#[test]
fn each_alert_fires_for_what_it_is_for_and_none_on_a_fleet_that_is_well() {
    promtool(&["test", "rules", "alerts_test.yml"]);
    let tests = read("prometheus/alerts_test.yml");
    for alert in alerts() {
        let forms = [
            format!("ALERTS{{alertname=\"{alert}\", alertstate=\"firing\","),
            format!("alertname: {alert}\n        eval_time: "),
        ];
        assert!(forms.iter().any(|form| tests.contains(form)), "no test shows {alert} firing");
    }
}

fn alerts() -> Vec<String> {
    let rules = read("prometheus/alerts.yml");
    let names = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    let names: Vec<_> = names.map(str::to_owned).collect();
    assert!(names.len() > 10, "{names:?}");
    names
}

#[test]
fn each_panel_shows_something_and_each_alert_looks_at_what_a_gateway_exposes() {
    let (upstream, issuer) = (StubUpstream::start(), StubIssuer::start());
    let billed = format!(
        "[billing.export]\nkind = \"stripe\"\nurl = \"http://{}\"\nsecret = \"sk_test\"\n\
         meters = {{ api_calls = \"calls\" }}\n",
        nobodys_address()
    );
    let gateway = TestGateway::start_with(&format!("{}{}{billed}", two_routes(&upstream), issuer.config("")));
    let customer = gateway.customer_with_limit("Acme", 2);
    let prometheus = Prometheus::start(gateway.admin());
    let mut client = gateway.client();
    for panel in panels() {
        until(&format!("an answer to {panel}"), || {
            // Rates need something that goes on: an answer, a denial, an upstream that can't be reached.
            client.get("/", &customer.key);
            client.get("/nowhere", &customer.key);
            prometheus.shows(&panel).then_some(())
        });
    }
    let exposed = gateway.admin_text("/metrics");
    for metric in metrics_in(&read("prometheus/alerts.yml")) {
        assert!(exposed.contains(&format!("# TYPE {metric} ")), "no gateway exposes {metric}");
    }
}

fn two_routes(upstream: &StubUpstream) -> String {
    format!(
        "[[upstream]]\nname = \"stub\"\nurls = [\"{}\"]\n\
         [[upstream]]\nname = \"nowhere\"\nurls = [\"http://{}\"]\n\
         [[route]]\nname = \"all\"\npath = \"/\"\nupstream = \"stub\"\ncharge = {{ api_calls = 1 }}\n\
         [[route]]\nname = \"nowhere\"\npath = \"/nowhere\"\nupstream = \"nowhere\"\n",
        upstream.url(),
        nobodys_address(),
    )
}

/// The expressions of the dashboard, as Grafana would send them.
fn panels() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&read("grafana/tollgate.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let expressions = targets.map(|target| target["expr"].as_str().expect("an expression"));
    let expressions: Vec<_> = expressions
        .map(|text| {
            text.replace("$__rate_interval", "10s").replace("$__range", "10s").replace("$instance", ".+")
        })
        .collect();
    assert!(expressions.len() > 30, "{expressions:?}");
    expressions
}

/// The metrics that a text names, without what Prometheus makes of a histogram.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let metrics = words.filter(|word| word.starts_with("tollgate_"));
    metrics.map(|word| word.trim_end_matches("_bucket")).collect()
}

#[test]
fn systemd_accepts_the_unit_and_finds_it_well_locked_up() {
    let directory = tempfile::tempdir().expect("a directory");
    let unit = read("tollgate.service");
    // It has to find the program that it starts.
    let unit = unit.replace("/usr/bin/tollgate", env!("CARGO_BIN_EXE_tollgate"));
    let path = directory.path().join("tollgate.service");
    fs::write(&path, unit).expect("a file of ours");
    let analyze = |arguments: &[&str]| {
        check(Command::new("systemd-analyze").args(arguments).arg(&path), "systemd");
    };
    analyze(&["verify", "--man=no", "--recursive-errors=no"]);
    // 10 is a unit without any restriction; services of the distribution are between 5 and 9.
    analyze(&["security", "--no-pager", "--offline=yes", "--threshold=15"]);
}

#[test]
fn kubernetes_accepts_the_manifests_and_they_name_each_other() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/peers/manifests.py");
    check(python(&script).arg(shipped("kubernetes")), "python3-venv");
}

#[test]
fn compose_and_kubernetes_give_the_variables_that_their_configuration_takes() {
    let configuration = read("kubernetes/tollgate.toml");
    let taken = variables_in(&configuration, "\"env:");
    let compose = read("compose.yaml");
    // The URL of the upstream is the manifest's, all others are in the Secret that README.md makes.
    let kubernetes = read("kubernetes/statefulset.yaml") + &read("README.md");
    for variable in &taken {
        assert!(compose.contains(&format!("{variable}: ")), "compose.yaml lacks {variable}");
        let is_given = [format!("name: {variable}\n"), format!("{variable}=")];
        assert!(is_given.iter().any(|given| kubernetes.contains(given)), "Kubernetes lacks {variable}");
    }
    let values = taken.iter().map(|variable| (*variable, value_of(variable)));
    let values: Vec<_> = values.collect();
    let run = tollgate_with(&values, &shipped("kubernetes"), &["check", "tollgate.toml"]);
    assert!(run.status.success(), "{}{}", run.stdout, run.stderr);
}

fn variables_in<'t>(text: &'t str, before: &str) -> BTreeSet<&'t str> {
    let found = text.split(before).skip(1).map(|rest| rest.split('"').next().expect("a first part"));
    let found: BTreeSet<_> = found.collect();
    assert!(!found.is_empty());
    found
}

fn value_of(variable: &str) -> &'static str {
    match variable {
        "TOLLGATE_STORE_URL" => "postgres://tollgate@db/tollgate",
        "TOLLGATE_AUTHORITY_URL" => "redis://redis:6379",
        "TOLLGATE_UPSTREAM_URL" => "http://upstream:80",
        _ => SECRET,
    }
}

/// Where nobody listens.
fn nobodys_address() -> SocketAddr {
    // The kernel hands ports out in turn: nobody is given this one soon.
    let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    free.expect("a free port")
}

// === impl Prometheus ===

impl Prometheus {
    fn start(gateway: SocketAddr) -> Prometheus {
        let directory = tempfile::tempdir().expect("a directory");
        let configuration = read("prometheus/prometheus.yml")
            .replace("[\"gateway-1:9090\", \"gateway-2:9090\"]", &format!("[\"{gateway}\"]"))
            .replace("_interval: 15s", "_interval: 500ms");
        let file = directory.path().join("prometheus.yml");
        fs::write(&file, configuration).expect("a file of ours");
        fs::copy(shipped("prometheus/alerts.yml"), directory.path().join("alerts.yml")).expect("a copy");
        let address = nobodys_address();
        let log = fs::File::create(directory.path().join("log")).expect("a file of ours");
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", directory.path().join("tsdb").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("prometheus is missing; tests/run unpacks it, `apt-get install prometheus` installs it");
        Prometheus { directory, address, process }
    }

    /// Whether an expression has a value now; false as long as Prometheus is not there yet.
    ///
    /// # Panics
    /// If Prometheus does not understand it.
    fn shows(&self, expression: &str) -> bool {
        let body = form(expression);
        let Ok(mut client) = RawClient::try_connect(self.address) else { return false };
        let head = [
            "POST /api/v1/query HTTP/1.1",
            &format!("host: {}", self.address),
            "content-type: application/x-www-form-urlencoded",
            &format!("content-length: {}", body.len()),
            "connection: close",
        ];
        let request = format!("{}\r\n\r\n{body}", head.join("\r\n"));
        if client.try_send(request.as_bytes()).is_err() {
            return false;
        }
        let Ok(answer) = client.try_response("POST") else { return false };
        if answer.status == 503 {
            return false;
        }
        assert_eq!(answer.status, 200, "{expression}: {}\n{}", answer.text(), self.log());
        answer.json()["data"]["result"].as_array().is_some_and(|series| !series.is_empty())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

/// `query=…`, as a form has it.
fn form(expression: &str) -> String {
    let escaped = expression.bytes().map(|byte| format!("%{byte:02X}"));
    format!("query={}", escaped.collect::<String>())
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
