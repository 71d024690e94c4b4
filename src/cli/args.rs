//! What can be typed: the forms of the command line, with their help. Knows no meaning; [`super::ask`] does.

use std::path::PathBuf;

use clap::{Args as Group, Parser, Subcommand, ValueEnum};

use super::alert::Alert;
use super::billing::Billing;
use super::bulk::Bulk;
use super::channel::Channel;
use super::invoice::Invoice;
use super::report::Report;
use super::tier::Tier;

/// The reverse proxy that knows your tenants and enforces, to the unit, what each may use.
#[derive(Parser, Clone, Debug)]
#[command(name = "tollgate", bin_name = "tollgate", version, after_help = EXAMPLES, propagate_version = true)]
pub struct Args {
    /// The configuration; without it ./tollgate.toml, then built-in defaults
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print one JSON object instead of text
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// Run the gateway
    #[command(after_help = "\
Examples:
  tollgate serve --config config/tollgate.toml
  tollgate serve                # ./tollgate.toml, or built-in defaults")]
    Serve,
    /// Run a gateway, an echo upstream and sample tenants in one process; needs no file and no server
    #[command(after_help = "\
Examples:
  tollgate demo                 # cleans up after itself
  tollgate demo --keep ./demo   # keeps data and configuration there")]
    Demo(Demo),
    /// Validate a configuration and print every fault with its line and column
    #[command(after_help = "\
Examples:
  tollgate check config/tollgate.toml
  tollgate check --config tollgate.toml --json

Exit status: 0 the configuration is good, 1 it has faults.")]
    Check(Check),
    /// Print the JSON Schema of the configuration
    #[command(after_help = "Example:\n  tollgate schema > tollgate.schema.json")]
    Schema,
    /// Print the OpenAPI document of the REST API
    #[command(after_help = "Example:\n  tollgate openapi > tollgate.openapi.json")]
    Openapi,
    /// Bring the store's schema up to date
    #[command(after_help = "\
Examples:
  tollgate migrate --config tollgate.toml
  tollgate migrate --config tollgate.toml --url env:TOLLGATE_OWNER_URL

On Postgres it runs as a role that owns the database (or as a superuser), makes the tables and the roles that they are
seen by, and lets the role of store.url serve. That one owns nothing, so the gateway never needs the owner's password.")]
    Migrate(Migrate),
    /// Bring tenants, quotas, keys and settings to what a file says; a second run changes nothing
    #[command(after_help = "\
Examples:
  tollgate apply tenants.toml --dry-run   # shows what would change
  tollgate apply tenants.toml

