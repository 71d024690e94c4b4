use std::sync::Arc;

use super::{Breaker, LOSSES_MAX, judge};
use crate::authority::finding::Severity;
use crate::clock::Timestamp;
use crate::store::ServerFacts;

fn sound() -> ServerFacts {
    ServerFacts {
        version: "15.8".to_owned(),
        fsync: true,
        full_page_writes: true,
        is_standby: false,
        now: Timestamp::from_seconds(1_000),
    }
}

#[track_caller]
fn check_judged(facts: &ServerFacts, worst: Severity, said: &str) {
    let findings = judge(facts, Timestamp::from_seconds(1_000));
    assert_eq!(findings.iter().map(|finding| finding.severity).max(), Some(worst), "{findings:?}");
    assert!(findings.iter().any(|finding| finding.what.contains(said)), "{said:?} is not in {findings:?}");
}

#[test]
fn a_server_that_may_lose_what_it_granted_is_warned_of() {
    check_judged(&sound(), Severity::Good, "Postgres 15.8");
    check_judged(&ServerFacts { fsync: false, ..sound() }, Severity::Warning, "fsync = off");
    check_judged(
        &ServerFacts { full_page_writes: false, ..sound() },
        Severity::Warning,
        "full_page_writes = off",
    );
    let late = ServerFacts { now: Timestamp::from_seconds(990), ..sound() };
    check_judged(&late, Severity::Warning, "differs from ours by 10s");
    check_judged(&ServerFacts { is_standby: true, ..sound() }, Severity::Refusal, "is a standby");
}

#[test]
fn after_several_losses_one_call_at_a_time_finds_out_whether_the_server_is_back() {
    let breaker = Arc::new(Breaker::default());
    for _ in 0..LOSSES_MAX {
        assert!(breaker.pass().is_some() && breaker.pass().is_some());
        breaker.note(false);
    }
    let probe = breaker.pass();
    assert!(probe.is_some());
    assert!(breaker.pass().is_none(), "a second one would wait in vain");
    drop(probe);
    assert!(breaker.pass().is_some(), "the next probe");
    breaker.note(true);
    let passes = [breaker.pass(), breaker.pass()];
    assert!(passes.iter().all(Option::is_some));
}
