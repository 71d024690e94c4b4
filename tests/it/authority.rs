//! One conformance suite for every authority: whoever grants units keeps these promises. A home that is added below
//! with one line is held to all of them.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::mpsc::UnboundedReceiver;
use tollgate::clock::{Clock, SystemClock, Timestamp};
use tollgate::domain::{AccountKey, Limit, Owner, Period, TenantId, Units, Window};
use tollgate::till::protocol::{
    Answer, Answers, Authority, AuthorityLost, Life, News, Renew, Renewed, Seed, Terms, book,
};
use tollgate::till::{Counters, TillId};
use uuid::Uuid;

use crate::postgres::StoreHome;
use crate::redis::{ClusterHome, SentinelHome, SingleHome};
use crate::support::until;

/// Where an authority keeps what it knows.
pub(crate) trait Home {
    type Authority: Authority;

    /// With a memory of its own, which is empty.
    fn open() -> Self;

    /// As another gateway sees it.
    fn connect(&self) -> impl Future<Output = Self::Authority>;

    /// What is called out, from now on.
    fn listen(authority: &Self::Authority) -> UnboundedReceiver<News>;

    /// Loses everything.
    fn forget(&self);
}

/// A home, an authority in it, and what it takes to ask.
pub(crate) struct Rig<H: Home> {
    pub home: H,
    pub authority: Arc<H::Authority>,
    pub runtime: Runtime,
}

/// What a gateway has of one account.
#[derive(Clone, Debug)]
pub(crate) struct Holder {
    pub till: TillId,
    pub account: AccountKey,
    pub terms: Terms,
    pub claim: Counters,
}

/// How long books learn here: long enough to see it.
pub(crate) const LEARN_FOR: Duration = Duration::from_millis(100);

macro_rules! conforms {
    ($module:ident, $home:ty) => {
        mod $module {
            use super::*;

            #[test]
            fn many_tills_are_granted_the_limit_and_not_one_unit_more() {
                suite::many_tills_are_granted_the_limit_and_not_one_unit_more::<$home>();
            }

            #[test]
            fn lost_repeated_and_late_messages_grant_nothing_twice() {
                suite::lost_repeated_and_late_messages_grant_nothing_twice::<$home>();
            }

            #[test]
            fn what_is_given_back_is_granted_again() {
                suite::what_is_given_back_is_granted_again::<$home>();
            }

            #[test]
            fn less_than_what_is_of_use_is_not_granted() {
                suite::less_than_what_is_of_use_is_not_granted::<$home>();
            }

            #[test]
            fn grants_halve_toward_the_end() {
                suite::grants_halve_toward_the_end::<$home>();
            }

            #[test]
            fn a_raised_limit_is_granted_and_a_lowered_one_grants_nothing() {
                suite::a_raised_limit_is_granted_and_a_lowered_one_grants_nothing::<$home>();
            }

            #[test]
            fn an_older_version_of_a_limit_changes_nothing() {
                suite::an_older_version_of_a_limit_changes_nothing::<$home>();
            }

            #[test]
            fn an_account_that_gets_a_limit_learns_what_was_used_before_it_grants() {
                suite::an_account_that_gets_a_limit_learns_what_was_used_before_it_grants::<$home>();
            }

            #[test]
            fn overage_counts_against_the_limit() {
                suite::overage_counts_against_the_limit::<$home>();
            }

            #[test]
            fn idle_units_are_recalled_and_called_out_when_they_are_free() {
                suite::idle_units_are_recalled_and_called_out_when_they_are_free::<$home>();
            }

            #[test]
            fn an_account_older_than_its_book_grants_nothing_until_it_is_seeded() {
                suite::an_account_older_than_its_book_grants_nothing_until_it_is_seeded::<$home>();
            }

            #[test]
            fn a_seed_counts_until_its_till_claims() {
                suite::a_seed_counts_until_its_till_claims::<$home>();
            }

            #[test]
            fn a_claim_beats_a_seed_and_a_second_seed_changes_nothing() {
                suite::a_claim_beats_a_seed_and_a_second_seed_changes_nothing::<$home>();
            }

            #[test]
            fn lives_stay_while_nothing_is_lost() {
                suite::lives_stay_while_nothing_is_lost::<$home>();
            }

            #[test]
            fn a_memory_that_was_lost_begins_a_new_life_and_learns_what_is_out() {
                suite::a_memory_that_was_lost_begins_a_new_life_and_learns_what_is_out::<$home>();
            }

            #[test]
            fn accounts_of_many_owners_do_not_mix_in_one_batch() {
                suite::accounts_of_many_owners_do_not_mix_in_one_batch::<$home>();
            }
        }
    };
}