  # tenants.toml
  [[tenant]]
  slug = \"acme\"
  name = \"Acme\"
  tier = \"pro\"
  quota = [{ resource = \"api_calls\", limit = 5000, reason = \"contract\" }]
  key = [{ name = \"ci\", limits = { routes = [\"orders\"] } }]
  settings = { security_level = \"basic\" }
  secrets = { \"custom.crm_token\" = \"…\" }

What the file does not name stays as it is: nothing is ever removed. People, roles and usage are not declared.")]
    Apply(Apply),
    /// Create, list, show tenants and change their status
    #[command(subcommand)]
    Tenant(Tenant),
    /// Set and list the limits of a tenant
    #[command(subcommand)]
    Quota(Quota),
    /// Create, list, rotate, disable and revoke API keys
    #[command(subcommand)]
    Key(Key),
    /// Invite, list, change and remove the people who administrate a tenant
    #[command(subcommand)]
    Member(Member),
    /// Let people log in who administrate the platform itself
    #[command(subcommand)]
    User(User),
    /// Show and set the settings of a tenant
    #[command(subcommand)]
    Settings(Settings),
    /// See what a tenant was told of, and say what it is told of
    #[command(subcommand)]
    Alert(Alert),
    /// Say where a tenant is told of alerts, try it out, and see what arrived
    #[command(subcommand)]
    Channel(Channel),
    /// See how usage is brought to Stripe or Lago, and send again what was given up
    #[command(subcommand)]
    Billing(Billing),
    /// See what a tenant owes and why, finalize what is due, and compare it with what was counted
    #[command(subcommand)]
    Invoice(Invoice),
    /// See what is sold, and sell it otherwise from now on
    #[command(subcommand)]
    Tier(Tier),
    /// Do one thing to many tenants
    #[command(subcommand)]
    Bulk(Bulk),
    /// Tell who is idle, and who has more than is needed
    #[command(subcommand)]
    Report(Report),
    /// List and verify who did what
    #[command(subcommand)]
    Audit(Audit),
    /// Write all that there is of a tenant to a sealed and signed file
    #[command(after_help = "\
Examples:
  tollgate export acme acme.tollgate.age --passphrase-file words.txt
  tollgate export acme acme.tollgate.age --recipient age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p

Tier, keys (as digests), quotas, settings with their secrets, audit log, usage, events and counters, of one moment. The
format is age's (age-encryption.org): `age --decrypt` shows its lines. Works beside a running gateway.")]
    Export(Export),
    /// Make the tenant of an exported file, all of it or nothing
    #[command(after_help = "\
Examples:
  tollgate import acme.tollgate.age --passphrase-file words.txt
  tollgate import acme.tollgate.age --identity key.txt --signed-by kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k

Refused, with nothing changed: a file that was cut short or changed, a newer format, a signer who is neither named nor in
control.audit.trusted_keys, a tenant that is here already. Keys go on working where the pepper is the same.")]
    Import(Import),
    /// Show what a tenant has used in the current windows, and what is left
    #[command(after_help = "\
Examples:
  tollgate usage acme
  tollgate usage acme --json")]
    Usage(TenantName),
    /// Compare what the till, the journal and the database say was used
    #[command(after_help = "\
Examples:
  tollgate reconcile
  tollgate reconcile --json

Needs a running gateway, whose books they are. Exit status: 0 they agree, 1 they differ.")]
    Reconcile,
    /// Look into the journal, where what was used waits for the database
    #[command(subcommand)]
    Journal(Journal),
    /// Find out whether all that the configuration names can be reached and is set up safely
    #[command(after_help = "\
Examples:
  tollgate doctor --config tollgate.toml
  tollgate doctor --json

Changes nothing. One line for each finding: ok, warning or fault. Exit status: 0 no fault, 1 there is one.")]
    Doctor,
}

#[derive(Subcommand, Clone, Copy, Debug)]
pub enum Journal {
    /// Show, worker by worker, what waits for the database, what is in flight and what is damaged
    #[command(after_help = "\
Examples:
  tollgate journal inspect --config tollgate.toml
  tollgate journal inspect --json | jq '.pending_records'

Reads files and changes nothing, beside a running gateway or without one.")]
    Inspect,
    /// Check the checksum of every record, and name the first bad place
    #[command(after_help = "\
Examples:
  tollgate journal verify --config tollgate.toml
  tollgate journal verify --json | jq '.faults'

Reads files and changes nothing, beside a running gateway or without one. Exit status: 0 all verifies, 1 something does
not: the records there are lost, all others are good.")]
    Verify,
}

#[derive(Group, Clone, Debug)]
pub struct Demo {
    /// Keep everything in this directory instead of cleaning up
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
}

#[derive(Group, Clone, Debug)]
pub struct Migrate {
    /// Where to migrate, as whom: postgres://owner@host/database, env:NAME or file:PATH; instead of store.url
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
}

#[derive(Group, Clone, Debug)]
pub struct Check {
    /// The configuration to validate; the same as --config FILE
    #[arg(value_name = "FILE", conflicts_with = "config")]
    pub file: Option<PathBuf>,
}

#[derive(Group, Clone, Debug)]
pub struct Apply {
    /// What should be: TOML, or JSON if its name ends in .json
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Only show what would change
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Subcommand, Clone, Debug)]
pub enum Tenant {
    /// Create a tenant, with the quotas of its tier
    #[command(after_help = "\
Examples:
  tollgate tenant create \"Acme\" --tier pro
  tollgate tenant create \"Acme\" --tier pro --billing-email pay@acme.example --timezone Europe/Zurich --json")]
    Create(TenantCreate),
    /// List tenants
    #[command(after_help = "\
Examples:
  tollgate tenant list --status active --tier pro
  tollgate tenant list --search acme --json")]
    List(TenantList),
    /// Show a tenant and its quotas
    #[command(after_help = "Example:\n  tollgate tenant show acme")]
    Show(TenantName),
    /// Change the status of a tenant; every gateway obeys within a second
    #[command(after_help = "\
Examples:
  tollgate tenant status acme suspended --reason \"unpaid\"
  tollgate tenant status acme active")]
    Status(TenantStatus),
}

#[derive(Group, Clone, Debug)]
pub struct TenantName {
    /// The tenant's id or slug
    pub tenant: String,
}

#[derive(Group, Clone, Debug)]
pub struct TenantCreate {
    /// The organization's name
    pub name: String,
    #[arg(long, default_value = "free")]
    pub tier: String,
    /// The name in URLs and on the command line; suggested by the name if not given
    #[arg(long)]
    pub slug: Option<String>,
    #[arg(long, value_name = "ADDRESS")]
    pub billing_email: Option<String>,
    #[arg(long, value_name = "NUMBER")]
    pub contact_phone: Option<String>,
    /// An IANA time zone like Europe/Zurich: days and months begin at its midnight
    #[arg(long, value_name = "ZONE")]
    pub timezone: Option<String>,
    /// A language tag like de-CH
    #[arg(long, value_name = "TAG")]
    pub locale: Option<String>,
    /// The reseller that it belongs to, by id or slug: what it uses counts against the reseller's quotas, too
    #[arg(long, value_name = "TENANT")]
    pub parent: Option<String>,
}

#[derive(Group, Clone, Debug)]
pub struct TenantList {
    /// trial, active, past_due, suspended, cancelled or deleted
    #[arg(long)]
    pub status: Option<String>,
    #[arg(long)]
    pub tier: Option<String>,
    /// Text in the name or slug
    #[arg(long, value_name = "TEXT")]
    pub search: Option<String>,
    /// healthy, warning or critical
    #[arg(long)]
    pub health: Option<String>,
    /// What to sort by, with - in front for descending; see the API's `sort`
    #[arg(long, allow_hyphen_values = true)]
    pub sort: Option<String>,
    #[command(flatten)]
    pub page: Page,
}

#[derive(Group, Clone, Debug)]
pub struct Page {
    /// How many at most, 1 to 1000
    #[arg(long, value_name = "ROWS")]
    pub limit: Option<u32>,
    /// Where the last answer's `next_cursor` left off
    #[arg(long)]
    pub cursor: Option<String>,
}

#[derive(Group, Clone, Debug)]
pub struct TenantStatus {
    /// The tenant's id or slug
    pub tenant: String,
    /// trial, active, past_due, suspended, cancelled or deleted
    pub status: String,
    /// Why; needed to suspend, and kept in the audit log
    #[arg(long)]
    pub reason: Option<String>,
}

#[derive(Subcommand, Clone, Debug)]
pub enum Quota {
    /// Set a limit of a tenant, or of one of its keys; what is used already stays used
    #[command(after_help = "\
Examples:
  tollgate quota set acme api_calls --limit 10000
  tollgate quota set acme api_calls --limit 50 --period minute --key 0192f0c1-7a3b-7000-8000-000000000000
  tollgate quota set acme alerts --limit unlimited --reason \"incident\" --expires 2026-12-31T00:00:00Z")]
    Set(QuotaSet),
    /// List the quotas of a tenant, with what is used
    #[command(after_help = "Example:\n  tollgate quota list acme --json")]
    List(TenantName),
    /// Say which tier would do, if the tenant's own will not for long
    #[command(after_help = "Example:\n  tollgate quota recommend acme")]
    Recommend(TenantName),
}

#[derive(Group, Clone, Debug)]
pub struct QuotaSet {
    /// The tenant's id or slug
    pub tenant: String,
    /// What is counted, for example api_calls
    pub resource: String,
    /// Units per period, or unlimited
    #[arg(long, value_name = "UNITS", value_parser = limit)]
    pub limit: Limit,
    /// second, minute, hour, day, week, month or forever; as in the tenant's tier if not given
    #[arg(long)]
    pub period: Option<String>,
    /// What happens at the limit
    #[arg(long)]
    pub enforcement: Option<Enforcement>,
    /// What happens when the till is dry and the authority can't be asked; as configured if not given
    #[arg(long, value_name = "POLICY")]
    pub on_loss: Option<OnLoss>,
    /// Limit this key instead of the whole tenant
    #[arg(long, value_name = "KEY_ID")]
    pub key: Option<String>,
    /// Why; kept in the audit log
    #[arg(long)]
    pub reason: Option<String>,
    /// When the tier's limit holds again, for example 2026-12-31T00:00:00Z
    #[arg(long, value_name = "INSTANT")]
    pub expires: Option<String>,
}

/// A limit as typed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limit {
    Of(u64),
    Unlimited,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Enforcement {
    /// Deny
    Hard,
    /// Allow, and mark what is above as overage
    Soft,
    /// Only count
    Monitor,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnLoss {
    /// Deny with 503 what the till can't pay
    Till,
    /// Allow up to `authority.open_percent` of the limit
    Open,
    /// Deny even what the till holds
    Closed,
    /// Allow this gateway's share of the limit
    Share,
}

#[derive(Subcommand, Clone, Debug)]
pub enum Member {
    /// List the members of a tenant
    #[command(after_help = "Example:\n  tollgate member list acme")]
    List(MemberList),
    /// Invite somebody; the token is shown this once, and is for you to pass on
    #[command(after_help = "\
Examples:
  tollgate member invite acme ann@acme.example --role owner
  tollgate member invite acme ann@acme.example --role developer --json

Roles: owner, admin, billing, developer, auditor, viewer, and the tenant's own.")]
    Invite(MemberInvite),
    /// Change the role of a member
    #[command(
        after_help = "Example:\n  tollgate member role acme 0192f0c1-7a3b-7000-8000-000000000000 admin"
    )]
    Role(MemberRole),
    /// Remove a member, who is refused from then on
    #[command(after_help = "Example:\n  tollgate member remove acme 0192f0c1-7a3b-7000-8000-000000000000")]
    Remove(MemberName),
}

