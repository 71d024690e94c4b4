//! Brands: whose name and picture stand at the top of a tenant's pages, and in which color.
//!
//! The color comes in a style sheet of its own, whose address says all that is in it: pages have no styles in them.

use axum::extract::Path;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::refusal::Refusal;
use crate::control::Branding;
use crate::domain::Color;

/// As `base.html` shows it.
pub(super) struct Brand {
    pub(super) name: Option<String>,
    /// A data URL.
    pub(super) logo: Option<String>,
    /// The address of the color's style sheet.
    pub(super) style: Option<String>,
    pub(super) support_url: Option<String>,
}

/// `GET /console/brand/{color}`: `0a7cff.css`
pub(super) async fn show(Path(name): Path<String>) -> Result<Response, Refusal> {
    let color = name.strip_suffix(".css").and_then(|digits| Color::parse(&format!("#{digits}")));
    let color = color.ok_or_else(|| Refusal::NotFound(format!("color {name}")))?;
    let about = [
        (header::CONTENT_TYPE, "text/css; charset=utf-8"),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
    ];
    let style = format!(":root {{ --brand: {color}; --on-brand: {}; }}\n", color.ink());
    Ok((about, style).into_response())
}

// === impl Brand ===

impl Brand {
    pub(super) fn of(branding: &Branding) -> Brand {
        let color = branding.color.as_deref().and_then(|color| color.strip_prefix('#'));
        Brand {
            name: branding.name.clone(),
            logo: branding.logo.clone(),
            style: color.map(|digits| format!("/console/brand/{digits}.css")),
            support_url: branding.support_url.clone(),
        }
    }
}