conforms!(redis_single, SingleHome);
conforms!(redis_sentinel, SentinelHome);
conforms!(redis_cluster, ClusterHome);
conforms!(postgres, StoreHome);

/// The promises.
mod suite {
    use super::*;

    pub(super) fn many_tills_are_granted_the_limit_and_not_one_unit_more<H: Home>() {
        const LIMIT: u64 = 100_000;
        const TILLS: usize = 16;
        let rig = Rig::<H>::open();
        let account = account_to_come();
        rig.end_learning(&account);
        let work = (0..TILLS).map(|at| {
            let (authority, mut holder) = (rig.authority.clone(), Holder::of(account, LIMIT));
            rig.runtime.spawn(async move {
                let mut renews = 0;
                loop {
                    let renewed = holder.renew(&*authority, 3 + at as u64).await;
                    renews += 1;
                    holder.spend_all();
                    if renewed.is_nothing_left() {
                        return (renews, holder.claim.spent);
                    }
                }
            })
        });
        let work: Vec<_> = work.collect();
        let done: Vec<(u64, u64)> =
            work.into_iter().map(|task| rig.runtime.block_on(task).expect("no panic")).collect();
        let renews: u64 = done.iter().map(|(renews, _)| renews).sum();
        let spent: u64 = done.iter().map(|(_, spent)| spent).sum();
        assert_eq!(spent, LIMIT, "in {renews} renewals");
        assert!(renews > 9_000, "{renews} renewals");
    }

    pub(super) fn lost_repeated_and_late_messages_grant_nothing_twice<H: Home>() {
        const LIMIT: u64 = 300;
        let rig = Rig::<H>::open();
        let account = account_to_come();
        rig.end_learning(&account);
        let mut holders: Vec<Holder> = (0..4).map(|_| Holder::of(account, LIMIT)).collect();
        let mut sent: Vec<Renew> = Vec::new();
        for round in 0.. {
            let at = round % holders.len();
            let question = holders[at].ask(5);
            sent.push(question);
            let answer = match round % 5 {
                // The answer is lost; what was granted is found out later.
                0 => continue,
                // The question comes twice.
                1 => {
                    rig.ask(&question);
                    rig.ask(&question)
                }
                // An old question comes after it.
                2 => {
                    let answer = rig.ask(&question);
                    rig.ask(&sent[(round * 7) % sent.len()]);
                    answer
                }
                // The future is dropped before anything is answered.
                3 => {
                    rig.give_up(&question);
                    continue;
                }
                _ => rig.ask(&question),
            };
            let renewed = renewed(&answer);
            holders[at].claim.granted = holders[at].claim.granted.max(renewed.granted);
            holders[at].spend_all();
            if renewed.remaining.is_zero() {
                break;
            }
        }
        // What was granted by answers that were lost.
        for holder in &mut holders {
            rig.renew(holder, 0);
            holder.spend_all();
        }
        let spent: u64 = holders.iter().map(|holder| holder.claim.spent).sum();
        assert_eq!(spent, LIMIT);
        let last = rig.renew(&mut holders[0], 1);
        assert!(last.is_nothing_left(), "{last:?}");
    }

    pub(super) fn what_is_given_back_is_granted_again<H: Home>() {
        let rig = Rig::<H>::open();
        let account = account_to_come();
        let mut holder = Holder::of(account, 10);
        rig.end_learning(&account);
        rig.fill(&mut holder, 10);
        holder.spend(4);
        holder.give_back(6);
        let mut other = Holder::of(account, 10);
        rig.renew(&mut holder, 0);
        rig.fill(&mut other, 6);
        assert!(rig.renew(&mut other, 1).idle_elsewhere.is_zero());
        assert_eq!(rig.renew(&mut other, 1).used_elsewhere, units(4));
    }