#[derive(Group, Clone, Debug)]
pub struct MemberList {
    /// The tenant's id or slug
    pub tenant: String,
    #[command(flatten)]
    pub page: Page,
}

#[derive(Group, Clone, Debug)]
pub struct MemberInvite {
    /// The tenant's id or slug
    pub tenant: String,
    /// The e-mail address of who is invited, who logs in by it
    pub email: String,
    #[arg(long)]
    pub role: String,
    /// For how long the token is good, in seconds; seven days if not given
    #[arg(long, value_name = "SECONDS")]
    pub valid_seconds: Option<u64>,
}

#[derive(Group, Clone, Debug)]
pub struct MemberRole {
    #[command(flatten)]
    pub name: MemberName,
    pub role: String,
}

#[derive(Group, Clone, Debug)]
pub struct MemberName {
    /// The tenant's id or slug
    pub tenant: String,
    /// The member's id, as `member list` shows it
    pub user_id: String,
}

#[derive(Subcommand, Clone, Debug)]
pub enum User {
    /// List everybody who can log in
    #[command(after_help = "Example:\n  tollgate user list")]
    List(Page),
    /// Give somebody a role at the platform; who is new gets a token that sets a password
    #[command(after_help = "\
Examples:
  tollgate user create ann@example.com --role platform_owner
  tollgate user create bob@example.com --role platform_support --json")]
    Create(UserCreate),
    /// Take somebody's role at the platform away
    #[command(after_help = "Example:\n  tollgate user remove ann@example.com")]
    Remove(UserEmail),
    /// Make a token with which a user sets a new password, once
    #[command(after_help = "Example:\n  tollgate user reset-password 0192f0c1-7a3b-7000-8000-000000000000")]
    ResetPassword(UserName),
}

