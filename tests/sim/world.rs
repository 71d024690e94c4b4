//! The world that a seed makes, and its time: one queue of events, one step after the other.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::rc::Rc;

use tollgate::clock::Timestamp;
use tollgate::domain::{AccountKey, Limit, LossPolicy, Period, Units, Window};
use tollgate::till::protocol::{Answer, AuthorityLost, BOOKS, Life, News, Renew, Seed, Terms, book};
use tollgate::till::supply::{Lives, QuestionId, Verdict, Want};
use tollgate::till::{Account, Charge, Dry, Opening, TillId, WhenDry, reserve};

use super::chance::Chance;
use super::fleet::{EPOCH, Fleet, LEARN_FOR, news};
use super::gateway::{Fate, Gateway, Process, Request, TIMEOUT, WAIT_MAX};
use super::mutants::Mutant;
use super::oracle::Oracle;
use super::plan::{self, Fault, Kind, MILLISECOND, Micros, Network, Plan, SECOND};
use super::scripts::Engine;

pub(crate) struct World {
    plan: Plan,
    chance: Chance,
    mutant: Option<Mutant>,
    now: Micros,
    queue: BinaryHeap<Reverse<Entry>>,
    sequence: u64,
    fleet: Fleet,
    gateways: Vec<Gateway>,
    /// All tills there ever were.
    tills: Vec<TillId>,
    oracle: Oracle,
    /// The database: limits, and units by account and till.
    terms: Vec<Terms>,
    /// The highest limit that each quota has had: gateways hear of a lower one later.
    highest: Vec<Option<u64>>,
    journal: BTreeMap<AccountKey, BTreeMap<TillId, u64>>,
    network: Network,
    /// When a book's server forgot something.
    forgot_at: [Option<Micros>; BOOKS as usize],
    last_forgot: Micros,
    requests: u64,
    calm_since: Option<Micros>,
    violation: Option<String>,
    is_traced: bool,
    pub(crate) tally: Tally,
}

/// What happened, so that a sweep can tell that something did.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Tally {
    pub(crate) seeds: u64,
    pub(crate) steps: u64,
    pub(crate) calls: u64,
    pub(crate) admitted: u64,
    pub(crate) denied: u64,
    pub(crate) unavailable: u64,
    /// Books that forgot something.
    pub(crate) failures: u64,
    /// Accounts of which a new life began to grant, and of those with a deficit.
    pub(crate) lives: u64,
    pub(crate) deficits: u64,
}

struct Entry {
    at: Micros,
    sequence: u64,
    event: Event,
}

enum Event {
    Arrive(usize),
    /// A message to or from a process of a gateway, which may have ended.
    Process(usize, u64, Message),
    Start(usize),
    Journal(usize),
    Fault(Fault),
    Release(usize, u64, AccountKey, u64),
    Calm,
    Round,
}

#[derive(Clone)]
enum Message {
    Ask(QuestionId, Renew),
    Answer(QuestionId, Answer),
    AskLives(Box<Lives>),
    Lives(Box<Lives>, Vec<Life>),
    Seed(Seed),
    Seeded(AccountKey, bool),
    Hear(News),
    Terms(usize, Terms),
    Live(String),
    Tick,
    /// It is time to ask for the lives, and for who the masters are.
    Poll,
    PollLive,
}

/// How often a gateway asks for the lives.
const LIVES_EVERY: Micros = 150 * MILLISECOND;
/// How often the client of a cluster asks who the masters are.
const LIVE_EVERY: Micros = SECOND;
/// A book is not moved so soon after something was forgotten: the client's list of masters may be that old.
const MOVE_AFTER: Micros = 4 * SECOND;
/// When the faults have ended, everybody has heard of the limits, and has claimed, after so long.
const HEARD_IN: Micros = 3 * SECOND;
/// When the faults have ended, everything is known everywhere after so long.
const SETTLES_IN: Micros = 12 * SECOND;
/// And so long after that everything is used.
const EXHAUSTED_IN: Micros = 60 * SECOND;
/// A denial that is wrong for so long after the faults is a false one.
const DENIAL_MAX: Micros = 4 * SECOND;

/// Runs a seed to its end.
pub(crate) fn run(
    engine: Rc<Engine>,
    seed: u64,
    mutant: Option<Mutant>,
    is_traced: bool,
) -> (Tally, Result<(), String>) {
    let mut world = World::new(engine, seed, mutant, is_traced);
    let result = world.run();
    (world.tally, result)
}

// === impl World ===

impl World {
    fn new(engine: Rc<Engine>, seed: u64, mutant: Option<Mutant>, is_traced: bool) -> Self {
        let mut chance = Chance::new(seed);
        let plan = Plan::new(&mut chance);
        let terms = plan.quotas.iter().map(|quota| Terms { limit: quota.limit, version: 1 }).collect();
        let mut world = World {
            fleet: Fleet::new(engine, &plan.servers),
            mutant,
            now: 400 * SECOND,
            queue: BinaryHeap::new(),
            sequence: 0,
            gateways: Vec::new(),
            tills: Vec::new(),
            oracle: Oracle::default(),
            terms,
            highest: plan.quotas.iter().map(|quota| quota.limit.units().map(Units::get)).collect(),
            journal: BTreeMap::new(),
            network: plan.network,
            forgot_at: [None; BOOKS as usize],
            last_forgot: 0,
            requests: 0,
            calm_since: None,
            violation: None,
            is_traced,
            tally: Tally { seeds: 1, ..Tally::default() },
            plan,
            chance,
        };
        world.trace(|world| format!("{:#?}", world.plan));
        world.begin();
        world
    }

