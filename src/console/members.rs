//! The people of a tenant: who belongs to it and as what, and who is invited.

use askama::Template;
use axum::extract::Path;
use axum::http::HeaderMap;
use axum::response::Response;
use uuid::Uuid;

use super::filters;
use super::forms::{Form, Posted};
use super::layout::{Layout, Tab};
use super::lists::{Filters, done, of_form};
use super::refusal::Refusal;
use super::session::{TenantVisit, origin};
use crate::clock::Timestamp;
use crate::control::{CreatedInvitation, NewInvitation};
use crate::domain::{Invitation, InvitationId, Membership, RoleName, UserId};
use crate::store::Page;

#[derive(Template)]
#[template(path = "members.html")]
struct MembersPage {
    layout: Layout,
    here: String,
    members: Vec<Membership>,
    next: Option<String>,
    roles: Vec<RoleName>,
    /// The same for the form.
    options: Vec<(String, String)>,
    invitations: Vec<Invitation>,
    invited: Option<Invited>,
    form: Form,
    may_invite: bool,
    may_change: bool,
    may_remove: bool,
    may_set_roles: bool,
}

/// An invitation at the only moment when its link is known.
struct Invited {
    email: String,
    role: RoleName,
    link: String,
    expires_at: Timestamp,
}

#[derive(Template)]
#[template(path = "member_remove.html")]
struct RemovePage {
    layout: Layout,
    here: String,
    member: Membership,
    form: Form,
}

const PATH: &str = "/members";
const ROLE_DEFAULT: &str = "viewer";

/// `GET …/members`
pub(super) async fn show(here: TenantVisit, filters: Filters) -> Result<Response, Refusal> {
    page(&here, &filters, Form::filled([("role", ROLE_DEFAULT)]), None).await
}

async fn page(
    here: &TenantVisit,
    filters: &Filters,
    form: Form,
    invited: Option<Invited>,
) -> Result<Response, Refusal> {
    let (control, who) = (&here.visit.control, &here.visit.principal);
    let members = control.members(who, &here.named, &filters.page()?).await?;
    let roles = control.roles(who, &here.named).await?;
    let roles: Vec<_> = roles.into_iter().map(|role| role.name).collect();
    let address = here.address(PATH);
    let page = MembersPage {
        layout: here.layout("Members", Tab::Members),
        next: filters.next(&address, members.next_cursor),
        here: address,
        members: members.items,
        options: roles.iter().map(|role| (role.to_string(), role.to_string())).collect(),
        roles,
        invitations: control.invitations(who, &here.named).await?,
        may_invite: here.may("member.invite"),
        may_change: here.may("member.change"),
        may_remove: here.may("member.remove"),
        may_set_roles: here.may("role.set"),
        invited,
        form,
    };
    of_form(&page.form, &page)
}

/// `POST …/members`: invites somebody. The link is on this answer's page and nowhere else.
pub(super) async fn invite(
    here: TenantVisit,
    filters: Filters,
    headers: HeaderMap,
    Posted(form): Posted,
) -> Result<Response, Refusal> {
    let (email, role) = (form.text("email").to_owned(), form.text("role").to_owned());
    let new = NewInvitation { email, role, valid_for: None };
    match here.visit.control.invite(&here.visit.principal, &here.named, &new).await {
        Ok(made) => {
            let invited = Invited::of(made, &origin(&here.visit.control, &headers));
            page(&here, &filters, Form::filled([("role", ROLE_DEFAULT)]), Some(invited)).await
        }
        Err(error) => page(&here, &filters, form.refused(error)?, None).await,
    }
}

/// `POST …/members/invitations/{invitation}/withdraw`
pub(super) async fn withdraw(
    here: TenantVisit,
    Path((_, id)): Path<(String, Uuid)>,
    Posted(_): Posted,
) -> Result<Response, Refusal> {
    let (control, who) = (&here.visit.control, &here.visit.principal);
    control.withdraw_invitation(who, &here.named, InvitationId(id)).await?;
    let message = "The invitation is withdrawn: its link is good for nothing any more.";
    done(&here.visit, &here.address(PATH), message)
}

/// `POST …/members/{user}/role`
pub(super) async fn change(
    here: TenantVisit,
    filters: Filters,
    Path((_, user)): Path<(String, Uuid)>,
    Posted(form): Posted,
) -> Result<Response, Refusal> {
    let (control, who) = (&here.visit.control, &here.visit.principal);
    match control.change_member(who, &here.named, UserId(user), form.text("role")).await {
        Ok(member) => {
            let message = format!("{} has the role {} now.", member.email, member.role);
            done(&here.visit, &here.address(PATH), &message)
        }
        Err(error) => page(&here, &filters, form.refused(error)?, None).await,
    }
}

/// `GET …/members/{user}/remove`: asks before somebody is removed.
pub(super) async fn ask_remove(
    here: TenantVisit,
    Path((_, user)): Path<(String, Uuid)>,
) -> Result<Response, Refusal> {
    remove_page(&here, UserId(user), Form::default()).await
}

async fn remove_page(here: &TenantVisit, user: UserId, form: Form) -> Result<Response, Refusal> {
    let member = member(here, user).await?;
    let layout = here.layout("Remove a member", Tab::Members);
    let page = RemovePage { layout, here: here.address(PATH), member, form };
    of_form(&page.form, &page)
}

/// `POST …/members/{user}/remove`
pub(super) async fn remove(
    here: TenantVisit,
    Path((_, user)): Path<(String, Uuid)>,
    Posted(form): Posted,
) -> Result<Response, Refusal> {
    let (control, who) = (&here.visit.control, &here.visit.principal);
    match control.remove_member(who, &here.named, UserId(user)).await {
        Ok(()) => {
            done(&here.visit, &here.address(PATH), "Removed: they see nothing of this tenant any more.")
        }
        Err(error) => remove_page(&here, UserId(user), form.refused(error)?).await,
    }
}

/// A member, wherever in the list.
async fn member(here: &TenantVisit, user: UserId) -> Result<Membership, Refusal> {
    let (control, who) = (&here.visit.control, &here.visit.principal);
    let mut page = Page::default();
    loop {
        let members = control.members(who, &here.named, &page).await?;
        if let Some(found) = members.items.into_iter().find(|member| member.user == user) {
            return Ok(found);
        }
        let Some(cursor) = members.next_cursor else {
            return Err(Refusal::NotFound(format!("member “{user}”")));
        };
        let next = Page::new(None, None, Some(&cursor));
        page = next.map_err(|error| Refusal::Malformed(error.to_string()))?;
    }
}

// === impl Invited ===

impl Invited {
    fn of(made: CreatedInvitation, origin: &str) -> Invited {
        let Invitation { email, role, expires_at, .. } = made.invitation;
        Invited { email, role, expires_at, link: format!("{origin}/console/join?token={}", made.token) }
    }
}