#[derive(Group, Clone, Debug)]
pub struct UserCreate {
    #[command(flatten)]
    pub name: UserEmail,
    /// platform_owner, or platform_support, who may read
    #[arg(long)]
    pub role: String,
}

#[derive(Group, Clone, Debug)]
pub struct UserEmail {
    /// The e-mail address that they log in by
    pub email: String,
}

#[derive(Group, Clone, Debug)]
pub struct UserName {
    /// The user's id, as `user list` shows it
    pub user_id: String,
}

#[derive(Subcommand, Clone, Debug)]
pub enum Settings {
    /// List the settings of a tenant, and where their values come from
    #[command(after_help = "Example:\n  tollgate settings list acme")]
    List(TenantName),
    /// Set a setting; the value is JSON, or else text
    #[command(after_help = "\
Examples:
  tollgate settings set acme security_level standard
  tollgate settings set acme upgrade_prompts true
  tollgate settings set acme custom.crm_token --stdin --encrypt < token.txt")]
    Set(SettingSet),
    /// Forget what the tenant has set: what is inherited, or the default, holds again
    #[command(after_help = "Example:\n  tollgate settings unset acme security_level")]
    Unset(SettingName),
    /// Wrap all tenants' keys with the newest of control.secret_keys
    #[command(after_help = "\
Example:
  tollgate settings rotate

May be interrupted and run again. Afterwards older keys may be taken out of the configuration.")]
    Rotate,
}