    pub(super) fn less_than_what_is_of_use_is_not_granted<H: Home>() {
        let rig = Rig::<H>::open();
        let account = account_to_come();
        let mut holder = Holder::of(account, 10);
        rig.end_learning(&account);
        rig.fill(&mut holder, 7);
        let answer = renewed(&rig.ask(&Renew { granted_least: 11, ..holder.ask(5) }));
        assert_eq!((answer.granted, answer.remaining), (7, units(3)), "4 are needed, 3 are left");
        let answer = renewed(&rig.ask(&Renew { granted_least: 10, ..holder.ask(5) }));
        assert_eq!((answer.granted, answer.remaining), (10, Units::ZERO), "3 are needed");
    }

    pub(super) fn grants_halve_toward_the_end<H: Home>() {
        let rig = Rig::<H>::open();
        let account = account_to_come();
        let mut holders = [Holder::of(account, 100), Holder::of(account, 100)];
        rig.end_learning(&account);
        holders.iter_mut().for_each(|holder| _ = rig.renew(holder, 0));
        let first = rig.renew(&mut holders[0], 100).granted;
        let second = rig.renew(&mut holders[1], 100).granted;
        assert!(second < first && first <= 50, "{first}, then {second}");
        assert!(second > 0);
    }

    pub(super) fn a_raised_limit_is_granted_and_a_lowered_one_grants_nothing<H: Home>() {
        let rig = Rig::<H>::open();
        let account = account_to_come();
        let mut holder = Holder::of(account, 5);
        rig.end_learning(&account);
        rig.fill(&mut holder, 5);
        assert!(rig.renew(&mut holder, 1).is_nothing_left());

        holder.terms = terms(8, 2);
        rig.fill(&mut holder, 8);

        holder.terms = terms(6, 3);
        holder.spend_all();
        assert!(rig.renew(&mut holder, 1).is_nothing_left());
        let other = rig.renew(&mut Holder { terms: terms(6, 3), ..Holder::of(account, 6) }, 1);
        assert_eq!((other.granted, other.remaining, other.used_elsewhere), (0, Units::ZERO, units(8)));
    }

    pub(super) fn an_older_version_of_a_limit_changes_nothing<H: Home>() {
        let rig = Rig::<H>::open();
        let account = account_to_come();
        rig.end_learning(&account);
        let mut informed = Holder { terms: terms(3, 7), ..Holder::of(account, 3) };
        rig.fill(&mut informed, 3);
        let mut late = Holder { terms: terms(1_000, 6), ..Holder::of(account, 1_000) };
        let answer = rig.renew(&mut late, 10);
        assert_eq!((answer.granted, answer.remaining), (0, Units::ZERO));
    }

    pub(super) fn an_account_that_gets_a_limit_learns_what_was_used_before_it_grants<H: Home>() {
        let rig = Rig::<H>::open();
        let account = account_to_come();
        rig.end_learning(&account);
        let mut news = rig.news();
        let unlimited = Terms { limit: Limit::Unlimited, version: 1 };
        let mut user = Holder { terms: unlimited, ..Holder::of(account, 0) };
        let mut limiter = Holder { terms: unlimited, ..Holder::of(account, 0) };
        assert_eq!(rig.renew(&mut user, 0).remaining, Units::MAX);
        rig.renew(&mut limiter, 0);
        // Counted by the till while there was no limit, and told to nobody.
        user.claim.over = 4;
        limiter.terms = terms(10, 2);
        let answer = rig.renew(&mut limiter, 10);
        assert!(answer.learning, "{answer:?}");
        assert_eq!(answer.granted, 0);
        rig.hear(&mut news, News::Recall { account, by: limiter.till });
        rig.renew(&mut user, 0);
        rig.fill(&mut limiter, 6);
        assert!(rig.renew(&mut limiter, 1).is_nothing_left());
    }

