//! All that a gateway says to an authority elsewhere: what it asks, when, and what the answers mean for those who wait.
//!
//! Knows no network and no clock. Wants, answers, news and the time come in; questions, accounts to seed and verdicts
//! come out. One owner drives it: a task of the gateway, or the simulation.
//!
//! # One question at a time
//! Each account has at most one question under way, for all who wait for it: the next one takes together what has
//! come meanwhile. An answer that comes after its question was given up is ignored; nothing is lost by that, since
//! the next answer says the same again.
//!
//! # Why an answer from another life is ignored
//! It may grant what the authority has forgotten since, while this till has already claimed what it holds. Lives become
//! known only by asking for [all of them](super::Authority::lives), and only from an answer that was asked for when
//! the known ones were known already: so it is newer than they are, whatever the numbers say.
//!
//! # Why nobody is denied falsely
//! A request is denied for want of units only when the authority says that too little is left anywhere. While other
//! tills hold idle units these are recalled, and the request waits, at most [`SupplySettings::recall_wait`]; after
//! that it is told that units are [stranded](Verdict::Stranded), which is not the tenant's fault. If that goes on, who
//! holds them is gone, and they count as used until it is back.
//!
//! When two tills want more than either has, one has to yield: the one with the larger id gives back what it holds.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::protocol::{Answer, BOOKS, Life, News, Renew, Renewed, book};
use super::refill::{Ask, GRANT_LASTS, Need, Refilled};
use super::table::{Account, Till};
use crate::clock::{Monotonic, Timestamp};
use crate::domain::{AccountKey, Units};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SupplySettings {
    /// A question that has no answer by then is given up.
    pub timeout: Duration,
    /// How long a request waits for what lies idle in other tills.
    pub recall_wait: Duration,
}

/// What one till asks for. `W` is who waits; it comes back with its verdict.
pub struct Supply<W> {
    till: Arc<Till>,
    settings: SupplySettings,
    desks: HashMap<AccountKey, Desk<W>>,
    /// When to look at which desk.
    timers: BinaryHeap<Reverse<(Monotonic, AccountKey)>>,
    flights: HashMap<QuestionId, AccountKey>,
    /// Desks that have something to ask now.
    ready: Vec<AccountKey>,
    unseeded: Vec<AccountKey>,
    verdicts: Vec<(W, Verdict)>,
    lives: Lives,
    /// For each book: accounts that are yet to be claimed in its life.
    claiming: [usize; BOOKS as usize],
    wants_lives: bool,
    /// How long answers take, rather more than less.
    latency: Duration,
    next_question: u64,
    meters: Arc<SupplyMeters>,
}

/// The lives of all books.
pub type Lives = [Life; BOOKS as usize];

/// What a request waits for.
#[derive(Clone, Debug)]
pub struct Want {
    pub account: Account,
    /// Less does not help.
    pub least: Units,
    pub units: Units,
    pub deadline: Monotonic,
}

/// What a request that waits is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Something has changed: reserve again.
    TryAgain,
    /// Other tills hold units and did not give them back in time.
    Stranded,
    /// Its time is over.
    Late,
    /// The authority does not answer.
    Lost,
}

/// Names a question until its answer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct QuestionId(u64);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Question {
    pub id: QuestionId,
    pub renew: Renew,
}

/// What has happened so far, for metrics.
#[derive(Debug, Default)]
pub struct SupplyMeters {
    /// Questions about accounts.
    pub questions: AtomicU64,
    /// Questions without an answer.
    pub lost: AtomicU64,
    pub granted_units: AtomicU64,
    pub returned_units: AtomicU64,
    /// Requests that had to wait for an answer.
    pub waits: AtomicU64,
    /// Recalls of other tills that concerned this one.
    pub recalls: AtomicU64,
    /// Answers that granted nothing because the authority was learning.
    pub learning: AtomicU64,
    /// New lives that were heard of, the first ones included.
    pub lives: AtomicU64,
    /// Requests whose units lay idle in other tills for too long.
    pub stranded: AtomicU64,
}

