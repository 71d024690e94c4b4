//! Every way in which an upstream fails: what the client sees, what it is charged, and what the usage log says of it.

use std::net::SocketAddr;

use serde_json::Value;

use super::upstream::closed_port;
use super::{route, used};
use crate::support::{Answer, Http2Client, StubUpstream, TestGateway, until};

/// What a client gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Seen {
    /// An answer of ours, with this end of its type.
    Problem(u16, &'static str),
    /// The upstream's answer, whole.
    Whole(u16),
    /// An answer that ends before its end, and shows it.
    Truncated,
}

struct Case {
    name: &'static str,
    /// Absent: nobody listens.
    answer: Option<Answer>,
    seen: Seen,
    /// As the usage log has it; `None` where the upstream never heard of the request.
    outcome: Option<&'static str>,
    /// What a route that charges on success keeps of one unit.
    kept_on_success: u64,
}

#[test]
fn clients_units_and_records_agree_on_every_failure_of_an_upstream() {
    for case in cases() {
        check(&case);
    }
}

fn cases() -> Vec<Case> {
    let long_head = [b"HTTP/1.1 200 OK\r\nx: ".to_vec(), vec![b'y'; 70 << 10], b"\r\n\r\n".to_vec()].concat();
    let close = |bytes: &[u8]| Some(Answer::Close(bytes.to_vec()));
    let reset = |bytes: &[u8]| Some(Answer::Reset(bytes.to_vec()));
    let broke = Seen::Problem(502, "upstream-broke");
    let case =
        |name, answer, seen, outcome, kept_on_success| Case { name, answer, seen, outcome, kept_on_success };
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf";
    let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n";
    let bad_chunk = [&chunked[..], b"zz\r\n"].concat();
    let surplus = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok and more";
    vec![
        case("killed", None, Seen::Problem(502, "upstream-unreachable"), None, 0),
        case("hung", Some(Answer::Hang), Seen::Problem(504, "upstream-timeout"), Some("upstream_timeout"), 0),
        case("closed at once", close(b""), broke, Some("upstream_broke"), 0),
        case("reset at once", reset(b""), broke, Some("upstream_broke"), 0),
        case("closed in the head", close(b"HTTP/1.1 200 OK\r\nx: y\r\n"), broke, Some("upstream_broke"), 0),
        case("no HTTP", close(b"SSH-2.0-OpenSSH\r\n\r\n"), broke, Some("upstream_broke"), 0),
        case("a bad status line", close(b"HTTP/1.1 2x0 OK\r\n\r\n"), broke, Some("upstream_broke"), 0),
        case("too large a head", close(&long_head), broke, Some("upstream_broke"), 0),
        case(
            "two lengths",
            close(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok"),
            broke,
            Some("upstream_broke"),
            0,
        ),
        case("reset in the body", reset(head), Seen::Truncated, Some("upstream_broke"), 0),
        case("closed in the body", close(head), Seen::Truncated, Some("upstream_broke"), 0),
        case("closed between chunks", close(chunked), Seen::Truncated, Some("upstream_broke"), 0),
        case("a bad chunk", close(&bad_chunk), Seen::Truncated, Some("upstream_broke"), 0),
        case(
            "hung in the body",
            Some(Answer::Raw(head.to_vec()).then(Answer::Hang)),
            Seen::Truncated,
            Some("upstream_timeout"),
            0,
        ),
        // What it says of itself is passed on.
        case("more than it said", close(surplus), Seen::Whole(200), Some("answered"), 1),
        case("an error of its own", Some(Answer::status(500, "")), Seen::Whole(500), Some("answered"), 0),
        case("overloaded", Some(Answer::status(503, "")), Seen::Whole(503), Some("answered"), 0),
    ]
}

fn check(case: &Case) {
    let name = case.name;
    let stub = StubUpstream::start();
    if let Some(answer) = case.answer.clone() {
        stub.answer(move |_| answer.clone());
    }
    let gateway = gateway_before(case.answer.as_ref().map_or_else(closed_port, |_| stub.address()));
    let customer = gateway.customer("Acme", "free");
    for path in ["/admit", "/success"] {
        assert_eq!(by_http1(&gateway, path, &customer.key), case.seen, "{name}, HTTP/1, {path}");
        assert_eq!(by_http2(&gateway, path, &customer.key), case.seen, "{name}, HTTP/2, {path}");
    }
    let kept = [if case.outcome.is_some() { 1 } else { 0 }, case.kept_on_success];
    until("units are settled", || {
        (used(&gateway, &customer, "api_calls") == 2 * (kept[0] + kept[1])).then_some(())
    });
    let Some(outcome) = case.outcome else {
        return assert_eq!(gateway.usage_rows(&customer), Vec::<Value>::new(), "{name}");
    };
    let expected = [("admit", outcome, 2, 2 * kept[0]), ("success", outcome, 2, 2 * kept[1])];
    let expected = expected
        .map(|(route, outcome, requests, units)| (route.to_owned(), outcome.to_owned(), requests, units));
    let rows = until("all is in the usage log", || {
        let rows = summed(&gateway.usage_rows(&customer));
        (rows.iter().map(|(.., requests, _)| requests).sum::<u64>() == 4).then_some(rows)
    });
    assert_eq!(rows, expected, "{name}");
}

/// Route, outcome, requests and units, by route.
fn summed(rows: &[Value]) -> Vec<(String, String, u64, u64)> {
    let mut sums: Vec<(String, String, u64, u64)> = Vec::new();
    for row in rows {
        let text = |field: &str| row[field].as_str().expect("text").to_owned();
        let number = |field: &str| row[field].as_u64().expect("a number");
        let (route, outcome) = (text("route"), text("outcome"));
        let known = sums.iter_mut().find(|sum| (&sum.0, &sum.1) == (&route, &outcome));
        match known {
            Some((.., requests, units)) => {
                *requests += number("requests");
                *units += number("usage_amount");
            }
            None => sums.push((route, outcome, number("requests"), number("usage_amount"))),
        }
    }
    sums.sort();
    sums
}

fn by_http1(gateway: &TestGateway, path: &str, key: &str) -> Seen {
    let mut client = gateway.client();
    client.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\nx-api-key: {key}\r\n\r\n"));
    match client.try_response("GET") {
        Ok(response) => seen(response.status, &response.message.body),
        Err(_) => Seen::Truncated,
    }
}

fn by_http2(gateway: &TestGateway, path: &str, key: &str) -> Seen {
    let mut client = Http2Client::connect(gateway.proxy());
    match client.try_request("GET", path, &[&format!("x-api-key: {key}")], "") {
        Ok(response) => seen(response.status, &response.body),
        Err(_) => Seen::Truncated,
    }
}

fn seen(status: u16, body: &[u8]) -> Seen {
    let problem: Option<Value> = serde_json::from_slice(body).ok();
    let kinds = ["upstream-unreachable", "upstream-timeout", "upstream-broke"];
    let kind = problem.and_then(|problem| {
        kinds.into_iter().find(|kind| problem["type"].as_str().is_some_and(|own| own.ends_with(kind)))
    });
    kind.map_or(Seen::Whole(status), |kind| Seen::Problem(status, kind))
}

fn gateway_before(address: SocketAddr) -> TestGateway {
    let upstream = format!(
        "[[upstream]]\nname = \"stub\"\nurls = [\"http://{address}\"]\n\
         timeouts = {{ first_byte = \"300ms\", idle = \"300ms\" }}\n"
    );
    let routes = [
        route("admit", "/admit", "charge = { api_calls = 1 }"),
        route("success", "/success", "charge = { api_calls = 1 }\non = \"success\""),
    ];
    TestGateway::start_with(&(upstream + &routes.concat()))
}