    pub(super) fn overage_counts_against_the_limit<H: Home>() {
        let rig = Rig::<H>::open();
        let account = account_to_come();
        rig.end_learning(&account);
        let mut soft = Holder::of(account, 10);
        soft.claim.over = 9;
        soft.claim.over_returned = 2;
        rig.renew(&mut soft, 0);
        let mut other = Holder::of(account, 10);
        rig.fill(&mut other, 3);
        assert!(rig.renew(&mut other, 1).is_nothing_left());
    }

    pub(super) fn idle_units_are_recalled_and_called_out_when_they_are_free<H: Home>() {
        let rig = Rig::<H>::open();
        let account = account_to_come();
        rig.end_learning(&account);
        let mut news = rig.news();
        let mut idle = Holder::of(account, 10);
        rig.fill(&mut idle, 10);
        let mut dry = Holder::of(account, 10);
        let answer = rig.renew(&mut dry, 1);
        assert_eq!((answer.granted, answer.idle_elsewhere), (0, units(10)));
        assert!(!answer.is_nothing_left());
        rig.hear(&mut news, News::Recall { account, by: dry.till });
        idle.give_back(10);
        rig.renew(&mut idle, 0);
        rig.hear(&mut news, News::Freed(account));
        rig.fill(&mut dry, 10);
    }

    pub(super) fn an_account_older_than_its_book_grants_nothing_until_it_is_seeded<H: Home>() {
        let rig = Rig::<H>::open();
        let account = account_that_began();
        rig.end_learning(&account);
        let mut holder = Holder::of(account, 10);
        let (gone, answer) = (TillId(Uuid::now_v7()), rig.ask(&holder.ask(5)));
        assert!(matches!(answer, Answer::Unseeded(life) if life != Life(0)), "{answer:?}");
        rig.seed(&holder, &[(gone, 7)]);
        rig.fill(&mut holder, 3);
        let answer = rig.renew(&mut holder, 1);
        assert!(answer.is_nothing_left(), "{answer:?}");
        assert_eq!(answer.used_elsewhere, units(7));
    }

    pub(super) fn a_seed_counts_until_its_till_claims<H: Home>() {
        let rig = Rig::<H>::open();
        let account = account_that_began();
        rig.end_learning(&account);
        let (mut holder, mut seeded) = (Holder::of(account, 10), Holder::of(account, 10));
        rig.seed(&holder, &[(seeded.till, 2)]);
        assert_eq!(rig.renew(&mut holder, 0).used_elsewhere, units(2));
        // The database was behind.
        seeded.claim = Counters { granted: 8, spent: 6, ..Counters::default() };
        rig.renew(&mut seeded, 0);
        let answer = rig.renew(&mut holder, 0);
        assert_eq!((answer.used_elsewhere, answer.remaining), (units(6), units(2)));
    }

    pub(super) fn a_claim_beats_a_seed_and_a_second_seed_changes_nothing<H: Home>() {
        let rig = Rig::<H>::open();
        let account = account_that_began();
        rig.end_learning(&account);
        let mut holder = Holder::of(account, 10);
        holder.claim = Counters { granted: 5, spent: 5, ..Counters::default() };
        assert!(matches!(rig.ask(&holder.ask(1)), Answer::Unseeded(_)));
        rig.seed(&holder, &[(holder.till, 9), (TillId(Uuid::now_v7()), 1)]);
        let answer = rig.renew(&mut holder, 0);
        assert_eq!((answer.remaining, answer.used_elsewhere), (units(4), units(1)));
        rig.seed(&holder, &[(TillId(Uuid::now_v7()), 3)]);
        let answer = rig.renew(&mut holder, 0);
        assert_eq!((answer.remaining, answer.used_elsewhere), (units(4), units(1)));
    }

    pub(super) fn lives_stay_while_nothing_is_lost<H: Home>() {
        let rig = Rig::<H>::open();
        let lives = rig.lives().expect("an authority that answers");
        assert!(lives.iter().all(|life| *life != Life(0)), "{lives:?}");
        assert_eq!(lives.len(), usize::from(tollgate::till::protocol::BOOKS));
        assert_eq!(rig.lives().as_ref(), Ok(&lives));
        let other = rig.runtime.block_on(rig.home.connect());
        let books = rig.runtime.block_on(other.lives()).expect("an authority that answers");
        assert!(books.iter().map(|book| book.life).eq(lives));
    }

