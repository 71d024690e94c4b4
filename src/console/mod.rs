//! The console: HTTP in, [`control`](crate::control) operations, HTML out.
//!
//! [`router()`] holds all pages on one page. Knows no gateway, no SQL, no handler of the API and no rule of its own: what
//! somebody may see and do is what `control` lets them. A page is a GET address with its full state, and what changes
//! something is a form, answered by a redirect or by the form again with what is wrong at the fields; so everything
//! works without a script, with the back button, and by a link that is sent to somebody. Scripts refresh parts of pages.
//!
//! # What stands between a page and a stranger
//! The session's cookie is the API's, is sent by no other site with a form, and changes nothing by itself: a form has to
//! come from this site, as the browser says, and to bring the session's own token ([`forms::Posted`]). No page can be framed,
//! runs a script that is not ours, or carries a script or a style in its text ([`page`]). Templates escape what they are given.
//!
//! # How a page is made
//! A handler takes a [`session::Visit`], asks `control`, fills a template whose base is `base.html` with a
//! [`layout::Layout`], and answers with [`page::html`]. What it refuses is a [`refusal::Refusal`], which is shown as a page.

mod account;
mod alerts;
mod assets;
mod audit;
mod billing;
mod billing_events;
mod brand;
mod channels;
mod children;
mod diff;
mod filters;
mod fleet;
mod forms;
mod home;
mod invoices;
mod join;
mod keys;
mod layout;
mod lists;
mod live;
mod log_in;
mod members;
mod new_tenant;
mod overview;
mod page;
mod qr;
mod quotas;
mod refusal;
mod roles;
mod router;
mod session;
mod settings;
mod status;
mod tenants;
mod text;
mod theme;
mod upgrade;
mod usage;

pub use fleet::Process;
pub use router::router;

#[cfg(test)]
mod tests;
