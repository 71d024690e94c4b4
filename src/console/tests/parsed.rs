//! Pages as a browser reads them, and what every page must keep to.

use std::collections::HashSet;

use axum::http::StatusCode;
use scraper::{ElementRef, Html, Selector};

use super::{Answer, TestConsole};

impl Answer {
    pub(super) fn parsed(&self) -> Html {
        Html::parse_document(&self.text)
    }

    /// The value of the first field of that name.
    #[track_caller]
    pub(super) fn value_of(&self, name: &str) -> String {
        let page = self.parsed();
        let found = page.select(&selector(&format!("[name={name}]"))).next();
        let value = found.and_then(|field| field.value().attr("value"));
        value.unwrap_or_else(|| panic!("no field {name} in {}", self.text)).to_owned()
    }

    /// What every page is: whole HTML with one heading, labelled fields and unique ids, guarded by its headers.
    #[track_caller]
    pub(super) fn is_a_good_page(&self, address: &str) {
        assert!(self.header("content-type").starts_with("text/html"), "{address}");
        for policy in
            ["default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"]
        {
            assert!(self.header("content-security-policy").contains(policy), "{address}: {policy}");
        }
        assert_eq!(self.header("x-content-type-options"), "nosniff", "{address}");
        assert_eq!(self.header("cache-control"), "no-store", "{address}");
        let page = self.parsed();
        let all = |query: &str| page.select(&selector(query)).collect::<Vec<_>>();
        assert_eq!(all("h1").len(), 1, "{address} has one heading");
        assert_eq!(all("html[lang]").len() + all("main").len(), 2, "{address}");
        assert!(!all("title").is_empty(), "{address}");
        let ids: Vec<_> = all("[id]").iter().filter_map(|part| part.value().attr("id")).collect();
        assert_eq!(
            ids.len(),
            ids.iter().collect::<HashSet<_>>().len(),
            "{address}: an id is there twice: {ids:?}"
        );
        for field in all("input:not([type=hidden]), select, textarea") {
            assert!(is_labelled(&page, field), "{address}: {} has no label", field.html());
        }
        for image in all("img") {
            assert!(image.value().attr("alt").is_some(), "{address}: {}", image.html());
        }
        // The policy would refuse them.
        assert!(all("[style], [onclick], [onsubmit], style").is_empty(), "{address}");
        for script in all("script:not([src])") {
            assert_eq!(script.value().attr("type"), Some("application/json"), "{address}: {}", script.html());
        }
        for form in all("form[method=post]") {
            let action = form.value().attr("action").unwrap_or_default();
            let has_token = form.select(&selector("input[name=csrf]")).next().is_some();
            let open = ["theme", "log-in", "first-log-in", "join", "set-password"];
            let is_open = open.iter().any(|name| action.strip_prefix("/console/") == Some(*name));
            assert!(has_token || is_open, "{address}: {action} has no token");
        }
    }
}

fn is_labelled(page: &Html, field: ElementRef<'_>) -> bool {
    let value = field.value();
    if value.attr("aria-label").is_some() {
        return true;
    }
    let wrapped = field.ancestors().filter_map(ElementRef::wrap).any(|part| part.value().name() == "label");
    let by_id = value
        .attr("id")
        .is_some_and(|id| page.select(&selector("label")).any(|label| label.value().attr("for") == Some(id)));
    wrapped || by_id
}

fn selector(query: &str) -> Selector {
    Selector::parse(query).unwrap()
}

#[tokio::test]
async fn every_page_is_whole_labelled_and_guarded() {
    let console = TestConsole::new().await;
    let acme = console.tenant("Acme & <Sons>", "pro").await;
    let mut owner = console.owner("root@example.com").await;
    for address in super::pages::of_everybody().into_iter().chain(super::pages::of_tenant(&acme.slug)) {
        owner.page(&address).await.is_a_good_page(&address);
    }
    let missing = owner.get("/console/nowhere").await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
    missing.is_a_good_page("/console/nowhere");
}