    pub(super) fn a_memory_that_was_lost_begins_a_new_life_and_learns_what_is_out<H: Home>() {
        let rig = Rig::<H>::open();
        let account = account_that_began();
        let before = rig.lives().expect("an authority that answers");
        rig.end_learning(&account);
        let (mut holder, mut dry) = (Holder::of(account, 10), Holder::of(account, 10));
        rig.seed(&holder, &[]);
        rig.fill(&mut holder, 10);
        holder.spend(6);
        let mut news = rig.news();
        rig.home.forget();

        let answer = rig.ask(&dry.ask(10));
        let Answer::Unseeded(life) = answer else { panic!("{answer:?}") };
        assert_ne!(life, before[usize::from(book(&account))]);
        rig.hear(&mut news, News::Reborn);
        rig.seed(&dry, &[(holder.till, 1)]);
        let answer = rig.renew(&mut dry, 10);
        assert!(answer.learning && answer.granted == 0, "{answer:?}");
        rig.renew(&mut holder, 0);
        rig.end_learning(&account);
        let answer = rig.renew(&mut dry, 10);
        assert_eq!((answer.granted, answer.remaining), (0, Units::ZERO));
        assert_eq!((answer.used_elsewhere, answer.idle_elsewhere), (units(6), units(4)));
        holder.give_back(4);
        rig.renew(&mut holder, 0);
        rig.fill(&mut dry, 4);
    }

    pub(super) fn accounts_of_many_owners_do_not_mix_in_one_batch<H: Home>() {
        let rig = Rig::<H>::open();
        let mut holders: Vec<Holder> = (1..=200).map(|limit| Holder::of(account_to_come(), limit)).collect();
        let everything = |holders: &[Holder]| {
            let batch: Vec<Renew> = holders.iter().map(|holder| holder.ask(1_000)).collect();
            rig.runtime.block_on(rig.authority.renew(&batch))
        };
        until("all that there is", || {
            let answers = everything(&holders);
            for (holder, answer) in holders.iter_mut().zip(answers) {
                holder.claim.granted = renewed(&answer).granted;
            }
            holders.iter().zip(1..).all(|(holder, limit)| holder.claim.granted == limit).then_some(())
        });
    }
}

// === impl Rig ===

impl<H: Home> Rig<H> {
    #[track_caller]
    pub(crate) fn open() -> Self {
        Rig::of(H::open())
    }

    pub(crate) fn of(home: H) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let authority = Arc::new(runtime.block_on(home.connect()));
        Rig { home, authority, runtime }
    }

    pub(crate) fn ask(&self, renew: &Renew) -> Answer {
        let answers: Answers = self.runtime.block_on(self.authority.renew(std::slice::from_ref(renew)));
        let [answer] = &answers[..] else { panic!("one answer to one question: {answers:?}") };
        answer.clone()
    }

    /// Asks, and does not wait for the answer.
    fn give_up(&self, renew: &Renew) {
        let batch = [*renew];
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                _ = self.authority.renew(&batch) => {}
                () = tokio::task::yield_now() => {}
            }
        });
    }

    /// Asks for `more`, and takes what is answered.
    #[track_caller]
    pub(crate) fn renew(&self, holder: &mut Holder, more: u64) -> Renewed {
        let answer = renewed(&self.ask(&holder.ask(more)));
        holder.claim.granted = holder.claim.granted.max(answer.granted);
        answer
    }

    /// Asks until everything that was ever granted is `granted`, as soon as the authority grants at all.
    #[track_caller]
    pub(crate) fn fill(&self, holder: &mut Holder, granted: u64) {
        until(&format!("{granted} units"), || {
            let more = granted - holder.claim.granted;
            let answer = self.renew(holder, more);
            assert!(answer.granted <= granted, "{answer:?}");
            (answer.granted == granted).then_some(())
        });
    }

    #[track_caller]
    pub(crate) fn seed(&self, holder: &Holder, used: &[(TillId, u64)]) {
        let used = used.iter().map(|(till, used)| (*till, units(*used))).collect();
        let seed = Seed { account: holder.account, terms: holder.terms, used };
        self.runtime.block_on(self.authority.seed(&[seed])).expect("an authority that answers");
    }

    pub(crate) fn lives(&self) -> Result<Vec<Life>, AuthorityLost> {
        let books = self.runtime.block_on(self.authority.lives());
        books.map(|books| books.iter().map(|book| book.life).collect())
    }

    /// Waits until the account's book has learned.
    #[track_caller]
    pub(crate) fn end_learning(&self, account: &AccountKey) {
        let id = *account.owner.uuid().as_bytes();
        let other = "bystander".parse().expect("a name");
        let bystander = AccountKey { resource: other, ..account_to_come() };
        let bystander = AccountKey { owner: Owner::Tenant(TenantId(Uuid::from_bytes(id))), ..bystander };
        let mut holder = Holder::of(bystander, 1);
        until("the end of learning", || (!self.renew(&mut holder, 0).learning).then_some(()));
    }

    /// What is called out from now on, once that can be heard.
    pub(crate) fn news(&self) -> UnboundedReceiver<News> {
        let _guard = self.runtime.enter();
        H::listen(&self.authority)
    }

    #[track_caller]
    pub(crate) fn hear(&self, news: &mut UnboundedReceiver<News>, expected: News) {
        let mut heard = Vec::new();
        until(&format!("{expected:?}"), || {
            let next = news.try_recv().ok()?;
            heard.push(next);
            (next == expected).then_some(())
        });
    }
}

