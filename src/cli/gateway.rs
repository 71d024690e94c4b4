//! `serve` and `demo`: the commands that are a gateway instead of asking one.

use std::io::{self, Write};

use serde_json::json;

use super::{Found, args, failure::Failure};
use crate::app::{self, DemoError, Started};
use crate::config::{Config, Faults, Loaded, LogFormat, Source, TelemetryConfig};
use crate::telemetry::log::{self, Format};

/// The demo's log: what goes wrong, and nothing else beside what is printed.
const DEMO_FILTER: &str = "warn";

/// Serves until a signal ends it.
pub(super) fn serve(config: Option<&std::path::Path>, json: bool) -> Result<Found, Failure> {
    let loaded = Config::load(config).map_err(|faults| faulty(&faults))?;
    start_log(&loaded.config.telemetry)?;
    report_source(&loaded);
    app::serve(loaded, |started| announce(started, json))
        .map_err(|error| Failure::caused("the gateway does not start", &error))?;
    Ok(Found::nothing())
}

/// Runs the demo until a signal ends it.
pub(super) fn demo(demo: &args::Demo) -> Result<Found, Failure> {
    let logged = log::init(Format::for_stderr(), DEMO_FILTER);
    logged.map_err(|error| Failure::caused("logging does not start", &error))?;
    let demo = app::Demo { keep: demo.keep.clone() };
    app::demo(&demo, say).map_err(|error| match error {
        DemoError::Start(error) => Failure::caused("the demo does not start", &error),
        error => Failure::caused("the demo can't be run", &error),
    })?;
    Ok(Found::nothing())
}

/// The faults of a configuration, one line each.
pub(super) fn faulty(faults: &Faults) -> Failure {
    Failure::new("the configuration has faults").details(faults.iter().map(ToString::to_string))
}

fn start_log(telemetry: &TelemetryConfig) -> Result<(), Failure> {
    let format = match telemetry.log_format {
        LogFormat::Auto => Format::for_stderr(),
        LogFormat::Json => Format::Json,
        LogFormat::Text => Format::Text,
    };
    log::init(format, &telemetry.log_filter)
        .map_err(|error| Failure::caused("logging does not start", &error))
}

fn report_source(loaded: &Loaded) {
    match &loaded.source {
        Source::File(path) => {
            tracing::info!(config = %path.display(), "serving the configuration of {}", path.display());
        }
        Source::Defaults => tracing::info!("there is no tollgate.toml here: serving built-in defaults"),
    }
}

/// Once it serves. The first platform token is told here and nowhere else.
fn announce(started: &Started, json: bool) {
    tracing::info!(proxy = ?started.proxy, tls = ?started.tls, admin = %started.admin, "serving");
    if json {
        say(&format!(
            "{}\n",
            json!({
                "proxy": started.proxy,
                "tls": started.tls,
                "authorize": started.authorize,
                "admin": started.admin,
                "platform_token": started.platform_token,
            })
        ));
    } else if let Some(token) = &started.platform_token {
        say(&format!("The platform token, shown this once: {token}\n"));
    }
}

/// To stdout at once; whoever closed it does not want to know.
fn say(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
