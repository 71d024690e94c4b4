//! The authority: Redis servers that books are spread over, and what their client does with the scripts.

use std::fmt::Write as _;
use std::rc::Rc;

use tollgate::domain::{AccountKey, Limit, Units};
use tollgate::till::TillId;
use tollgate::till::protocol::{Answer, BOOKS, Life, News, Renew, Renewed, Seed, book};

use super::plan::{Micros, ServerPlan};
use super::scripts::{Engine, Redis, Reply, Script};

/// Virtual time 0, in microseconds since 1970.
pub(crate) const EPOCH: i64 = 1_767_225_600_000_000;
/// How long a new life learns.
pub(crate) const LEARN_FOR: Micros = 1_000_000;
const CHANNEL: &str = "tg:news";

pub(crate) struct Fleet {
    engine: Rc<Engine>,
    servers: Vec<Server>,
    /// Which server has a book.
    homes: [usize; BOOKS as usize],
    nodes: u64,
}

pub(crate) struct Server {
    redis: Redis,
    skew: i64,
    /// It does nothing before; what has come meanwhile is done then.
    pub(crate) stopped_until: Micros,
    /// What comes before is lost.
    pub(crate) down_until: Micros,
}

// === impl Fleet ===

impl Fleet {
    pub(crate) fn new(engine: Rc<Engine>, plans: &[ServerPlan]) -> Self {
        let mut fleet = Fleet { servers: Vec::new(), homes: [0; BOOKS as usize], nodes: 0, engine };
        for plan in plans {
            let node = fleet.node();
            let redis = fleet.engine.server(&node, plan.lag_max);
            fleet.servers.push(Server { redis, skew: plan.skew, stopped_until: 0, down_until: 0 });
        }
        for (book, home) in fleet.homes.iter_mut().enumerate() {
            *home = book % plans.len();
        }
        fleet
    }

    pub(crate) fn server(&mut self, server: usize) -> &mut Server {
        &mut self.servers[server]
    }

    pub(crate) fn len(&self) -> usize {
        self.servers.len()
    }

    pub(crate) fn home(&self, book: u16) -> usize {
        self.homes[usize::from(book)]
    }

    pub(crate) fn is_up(&self, now: Micros) -> bool {
        self.servers.iter().all(|server| server.is_up(now))
    }

    /// What a client of a cluster finds when it asks all masters who they are; a single server needs none of it.
    pub(crate) fn live(&self) -> String {
        let is_cluster = self.servers.len() > 1;
        let nodes = self.servers.iter().filter(|_| is_cluster).map(|server| server.redis.node());
        nodes.collect::<Vec<_>>().join(" ")
    }

    pub(crate) fn renew(&self, renew: &Renew, live: &str, now: Micros) -> (Answer, Vec<String>) {
        let mut words = self.words(book(&renew.account), Some(&renew.account), live);
        let AccountKey { window, .. } = renew.account;
        line(&mut words, &window.start.micros());
        line(&mut words, &0);
        line(&mut words, &limit_text(renew.terms.limit));
        line(&mut words, &renew.terms.version);
        line(&mut words, &renew.till);
        let claim = renew.claim;
        for counter in [
            claim.granted,
            claim.spent,
            claim.returned,
            claim.refunded,
            claim.over,
            claim.over_returned,
            renew.granted_target,
            renew.granted_least,
            u64::from(renew.more),
        ] {
            line(&mut words, &counter);
        }
        let reply = self.run(book(&renew.account), Script::Renew, 2, &words, now);
        (answer(&reply.numbers), reply.published)
    }

    pub(crate) fn seed(&self, seed: &Seed, live: &str, now: Micros) -> Vec<String> {
        let mut words = self.words(book(&seed.account), Some(&seed.account), live);
        line(&mut words, &0);
        line(&mut words, &limit_text(seed.terms.limit));
        line(&mut words, &seed.terms.version);
        for (till, units) in &seed.used {
            line(&mut words, till);
            line(&mut words, units);
        }
        self.run(book(&seed.account), Script::Seed, 2, &words, now).published
    }

    pub(crate) fn life(&self, book: u16, live: &str, now: Micros) -> (Life, Vec<String>) {
        let words = self.words(book, None, live);
        let reply = self.run(book, Script::Life, 1, &words, now);
        (Life(reply.numbers[0].cast_unsigned()), reply.published)
    }

    pub(crate) fn fail_over(&mut self, server: usize, skew: i64) {
        let node = self.node();
        self.servers[server].redis.fail_over(&node);
        self.servers[server].skew = skew;
    }