// === impl Holder ===

impl Holder {
    pub(crate) fn of(account: AccountKey, limit: u64) -> Self {
        Holder { till: TillId(Uuid::now_v7()), account, terms: terms(limit, 1), claim: Counters::default() }
    }

    /// A question for `more` units than were ever granted.
    pub(crate) fn ask(&self, more: u64) -> Renew {
        let granted = self.claim.granted;
        Renew {
            account: self.account,
            till: self.till,
            terms: self.terms,
            claim: self.claim,
            granted_target: granted + more,
            granted_least: granted + more.min(1),
            more: false,
        }
    }

    async fn renew(&mut self, authority: &impl Authority, more: u64) -> Renewed {
        let answers = authority.renew(&[self.ask(more)]).await;
        let answer = renewed(&answers[0]);
        self.claim.granted = self.claim.granted.max(answer.granted);
        answer
    }

    pub(crate) fn spend(&mut self, units: u64) {
        assert!(units <= self.claim.balance());
        self.claim.spent += units;
    }

    pub(crate) fn spend_all(&mut self) {
        self.spend(self.claim.balance());
    }

    pub(crate) fn give_back(&mut self, units: u64) {
        assert!(units <= self.claim.balance());
        self.claim.spent += units;
        self.claim.returned += units;
        self.claim.refunded += units;
    }
}

// === accounts ===

#[track_caller]
pub(crate) fn renewed(answer: &Answer) -> Renewed {
    match answer {
        Answer::Renewed(renewed) => *renewed,
        Answer::Unseeded(_) | Answer::Lost(_) => panic!("{answer:?}"),
    }
}

pub(crate) fn terms(limit: u64, version: u64) -> Terms {
    Terms { limit: Limit::Of(units(limit)), version }
}

pub(crate) fn units(units: u64) -> Units {
    Units::new(units).expect("few units")
}

/// A new owner's account whose window is younger than every book, so that nobody can have used it before.
pub(crate) fn account_to_come() -> AccountKey {
    account_from(SystemClock::default().now().plus(Duration::from_secs(300)))
}

/// A new owner's account whose window is older than every book.
pub(crate) fn account_that_began() -> AccountKey {
    account_from(SystemClock::default().now().minus(Duration::from_secs(300)))
}

fn account_from(start: Timestamp) -> AccountKey {
    let start = Timestamp::from_seconds(start.seconds());
    let window = Window { period: Period::Hour, start, end: start.plus(Duration::from_secs(3_600)) };
    let resource = "api_calls".parse().expect("a name");
    AccountKey { owner: Owner::Tenant(TenantId(Uuid::now_v7())), resource, window }
}