/// What goes on about one account.
struct Desk<W> {
    account: Account,
    waiting: Vec<(Want, W)>,
    /// The authority is to be told what this till holds.
    wants_claim: bool,
    /// It is to be asked for units.
    wants_refill: bool,
    flight: Option<Flight>,
    /// Asking again before is no use.
    not_before: Monotonic,
    pause: Duration,
    recall: Recall,
    /// Since when recalls have failed, and when that was noticed last.
    stranded: Option<(Monotonic, Monotonic)>,
    /// Whether this account is counted in `claiming`.
    is_to_claim: bool,
    is_unseeded: bool,
    /// Since when denials come from memory.
    denies_since: Option<Monotonic>,
    idle: Idle,
    /// When it is looked at next; other entries of `timers` are needless.
    timer: Option<Monotonic>,
}

struct Flight {
    id: QuestionId,
    ask: Ask,
    asked_at: Monotonic,
    gives_up_at: Monotonic,
    /// Whether something was to be told with it.
    claims: bool,
}

/// Waiting for what lies idle elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Recall {
    Not,
    Until(Monotonic),
    /// It was not given back; whoever asks before is told so at once.
    Failed(Monotonic),
}

/// What was last seen of an account's use.
#[derive(Clone, Copy, Debug)]
struct Idle {
    spent: u64,
    since: Monotonic,
    /// Whether so little is left for others that idle units had better go back.
    is_scarce: bool,
}

/// A denial is remembered for at most so long: units may have come back without anybody saying so.
const DENIAL_HOLDS: Duration = Duration::from_millis(500);

/// Whoever comes so soon after a recall that brought nothing is not made to wait for another.
const STRANDED_HOLDS: Duration = Duration::from_millis(250);

/// Whoever holds units and has not given them back for so long counts as gone, and its units as used, as long as it
/// does not come back: a restart takes less.
const STRANDED_MAX: Duration = Duration::from_secs(5);

/// Units of a scarce account that nobody has used for so long go back.
const IDLE_FOR: Duration = Duration::from_secs(2);

/// What is left of a scarce account is less than this part of its limit.
const SCARCE_PART: u64 = 8;

/// Pauses between questions about the same account: for a recall, and for an authority that learns or is away.
const RECALL_PAUSE_MIN: Duration = Duration::from_millis(1);
const RECALL_PAUSE_MAX: Duration = Duration::from_millis(8);
const AWAY_PAUSE_MIN: Duration = Duration::from_millis(10);
const AWAY_PAUSE_MAX: Duration = Duration::from_millis(200);

/// A grant lasts for so many answers' time at least: the next is asked for when half of this one is spent.
const LATENCIES: u32 = 4;

/// Questions in one batch.
const BATCH_MAX: usize = 256;

// === impl Supply ===

impl<W> Supply<W> {
    pub fn new(till: Arc<Till>, settings: SupplySettings, meters: Arc<SupplyMeters>) -> Self {
        Supply {
            till,
            settings,
            desks: HashMap::new(),
            timers: BinaryHeap::new(),
            flights: HashMap::new(),
            ready: Vec::new(),
            unseeded: Vec::new(),
            verdicts: Vec::new(),
            lives: [Life::default(); BOOKS as usize],
            claiming: [0; BOOKS as usize],
            wants_lives: true,
            latency: Duration::ZERO,
            next_question: 0,
            meters,
        }
    }

    /// A request waits until it can be paid, or until `deadline`.
    pub fn want(&mut self, want: Want, waiter: W, now: Monotonic) {
        count(&self.meters.waits, 1);
        let key = *want.account.key();
        let desk = self.desk(&want.account, now);
        if matches!(desk.recall, Recall::Failed(until) if now < until) {
            self.verdicts.push((waiter, Verdict::Stranded));
            return;
        }
        desk.waiting.push((want, waiter));
        desk.wants_refill = true;
        self.attend(key, now);
    }

