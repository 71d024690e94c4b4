//! Keeps the till supplied by an authority elsewhere: the one task that talks to it.
//!
//! All decisions are [`Supply`]'s; this moves messages. Requests send what they want and wait for a verdict, on whatever
//! thread they are; questions go out in batches as they come up, without waiting for each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::meters::AuthorityMeters;
use crate::clock::{Clock, Monotonic};
use crate::domain::AccountKey;
use crate::store::{Store, StoreError};
use crate::telemetry::readiness::Readiness;
use crate::till::protocol::{Answers, Authority, AuthorityLost, Book, Life, News, Renew, Seed};
use crate::till::supply::{Lives, Question, QuestionId, Supply, SupplySettings, Verdict, Want};
use crate::till::{Account, Till};

/// Where requests turn to when the till is dry. Clones speak to the same task.
///
/// What is sent and not taken yet is bounded by the requests in flight and the accounts of the till.
#[derive(Clone)]
pub struct Refiller {
    sender: UnboundedSender<Message>,
    is_lost: Arc<AtomicBool>,
}

/// The task behind [`Refiller`].
pub struct RefillTask<A> {
    authority: Arc<A>,
    store: Store,
    clock: Arc<dyn Clock>,
    meters: AuthorityMeters,
    supply: Supply<oneshot::Sender<Verdict>>,
    receiver: UnboundedReceiver<Message>,
    news: UnboundedReceiver<News>,
    is_lost: Arc<AtomicBool>,
    readiness: Readiness,
    jobs: JoinSet<Done>,
    lives: Poll,
}

/// What the task stands on.
pub struct RefillParts {
    pub till: Arc<Till>,
    pub store: Store,
    pub clock: Arc<dyn Clock>,
    pub settings: SupplySettings,
    pub meters: AuthorityMeters,
    pub readiness: Readiness,
}

enum Message {
    Want(Want, oneshot::Sender<Verdict>),
    TopUp(Account),
}

/// What a job brings back.
enum Done {
    Renewed(Vec<QuestionId>, Answers),
    Seeded(Vec<AccountKey>, bool),
    Lives(Box<Lives>, Result<Vec<Book>, AuthorityLost>),
}

/// When the lives are asked for.
struct Poll {
    is_under_way: bool,
    next: Monotonic,
}

/// The name in `/readyz`.
const CHECK: &str = "authority";
const LEARNING: &str = "it collects what gateways hold, and grants nothing until it knows";

/// How often the lives are asked for. Several times while a new life learns, so that no till misses it.
const LIVES_EVERY: Duration = Duration::from_millis(150);

/// Messages that are taken before the next batch goes out.
const MESSAGES_MAX: usize = 1024;

// === impl Refiller ===

impl Refiller {
    /// Waits until it is worth reserving again, or for why it is not; never much beyond the want's deadline.
    ///
    /// Dropping the future leaves what is granted to others.
    pub async fn wait_for(&self, want: Want) -> Verdict {
        let (sender, receiver) = oneshot::channel();
        if self.sender.send(Message::Want(want, sender)).is_err() {
            return Verdict::Lost;
        }
        receiver.await.unwrap_or(Verdict::Lost)
    }

    /// Has more fetched before anybody has to wait.
    pub fn top_up(&self, account: &Account) {
        // Without the task nothing is fetched any more: the gateway is ending.
        let _ = self.sender.send(Message::TopUp(account.clone()));
    }

    /// Whether the authority did not answer the last time it was asked for its lives.
    pub fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Relaxed)
    }
}

// === impl RefillTask ===

impl<A: Authority> RefillTask<A> {
    /// The task, and the door to it.
    pub fn new(
        authority: Arc<A>,
        news: UnboundedReceiver<News>,
        parts: RefillParts,
    ) -> (RefillTask<A>, Refiller) {
        let RefillParts { till, store, clock, settings, meters, readiness } = parts;
        let (sender, receiver) = mpsc::unbounded_channel();
        let is_lost = Arc::new(AtomicBool::new(true));
        let task = RefillTask {
            authority,
            store,
            supply: Supply::new(till, settings, meters.supply.clone()),
            clock,
            meters,
            receiver,
            news,
            is_lost: is_lost.clone(),
            readiness,
            jobs: JoinSet::new(),
            lives: Poll { is_under_way: false, next: Monotonic::default() },
        };
        (task, Refiller { sender, is_lost })
    }

    /// Runs until it is dropped, which loses nothing: the till has what was granted, and the next task asks anew.
    pub async fn run(mut self) {
        loop {
            self.dispatch();
            let pause = self.pause();
            tokio::select! {
                biased;
                Some(message) = self.receiver.recv() => self.take(message),
                Some(done) = self.jobs.join_next() => self.done(done),
                Some(news) = self.news.recv() => self.supply.hear(news, self.clock.monotonic()),
                () = sleep(pause) => {}
            }
            self.supply.tick(self.clock.monotonic(), self.clock.now());
        }
    }