    pub(crate) fn restart_empty(&mut self, server: usize) {
        let node = self.node();
        self.servers[server].redis.restart_empty(&node);
    }

    pub(crate) fn flush_all(&mut self, server: usize) {
        self.servers[server].redis.flush_all();
    }

    pub(crate) fn move_book(&mut self, book: u16, to: usize) {
        let from = self.home(book);
        if from != to {
            self.servers[from].redis.migrate(&self.servers[to].redis, &format!("tg:{{{book}}}:"));
            self.homes[usize::from(book)] = to;
        }
    }

    /// G of one till on an account, as recorded.
    pub(crate) fn granted(&self, key: &AccountKey, till: TillId) -> u64 {
        let redis = &self.servers[self.home(book(key))].redis;
        let claim = redis.peek(&account_key(key), &till.to_string());
        claim.split(' ').next().and_then(|granted| granted.parse().ok()).unwrap_or(0)
    }

    /// G - R of one till on an account and its overage, as recorded; or what the database has told for it.
    pub(crate) fn recorded(&self, key: &AccountKey, till: TillId) -> (u64, u64) {
        let redis = &self.servers[self.home(book(key))].redis;
        let claim = redis.peek(&account_key(key), &till.to_string());
        if let Some(units) = claim.strip_prefix("seed ") {
            return (units.parse().unwrap(), 0);
        }
        let counters: Vec<u64> = claim.split(' ').filter_map(|word| word.parse().ok()).collect();
        let [granted, _, returned, _, over, over_returned] = counters[..] else { return (0, 0) };
        (granted.saturating_sub(returned), over.saturating_sub(over_returned))
    }

    /// The limit that the authority goes by, and what it believes to be committed.
    pub(crate) fn believed(&self, key: &AccountKey) -> (Option<u64>, u64) {
        let redis = &self.servers[self.home(book(key))].redis;
        let number = |field| redis.peek(&account_key(key), field).parse().ok();
        (number("limit"), number("committed").unwrap_or(0))
    }

    fn run(&self, book: u16, script: Script, keys: usize, words: &str, now: Micros) -> Reply {
        let server = &self.servers[self.home(book)];
        self.engine.run(&server.redis, script, EPOCH + server.skew + now.cast_signed(), keys, words)
    }

    fn words(&self, book: u16, account: Option<&AccountKey>, live: &str) -> String {
        let mut words = format!("tg:{{{book}}}:book\n");
        if let Some(account) = account {
            line(&mut words, &account_key(account));
        }
        line(&mut words, &LEARN_FOR);
        line(&mut words, &live);
        line(&mut words, &CHANNEL);
        words
    }

    fn node(&mut self) -> String {
        self.nodes += 1;
        format!("{:040x}", self.nodes)
    }
}

// === impl Server ===

impl Server {
    pub(crate) fn is_up(&self, now: Micros) -> bool {
        now >= self.stopped_until && now >= self.down_until
    }
}

fn line(words: &mut String, word: &impl std::fmt::Display) {
    writeln!(words, "{word}").unwrap();
}

fn limit_text(limit: Limit) -> String {
    limit.units().map(|units| units.to_string()).unwrap_or_default()
}

/// The form that the real client gives it, less what is the same for all accounts here.
fn account_key(key: &AccountKey) -> String {
    format!("tg:{{{}}}:a:{}:{}", book(key), key.owner.uuid(), key.window.start.micros())
}

fn answer(numbers: &[i64]) -> Answer {
    let [seeded, life, granted, remaining, idle, used, learning] = *numbers else {
        panic!("{numbers:?} is no answer")
    };
    let units = |number: i64| Units::saturating(u64::try_from(number).unwrap_or(Units::MAX.get()));
    let life = Life(life.cast_unsigned());
    if seeded == 0 {
        return Answer::Unseeded(life);
    }
    Answer::Renewed(Renewed {
        life,
        granted: granted.cast_unsigned(),
        remaining: units(remaining),
        idle_elsewhere: units(idle),
        used_elsewhere: units(used),
        learning: learning == 1,
    })
}

/// What was published, as the client reads it. `accounts` knows keys by their text.
pub(crate) fn news(
    message: &str,
    accounts: &[AccountKey],
    till: impl Fn(&str) -> Option<TillId>,
) -> Option<News> {
    let mut words = message.split(' ');
    let kind = words.next()?;
    if kind == "reborn" {
        return Some(News::Reborn);
    }
    let text = words.next()?;
    let account = *accounts.iter().find(|key| account_key(key) == text)?;
    match kind {
        "recall" => Some(News::Recall { account, by: till(words.next()?)? }),
        _ => Some(News::Freed(account)),
    }
}