    fn begin(&mut self) {
        if self.plan.is_old {
            for book in self.books() {
                self.fleet.life(book, "", 0);
            }
        }
        for gateway in 0..self.plan.gateways.len() {
            let skew = plan::skew(&mut self.chance);
            self.gateways.push(Gateway::new(gateway, skew));
            self.tills.push(TillId(uuid::Uuid::nil()));
            self.start(gateway);
            self.push(self.plan.pace, Event::Arrive(gateway));
            self.push(100 * MILLISECOND, Event::Journal(gateway));
        }
        for (fault, count) in self.plan.faults.clone() {
            for _ in 0..count {
                let at = self.chance.below(self.plan.chaos);
                self.push(at, Event::Fault(fault));
            }
        }
        self.push(self.plan.chaos, Event::Calm);
    }

    fn run(&mut self) -> Result<(), String> {
        while self.violation.is_none() {
            let Some(Reverse(Entry { at, event, .. })) = self.queue.pop() else { break };
            self.now = at;
            self.tally.steps += 1;
            self.step(event);
            if self.is_over() {
                break;
            }
        }
        self.violation.take().map_or(Ok(()), Err)
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Arrive(gateway) => self.arrive(gateway),
            Event::Process(gateway, run, message) => {
                if self.gateways[gateway].run == run && self.gateways[gateway].process.is_some() {
                    self.deliver(gateway, message);
                    self.drain(gateway);
                }
            }
            Event::Start(gateway) => self.start(gateway),
            Event::Journal(gateway) => self.write_journal(gateway),
            Event::Fault(fault) => self.fault(fault),
            Event::Release(gateway, run, key, units) => self.release(gateway, run, &key, units),
            Event::Calm => self.calm(),
            Event::Round => self.round(),
        }
    }

    // --- messages ---

    fn deliver(&mut self, gateway: usize, message: Message) {
        match message {
            Message::Ask(id, renew) => self.ask(gateway, id, renew),
            Message::AskLives(known) => self.ask_lives(gateway, known),
            Message::Seed(seed) => self.seed(gateway, &seed),
            Message::Poll => {
                self.send_lives(gateway);
                self.after(gateway, LIVES_EVERY, Message::Poll);
            }
            Message::PollLive => {
                let live = if self.fleet.is_up(self.now) { self.fleet.live() } else { String::new() };
                self.send(gateway, Message::Live(live));
                self.after(gateway, LIVE_EVERY, Message::PollLive);
            }
            message => self.take(gateway, message),
        }
    }

    /// What reaches a gateway.
    fn take(&mut self, gateway: usize, message: Message) {
        let now = self.now;
        let wall = self.gateways[gateway].wall(now);
        let Some(process) = self.gateways[gateway].process.as_mut() else { return };
        let instant = process.monotonic(now);
        match message {
            Message::Answer(id, answer) => process.supply.answered(id, &answer, instant),
            Message::Lives(known, lives) => process.supply.lives(&known, &lives, instant),
            Message::Seeded(key, is_done) => process.supply.seeded(&key, is_done, instant),
            Message::Hear(news) => process.supply.hear(news, instant),
            Message::Terms(quota, terms) => {
                if terms.version > process.terms[quota].version {
                    process.terms[quota] = terms;
                }
                let owner = self.plan.quotas[quota].owner;
                for account in process.till.accounts().iter().filter(|account| account.key().owner == owner) {
                    account.set_terms(terms);
                }
            }
            Message::Live(live) => process.live = live,
            Message::Tick => {
                process.tick_at = None;
                process.supply.tick(instant, wall);
            }
            _ => {}
        }
    }

    /// A question is at the server.
    fn ask(&mut self, gateway: usize, id: QuestionId, renew: Renew) {
        let of = book(&renew.account);
        if self.is_unanswered(gateway, of, Message::Ask(id, renew)) {
            return;
        }
        self.tally.calls += 1;
        let live = self.live(gateway);
        let before = self.fleet.granted(&renew.account, renew.till).max(renew.claim.granted);
        let (answer, published) = self.fleet.renew(&renew, &live, self.now);
        self.publish(&published);
        self.trace(|world| format!("authority: gateway {gateway} {} -> {answer:?}", world.shown(&renew)));
        if let Answer::Renewed(renewed) = &answer {
            let till = self.till_index(renew.till);
            let line = self.oracle.line(&renew.account, till);
            line.promised = line.promised.max(renewed.granted);
            line.promised_at = self.now;
            if renewed.granted > before {
                self.granted(&renew, renewed.life);
            }
        }
        self.send(gateway, Message::Answer(id, answer));
    }

    /// Whether the server does not answer: it is down, or stopped and does it later.
    fn is_unanswered(&mut self, gateway: usize, of: u16, message: Message) -> bool {
        let home = self.fleet.home(of);
        let server = self.fleet.server(home);
        let (stopped, down) = (server.stopped_until, server.down_until);
        if self.now < down || self.now < self.gateways[gateway].cut_until {
            self.fail(gateway, message);
            return true;
        }
        if self.now < stopped {
            self.after(gateway, stopped - self.now, message);
            return true;
        }
        false
    }

    /// The client hears that a call failed.
    fn fail(&mut self, gateway: usize, message: Message) {
        let lost = || Answer::Lost(AuthorityLost("it is down".to_owned()));
        if let Some(process) = self.gateways[gateway].process.as_mut() {
            process.live.clear();
        }
        match message {
            Message::Ask(id, _) => self.send(gateway, Message::Answer(id, lost())),
            Message::Seed(seed) => self.send(gateway, Message::Seeded(seed.account, false)),
            _ => {}
        }
    }

    fn ask_lives(&mut self, gateway: usize, known: Box<Lives>) {
        if !self.fleet.is_up(self.now) || self.now < self.gateways[gateway].cut_until {
            return;
        }
        let live = self.live(gateway);
        let mut lives = vec![Life(1); usize::from(BOOKS)];
        for of in self.books() {
            let (life, published) = self.fleet.life(of, &live, self.now);
            self.tally.calls += 1;
            self.publish(&published);
            lives[usize::from(of)] = life;
        }
        self.send(gateway, Message::Lives(known, lives));
    }

    fn seed(&mut self, gateway: usize, seed: &Seed) {
        if self.is_unanswered(gateway, book(&seed.account), Message::Seed(seed.clone())) {
            return;
        }
        let live = self.live(gateway);
        let published = self.fleet.seed(seed, &live, self.now);
        self.publish(&published);
        self.trace(|_| format!("authority: seeded {:?}", seed.used));
        self.send(gateway, Message::Seeded(seed.account, true));
    }

    fn publish(&mut self, published: &[String]) {
        let accounts: Vec<AccountKey> = self.oracle.ledgers.keys().copied().collect();
        for message in published {
            let till = |text: &str| self.tills.iter().copied().find(|till| till.to_string() == text);
            let Some(news) = news(message, &accounts, till) else { continue };
            for gateway in 0..self.gateways.len() {
                self.send(gateway, Message::Hear(news));
            }
        }
    }

    /// Sends a message through the network to where it goes.
    fn send(&mut self, gateway: usize, message: Message) {
        let network = self.network;
        if self.now < self.gateways[gateway].cut_until || self.chance.percent(network.loss) {
            return self.lose(gateway, message);
        }
        if self.chance.percent(network.repeat) {
            let late = self.chance.between(1, 3 * SECOND);
            self.after(gateway, late, message.clone());
        }
        let most = if self.chance.percent(network.late) { 20 * network.delay_max } else { network.delay_max };
        let delay = self.chance.between(50, most);
        self.after(gateway, delay, message);
    }

    /// Who seeds learns in time that it did not work; whoever asks something else gives up by itself.
    fn lose(&mut self, gateway: usize, message: Message) {
        let account = match message {
            Message::Seed(seed) => seed.account,
            Message::Seeded(account, _) => account,
            _ => return,
        };
        self.after(gateway, TIMEOUT, Message::Seeded(account, false));
    }

    fn send_lives(&mut self, gateway: usize) {
        let Some(process) = &self.gateways[gateway].process else { return };
        let known = process.supply.known_lives();
        self.send(gateway, Message::AskLives(known));
    }

    fn after(&mut self, gateway: usize, delay: Micros, message: Message) {
        let run = self.gateways[gateway].run;
        self.push(delay, Event::Process(gateway, run, message));
    }

    fn push(&mut self, delay: Micros, event: Event) {
        self.sequence += 1;
        self.queue.push(Reverse(Entry { at: self.now + delay, sequence: self.sequence, event }));
    }

    // --- gateways ---

    fn start(&mut self, gateway: usize) {
        let (terms, now) = (self.terms.clone(), self.now);
        let it = &mut self.gateways[gateway];
        if it.process.is_some() {
            return;
        }
        it.start(terms, now);
        let (index, id) = (it.till, it.process.as_ref().map(|process| process.till.id()));
        self.tills[index] = id.unwrap();
        self.trace(|_| format!("gateway {gateway}: starts with till {index}"));
        self.after(gateway, 0, Message::Poll);
        self.after(gateway, 0, Message::PollLive);
    }

    fn stop(&mut self, gateway: usize) {
        self.gateways[gateway].process = None;
        let delay = if self.calm_since.is_some() {
            MILLISECOND
        } else {
            self.chance.between(MILLISECOND, 3 * SECOND)
        };
        self.push(delay, Event::Start(gateway));
    }

    /// Does all that a gateway has to do at this instant, and looks at its counters.
    fn drain(&mut self, gateway: usize) {
        for _ in 0..1_000 {
            let verdicts = self.verdicts(gateway);
            let is_done = verdicts.is_empty();
            for (waiter, verdict) in verdicts {
                self.resolve(gateway, waiter, verdict);
            }
            self.dispatch(gateway);
            if is_done {
                break;
            }
        }
        self.plan_tick(gateway);
        self.observe(gateway);
    }

    fn verdicts(&mut self, gateway: usize) -> Vec<(u64, Verdict)> {
        let Some(process) = self.gateways[gateway].process.as_mut() else { return Vec::new() };
        let mut verdicts = process.supply.take_verdicts();
        // Maps have no order, but a seed must have one.
        verdicts.sort_by_key(|(waiter, _)| *waiter);
        verdicts
    }

    /// Sends what the supply has to say, in an order that the seed determines.
    fn dispatch(&mut self, gateway: usize) {
        let now = self.now;
        let Some(process) = self.gateways[gateway].process.as_mut() else { return };
        let instant = process.monotonic(now);
        let wants_lives = process.supply.wants_lives();
        let mut unseeded = process.supply.take_unseeded();
        let mut questions = Vec::new();
        while process.supply.has_questions() {
            questions.extend(process.supply.questions(instant));
        }
        unseeded.sort_by_key(|account| *account.key());
        questions.sort_by_key(|question| question.renew.account);
        if wants_lives {
            self.send_lives(gateway);
        }
        for account in unseeded {
            let used = self.journal.get(account.key()).into_iter().flatten();
            let used = used.map(|(till, units)| (*till, Units::saturating(*units))).collect();
            let seed = Seed { account: *account.key(), terms: account.terms(), used };
            self.send(gateway, Message::Seed(seed));
        }
        for question in questions {
            let renew = self.mutated(question.renew);
            self.send(gateway, Message::Ask(question.id, renew));
        }
    }

    fn mutated(&mut self, mut renew: Renew) -> Renew {
        if self.mutant == Some(Mutant::ToldBeforeTaken) {
            let balance = renew.claim.balance();
            renew.claim.spent += balance;
            renew.claim.returned += balance;
            renew.claim.refunded += balance;
        }
        renew
    }

    fn plan_tick(&mut self, gateway: usize) {
        let now = self.now;
        let Some(process) = self.gateways[gateway].process.as_mut() else { return };
        let Some(at) = process.supply.next_tick().map(|at| process.at(at).max(now)) else { return };
        if process.tick_at.is_none_or(|planned| at < planned) {
            process.tick_at = Some(at);
            self.after(gateway, at - now, Message::Tick);
        }
    }

    fn observe(&mut self, gateway: usize) {
        let Some(process) = &self.gateways[gateway].process else { return };
        let all = process.till.counters();
        let late = process.waiting.values().find(|request| self.now > request.deadline + SECOND);
        if let Some(late) = late {
            return self.violate(format!("gateway {gateway}: request {} waits for ever", late.id));
        }
        if let Err(what) = self.oracle.observe(self.gateways[gateway].till, &all) {
            self.violate(what);
        }
        self.note_available();
    }

    // --- requests ---

    fn arrive(&mut self, gateway: usize) {
        if self.calm_since.is_none() {
            let pace = self.plan.pace * 20 / self.plan.gateways[gateway];
            let next = self.chance.between(1, 2 * pace);
            self.push(next, Event::Arrive(gateway));
        }
        let path = self.chance.index(self.plan.paths.len());
        let units = self.chance.between(1, self.plan.units_max);
        let fate = self.fate(units);
        self.request(gateway, path, units, fate);
    }

    fn fate(&mut self, units: u64) -> Fate {
        if self.calm_since.is_some() || !self.chance.percent(self.plan.refunds) {
            return Fate::Keep;
        }
        match self.chance.below(3) {
            0 => Fate::Refund,
            1 => Fate::Settle(self.chance.below(units)),
            _ => Fate::ReleaseAfter(self.chance.between(MILLISECOND, SECOND)),
        }
    }

    fn request(&mut self, gateway: usize, path: usize, units: u64, fate: Fate) {
        let accounts = self.accounts(gateway, path);
        if accounts.is_empty() {
            return;
        }
        self.requests += 1;
        let id = self.requests;
        let deadline = self.now + WAIT_MAX;
        self.attempt(
            gateway,
            Request { id, accounts, units, deadline, rounds: 0, fate, short: 0, counted: Vec::new() },
        );
        self.drain(gateway);
    }

    /// The accounts of a path in the window that the gateway believes in.
    fn accounts(&mut self, gateway: usize, path: usize) -> Vec<(usize, Account)> {
        let wall = self.gateways[gateway].wall(self.now).micros() - EPOCH;
        let since = u64::try_from(wall).unwrap_or(0).saturating_sub(400 * SECOND);
        let window = (since / self.plan.window).min(self.plan.windows - 1);
        let mut accounts = Vec::new();
        for quota in self.plan.paths[path].clone() {
            let key = self.key(quota, window);
            let plan = self.plan.quotas[quota];
            self.oracle.open(key, quota, plan.kind, self.highest[quota]);
            let Some(process) = self.gateways[gateway].process.as_ref() else { return Vec::new() };
            let opening = Opening { terms: process.terms[quota], base: Units::ZERO };
            accounts.push((quota, process.till.account(&key, opening).unwrap()));
        }
        accounts
    }

    fn key(&self, quota: usize, window: u64) -> AccountKey {
        let plan = self.plan.quotas[quota];
        let start = EPOCH + (400 * SECOND + window * self.plan.window).cast_signed();
        let end = start + (1_000_000 * SECOND).cast_signed();
        let window = match plan.kind {
            Kind::Gauge => {
                Window { period: Period::Forever, start: Timestamp::from_seconds(0), end: Timestamp::MAX }
            }
            Kind::Hard | Kind::Soft => Window {
                period: Period::Hour,
                start: Timestamp::from_micros(start),
                end: Timestamp::from_micros(end),
            },
        };
        AccountKey { owner: plan.owner, resource: plan.resource, window }
    }

    fn attempt(&mut self, gateway: usize, mut request: Request) {
        request.rounds += 1;
        match self.reserve(gateway, &request) {
            Ok(()) => {
                self.tally.admitted += 1;
                self.after_admission(gateway, &request);
            }
            Err(dry) if dry.is_spent => self.denied(gateway, &request, dry),
            Err(_) if request.rounds > 64 => self.tally.unavailable += 1,
            Err(dry) => self.wait(gateway, request, dry),
        }
    }

    /// Reserves, and lets the request come to its end.
    fn reserve(&mut self, gateway: usize, request: &Request) -> Result<(), Dry> {
        let charges: Vec<Charge<'_>> =
            (0..request.accounts.len()).map(|at| self.charge(request, at)).collect();
        let mut reservation = reserve(&charges)?;
        reservation.sent();
        match request.fate {
            Fate::Refund => reservation.refund(),
            Fate::Settle(units) => reservation.settle(0, Units::saturating(units)),
            Fate::Keep | Fate::ReleaseAfter(_) => {}
        }
        let till = self.gateways[gateway].till;
        for (charged, (_, account)) in reservation.charged().iter().zip(&request.accounts) {
            self.oracle.line(account.key(), till).charged += charged.units.get();
            if account.limit() == Limit::Unlimited
                && let Some(ledger) = self.oracle.ledgers.get_mut(account.key())
            {
                ledger.unlimited += request.units;
            }
        }
        self.trace(|_| {
            format!(
                "gateway {gateway}: request {} admitted, {} units, {:?}",
                request.id, request.units, request.fate
            )
        });
        Ok(())
    }

    fn charge<'a>(&self, request: &'a Request, at: usize) -> Charge<'a> {
        let (quota, account) = &request.accounts[at];
        let when_dry = match self.plan.quotas[*quota].kind {
            _ if at > 0 && self.mutant == Some(Mutant::OnlyTheFirst) => WhenDry::CountUpTo(Units::MAX),
            Kind::Soft if request.counted.contains(&at) => WhenDry::CountUpTo(Units::MAX),
            Kind::Soft => WhenDry::CountOnceSpent,
            Kind::Hard | Kind::Gauge => WhenDry::Deny,
        };
        Charge { account, units: Units::saturating(request.units), when_dry, on_loss: LossPolicy::Till }
    }

    fn after_admission(&mut self, gateway: usize, request: &Request) {
        let run = self.gateways[gateway].run;
        for (quota, account) in &request.accounts {
            let is_gauge = self.plan.quotas[*quota].kind == Kind::Gauge;
            let release = match request.fate {
                Fate::ReleaseAfter(delay) => Some(delay),
                Fate::Keep
                    if is_gauge && self.calm_since.is_none() && self.chance.percent(self.plan.releases) =>
                {
                    Some(self.chance.between(MILLISECOND, SECOND))
                }
                _ => None,
            };
            if let Some(delay) = release {
                self.push(delay, Event::Release(gateway, run, *account.key(), request.units));
            }
        }
        let now = self.now;
        let Some(process) = self.gateways[gateway].process.as_mut() else { return };
        let instant = process.monotonic(now);
        for (_, account) in &request.accounts {
            if account.runs_low() {
                process.supply.top_up(account, instant);
            }
        }
    }

    fn wait(&mut self, gateway: usize, mut request: Request, dry: Dry) {
        let now = self.now;
        request.short = dry.index;
        let charge = self.charge(&request, dry.index);
        let (account, least, units) = (charge.account.clone(), charge.least(), charge.units);
        let Some(process) = self.gateways[gateway].process.as_mut() else { return };
        let want = Want { account, least, units, deadline: process.monotonic(request.deadline) };
        let (id, instant) = (request.id, process.monotonic(now));
        process.waiting.insert(id, request);
        process.supply.want(want, id, instant);
    }

    fn resolve(&mut self, gateway: usize, waiter: u64, verdict: Verdict) {
        let Some(process) = self.gateways[gateway].process.as_mut() else { return };
        let Some(mut request) = process.waiting.remove(&waiter) else {
            return self.violate(format!("request {waiter} was told {verdict:?} and did not wait"));
        };
        self.trace(|_| format!("gateway {gateway}: request {waiter} is told {verdict:?}"));
        match verdict {
            Verdict::TryAgain => self.attempt(gateway, request),
            // As the gateway does it: a soft quota never stands in the way.
            _ if self.plan.quotas[request.accounts[request.short].0].kind == Kind::Soft => {
                request.counted.push(request.short);
                self.attempt(gateway, request);
            }
            Verdict::Stranded | Verdict::Late | Verdict::Lost => self.tally.unavailable += 1,
        }
    }

    fn denied(&mut self, gateway: usize, request: &Request, dry: Dry) {
        self.tally.denied += 1;
        let (quota, account) = &request.accounts[dry.index];
        self.trace(|_| {
            format!(
                "gateway {gateway}: request {} denied for quota {quota}, {:?}",
                request.id,
                account.counters()
            )
        });
        let Some(calm) = self.calm_since.filter(|calm| self.now > calm + SETTLES_IN) else { return };
        let Some(ledger) = self.oracle.ledgers.get(account.key()) else { return };
        let since =
            ledger.available_since.filter(|_| request.units == 1).map(|since| since.max(calm + SETTLES_IN));
        if let Some(since) = since.filter(|since| self.now > since + DENIAL_MAX) {
            let what = format!(
                "gateway {gateway}: quota {quota} denied as spent, and units were available for {} us: {ledger:#?}",
                self.now - since
            );
            self.violate(what);
        }
    }

    fn release(&mut self, gateway: usize, run: u64, key: &AccountKey, units: u64) {
        let till = self.gateways[gateway].till;
        if self.gateways[gateway].run != run {
            return;
        }
        let Some(process) = self.gateways[gateway].process.as_ref() else { return };
        let Some(account) = process.till.find(key) else { return };
        if account.release(Units::saturating(units)).is_ok() {
            self.oracle.line(key, till).charged -= units;
            self.trace(|_| format!("gateway {gateway}: {units} units released"));
        }
        self.observe(gateway);
    }

    /// The database hears what was used.
    fn write_journal(&mut self, gateway: usize) {
        let next = self.chance.between(20 * MILLISECOND, 400 * MILLISECOND);
        self.push(next, Event::Journal(gateway));
        let Some(process) = self.gateways[gateway].process.as_ref() else { return };
        for (key, counters) in process.till.counters() {
            let units = counters.used();
            self.journal.entry(key).or_default().insert(process.till.id(), units);
            process.till.set_journalled(&key, units);
        }
    }

    // --- what must hold of grants ---

    /// An authority has granted.
    fn granted(&mut self, renew: &Renew, life: Life) {
        let key = renew.account;
        let of = usize::from(book(&key));
        if let Some(forgot) = self.forgot_at[of]
            && self.now < forgot + LEARN_FOR
        {
            return self.violate(format!("granted {} us after something was forgotten", self.now - forgot));
        }
        let (limit, committed) = self.fleet.believed(&key);
        let is_hard = self.oracle.ledgers[&key].is_hard;
        if is_hard && limit.is_some_and(|limit| committed > limit) {
            return self.violate(format!("granted up to {committed} of {limit:?}"));
        }
        if is_hard && self.oracle.ledgers[&key].granting != life {
            self.assess(&key, life);
        }
    }

    /// What of an account is out and unknown to the life that begins to grant.
    fn assess(&mut self, key: &AccountKey, life: Life) {
        self.tally.lives += 1;
        let mut deficit = 0;
        let mut faulty = None;
        for (till, line) in &self.oracle.ledgers[key].lines {
            let gateway = self.gateways.iter().find(|gateway| gateway.till == *till && !line.is_dead);
            let process = gateway.and_then(|gateway| gateway.process.as_ref());
            let knows = process.is_some_and(|it| it.supply.known_lives()[usize::from(book(key))] == life);
            let may_come = !knows && self.now <= line.promised_at + 2 * TIMEOUT;
            let granted = if may_come { line.promised.max(line.last.granted) } else { line.last.granted };
            let holds =
                if line.is_dead { line.last.used() } else { granted.saturating_sub(line.last.returned) };
            let (held, _) = self.fleet.recorded(key, self.tills[*till]);
            let missing = holds.saturating_sub(held);
            deficit += missing;
            let is_busy = process.is_none_or(|process| process.supply.is_claiming());
            if missing > 0 && process.is_some_and(|process| self.had_time(key, process)) {
                faulty = Some(format!("till {till} did not claim in time, though nothing kept it from it"));
            }
            if missing > 0 && knows && !is_busy {
                faulty = Some(format!(
                    "till {till} knew {life:?} and claimed nothing, though {missing} of its units are not recorded"
                ));
            }
        }
        self.tally.deficits += u64::from(deficit > 0);
        if let Some(ledger) = self.oracle.ledgers.get_mut(key) {
            ledger.granting = life;
            ledger.deficit = ledger.deficit.max(deficit);
        }
        if let Some(what) = faulty {
            self.violate(what);
        }
    }

    /// Whether a process that was there when a book forgot something had all it needs to claim in time.
    fn had_time(&self, key: &AccountKey, process: &Process) -> bool {
        let hinders = |(fault, _): &(Fault, u64)| matches!(fault, Fault::Pause | Fault::Partition);
        let forgot = self.forgot_at[usize::from(book(key))].unwrap_or(0);
        process.born < forgot && self.plan.network == Network::CALM && !self.plan.faults.iter().any(hinders)
    }

    // --- faults ---

    fn fault(&mut self, fault: Fault) {
        if self.calm_since.is_some() {
            return;
        }
        let gateway = self.chance.index(self.gateways.len());
        let server = self.chance.index(self.fleet.len());
        let until = self.now + self.chance.between(10 * MILLISECOND, 2 * SECOND);
        self.trace(|_| format!("fault: {fault:?}, gateway {gateway} or server {server}"));
        match fault {
            Fault::Kill => self.stop(gateway),
            Fault::PowerLoss => self.lose_power(gateway),
            Fault::Partition => self.gateways[gateway].cut_until = until,
            Fault::Pause => self.fleet.server(server).stopped_until = until,
            Fault::Move => self.move_book(server),
            Fault::Terms => self.change_terms(),
            Fault::Failover => {
                let skew = plan::skew(&mut self.chance);
                self.fleet.fail_over(server, skew);
                self.forgot(server);
            }
            Fault::RestartEmpty => {
                self.fleet.restart_empty(server);
                self.forgot(server);
            }
            Fault::FlushAll => {
                self.fleet.flush_all(server);
                self.forgot(server);
            }
        }
    }

    fn forgot(&mut self, server: usize) {
        self.tally.failures += 1;
        self.last_forgot = self.now;
        for of in self.books().into_iter().filter(|of| self.fleet.home(*of) == server).collect::<Vec<_>>() {
            self.forgot_at[usize::from(of)] = Some(self.now);
        }
        self.fleet.server(server).down_until = self.now + self.chance.between(0, 500 * MILLISECOND);
        for gateway in 0..self.gateways.len() {
            let delay = self.chance.between(MILLISECOND, 300 * MILLISECOND);
            self.after(gateway, delay, Message::Hear(News::Gap));
        }
    }

    fn lose_power(&mut self, gateway: usize) {
        self.write_journal(gateway);
        let till = self.tills.len();
        let old = self.gateways[gateway].till;
        self.tills.push(TillId(uuid::Uuid::nil()));
        for ledger in self.oracle.ledgers.values_mut() {
            if let Some(line) = ledger.lines.get_mut(&old) {
                line.is_dead = true;
            }
        }
        self.gateways[gateway].lose_power(till);
        self.stop(gateway);
    }

    fn move_book(&mut self, to: usize) {
        if self.now < self.last_forgot + MOVE_AFTER {
            return;
        }
        let books = self.books();
        let of = *self.chance.pick(&books);
        self.fleet.move_book(of, to);
    }

    fn change_terms(&mut self) {
        let quota = self.chance.index(self.terms.len());
        let limit = plan::limit(&mut self.chance, 0);
        let terms = Terms { limit, version: self.terms[quota].version + 1 };
        self.terms[quota] = terms;
        self.highest[quota] = self.highest[quota].max(limit.units().map(Units::get));
        for ledger in self.oracle.ledgers.values_mut().filter(|ledger| ledger.quota == quota) {
            ledger.ceiling = self.highest[quota];
        }
        for gateway in 0..self.gateways.len() {
            let delay = self.chance.between(MILLISECOND, SECOND);
            self.after(gateway, delay, Message::Terms(quota, terms));
        }
    }

    // --- the end ---

    /// The faults end.
    fn calm(&mut self) {
        self.trace(|_| "calm".to_owned());
        self.calm_since = Some(self.now);
        self.network = Network::CALM;
        for gateway in 0..self.gateways.len() {
            self.gateways[gateway].cut_until = 0;
            for quota in 0..self.terms.len() {
                let terms = self.terms[quota];
                self.after(gateway, 10 * MILLISECOND, Message::Terms(quota, terms));
            }
        }
        for server in 0..self.fleet.len() {
            let server = self.fleet.server(server);
            (server.stopped_until, server.down_until) = (0, 0);
        }
        self.push(100 * MILLISECOND, Event::Round);
    }

    /// Every gateway wants something of every path, until nothing is left.
    fn round(&mut self) {
        for gateway in 0..self.gateways.len() {
            for path in 0..self.plan.paths.len() {
                let left = self.left(path);
                if left > 0 {
                    let parts = 2 * self.gateways.len() as u64 * self.plan.paths.len() as u64;
                    self.request(gateway, path, (left / parts).clamp(1, 1_000), Fate::Keep);
                }
            }
        }
        self.push(100 * MILLISECOND, Event::Round);
        let Some(calm) = self.calm_since else { return };
        if self.now > calm + HEARD_IN {
            self.settle_ceilings();
        }
        if self.now > calm + SETTLES_IN + EXHAUSTED_IN {
            let left: Vec<_> = (0..self.plan.paths.len()).map(|path| self.left(path)).collect();
            self.violate(format!(
                "units are left and nobody gets them: by path {left:?}\n{:#?}",
                self.oracle.ledgers
            ));
        }
    }

    /// By now everybody knows the limits and has claimed: nothing more is granted above them, whatever was out, but for
    /// what the dead have used and nobody knows.
    fn settle_ceilings(&mut self) {
        for (key, ledger) in &mut self.oracle.ledgers {
            if let Some(limit) = self.terms[ledger.quota].limit.units() {
                let most =
                    ledger.ceiling.map_or(u64::MAX, |ceiling| ceiling + ledger.unlimited + ledger.deficit);
                let dead = ledger.lines.iter().filter(|(_, line)| line.is_dead);
                let unknown = dead.map(|(till, line)| {
                    let (held, over) = self.fleet.recorded(key, self.tills[*till]);
                    line.last.used().saturating_sub(held + over)
                });
                ledger.deficit = unknown.sum::<u64>().min(most);
                ledger.unlimited = 0;
                ledger.ceiling = Some((most - ledger.deficit).min(ledger.committed().max(limit.get())));
            }
        }
    }

    /// What a path can still pay; 0 if it can pay for ever.
    fn left(&self, path: usize) -> u64 {
        let accounts = self.plan.paths[path].iter().filter_map(|quota| {
            let plan = self.plan.quotas[*quota];
            let limit = self.terms[*quota].limit.units().filter(|_| plan.kind != Kind::Soft)?.get();
            let ledger = self.oracle.ledgers.get(&self.key(*quota, self.plan.windows - 1));
            Some(limit.saturating_sub(ledger.map_or(0, |ledger| ledger.used() + self.stranded(*quota))))
        });
        accounts.min().unwrap_or(0)
    }

    /// What dead tills hold.
    fn stranded(&self, quota: usize) -> u64 {
        let key = self.key(quota, self.plan.windows - 1);
        let Some(ledger) = self.oracle.ledgers.get(&key) else { return 0 };
        let dead = ledger.lines.iter().filter(|(_, line)| line.is_dead);
        let stranded = dead.map(|(till, line)| {
            let (held, over) = self.fleet.recorded(&key, self.tills[*till]);
            (held + over).saturating_sub(line.last.used())
        });
        stranded.sum()
    }

    fn note_available(&mut self) {
        if self.calm_since.is_none() {
            return;
        }
        let keys: Vec<AccountKey> = self.oracle.ledgers.keys().copied().collect();
        for key in keys {
            let quota = self.oracle.ledgers[&key].quota;
            let limit = self.terms[quota].limit.units().map_or(u64::MAX, Units::get);
            let is_available = self.oracle.ledgers[&key].used() + self.stranded(quota) < limit;
            if let Some(ledger) = self.oracle.ledgers.get_mut(&key) {
                ledger.available_since = is_available.then(|| ledger.available_since.unwrap_or(self.now));
            }
        }
    }

    fn is_over(&self) -> bool {
        let Some(calm) = self.calm_since else { return false };
        self.now > calm + SECOND && (0..self.plan.paths.len()).all(|path| self.left(path) == 0)
    }

    // --- bits ---

    fn books(&self) -> Vec<u16> {
        let mut books: Vec<u16> =
            (0..self.plan.quotas.len()).map(|quota| book(&self.key(quota, 0))).collect();
        books.sort_unstable();
        books.dedup();
        books
    }

    fn live(&self, gateway: usize) -> String {
        self.gateways[gateway].process.as_ref().map(|process| process.live.clone()).unwrap_or_default()
    }

    fn till_index(&self, id: TillId) -> usize {
        self.tills.iter().position(|till| *till == id).unwrap()
    }

    fn shown(&self, renew: &Renew) -> String {
        let quota = self.oracle.ledgers[&renew.account].quota;
        let claim = renew.claim;
        format!(
            "quota {quota} v{} {:?} G{} S{} R{} F{} O{} target {} least {}",
            renew.terms.version,
            renew.terms.limit,
            claim.granted,
            claim.spent,
            claim.returned,
            claim.refunded,
            claim.overage(),
            renew.granted_target,
            renew.granted_least
        )
    }

    fn violate(&mut self, what: String) {
        self.trace(|_| format!("VIOLATION {what}"));
        self.violation.get_or_insert(what);
    }

    fn trace(&self, text: impl FnOnce(&World) -> String) {
        if self.is_traced {
            println!("{:>12} {}", self.now, text(self));
        }
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Entry) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

impl Tally {
    pub(crate) fn add(&mut self, other: Tally) {
        self.seeds += other.seeds;
        self.steps += other.steps;
        self.calls += other.calls;
        self.admitted += other.admitted;
        self.denied += other.denied;
        self.unavailable += other.unavailable;
        self.failures += other.failures;
        self.lives += other.lives;
        self.deficits += other.deficits;
    }
}