    /// Sends out what there is to say.
    fn dispatch(&mut self) {
        for (waiter, verdict) in self.supply.take_verdicts() {
            // Who has gone away needs no verdict.
            let _ = waiter.send(verdict);
        }
        let now = self.clock.monotonic();
        if (self.supply.wants_lives() || now >= self.lives.next) && !self.lives.is_under_way {
            self.ask_lives(now);
        }
        let unseeded = self.supply.take_unseeded();
        if !unseeded.is_empty() {
            self.seed(unseeded);
        }
        while self.supply.has_questions() {
            let questions = self.supply.questions(now);
            if !questions.is_empty() {
                self.renew(&questions);
            }
        }
    }

    fn pause(&self) -> Duration {
        let next = self.supply.next_tick().map_or(self.lives.next, |tick| tick.min(self.lives.next));
        next.since(self.clock.monotonic())
    }

    fn take(&mut self, first: Message) {
        let now = self.clock.monotonic();
        let mut next = Some(first);
        for _ in 0..MESSAGES_MAX {
            match next {
                Some(Message::Want(want, sender)) => self.supply.want(want, sender, now),
                Some(Message::TopUp(account)) => self.supply.top_up(&account, now),
                None => return,
            }
            next = self.receiver.try_recv().ok();
        }
        if let Some(message) = next {
            self.take(message);
        }
    }

    fn renew(&mut self, questions: &[Question]) {
        let (ids, batch): (Vec<_>, Vec<Renew>) =
            questions.iter().map(|asked| (asked.id, asked.renew)).unzip();
        let (authority, clock, meters) = (self.authority.clone(), self.clock.clone(), self.meters.clone());
        self.jobs.spawn(async move {
            let began = clock.monotonic();
            let answers = authority.renew(&batch).await;
            meters.renewed(clock.monotonic().since(began));
            Done::Renewed(ids, answers)
        });
    }

    fn seed(&mut self, accounts: Vec<Account>) {
        let (authority, store) = (self.authority.clone(), self.store.clone());
        self.jobs.spawn(async move {
            let keys: Vec<_> = accounts.iter().map(|account| *account.key()).collect();
            let is_done = match seeds(&store, &accounts).await {
                Ok(seeds) => authority.seed(&seeds).await.map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            if let Err(error) = &is_done {
                tracing::warn!(error = %error, "the authority could not be told what was used: {error}");
            }
            Done::Seeded(keys, is_done.is_ok())
        });
    }

    fn ask_lives(&mut self, now: Monotonic) {
        self.lives = Poll { is_under_way: true, next: now.plus(LIVES_EVERY) };
        let (authority, known) = (self.authority.clone(), self.supply.known_lives());
        self.jobs.spawn(async move { Done::Lives(known, authority.lives().await) });
    }

    fn done(&mut self, done: Result<Done, tokio::task::JoinError>) {
        let now = self.clock.monotonic();
        match done {
            Ok(Done::Renewed(ids, answers)) => {
                for (id, answer) in ids.into_iter().zip(&answers) {
                    self.supply.answered(id, answer, now);
                }
            }
            Ok(Done::Seeded(keys, is_done)) => {
                keys.iter().for_each(|key| self.supply.seeded(key, is_done, now));
            }
            Ok(Done::Lives(known, books)) => {
                self.lives.is_under_way = false;
                self.note_books(&books);
                if let Ok(books) = books {
                    let lives: Vec<Life> = books.iter().map(|book| book.life).collect();
                    self.supply.lives(&known, &lives, now);
                }
            }
            // Only a fault of ours ends a job early; its questions are given up in time.
            Err(error) => {
                self.lives.is_under_way = false;
                tracing::error!(error = %error, "a question to the authority ended in a panic");
            }
        }
    }

    fn note_books(&self, books: &Result<Vec<Book>, AuthorityLost>) {
        let was_lost = self.is_lost.swap(books.is_err(), Ordering::Relaxed);
        match books {
            Ok(books) => {
                let learning = books.iter().filter(|book| book.learning).count();
                self.meters.learning(learning);
                match learning {
                    0 => self.readiness.ready(CHECK),
                    _ => self.readiness.ready_but(CHECK, LEARNING),
                }
                if was_lost {
                    tracing::info!("the authority answers");
                }
            }
            Err(error) => {
                // What the till holds can be spent: the gateway serves.
                self.readiness.ready_but(CHECK, error.to_string());
                if !was_lost {
                    tracing::warn!(error = %error, "requests that the till can't pay go by `on_loss`: {error}");
                }
            }
        }
    }
}

/// What the database knows of these accounts.
async fn seeds(store: &Store, accounts: &[Account]) -> Result<Vec<Seed>, StoreError> {
    let mut snapshot = store.read().await?;
    let mut seeds = Vec::with_capacity(accounts.len());
    for account in accounts {
        let used = snapshot.account_units_by_till(account.key()).await?;
        seeds.push(Seed { account: *account.key(), terms: account.terms(), used });
    }
    Ok(seeds)
}
