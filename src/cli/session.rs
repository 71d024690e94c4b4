//! Who answers a command: the gateway that runs on the configured data directory, or this process if none does.
//!
//! A running gateway is asked rather than passed by, because it then obeys at once instead of at its next poll.
//! The store itself bears both: nothing is lost if a gateway starts while a command works without one.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use tokio::sync::Notify;
use uuid::Uuid;

use super::failure::Failure;
use crate::api::{self, Client, LocalDoor, LocalToken};
use crate::app::attesting;
use crate::clock::{Clock, SystemClock};
use crate::config::AuditConfig;
use crate::control::{BillingSettings, ChannelSettings, Control, WatchSettings};
use crate::secret::hash::{Pepper, Peppers};
use crate::secret::seal::KeyRing;
use crate::store::{Store, StoreError, StoreSettings, StoreUrl};

/// What of the configuration a command needs.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Where till, journal and door live.
    pub(super) data: PathBuf,
    pub(super) store: StoreSettings,
    /// The configured ones; else there is one in the data directory.
    pub(super) peppers: Option<Peppers>,
    /// What tenants' secrets are sealed with, if configured; else it lives in the data directory.
    pub(super) secrets: Option<KeyRing>,
    /// What attests the audit log.
    pub(super) audit: AuditConfig,
    /// What tenants' channels may be.
    pub(super) channels: ChannelSettings,
    /// What tenants are told of.
    pub(super) watch: WatchSettings,
    pub(super) billing: BillingSettings,
}

/// A gateway that has just taken its directory opens its admin address well within this.
const STARTING_MAX: Duration = Duration::from_secs(5);
const STARTING_POLL: Duration = Duration::from_millis(50);

/// The client that a command should use.
///
/// # Errors
/// When a gateway holds the directory but can't be asked, or when the store can't be opened.
pub(super) async fn client(place: &Place) -> Result<Client, Failure> {
    tokio::time::timeout(STARTING_MAX, found(place)).await.unwrap_or_else(|_| {
        let what =
            format!("a gateway runs on {} but its admin address does not answer", place.data.display());
        Err(Failure::new(what).help("see the gateway's log, or stop it: the command works without it too"))
    })
}

/// Brings the schema up to date, as `owner` if one is given; a SQLite file that is not there yet is made. On Postgres
/// the login of `serving` may serve afterwards.
///
/// # Errors
/// When the store can't be opened, or its schema is not one that this program knows.
pub(super) async fn migrate(serving: &StoreSettings, owner: Option<StoreUrl>) -> Result<(), Failure> {
    let failed = |error: StoreError| Failure::caused("the store can't be migrated", &error);
    let settings = StoreSettings {
        url: owner.unwrap_or_else(|| serving.url.clone()),
        // Tables may be large, and somebody waits for this.
        statement_timeout: Duration::ZERO,
        ..serving.clone()
    };
    let store = Store::open_with(&settings).await.map_err(failed)?;
    store.migrate_for(&serving.url).await.map_err(failed)
}

/// The store, ready to work on.
async fn opened(settings: &StoreSettings) -> Result<Store, Failure> {
    let failed = |error: StoreError| Failure::caused("the store can't be opened", &error);
    let store = Store::open_with(settings).await.map_err(failed)?;
    store.prepare().await.map_err(failed)?;
    Ok(store)
}

async fn found(place: &Place) -> Result<Client, Failure> {
    loop {
        let door =
            LocalDoor::read(&place.data).map_err(|error| closed(&LocalDoor::path(&place.data), &error))?;
        if let Some(client) = door.map(Client::Remote)
            && client.is_welcome().await
        {
            return Ok(client);
        }
        if !is_held(&place.data).map_err(|error| closed(&lock_path(&place.data), &error))? {
            return in_process(place).await;
        }
        tokio::time::sleep(STARTING_POLL).await;
    }
}

async fn in_process(place: &Place) -> Result<Client, Failure> {
    let token = LocalToken::draw().map_err(|error| Failure::caused("no token can be drawn", &error))?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    Ok(Client::InProcess(api::router(control(place).await?, token.clone(), clock), token))
}

/// The control plane on the store itself.
///
/// # Errors
/// When the store can't be opened, or what is kept beside it can't be read.
pub(super) async fn control(place: &Place) -> Result<Control, Failure> {
    let store = opened(&place.store).await?;
    let peppers = place.peppers.clone().map_or_else(|| kept_pepper(&place.data), Ok)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
    let secrets = place.secrets.clone().map_or_else(|| kept_secrets(&place.data), Ok)?;
    // Whose turn it is to sign is said by gateways alone.
    let attesting = attesting(&place.audit, &place.data, Uuid::nil())
        .map_err(|error| Failure::caused("the audit log can't be verified", &error))?;
    let control = Control::new(store, clock, peppers, Arc::new(Notify::new()))
        .with_secrets(secrets)
        .with_attesting(attesting)
        .with_channels(place.channels.clone())
        .with_watch(place.watch.clone())
        .with_billing(place.billing);
    let confirmed = control.confirm_secrets().await;
    confirmed.map_err(|error| Failure::caused("tenants' secrets can't be opened", &error))?;
    Ok(control)
}

/// Made by whoever needs it first, the gateway or a command.
fn kept_pepper(data: &Path) -> Result<Peppers, Failure> {
    let path = data.join("pepper");
    std::fs::create_dir_all(data)
        .map_err(|error| Failure::caused(format!("{} can't be made", data.display()), &error))?;
    Pepper::load_or_create(&path).map(Peppers::from).map_err(|error| {
        Failure::caused("the keys' pepper can't be had", &error).help("restore it from a backup")
    })
}

fn kept_secrets(data: &Path) -> Result<KeyRing, Failure> {
    KeyRing::load_or_create(&data.join("secret.key")).map_err(|error| {
        Failure::caused("the key of tenants' secrets can't be had", &error).help("restore it from a backup")
    })
}

/// Whether a gateway holds the directory. The look takes the lock for a moment, shared, and gives it back.
pub(super) fn is_held(data: &Path) -> io::Result<bool> {
    let file = match File::open(lock_path(data)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(false),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

fn closed(path: &Path, error: &io::Error) -> Failure {
    Failure::unreadable(path, error).help("run the command as the user that the gateway runs as")
}

fn lock_path(data: &Path) -> PathBuf {
    data.join("lock")
}