    /// The account runs low: more should be asked for before anybody has to wait.
    pub fn top_up(&mut self, account: &Account, now: Monotonic) {
        let desk = self.desk(account, now);
        // Of an unlimited account nothing is granted; but the authority must know of this till, should it be limited.
        let is_limited = account.limit().units().is_some();
        desk.wants_refill |= is_limited;
        desk.wants_claim |= !is_limited;
        self.attend(*account.key(), now);
    }

    /// What is to be asked now, at most so many that they make one batch.
    pub fn questions(&mut self, now: Monotonic) -> Vec<Question> {
        let from = self.ready.len().saturating_sub(BATCH_MAX);
        let ready = self.ready.split_off(from);
        ready.into_iter().filter_map(|key| self.question(key, now)).collect()
    }

    /// Whether [`Supply::questions`] has more to say.
    pub fn has_questions(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The answer to a question. Late and repeated ones are ignored.
    pub fn answered(&mut self, id: QuestionId, answer: &Answer, now: Monotonic) {
        let Some(key) = self.flights.remove(&id) else { return };
        let Some(flight) = self.desks.get_mut(&key).and_then(|desk| desk.flight.take()) else { return };
        let took = now.since(flight.asked_at);
        self.latency = took.max(self.latency * 7 / 8);
        match answer {
            Answer::Renewed(renewed) if self.is_known_life(&key, renewed.life) => {
                self.renewed(key, &flight.ask, renewed, now);
            }
            Answer::Unseeded(life) if self.is_known_life(&key, *life) => {
                self.unseeded(key, now);
            }
            Answer::Renewed(_) | Answer::Unseeded(_) => self.other_life(key, &flight, now),
            Answer::Lost(_) => self.lost(key, &flight, now),
        }
    }

    /// Accounts of which somebody has to [tell](super::Authority::seed) what was used; they are asked for again after
    /// [`Supply::seeded`].
    pub fn take_unseeded(&mut self) -> Vec<Account> {
        let desks = &self.desks;
        self.unseeded.drain(..).filter_map(|key| desks.get(&key)).map(|desk| desk.account.clone()).collect()
    }

    /// The account was seeded, or that failed and must be tried again.
    pub fn seeded(&mut self, key: &AccountKey, is_done: bool, now: Monotonic) {
        let Some(desk) = self.desks.get_mut(key) else { return };
        desk.is_unseeded = false;
        if is_done {
            desk.not_before = now;
        } else {
            desk.pause_away(now);
        }
        self.attend(*key, now);
    }

    /// What the authority called out.
    pub fn hear(&mut self, news: News, now: Monotonic) {
        match news {
            News::Recall { account, by } => self.recalled(&account, by, now),
            News::Freed(account) => self.freed(&account, now),
            News::Reborn => self.wants_lives = true,
            News::Gap => self.doubt(now),
        }
    }

    /// Whether the lives of all books should be asked for at once, and not only when it is time again.
    pub fn wants_lives(&mut self) -> bool {
        std::mem::take(&mut self.wants_lives)
    }

    /// The lives as they are known: to be kept with a question for them.
    pub fn known_lives(&self) -> Box<Lives> {
        Box::new(self.lives)
    }

    /// The books' lives, in answer to a question that was asked when `known` was known.
    pub fn lives(&mut self, known: &Lives, lives: &[Life], now: Monotonic) {
        let mut is_new = [false; BOOKS as usize];
        for (book, life) in lives.iter().enumerate().take(usize::from(BOOKS)) {
            is_new[book] = known[book] == self.lives[book] && self.lives[book] != *life;
            if is_new[book] {
                self.lives[book] = *life;
            }
        }
        if is_new.contains(&true) {
            self.claim_books(&is_new, now);
        }
    }

    /// Does what is due by now.
    pub fn tick(&mut self, now: Monotonic, wall: Timestamp) {
        while let Some(Reverse((at, key))) = self.timers.peek().copied() {
            if at > now {
                return;
            }
            self.timers.pop();
            let Some(desk) = self.desks.get_mut(&key).filter(|desk| desk.timer == Some(at)) else { continue };
            desk.timer = None;
            if key.window.end.plus(Till::REUSE_GRACE) <= wall {
                self.close(&key);
            } else {
                self.attend(key, now);
            }
        }
    }

    /// When [`Supply::tick`] has something to do.
    pub fn next_tick(&self) -> Option<Monotonic> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    /// Who needs not wait any longer, and why.
    pub fn take_verdicts(&mut self) -> Vec<(W, Verdict)> {
        std::mem::take(&mut self.verdicts)
    }

    /// Whether a book's life is known, but not everything that this till holds is claimed in it yet.
    pub fn is_claiming(&self) -> bool {
        self.claiming.iter().any(|claims| *claims > 0)
    }

    // --- questions and answers ---

    fn question(&mut self, key: AccountKey, now: Monotonic) -> Option<Question> {
        let desk = self.desks.get_mut(&key)?;
        if !desk.may_ask(now) {
            return None;
        }
        let of = usize::from(book(&key));
        let mut ask = desk.ask(GRANT_LASTS.max(self.latency * LATENCIES), now);
        ask.renew.more = self.claiming[of] > usize::from(desk.is_to_claim);
        let id = QuestionId(self.next_question);
        self.next_question += 1;
        let gives_up_at = now.plus(self.settings.timeout);
        desk.flight = Some(Flight { id, ask, asked_at: now, gives_up_at, claims: desk.wants_claim });
        (desk.wants_claim, desk.wants_refill) = (false, false);
        self.flights.insert(id, key);
        self.plan(key, now);
        count(&self.meters.questions, 1);
        Some(Question { id, renew: ask.renew })
    }

    fn is_known_life(&self, key: &AccountKey, life: Life) -> bool {
        self.lives[usize::from(book(key))] == life
    }

    /// An answer from a life that is not known, or no longer: ask again when it is known which one it is.
    fn other_life(&mut self, key: AccountKey, flight: &Flight, now: Monotonic) {
        self.wants_lives = true;
        let Some(desk) = self.desks.get_mut(&key) else { return };
        desk.ask_again(flight.ask.is_claim());
        desk.pause_away(now);
        self.attend(key, now);
    }

    fn renewed(&mut self, key: AccountKey, ask: &Ask, renewed: &Renewed, now: Monotonic) {
        let Some(desk) = self.desks.get_mut(&key) else { return };
        let news = renewed.granted.saturating_sub(ask.renew.claim.granted);
        count(&self.meters.granted_units, news);
        let of = usize::from(book(&key));
        if desk.is_to_claim && renewed.life == self.lives[of] {
            desk.is_to_claim = false;
            self.claiming[of] -= 1;
        }
        desk.note_left(renewed);
        match ask.answered(&desk.account, renewed) {
            _ if ask.is_claim() => desk.pause = Duration::ZERO,
            Refilled::Granted => desk.granted(&mut self.verdicts),
            Refilled::Spent => {
                desk.denies_since = Some(now);
                desk.granted(&mut self.verdicts);
            }
            Refilled::Waiting if renewed.learning => {
                count(&self.meters.learning, 1);
                desk.pause_away(now);
                desk.ask_again(false);
            }
            Refilled::Waiting => self.recall(key, ask, renewed, now),
        }
        self.attend(key, now);
    }

    /// Units lie idle in other tills, which have been asked to give them back.
    fn recall(&mut self, key: AccountKey, ask: &Ask, renewed: &Renewed, now: Monotonic) {
        let Some(desk) = self.desks.get_mut(&key) else { return };
        if desk.waits_for_recall(now, self.settings.recall_wait) {
            desk.ask_again(false);
        } else if desk.is_stranded_for_good(now) {
            ask.give_up(&desk.account, renewed);
            desk.denies_since = Some(now);
            desk.end_all(Verdict::TryAgain, &mut self.verdicts);
        } else {
            count(&self.meters.stranded, desk.waiting.len() as u64);
            desk.end_all(Verdict::Stranded, &mut self.verdicts);
        }
    }

    fn unseeded(&mut self, key: AccountKey, now: Monotonic) {
        let Some(desk) = self.desks.get_mut(&key) else { return };
        let of = usize::from(book(&key));
        if desk.is_to_claim {
            desk.is_to_claim = false;
            self.claiming[of] -= 1;
        }
        if !desk.waiting.is_empty() && !desk.is_unseeded {
            desk.is_unseeded = true;
            self.unseeded.push(key);
        }
        desk.ask_again(false);
        self.attend(key, now);
    }

    fn lost(&mut self, key: AccountKey, flight: &Flight, now: Monotonic) {
        count(&self.meters.lost, 1);
        let Some(desk) = self.desks.get_mut(&key) else { return };
        desk.end_all(Verdict::Lost, &mut self.verdicts);
        desk.ask_again(flight.claims || desk.is_to_claim);
        desk.pause_away(now);
        self.attend(key, now);
    }

    // --- news ---

    fn recalled(&mut self, key: &AccountKey, by: super::TillId, now: Monotonic) {
        if by == self.till.id() {
            return;
        }
        let Some(account) = self.till.find(key) else { return };
        count(&self.meters.recalls, 1);
        let yields = self.till.id() > by;
        let desk = self.desk(&account, now);
        if desk.waiting.is_empty() || yields {
            let returned = account.give_back(Units::MAX).get();
            count(&self.meters.returned_units, returned);
        }
        self.claim(&account, now);
    }

    fn freed(&mut self, key: &AccountKey, now: Monotonic) {
        let Some(desk) = self.desks.get_mut(key) else { return };
        desk.account.slot().forget_denial();
        desk.denies_since = None;
        desk.recall = Recall::Not;
        desk.stranded = None;
        desk.not_before = now;
        self.attend(*key, now);
    }

    /// Anything may have been called out unheard.
    fn doubt(&mut self, now: Monotonic) {
        self.wants_lives = true;
        let denied: Vec<_> =
            self.desks.iter().filter(|(_, desk)| desk.denies_since.is_some()).map(|(key, _)| *key).collect();
        for key in denied {
            self.freed(&key, now);
        }
    }

    // --- claims ---

    /// Claims what this till holds and has used in these books.
    fn claim_books(&mut self, is_new: &[bool; BOOKS as usize], now: Monotonic) {
        count(&self.meters.lives, is_new.iter().filter(|is_new| **is_new).count() as u64);
        for account in self.till.accounts() {
            let of = usize::from(book(account.key()));
            if !is_new[of] || !must_be_claimed(&account) {
                continue;
            }
            let desk = self.desk(&account, now);
            if !desk.is_to_claim {
                desk.is_to_claim = true;
                self.claiming[of] += 1;
            }
            self.claim(&account, now);
        }
    }

    fn claim(&mut self, account: &Account, now: Monotonic) {
        let desk = self.desk(account, now);
        desk.wants_claim = true;
        desk.not_before = now;
        self.attend(*account.key(), now);
    }

    // --- desks ---

    fn desk(&mut self, account: &Account, now: Monotonic) -> &mut Desk<W> {
        self.desks.entry(*account.key()).or_insert_with(|| Desk::new(account.clone(), now))
    }

    /// Does what the desk needs now, and plans when to look at it again.
    fn attend(&mut self, key: AccountKey, now: Monotonic) {
        let Some(desk) = self.desks.get_mut(&key) else { return };
        if let Some(flight) = &desk.flight
            && now >= flight.gives_up_at
        {
            self.flights.remove(&flight.id);
            if let Some(flight) = desk.flight.take() {
                return self.lost(key, &flight, now);
            }
        }
        desk.end_late(now, &mut self.verdicts);
        desk.forget_denial(now);
        let returned = desk.give_back_idle(now);
        count(&self.meters.returned_units, returned);
        if desk.may_ask(now) {
            self.ready.push(key);
        }
        if desk.is_done(now) {
            self.desks.remove(&key);
        } else {
            self.plan(key, now);
        }
    }

    /// Sees to it that the desk is looked at in time. One timer for each: were every look to leave another, there would
    /// be more and more of them.
    fn plan(&mut self, key: AccountKey, now: Monotonic) {
        let Some(desk) = self.desks.get_mut(&key) else { return };
        if let Some(at) = desk.next(now)
            && desk.timer.is_none_or(|planned| at < planned)
        {
            desk.timer = Some(at);
            self.timers.push(Reverse((at, key)));
        }
    }

    /// The window is over.
    fn close(&mut self, key: &AccountKey) {
        let Some(mut desk) = self.desks.remove(key) else { return };
        desk.end_all(Verdict::TryAgain, &mut self.verdicts);
        if let Some(flight) = desk.flight {
            self.flights.remove(&flight.id);
        }
        if desk.is_to_claim {
            self.claiming[usize::from(book(key))] -= 1;
        }
    }
}

/// Whether a book that has forgotten something may be wrong about this account: also if all that was granted is used, for
/// what a replica still knows of it may be old, and then nobody tells it what the database knows.
fn must_be_claimed(account: &Account) -> bool {
    let counters = account.counters();
    counters.granted > 0 || counters.over > 0
}

fn count(meter: &AtomicU64, by: u64) {
    if by > 0 {
        meter.fetch_add(by, Ordering::Relaxed);
    }
}

// === impl Desk ===

impl<W> Desk<W> {
    fn new(account: Account, now: Monotonic) -> Self {
        let spent = account.counters().spent;
        Desk {
            account,
            waiting: Vec::new(),
            wants_claim: false,
            wants_refill: false,
            flight: None,
            not_before: now,
            pause: Duration::ZERO,
            recall: Recall::Not,
            stranded: None,
            is_to_claim: false,
            is_unseeded: false,
            denies_since: None,
            idle: Idle { spent, since: now, is_scarce: false },
            timer: None,
        }
    }

