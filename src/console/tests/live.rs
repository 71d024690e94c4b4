use axum::body::Body;
use http_body_util::BodyExt;

use super::TestConsole;
use crate::console::live::STREAMS_MAX;

/// What comes next; `None` at the end.
async fn next(body: &mut Body) -> Option<String> {
    let frame = body.frame().await?.unwrap();
    Some(String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap())
}

#[tokio::test]
async fn the_numbers_are_sent_until_the_session_ends() {
    let console = TestConsole::new().await;
    let acme = console.tenant("Acme", "pro").await;
    let mut ann = console.member(&acme, "ann@example.com", "owner").await;
    let answer = ann.stream("/console/tenants/acme/live/events").await;
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut body = answer.into_body();
    let first = next(&mut body).await.unwrap();
    assert!(first.starts_with("event: live\ndata: ") && first.contains("Nothing is amiss."), "{first}");
    assert_eq!(next(&mut body).await.unwrap(), "event: still\ndata: .\n\n");
    ann.submit("/console/account", "/console/log-out", &[]).await.leads_to("/console/log-in");
    assert_eq!(next(&mut body).await, None);
}

#[tokio::test]
async fn there_are_so_many_streams_and_no_more() {
    let console = TestConsole::new().await;
    let acme = console.tenant("Acme", "pro").await;
    let ann = console.member(&acme, "ann@example.com", "owner").await;
    let mut open = Vec::new();
    for _ in 0..STREAMS_MAX {
        let answer = ann.stream("/console/tenants/acme/live/events").await;
        assert_eq!(answer.status(), 200);
        open.push(answer);
    }
    assert_eq!(ann.stream("/console/tenants/acme/live/events").await.status(), 503);
    open.pop();
    assert_eq!(ann.stream("/console/tenants/acme/live/events").await.status(), 200);
}
