//! `/metrics` as Prometheus reads it, and what it tells of traffic.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::support::{StubUpstream, TestGateway, until};

#[test]
fn promtool_finds_no_fault_in_the_metrics() {
    let upstream = StubUpstream::start();
    let gateway = TestGateway::start(&upstream);
    let customer = gateway.customer_with_limit("Acme", 1);
    let mut client = gateway.client();
    let statuses = [0; 2].map(|_| client.get("/", &customer.key).status);
    assert_eq!(statuses, [200, 429]);
    until("the worker's cells to be added", || {
        (gateway.metric("tollgate_requests_total", "2xx") > 0.0).then_some(())
    });
    let text = gateway.admin_text("/metrics");
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is missing; tests/run unpacks it, `apt-get install prometheus` installs it");
    promtool.stdin.take().expect("piped").write_all(text.as_bytes()).expect("promtool reads");
    let checked = promtool.wait_with_output().expect("promtool ends");
    let said = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success() && said.is_empty(), "{said}");
}

#[test]
fn requests_charges_denials_and_use_are_counted() {
    let upstream = StubUpstream::start();
    let gateway = TestGateway::start(&upstream);
    let customer = gateway.customer_with_limit("Acme", 3);
    let mut client = gateway.client();
    for expected in [200, 200, 200, 429, 429] {
        assert_eq!(client.get("/", &customer.key).status, expected);
    }
    assert_eq!(client.get("/", "tg_live_nonsense").status, 401);
    until("the worker's cells to be added", || {
        (gateway.metric("tollgate_requests_total", "2xx") >= 3.0).then_some(())
    });
    for (name, labels, value) in [
        ("tollgate_requests_total", "status_class=\"2xx\"", 3.0),
        ("tollgate_charged_units_total", "resource=\"api_calls\"", 3.0),
        ("tollgate_denied_requests_total", "resource=\"api_calls\"", 2.0),
        ("tollgate_refusals_total", "reason=\"quota_exceeded\"", 2.0),
        ("tollgate_refusals_total", "reason=\"identity_malformed\"", 1.0),
        ("tollgate_quota_used_units", &customer.tenant_id, 3.0),
        ("tollgate_request_duration_seconds_count", "route=\"all\"", 3.0),
        ("tollgate_connections", "", 1.0),
    ] {
        assert_eq!(
            gateway.metric(name, labels),
            value,
            "{name} {labels}\n{}",
            gateway.admin_text("/metrics")
        );
    }
    until("the flush", || (gateway.metric("tollgate_flush_records_total", "") >= 3.0).then_some(()));
}
