//! Brands: under whose name, picture and color people meet the console.
//!
//! A tenant has what it has set itself, and the rest from the nearest tenant above that has set it: so a reseller's
//! children look like the reseller. What can be set is text, a color that can be seen and a picture that holds no
//! program: no style sheet, no markup and no address of somebody else's machine.

use serde::Serialize;
use serde_json::Value;

use super::{Control, ControlError, TenantRef, settings};
use crate::domain::{Color, TenantStatus};

/// How a tenant's people see the console. `None` is as everybody sees it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Branding {
    /// In one line.
    pub name: Option<String>,
    /// A picture as a data URL.
    pub logo: Option<String>,
    /// `#rrggbb`; to be seen on white.
    pub color: Option<String>,
    /// Black or white, as `#rrggbb`: what can be read on that color.
    pub ink: Option<String>,
    /// Where the tenant's users find help.
    pub support_url: Option<String>,
}

const NAME: &str = "branding_name";
const LOGO: &str = "branding_logo_url";
const COLOR: &str = "branding_color";
const SUPPORT: &str = "support_url";

impl Control {
    /// The brand that a tenant's people see. Whoever knows the tenant's name may see it, logged in or not; of a tenant that
    /// is not there, it is nothing.
    ///
    /// # Errors
    /// [`ControlError::Store`]
    pub async fn branding(&self, tenant: &TenantRef) -> Result<Branding, ControlError> {
        let mut snapshot = self.read().await?;
        let found = match tenant {
            TenantRef::Id(id) => snapshot.tenant(*id).await?,
            TenantRef::Slug(slug) => snapshot.tenant_by_slug(slug).await?,
        };
        let Some(tenant) = found.filter(|tenant| tenant.status != TenantStatus::Deleted) else {
            return Ok(Branding::default());
        };
        let set = settings::nearest(&mut snapshot, &tenant, &[NAME, LOGO, COLOR, SUPPORT]).await?;
        let text = |key: &str| set.get(key).and_then(Value::as_str).map(str::to_owned);
        let color = text(COLOR).as_deref().and_then(Color::parse);
        Ok(Branding {
            name: text(NAME).map(|name| name.split_whitespace().collect::<Vec<_>>().join(" ")),
            // What was set before pictures had to be data is shown by no page.
            logo: text(LOGO).filter(|logo| logo.starts_with("data:")),
            color: color.map(|color| color.to_string()),
            ink: color.map(|color| color.ink().to_string()),
            support_url: text(SUPPORT),
        })
    }
}