    fn may_ask(&self, now: Monotonic) -> bool {
        self.wants_to_ask() && self.not_before <= now
    }

    fn wants_to_ask(&self) -> bool {
        (self.wants_claim || self.wants_refill) && self.flight.is_none() && !self.is_unseeded
    }

    /// With a grant that lasts for `lasts`.
    fn ask(&self, lasts: Duration, now: Monotonic) -> Ask {
        if !self.wants_refill {
            return Ask::claim(&self.account);
        }
        let more = Units::saturating(self.account.counters().balance()).saturating_add(Units::ONE);
        let wants = || self.waiting.iter().map(|(want, _)| want);
        let least = wants().map(|want| want.least).min().unwrap_or(more);
        let wanted = wants().fold(Units::ZERO, |sum, want| sum.saturating_add(want.units)).max(least);
        Ask::new(&self.account, Need { least, units: wanted, lasts }, now)
    }

    /// Those who still wait are to be helped, and what was to be told is to be told again.
    fn ask_again(&mut self, claims: bool) {
        self.wants_claim |= claims;
        self.wants_refill |= !self.waiting.is_empty();
    }

    fn granted(&mut self, verdicts: &mut Vec<(W, Verdict)>) {
        self.pause = Duration::ZERO;
        self.recall = Recall::Not;
        self.stranded = None;
        self.end_all(Verdict::TryAgain, verdicts);
    }

