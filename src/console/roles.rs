//! What the members of a tenant can be, and the roles of its own.

use askama::Template;
use axum::extract::Path;
use axum::response::Response;

use super::filters;
use super::forms::{Form, Posted};
use super::layout::{Layout, Tab};
use super::lists::{Filters, done, of_form};
use super::refusal::Refusal;
use super::session::TenantVisit;
use crate::control::{Permissions, RoleView};
use crate::domain::{Role, RoleName};

#[derive(Template)]
#[template(path = "roles.html")]
struct RolesPage {
    layout: Layout,
    here: String,
    roles: Vec<RoleRow>,
    nouns: Vec<Noun>,
    form: Form,
    may_set: bool,
    may_remove: bool,
}

struct RoleRow {
    name: RoleName,
    is_own: bool,
    count: usize,
    /// What can be done to each sort of thing, as one text.
    permissions: Vec<(&'static str, String)>,
}

/// What can be done to one sort of thing: permissions, and what they are called there.
struct Noun {
    name: &'static str,
    verbs: Vec<(&'static str, String)>,
}

const PATH: &str = "/members/roles";

/// `GET …/members/roles?edit=…`
pub(super) async fn show(here: TenantVisit, Filters(asked): Filters) -> Result<Response, Refusal> {
    let roles = here.visit.control.roles(&here.visit.principal, &here.named).await?;
    let edited = roles.iter().find(|role| role.name.as_str() == asked.text("edit"));
    let pairs = edited.into_iter().flat_map(|role| {
        let permissions = role.permissions.names().into_iter().map(|name| ("permissions", name));
        [("role", role.name.as_str())].into_iter().chain(permissions)
    });
    let form = Form::filled(pairs);
    page(&here, roles, form)
}

fn page(here: &TenantVisit, roles: Vec<RoleView>, form: Form) -> Result<Response, Refusal> {
    // What an owner may do is all that a tenant's role can be made of, and nobody gives what they have not.
    let grantable = Permissions::of(Role::Owner).only(here.permissions());
    let page = RolesPage {
        layout: here.layout("Roles", Tab::Members),
        here: here.address(PATH),
        roles: roles.into_iter().map(RoleRow::from).collect(),
        nouns: Noun::all(grantable),
        may_set: here.may("role.set"),
        may_remove: here.may("role.remove"),
        form,
    };
    of_form(&page.form, &page)
}

/// `POST …/members/roles`
pub(super) async fn set(here: TenantVisit, Posted(form): Posted) -> Result<Response, Refusal> {
    let (control, who) = (&here.visit.control, &here.visit.principal);
    match control.set_role(who, &here.named, form.text("role"), &form.all("permissions")).await {
        Ok(role) => {
            let message = format!("The role {} is as you have set it.", role.name);
            done(&here.visit, &here.address(PATH), &message)
        }
        Err(error) => page(&here, control.roles(who, &here.named).await?, form.refused(error)?),
    }
}

/// `POST …/members/roles/{role}/remove`
pub(super) async fn remove(
    here: TenantVisit,
    Path((_, name)): Path<(String, String)>,
    Posted(form): Posted,
) -> Result<Response, Refusal> {
    let (control, who) = (&here.visit.control, &here.visit.principal);
    match control.remove_role(who, &here.named, &name).await {
        Ok(()) => done(&here.visit, &here.address(PATH), &format!("The role {name} is removed.")),
        Err(error) => page(&here, control.roles(who, &here.named).await?, form.refused(error)?),
    }
}

// === impl Noun ===

impl Noun {
    fn all(permissions: Permissions) -> Vec<Noun> {
        let mut nouns = Vec::<Noun>::new();
        for permission in permissions.names() {
            let (name, verb) = permission.split_once('.').unwrap_or((permission, ""));
            let verb = (permission, verb.replace('_', " "));
            match nouns.iter_mut().find(|noun| noun.name == name) {
                Some(noun) => noun.verbs.push(verb),
                None => nouns.push(Noun { name, verbs: vec![verb] }),
            }
        }
        nouns
    }

    fn told(self) -> (&'static str, String) {
        let verbs: Vec<_> = self.verbs.into_iter().map(|(_, verb)| verb).collect();
        (self.name, verbs.join(", "))
    }
}

// === impl RoleRow ===

impl From<RoleView> for RoleRow {
    fn from(role: RoleView) -> Self {
        RoleRow {
            is_own: matches!(role.name, RoleName::Own(_)),
            count: role.permissions.names().len(),
            permissions: Noun::all(role.permissions).into_iter().map(Noun::told).collect(),
            name: role.name,
        }
    }
}