#[derive(Group, Clone, Debug)]
pub struct SettingName {
    /// The tenant's id or slug
    pub tenant: String,
    /// The setting, as `settings list` shows it, or custom.NAME
    pub setting: String,
}

#[derive(Group, Clone, Debug)]
pub struct SettingSet {
    #[command(flatten)]
    pub name: SettingName,
    /// The value
    #[arg(required_unless_present = "stdin", conflicts_with = "stdin")]
    pub value: Option<String>,
    /// Read the value from standard input, where no list of processes shows it
    #[arg(long)]
    pub stdin: bool,
    /// Seal it: a custom setting that is a secret
    #[arg(long)]
    pub encrypt: bool,
}

#[derive(Subcommand, Clone, Debug)]
pub enum Audit {
    /// List what was done, newest first: of a tenant, or of the platform itself
    #[command(after_help = "\
Examples:
  tollgate audit list acme --action key.create
  tollgate audit list acme --outcome denied --from 2026-11-01T00:00:00Z --json
  tollgate audit list")]
    List(AuditList),
    /// Recompute the chain of a log, and name its first broken row
    #[command(after_help = "\
Examples:
  tollgate audit verify acme
  tollgate audit verify acme --checkpoint 1201:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08

  tollgate audit verify --checkpoints /mnt/elsewhere/checkpoints.ndjson   # every log that has a line there

Each log is held against the signed checkpoints in the database and in control.audit.checkpoints; with those of a file that
is kept elsewhere, rows that were rewritten or cut off are found even if whoever did it has recomputed the chain and
deleted the newest checkpoints. Exit status: 0 the chain is whole, 1 it is broken.")]
    Verify(AuditVerify),
}

#[derive(Group, Clone, Debug)]
pub struct AuditList {
    /// The tenant's id or slug; the platform's own log if not given
    pub tenant: Option<String>,
    /// What was done, for example key.create
    #[arg(long)]
    pub action: Option<String>,
    /// user, platform_user, api_key, platform_token, local_admin or system
    #[arg(long, value_name = "KIND")]
    pub actor_kind: Option<String>,
    /// done or denied
    #[arg(long)]
    pub outcome: Option<String>,
    /// From this instant on, for example 2026-11-01T00:00:00Z
    #[arg(long, value_name = "INSTANT")]
    pub from: Option<String>,
    /// Before this instant
    #[arg(long, value_name = "INSTANT")]
    pub to: Option<String>,
    #[command(flatten)]
    pub page: Page,
}

#[derive(Group, Clone, Debug)]
pub struct AuditVerify {
    /// The tenant's id or slug; the platform's own log if not given
    pub tenant: Option<String>,
    /// What an earlier verification answered
    #[arg(long, value_name = "SEQ:HASH")]
    pub checkpoint: Option<String>,
    /// Signed checkpoints that were kept elsewhere, a file or a directory of them: verifies each log that has one
    #[arg(long, value_name = "FILE", conflicts_with_all = ["tenant", "checkpoint"])]
    pub checkpoints: Option<PathBuf>,
}

#[derive(Group, Clone, Debug)]
pub struct Export {
    /// The tenant's id or slug
    pub tenant: String,
    /// The file to write; it must not be there
    pub file: PathBuf,
    /// A file with the words that open it; - is standard input
    #[arg(long, value_name = "FILE", required_unless_present = "recipient", conflicts_with = "recipient")]
    pub passphrase_file: Option<PathBuf>,
    /// The public half of the age key that opens it
    #[arg(long, value_name = "AGE1…")]
    pub recipient: Option<String>,
}

#[derive(Group, Clone, Debug)]
pub struct Import {
    /// The file that `export` wrote
    pub file: PathBuf,
    /// A file with the words that open it; - is standard input
    #[arg(long, value_name = "FILE", required_unless_present = "identity", conflicts_with = "identity")]
    pub passphrase_file: Option<PathBuf>,
    /// A file with the age key that opens it, as age-keygen writes it
    #[arg(long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// The id of the key that signed it, as `export` says it; of another installation
    #[arg(long, value_name = "KEY_ID")]
    pub signed_by: Option<String>,
}