    fn end_all(&mut self, verdict: Verdict, verdicts: &mut Vec<(W, Verdict)>) {
        verdicts.extend(self.waiting.drain(..).map(|(_, waiter)| (waiter, verdict)));
        self.wants_refill = false;
    }

    fn end_late(&mut self, now: Monotonic, verdicts: &mut Vec<(W, Verdict)>) {
        let late = self.waiting.extract_if(.., |(want, _)| want.deadline <= now);
        verdicts.extend(late.map(|(_, waiter)| (waiter, Verdict::Late)));
    }

    fn pause_away(&mut self, now: Monotonic) {
        self.pause = (self.pause * 2).clamp(AWAY_PAUSE_MIN, AWAY_PAUSE_MAX);
        self.not_before = now.plus(self.pause);
    }

    /// Begins or goes on waiting for other tills to give back; `false` when that has taken too long.
    fn waits_for_recall(&mut self, now: Monotonic, wait: Duration) -> bool {
        self.recall = match self.recall {
            Recall::Until(until) if now >= until => Recall::Failed(now.plus(STRANDED_HOLDS)),
            Recall::Until(until) => Recall::Until(until),
            Recall::Not | Recall::Failed(_) => Recall::Until(now.plus(wait)),
        };
        self.pause = (self.pause * 2).clamp(RECALL_PAUSE_MIN, RECALL_PAUSE_MAX);
        self.not_before = now.plus(self.pause);
        matches!(self.recall, Recall::Until(_))
    }

