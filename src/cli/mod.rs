//! The command line: one command, one request to the API, one answer.
//!
//! Commands on tenants, quotas and keys go through the API's router in every case, over the admin address of a
//! running gateway or in process, so they authorize, validate and audit like any other caller. Results go to
//! stdout, everything else to stderr. Exit status: 0 done, 1 found a problem, 2 wrong usage.

mod alert;
mod archive;
mod args;
mod ask;
mod audit;
mod billing;
mod bulk;
mod channel;
mod check;
mod doctor;
mod failure;
mod gateway;
mod invoice;
mod journal;
mod report;
mod session;
mod show;
mod tier;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use serde_json::{Value, json};

pub use args::{Args, Command, Demo};
pub use failure::Failure;

use crate::api;
use crate::app::{self, billing_settings, channel_settings, store_settings, store_url, watch_settings};
use crate::config::{self, Config, Loaded};
use crate::secret::seal::KeyRing;
use crate::telemetry::log;
use ask::Ask;
use session::Place;

/// What a command found out: as JSON and as text.
#[derive(Clone, PartialEq, Debug)]
struct Found {
    json: String,
    text: String,
    status: u8,
}

/// Runs the command of this process's arguments.
pub fn main() -> ExitCode {
    match Args::try_parse() {
        Ok(args) => run(args),
        Err(usage) => {
            // Help that was asked for is a result; clap knows which is which. A closed pipe is nobody's fault.
            let _ = usage.print();
            ExitCode::from(u8::try_from(usage.exit_code()).unwrap_or(2))
        }
    }
}

/// Runs one command.
pub fn run(args: Args) -> ExitCode {
    let json = args.json;
    match found(args) {
        Ok(found) => found.printed(json),
        Err(failure) => {
            let _ = write!(io::stderr(), "{failure}");
            ExitCode::FAILURE
        }
    }
}

fn found(args: Args) -> Result<Found, Failure> {
    let config = args.config.as_deref();
    match args.command {
        Command::Check(check) => Ok(check::check(check.file.as_deref().or(config))),
        Command::Schema => Ok(printed(&config::schema())),
        Command::Openapi => Ok(printed(&api::document())),
        Command::Migrate(options) => migrate(&place(config)?, options.url.as_deref()),
        Command::Apply(apply) => answered(config, ask::apply(&apply)?),
        Command::Tenant(tenant) => answered(config, ask::tenant(&tenant)),
        Command::Quota(quota) => answered(config, ask::quota(&quota)),
        Command::Key(key) => answered(config, ask::key(&key)),
        Command::Member(member) => answered(config, ask::member(&member)),
        Command::User(user) => answered(config, ask::user(&user)),
        Command::Settings(settings) => answered(config, ask::settings(&settings)?),
        Command::Audit(command) => audit::audit(config, &command),
        Command::Export(command) => archive::export(config, &command),
        Command::Import(command) => archive::import(config, &command),
        Command::Alert(alert) => answered(config, alert.ask()),
        Command::Bulk(bulk) => answered(config, bulk.ask()),
        Command::Report(report) => answered(config, report.ask()),
        Command::Channel(channel) => answered(config, channel.ask()),
        Command::Billing(billing) => answered(config, billing.ask()),
        Command::Invoice(command) => invoice::invoice(config, &command),
        Command::Tier(command) => answered(config, command.ask()?),
        Command::Usage(name) => answered(config, ask::usage(&name)),
        Command::Reconcile => reconciled(config),
        Command::Journal(command) => journal::journal(command, config),
        Command::Doctor => doctor::doctor(config),
        Command::Serve => gateway::serve(config, args.json),
        Command::Demo(demo) => gateway::demo(&demo),
    }
}

/// A document is JSON either way.
fn printed(document: &Value) -> Found {
    Found { text: format!("{document:#}\n"), json: document.to_string(), status: 0 }
}

fn answered(config: Option<&Path>, ask: Ask) -> Result<Found, Failure> {
    // A command without a gateway has no other log; the API tells its faults there. Twice is no fault of a command.
    let _ = log::init(log::Format::Text, "error");
    let place = place(config)?;
    let answer = waited_for(async {
        let client = session::client(&place).await?;
        Ok(client.send(ask.method, &ask.path, ask.body.as_ref()).await?)
    })?;
    if !answer.status.is_success() {
        return Err(Failure::refused(&answer));
    }
    let text = (ask.show)(&answer.body);
    Ok(Found { json: answer.text, text, status: 0 })
}

/// Books that differ are a problem that was found.
fn reconciled(config: Option<&Path>) -> Result<Found, Failure> {
    let found = answered(config, ask::reconcile())?;
    let agrees = serde_json::from_str::<Value>(&found.json).is_ok_and(|books| books["difference"] == 0);
    Ok(Found { status: u8::from(!agrees), ..found })
}

fn migrate(place: &Place, url: Option<&str>) -> Result<Found, Failure> {
    let owner = url.map(config::StoreUrl::given).transpose();
    let owner = owner.map_err(|fault| Failure::new(format!("--url can't be used: {fault}")))?;
    waited_for(session::migrate(&place.store, owner.as_ref().map(store_url)))?;
    Ok(Found {
        json: json!({ "migrated": true }).to_string(),
        text: "the schema is up to date\n".to_owned(),
        status: 0,
    })
}

fn place(config: Option<&Path>) -> Result<Place, Failure> {
    let Loaded { config, .. } = Config::load(config).map_err(|faults| gateway::faulty(&faults))?;
    let store = store_settings(&config.store);
    let peppers = app::peppers(&config.identity.api_key);
    let peppers = peppers.map_err(|error| Failure::caused("the keys' pepper can't be used", &error))?;
    let secrets = config.control.secret_keys.iter().map(|key| (key.version.into(), key.key.expose()));
    let secrets = (!config.control.secret_keys.is_empty()).then(|| KeyRing::parse(secrets)).transpose();
    let secrets =
        secrets.map_err(|error| Failure::caused("the key of tenants' secrets can't be used", &error))?;
    let audit = config.control.audit;
    let (channels, watch) = (channel_settings(&config.alerts), watch_settings(&config.alerts));
    let billing = billing_settings(&config.billing);
    Ok(Place { data: config.data.directory, store, peppers, secrets, audit, channels, watch, billing })
}

/// A command waits for one answer at a time: one thread is enough.
fn waited_for<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::caused("the runtime can't be started", &error))?
        .block_on(work)
}

// === impl Found ===

impl Found {
    /// The command said what it had to say while it ran.
    fn nothing() -> Self {
        Found { json: String::new(), text: String::new(), status: 0 }
    }

    /// A reader that went away (`| head`) is no failure of the command.
    fn printed(&self, json: bool) -> ExitCode {
        let mut out = io::stdout().lock();
        let _ = if json && !self.json.is_empty() {
            writeln!(out, "{}", self.json)
        } else {
            write!(out, "{}", self.text)
        };
        let _ = out.flush();
        ExitCode::from(self.status)
    }
}

#[cfg(test)]
mod tests;
