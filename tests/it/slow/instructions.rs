//! What a request and an admission cost: instructions and allocations, counted by callgrind, so that neither noise nor
//! the speed of a machine disturbs them.
//!
//! What is counted is what the tests run: the debug build, in user space. Its instructions are about six times those of
//! a release build, and say nothing about time; that is for `benches/`. But a loop, a second look-up or an allocation
//! that somebody adds to each request is in both builds. Allocations are exact; instructions below the margin go unseen.
//!
//! # When it fails
//! The change under test made a request dearer than its margin allows, or allocates where nothing did. Either it must
//! not, or it is worth it: then take the figure from the message into the constants here, with the reason in the
//! commit. Another compiler, or another version of tokio, changes the figures too: then count once with the sources
//! before it and once after it; until then they are held loosely. When a change makes requests cheaper, lower the constants, so that it stays so.
//! Processors differ in nothing that valgrind 3.19 shows to programs, if they have AVX2: it hides SHA instructions.

#[expect(dead_code, reason = "the bench uses all of it")]
#[path = "../../../benches/decide/door.rs"]
mod door;

use std::process::Command;

use door::{Door, Gate};
use tollgate::clock::{Clock, SystemClock, Timestamp};

use crate::support::{
    Cost, RawClient, StubUpstream, TestGateway, UNDER_CALLGRIND, charging_all, counted, instructions_within,
};

/// The compiler that the figures are of. With another one they are held to a margin that only a blunder exceeds.
const KEPT_WITH: &str = "rustc 1.95.";
const FOREIGN_MARGIN_PERCENT: u64 = 50;

const ENFORCED: Cost = Cost { instructions: 135_000, allocations: 1 };
const PUBLIC: Cost = Cost { instructions: 84_000, allocations: 1 };
/// Instructions.
const ADMISSION: u64 = 30_200;

/// The least of five rounds of requests differs from run to run by 2 %, as the worker finds the upstream's answer sooner
/// or later; admissions differ by 0.1 %.
const REQUEST_MARGIN_PERCENT: u64 = 5;
const ADMISSION_MARGIN_PERCENT: u64 = 1;

const ROUNDS: usize = 5;
/// In each round.
const REQUESTS: u64 = 100;
const ADMISSIONS: u64 = 1_000;

const WHEN_IT_FAILS: &str = "the head of tests/it/slow/instructions.rs says what to do";

#[test]
fn a_request_costs_no_more_instructions_and_allocations_than_it_did() {
    let upstream = StubUpstream::start();
    let listen = "[listen]\nproxy = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\nworkers = 1\n";
    let public = "[[route]]\nname = \"public\"\npath = \"/public/\"\nupstream = \"stub\"\npublic = true\n";
    let gateway =
        TestGateway::start_by(UNDER_CALLGRIND, &[listen, &charging_all(&upstream), public].concat());
    let customer = gateway.customer_with_limit("Acme", 1_000_000);
    let key = format!("x-api-key: {}", customer.key);
    let mut client = RawClient::connect(gateway.proxy());
    let mut send = |lines: &[&str]| {
        for _ in 0..REQUESTS {
            assert_eq!(client.request(lines, b"").status, 200);
        }
    };
    let enforced = ["GET /v1/scan HTTP/1.1", "host: api", &key];
    let free = ["GET /public/scan HTTP/1.1", "host: api"];
    // Connections are opened, caches and buffers filled.
    send(&enforced);
    send(&free);
    let mut least = |lines| {
        let rounds = (0..ROUNDS).map(|_| counted(&gateway, || send(lines)).each(REQUESTS));
        let rounds: Vec<Cost> = rounds.collect();
        println!("{}: {rounds:?}", lines[0]);
        rounds.into_iter().min().expect("rounds")
    };
    let (enforced, free) = (least(&enforced), least(&free));
    check("an enforced request", enforced, ENFORCED);
    check("a public request", free, PUBLIC);
}

#[test]
fn an_admission_costs_no_more_instructions_than_it_did() {
    let all = instructions_within("admit_again", "slow::instructions::a_warm_key_is_admitted_each_time");
    check_instructions("an admission", all / ADMISSIONS, ADMISSION, ADMISSION_MARGIN_PERCENT);
}

/// What the test before it counts.
#[test]
fn a_warm_key_is_admitted_each_time() {
    let gate = Gate::new();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let now = SystemClock::default().now();
    let door = runtime.expect("a runtime").block_on(Door::open_warm(&gate, now));
    assert!(door.admit(now));
    admit_again(&door, now);
}

/// What `benches/decide` calls “key to reservation, warm, 1 charge”, so many times.
#[inline(never)]
fn admit_again(door: &Door, now: Timestamp) {
    for _ in 0..ADMISSIONS {
        assert!(door.admit(now));
    }
}

#[track_caller]
fn check(what: &str, counted: Cost, kept: Cost) {
    check_instructions(what, counted.instructions, kept.instructions, REQUEST_MARGIN_PERCENT);
    let (allocations, most) = (counted.allocations, kept.allocations);
    assert!(
        allocations <= most,
        "{what} allocates {allocations} times and did {most} times: {WHEN_IT_FAILS}"
    );
}

#[track_caller]
#[expect(clippy::print_stdout, reason = "figures for whoever runs it with --nocapture")]
fn check_instructions(what: &str, counted: u64, kept: u64, margin_percent: u64) {
    println!("{what}: {counted} instructions, {kept} are kept");
    let margin_percent = if is_kept_with() { margin_percent } else { FOREIGN_MARGIN_PERCENT };
    let most = kept + kept * margin_percent / 100;
    assert!(
        counted <= most,
        "{what} costs {counted} instructions; {kept} are kept, and {most} allowed: {WHEN_IT_FAILS}"
    );
}

fn is_kept_with() -> bool {
    let version = Command::new("rustc").arg("--version").output().expect("the compiler");
    version.stdout.starts_with(KEPT_WITH.as_bytes())
}
