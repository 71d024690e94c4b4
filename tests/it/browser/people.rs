//! People: they log in by keyboard, invite each other, guard their log-ins, and see what others did.

use super::site::{OWNER, PASSWORD, Site};
use crate::support::{Profile, python};

#[test]
fn people_log_in_and_invite_others_by_keyboard_alone() {
    let site = Site::start();
    site.gateway.customer("Acme", "free");
    site.owner(&Profile::new());

    let profile = Profile::new();
    let tab = site.tab(&profile);
    tab.open("/console/tenants/acme/members");
    assert!(tab.path().starts_with("/console/log-in?next="), "{}", tab.path());
    tab.tab_to("E-mail address");
    tab.type_text(OWNER);
    tab.tab_to("Password");
    tab.type_text(PASSWORD);
    tab.leading_on(|| tab.key("Enter"));
    assert_eq!(tab.path(), "/console/tenants/acme/members");

    tab.tab_to("E-mail address");
    tab.type_text("ann@example.com");
    tab.tab_to("Make a link");
    tab.leading_on(|| tab.key(" "));
    tab.sees("Send this link to ann@example.com");
    tab.must_not_complain();
}

#[test]
fn who_is_invited_joins_by_the_link_without_scripts_and_is_changed_and_removed_there() {
    let site = Site::start();
    site.gateway.customer("Acme", "free");
    let owner = site.owner(&Profile::without_scripts());
    owner.open("/console/tenants/acme/members");
    owner.fill("E-mail address", "nobody at all");
    // Browsers refuse it before the site does.
    owner.tell("document.querySelector('form.panel').noValidate = true");
    owner.press("Make a link");
    assert_eq!(owner.value("E-mail address"), "nobody at all", "what was typed is there again");
    owner.fill("E-mail address", "ann@example.com");
    owner.choose("Role", "developer");
    owner.press("Make a link");
    let link = owner.value("Link of the invitation");
    let path = link.strip_prefix(&site.address()).expect("a link to this site");

    let ann = site.tab(&Profile::without_scripts());
    ann.open(path);
    ann.fill("Password", PASSWORD);
    ann.press("Go on");
    ann.sees("You belong to the tenant now");
    ann.fill("E-mail address", "ann@example.com");
    ann.fill("Password", PASSWORD);
    ann.press("Log in");
    assert_eq!(ann.path(), "/console/tenants/acme");
    ann.open("/console/tenants/acme/members");
    ann.sees("Not allowed");

    owner.open("/console/tenants/acme/members");
    owner.sees("ann@example.com");
    owner.choose("Role of ann@example.com", "auditor");
    owner.press("Change the role of ann@example.com");
    owner.sees("ann@example.com has the role auditor now.");
    ann.open("/console/tenants/acme/audit");
    ann.sees("member.change");
    owner.press("Remove ann@example.com");
    owner.press("Remove");
    owner.sees("Removed: they see nothing of this tenant any more.");
    ann.open("/console/tenants/acme");
    ann.sees("Not found");
    ann.open(path);
    ann.fill("Password", PASSWORD);
    ann.press("Go on");
    ann.sees("This link is good for nothing any more");
}

#[test]
fn a_second_factor_is_set_up_from_the_page_asked_for_at_the_log_in_and_removed() {
    let site = Site::start();
    let tab = site.owner(&Profile::without_scripts());
    tab.open("/console/account/second-factor");
    tab.fill("Your password", "a wrong guess");
    tab.press("Go on");
    tab.sees("it is not your password");
    tab.fill("Your password", PASSWORD);
    tab.press("Go on");
    assert_eq!(tab.tell("document.querySelectorAll('svg.qr path').length"), 2);
    let secret = tab.text_of("main code");
    tab.fill("The code that it shows", "000000");
    tab.press("Turn it on");
    tab.sees("it is no code of this moment");
    tab.fill("The code that it shows", &code(&secret));
    tab.press("Turn it on");
    let recovery = tab.text_of(".codes code");
    let spare = tab.text_of(".codes li:nth-child(2) code");
    tab.press("I have kept them");
    tab.sees("On.");

    let other = site.tab(&Profile::without_scripts());
    other.open("/console/log-in");
    other.fill("E-mail address", OWNER);
    other.fill("Password", PASSWORD);
    other.press("Log in");
    other.sees("Type the code that your device shows");
    other.fill("Password", PASSWORD);
    other.fill("Code", &recovery);
    other.press("Log in");
    other.open("/console/account");
    assert_eq!(other.tell("document.querySelectorAll('main tbody tr').length"), 2, "{}", other.text());
    other.click_at("main tbody button");
    other.sees("That session has ended.");
    tab.open("/console/account");
    tab.sees("Log in");
    other.open("/console/account/second-factor");
    other.fill("Your password", PASSWORD);
    other.fill("A code", &spare);
    other.press("Remove");
    other.sees("No code is asked for any more.");
}

/// What an app of somebody else's makes of a secret now.
fn code(secret: &str) -> String {
    let script = std::env::temp_dir().join(format!("code-{}.py", std::process::id()));
    let text = "import base64, hashlib, hmac, struct, sys, time\n\
        key = base64.b32decode(sys.argv[1] + '=' * (-len(sys.argv[1]) % 8))\n\
        mac = hmac.new(key, struct.pack('>Q', int(time.time()) // 30), hashlib.sha1).digest()\n\
        at = mac[-1] & 15\n\
        print('%06d' % ((struct.unpack('>I', mac[at:at + 4])[0] & 0x7fffffff) % 1000000))\n";
    std::fs::write(&script, text).expect("a place to write");
    let output = python(&script).arg(secret).output().expect("python starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
