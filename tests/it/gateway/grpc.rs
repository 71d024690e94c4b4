//! gRPC as Google's library speaks it, client and server, with the gateway between them.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};

use serde_json::{Value, json};

use super::used;
use crate::support::{Customer, TestGateway, python, until};

/// The program of `tests/it/peers/grpc_check.py`. Killed when it is dropped.
struct Peers {
    process: Child,
    output: BufReader<ChildStdout>,
}

#[test]
fn all_kinds_of_grpc_calls_pass_and_each_that_is_sent_is_charged_once() {
    let mut peers = Peers::start();
    let gateway = TestGateway::start_with(&format!(
        "[[upstream]]\nname = \"grpc\"\nurls = [\"h2c://127.0.0.1:{}\"]\n\
         [[route]]\nname = \"all\"\npath = \"/\"\nupstream = \"grpc\"\ncharge = {{ api_calls = 1 }}\n",
        peers.line()
    ));
    let (customer, one) = (gateway.customer("Acme", "free"), gateway.customer_with_limit("One", 1));
    let seen = peers.call(&gateway, &customer, &one);

    let served = ["Unary", "Unary", "Down", "Up", "Up", "Both", "Fail", "Hang", "Hang", "Unary"];
    assert_eq!(seen["served"], json!(served), "what is refused is not sent");
    assert_eq!(seen["refused"], json!(["RESOURCE_EXHAUSTED", "UNAUTHENTICATED"]));
    let mut tenants = [&customer.tenant_id, &one.tenant_id];
    tenants.sort();
    assert_eq!(seen["tenants"], json!(tenants));
    let remaining = seen["deadlines"][0].as_f64().expect("the server is told the deadline");
    // Half a second, which the library rounds; without the header it would have none.
    assert!(remaining < 1.0, "{remaining} s");

    let sent = served.len() as u64 - 1;
    let rows = until("the usage is in the log", || {
        let rows = gateway.usage_rows(&customer);
        (sum(&rows, "requests") == sent).then_some(rows)
    });
    assert_eq!(sum(&rows, "usage_amount"), sent);
    assert_eq!((used(&gateway, &customer, "api_calls"), used(&gateway, &one, "api_calls")), (sent, 1));
    let ended = |outcome: &str| sum(rows.iter().filter(|row| row["outcome"] == outcome), "requests");
    // Server and client both know the deadline: either may be the first to end that call.
    assert!(ended("answered") >= 7 && ended("client_gone") >= 1, "{rows:?}");
}

fn sum<'r>(rows: impl IntoIterator<Item = &'r Value>, field: &str) -> u64 {
    rows.into_iter().map(|row| row[field].as_u64().expect("a number")).sum()
}

// === impl Peers ===

impl Peers {
    fn start() -> Peers {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/peers/grpc_check.py");
        let mut command = python(&script);
        let mut process =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("Python starts");
        let output = BufReader::new(process.stdout.take().expect("a pipe"));
        Peers { process, output }
    }

    /// Lets the client call the server through the gateway; gives what they have seen.
    #[track_caller]
    fn call(&mut self, gateway: &TestGateway, customer: &Customer, one: &Customer) -> Value {
        let mut input = self.process.stdin.take().expect("a pipe");
        writeln!(input, "{} {} {}", gateway.proxy(), customer.key, one.key).expect("it reads");
        serde_json::from_str(&self.line()).expect("no traceback above")
    }

    /// The next line that it says; empty when it has ended.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("text");
        line.trim_end().to_owned()
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