#[derive(Subcommand, Clone, Debug)]
pub enum Key {
    /// Create an API key; its text is shown this once
    #[command(after_help = "\
Examples:
  tollgate key create acme --name ci
  tollgate key create acme --name partner --route orders --network 10.0.0.0/8 --expires 2027-01-01T00:00:00Z --json
  tollgate key create acme --name old --sha256 $(printf %s \"$OLD_KEY\" | sha256sum | cut -c-64)   # goes on working
  tollgate key create acme --name mesh --certificate spiffe://example.org/orders")]
    Create(KeyCreate),
    /// List the keys of a tenant, without their secrets
    #[command(after_help = "Example:\n  tollgate key list acme")]
    List(KeyList),
    /// Make a key that takes the place of another, which goes on working for a while
    #[command(after_help = "\
Examples:
  tollgate key rotate 0192f0c1-7a3b-7000-8000-000000000000
  tollgate key rotate 0192f0c1-7a3b-7000-8000-000000000000 --grace-seconds 0   # the old one ends at once")]
    Rotate(KeyRotate),
    /// Let a key rest: it is refused until it is enabled again
    #[command(after_help = "Example:\n  tollgate key disable 0192f0c1-7a3b-7000-8000-000000000000")]
    Disable(KeyName),
    /// Let a disabled key work again
    #[command(after_help = "Example:\n  tollgate key enable 0192f0c1-7a3b-7000-8000-000000000000")]
    Enable(KeyName),
    /// Revoke a key for good; every gateway refuses it within a second
    #[command(after_help = "Example:\n  tollgate key revoke 0192f0c1-7a3b-7000-8000-000000000000")]
    Revoke(KeyName),
}

#[derive(Group, Clone, Debug)]
pub struct KeyCreate {
    /// The tenant's id or slug
    pub tenant: String,
    /// What people call the key
    #[arg(long)]
    pub name: String,
    /// A scope that the key has; may be repeated
    #[arg(long = "scope", value_name = "SCOPE")]
    pub scopes: Vec<String>,
    /// A route that the key may use; may be repeated; all if not given
    #[arg(long = "route", value_name = "NAME")]
    pub routes: Vec<String>,
    /// A network that the key may be used from; may be repeated; all if not given
    #[arg(long = "network", value_name = "CIDR")]
    pub networks: Vec<String>,
    /// When the key stops working, for example 2027-01-01T00:00:00Z
    #[arg(long, value_name = "INSTANT")]
    pub expires: Option<String>,
    /// Make a test key (tg_test_…)
    #[arg(long)]
    pub test: bool,
    /// Bring along a key of another system, by the SHA-256 of the whole key
    #[arg(long, value_name = "HEX", conflicts_with = "test")]
    pub sha256: Option<String>,
    /// Make a key for whoever shows a client certificate of that name (URI, or DNS name)
    #[arg(long, value_name = "NAME", conflicts_with_all = ["test", "sha256"])]
    pub certificate: Option<String>,
}

#[derive(Group, Clone, Debug)]
pub struct KeyList {
    /// The tenant's id or slug
    pub tenant: String,
    #[command(flatten)]
    pub page: Page,
}

#[derive(Group, Clone, Debug)]
pub struct KeyName {
    /// The key's id, as `key list` shows it
    pub key_id: String,
}

#[derive(Group, Clone, Debug)]
pub struct KeyRotate {
    #[command(flatten)]
    pub key: KeyName,
    /// How long the old key goes on working; a day if not given
    #[arg(long, value_name = "SECONDS")]
    pub grace_seconds: Option<u64>,
}

const EXAMPLES: &str = "\
Examples:
  tollgate demo
  tollgate serve --config config/tollgate.toml
  tollgate tenant create \"Acme\" --tier pro --json
  tollgate quota set acme api_calls --limit 10000
  tollgate key create acme --name ci
  tollgate usage acme

Commands on tenants, quotas and keys work beside a running gateway on the same configuration, and without one.
Exit status: 0 done, 1 found a problem, 2 wrong usage.";

pub(super) fn limit(text: &str) -> Result<Limit, String> {
    match text {
        "unlimited" => Ok(Limit::Unlimited),
        number => {
            number.parse().map(Limit::Of).map_err(|_| "must be a whole number, or `unlimited`".to_owned())
        }
    }
}

// === impl OnLoss ===

impl OnLoss {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            OnLoss::Till => "till",
            OnLoss::Open => "open",
            OnLoss::Closed => "closed",
            OnLoss::Share => "share",
        }
    }
}

// === impl Enforcement ===

impl Enforcement {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Enforcement::Hard => "hard",
            Enforcement::Soft => "soft",
            Enforcement::Monitor => "monitor",
        }
    }
}
