//! `/api/tenants/{tenant}/analytics` and `…/alert-rules`

use serde_json::json;

use super::TestApi;

#[tokio::test]
async fn series_come_with_their_sums_or_as_rows_alone() {
    let api = TestApi::new().await;
    api.tenant("Acme").await;
    let path =
        "GET /api/tenants/acme/analytics?period=hour&resource_type=api_calls&from=2026-11-23T00:00:00Z";
    let shown = api.call(path).send().await;
    assert_eq!(shown.status, 200, "{:#}", shown.body);
    assert_eq!((&shown.body["items"], &shown.body["total"]["units"]), (&json!([]), &json!(0)));
    assert_eq!(shown.body["change"], json!({ "units_percent": null, "requests_percent": null }));
    let (headers, text) = api.call(path).header("accept", "text/csv").text_of().await;
    assert_eq!(headers["content-type"], "text/csv; charset=utf-8");
    assert!(text.starts_with("start,group,units,"), "{text}");
    let mixed = api.call("GET /api/tenants/acme/analytics?period=hour").send().await;
    assert_eq!((mixed.status.as_u16(), mixed.fields()), (422, vec!["resource_type"]));
    let unknown = api.call("GET /api/tenants/acme/analytics?period=week&group_by=colour").send().await;
    assert_eq!((unknown.status.as_u16(), unknown.fields()), (422, vec!["period", "group_by"]));
    let forecast = api.call("GET /api/tenants/acme/analytics/forecast").send().await;
    assert_eq!(forecast.body["items"][0]["forecast"], json!(null), "{:#}", forecast.body);
}

#[tokio::test]
async fn rules_are_the_built_in_ones_and_the_tenants_own() {
    let api = TestApi::new().await;
    api.tenant("Acme").await;
    let body = json!({ "kind": "quota", "threshold": 80, "enabled": false });
    let made = api.call("POST /api/tenants/acme/alert-rules").json(&body).await;
    assert_eq!(made.status, 201, "{:#}", made.body);
    let listed = api.call("GET /api/tenants/acme/alert-rules").send().await;
    let rules = listed.body["items"].as_array().unwrap();
    let built_in: Vec<_> = rules.iter().filter(|rule| rule["source"] == "built_in").collect();
    assert_eq!((built_in.len(), rules.len()), (11, 12), "{:#}", listed.body);
    assert_eq!((&built_in[0]["threshold"], &built_in[0]["enabled"]), (&json!(80), &json!(false)));
    let path = made.headers["location"].to_str().unwrap().to_owned();
    let on = api.call(&format!("PATCH {path}")).json(&json!({ "enabled": true })).await;
    assert_eq!((on.status.as_u16(), &on.body["enabled"]), (200, &json!(true)));
    assert_eq!(api.call(&format!("DELETE {path}")).send().await.status, 204);
    let alerts = api.call("GET /api/tenants/acme/alerts?acknowledged=false&kind=quota").send().await;
    assert_eq!(alerts.body["items"], json!([]));
}
