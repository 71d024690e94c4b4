//! Which authority the configuration names, and the tasks that go with it.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::settings;
use super::start::StartError;
use crate::authority::finding::{Finding, Severity};
use crate::authority::redis::Listening;
use crate::authority::{AuthorityMeters, Embedded, Postgres, Redis, RefillParts, RefillTask, Source};
use crate::clock::Clock;
use crate::config::{AuthorityUrl, Config};
use crate::store::Store;
use crate::telemetry::readiness::Readiness;
use crate::till::Till;
use crate::till::protocol::{Authority, News};

/// An authority that can be asked as soon as its tasks run.
pub(super) struct Opened {
    pub(super) source: Source,
    pub(super) meters: AuthorityMeters,
    /// The gateway's own, if it is alone.
    pub(super) embedded: Option<Arc<Embedded>>,
    pub(super) tasks: Vec<(&'static str, Task)>,
}

type Task = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// What every authority elsewhere needs.
pub(super) struct Parts<'a> {
    pub(super) config: &'a Config,
    pub(super) till: Arc<Till>,
    pub(super) store: Store,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) readiness: Readiness,
}

/// Opens the authority. One that does not answer is no error: what the till holds can be spent all the same.
pub(super) async fn open(parts: Parts<'_>) -> Result<Opened, StartError> {
    match &parts.config.authority.url {
        AuthorityUrl::Embedded => Ok(embedded(parts)),
        AuthorityUrl::Store => strict(parts).await,
        AuthorityUrl::Redis(url) => {
            let settings = settings::redis(url, parts.config)?;
            let redis = Redis::connect(settings, parts.clock.clone()).await;
            let redis = redis.map_err(|error| StartError::Authority(vec![error.to_string()]))?;
            inspect(&redis).await?;
            let (sender, news) = mpsc::unbounded_channel();
            let hearing = hear(redis.listen(), sender);
            Ok(elsewhere(Arc::new(redis), news, Box::pin(hearing), parts))
        }
    }
}

/// Grants by the store.
async fn strict(parts: Parts<'_>) -> Result<Opened, StartError> {
    let grants = parts.store.grants(settings::grants(parts.config));
    // The configuration was refused if the store is not Postgres.
    let needs_postgres = || StartError::Authority(vec!["grants by the store need Postgres".to_owned()]);
    let postgres = Postgres::new(grants.ok_or_else(needs_postgres)?);
    match postgres.inspect(parts.clock.now()).await {
        Ok(findings) => refuse(findings)?,
        Err(error) => tracing::warn!(error = %error, "starting with what the till holds: {error}"),
    }
    let (sender, news) = mpsc::unbounded_channel();
    let mut hearing = postgres.listen();
    let hearing = async move { while sender.send(hearing.next().await).is_ok() {} };
    Ok(elsewhere(Arc::new(postgres), news, Box::pin(hearing), parts))
}

fn embedded(parts: Parts<'_>) -> Opened {
    let embedded = Arc::new(Embedded::new(parts.till));
    Opened {
        source: Source::Embedded(embedded.clone()),
        meters: AuthorityMeters::default(),
        embedded: Some(embedded),
        tasks: Vec::new(),
    }
}

fn elsewhere<A: Authority>(
    authority: Arc<A>,
    news: mpsc::UnboundedReceiver<News>,
    hearing: Task,
    parts: Parts<'_>,
) -> Opened {
    let Parts { config, till, store, clock, readiness } = parts;
    let meters = AuthorityMeters::default();
    let settings = settings::supply(config);
    readiness.expect("authority");
    let parts = RefillParts { till, store, clock, settings, meters: meters.clone(), readiness };
    let (task, refiller) = RefillTask::new(authority, news, parts);
    Opened {
        source: Source::Elsewhere(refiller),
        meters,
        embedded: None,
        tasks: vec![("authority", Box::pin(task.run())), ("news", hearing)],
    }
}

/// Refuses servers on which limits would not hold.
async fn inspect(redis: &Redis) -> Result<(), StartError> {
    if let Err(error) = redis.lives().await {
        tracing::warn!(error = %error, "starting with what the till holds: {error}");
        return Ok(());
    }
    refuse(redis.inspect().await)
}

fn refuse(findings: Vec<Finding>) -> Result<(), StartError> {
    for finding in findings.iter().filter(|finding| finding.severity == Severity::Warning) {
        tracing::warn!("{}", finding.what);
    }
    let refusals = findings.into_iter().filter(|finding| finding.severity == Severity::Refusal);
    let refusals: Vec<_> = refusals.map(|finding| finding.what).collect();
    if refusals.is_empty() { Ok(()) } else { Err(StartError::Authority(refusals)) }
}

async fn hear(mut listening: Listening, sender: mpsc::UnboundedSender<News>) {
    while let Some(news) = listening.next().await {
        if sender.send(news).is_err() {
            return;
        }
    }
}