    /// Whether recalls have failed for so long that who holds the units will not be back soon.
    fn is_stranded_for_good(&mut self, now: Monotonic) -> bool {
        let (since, _) = self.stranded.get_or_insert((now, now));
        let since = *since;
        self.stranded = Some((since, now));
        now >= since.plus(STRANDED_MAX)
    }

    fn is_stranded(&self, now: Monotonic) -> bool {
        self.stranded.is_some_and(|(_, last)| now < last.plus(STRANDED_MAX))
    }

    fn note_left(&mut self, renewed: &Renewed) {
        let limit = self.account.limit().units().map_or(0, Units::get);
        self.idle.is_scarce = renewed.remaining.get() < limit / SCARCE_PART;
    }

    fn forget_denial(&mut self, now: Monotonic) {
        if self.denies_since.is_some_and(|since| now >= since.plus(DENIAL_HOLDS)) {
            self.denies_since = None;
            self.account.slot().forget_denial();
        }
    }

    /// Gives back what nobody has used for a while, and answers how much that was.
    fn give_back_idle(&mut self, now: Monotonic) -> u64 {
        let spent = self.account.counters().spent;
        if spent != self.idle.spent || !self.waiting.is_empty() {
            self.idle = Idle { spent, since: now, ..self.idle };
        }
        if !self.idle.is_scarce || now < self.idle.since.plus(IDLE_FOR) {
            return 0;
        }
        let returned = self.account.give_back(Units::MAX).get();
        self.wants_claim |= returned > 0;
        // If there was nothing, units may yet be refunded: looked at again after as long.
        self.idle = Idle { spent: self.account.counters().spent, since: now, is_scarce: returned == 0 };
        returned
    }

    /// Whether nothing more is to be done about the account.
    fn is_done(&self, now: Monotonic) -> bool {
        let is_quiet =
            self.waiting.is_empty() && !self.wants_claim && !self.wants_refill && self.flight.is_none();
        let may_go_back = self.idle.is_scarce && self.account.counters().balance() > 0;
        let is_settled = !self.is_to_claim && !self.is_unseeded && self.denies_since.is_none();
        is_quiet && is_settled && !may_go_back && !self.is_stranded(now)
    }

    /// When to look at it again.
    fn next(&self, now: Monotonic) -> Option<Monotonic> {
        let deadline = self.waiting.iter().map(|(want, _)| want.deadline).min();
        let ask = (self.wants_to_ask() && self.not_before > now).then_some(self.not_before);
        let denial = self.denies_since.map(|since| since.plus(DENIAL_HOLDS));
        let idle = self.idle.is_scarce.then(|| self.idle.since.plus(IDLE_FOR));
        let stranded = self.stranded.map(|(_, last)| last.plus(STRANDED_MAX)).filter(|at| *at > now);
        let flight = self.flight.as_ref().map(|flight| flight.gives_up_at);
        [deadline, ask, denial, idle, stranded, flight].into_iter().flatten().min()
    }
}
