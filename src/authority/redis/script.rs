//! The scripts, what goes into them and what comes out.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use redis::{Cmd, Script, Value, cmd};

use super::key::Keys;
use super::meters::Kind;
use crate::clock::Timestamp;
use crate::domain::{AccountKey, Units};
use crate::till::protocol::{Answer, Book, Life, Renew, Renewed, Seed, Terms, book, kept_until};

/// One call of a script.
#[derive(Clone, Copy)]
pub(super) enum Call<'a> {
    Renew(&'a Renew),
    Seed(&'a Seed),
    Life(u16),
    /// As `Renew`, of an account that is put into another book: for the start-up check.
    RenewIn(u16, &'a Renew),
    SeedIn(u16, &'a Seed),
}

/// What is the same in all calls of an authority.
pub(super) struct Frame {
    pub(super) keys: Arc<Keys>,
    pub(super) learn_for: Duration,
}

/// A script and its name.
struct Lua {
    text: &'static str,
    hash: String,
}

static RENEW: LazyLock<Lua> = LazyLock::new(|| {
    Lua::new(concat!(include_str!("book.lua"), include_str!("account.lua"), include_str!("renew.lua")))
});
static SEED: LazyLock<Lua> = LazyLock::new(|| {
    Lua::new(concat!(include_str!("book.lua"), include_str!("account.lua"), include_str!("seed.lua")))
});
static LIFE: LazyLock<Lua> =
    LazyLock::new(|| Lua::new(concat!(include_str!("book.lua"), include_str!("life.lua"))));

/// What loads all scripts into a server.
pub(super) fn load_all() -> [Cmd; 3] {
    [RENEW.load(), SEED.load(), LIFE.load()]
}

// === impl Lua ===

impl Lua {
    fn new(text: &'static str) -> Self {
        Lua { text, hash: Script::new(text).get_hash().to_owned() }
    }

    fn load(&self) -> Cmd {
        let mut load = cmd("SCRIPT");
        load.arg("LOAD").arg(self.text);
        load
    }
}

// === impl Call ===

impl Call<'_> {
    pub(super) fn book(&self) -> u16 {
        match self {
            Call::Renew(renew) => book(&renew.account),
            Call::Seed(seed) => book(&seed.account),
            Call::Life(book) | Call::RenewIn(book, _) | Call::SeedIn(book, _) => *book,
        }
    }

    pub(super) fn kind(&self) -> Kind {
        match self {
            Call::Renew(_) | Call::RenewIn(..) => Kind::Renew,
            Call::Seed(_) | Call::SeedIn(..) => Kind::Seed,
            Call::Life(_) => Kind::Life,
        }
    }

    /// How many units the call may bring at most.
    pub(super) fn asked(&self) -> u64 {
        match self {
            Call::Renew(renew) | Call::RenewIn(_, renew) => {
                renew.granted_target.saturating_sub(renew.claim.granted)
            }
            Call::Seed(_) | Call::SeedIn(..) | Call::Life(_) => 0,
        }
    }

    /// What loads its script.
    pub(super) fn load(&self) -> Cmd {
        self.script().load()
    }

    pub(super) fn command(&self, frame: &Frame, live: &str) -> Cmd {
        let mut command = cmd("EVALSHA");
        command.arg(self.script().hash.as_str());
        match self {
            Call::Renew(renew) | Call::RenewIn(_, renew) => {
                self.open(&mut command, frame, live, Some(&renew.account));
                add_renew(&mut command, renew);
            }
            Call::Seed(seed) | Call::SeedIn(_, seed) => {
                self.open(&mut command, frame, live, Some(&seed.account));
                add_seed(&mut command, seed);
            }
            Call::Life(_) => self.open(&mut command, frame, live, None),
        }
        command
    }

    fn script(&self) -> &'static Lua {
        match self {
            Call::Renew(_) | Call::RenewIn(..) => &RENEW,
            Call::Seed(_) | Call::SeedIn(..) => &SEED,
            Call::Life(_) => &LIFE,
        }
    }

    /// The keys, and what every script is told first.
    fn open(&self, command: &mut Cmd, frame: &Frame, live: &str, account: Option<&AccountKey>) {
        let keys = &frame.keys;
        command.arg(1 + usize::from(account.is_some())).arg(keys.book(self.book()));
        if let Some(account) = account {
            command.arg(keys.account_in(self.book(), account));
        }
        command.arg(micros(frame.learn_for)).arg(live).arg(keys.channel());
    }
}

fn add_renew(command: &mut Cmd, renew: &Renew) {
    let Renew { account, till, terms, claim, granted_target, granted_least, more } = renew;
    command.arg(account.window.start.micros()).arg(expires_at(account));
    add_terms(command, terms);
    command.arg(till.to_string());
    for counter in
        [claim.granted, claim.spent, claim.returned, claim.refunded, claim.over, claim.over_returned]
    {
        command.arg(counter);
    }
    command.arg(granted_target).arg(granted_least).arg(u8::from(*more));
}

fn add_seed(command: &mut Cmd, seed: &Seed) {
    command.arg(expires_at(&seed.account));
    add_terms(command, &seed.terms);
    for (till, units) in &seed.used {
        command.arg(till.to_string()).arg(units.get());
    }
}

fn add_terms(command: &mut Cmd, terms: &Terms) {
    match terms.limit.units() {
        Some(limit) => command.arg(limit.get()),
        None => command.arg(""),
    };
    command.arg(terms.version);
}

/// In milliseconds; 0 is never.
fn expires_at(account: &AccountKey) -> i64 {
    kept_until(account).map_or(0, Timestamp::millis)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

// === answers ===

/// What `renew.lua` answered; `None` if that is no answer.
pub(super) fn read_renewed(value: &Value) -> Option<Answer> {
    let Value::Array(values) = value else { return None };
    let numbers: Vec<i64> = values.iter().map(read_number).collect::<Option<_>>()?;
    let [seeded, life, granted, remaining, idle_elsewhere, used_elsewhere, learning] = numbers[..] else {
        return None;
    };
    let units = |number: i64| u64::try_from(number).ok().map(Units::saturating);
    let life = Life(u64::try_from(life).ok()?);
    if seeded == 0 {
        return Some(Answer::Unseeded(life));
    }
    Some(Answer::Renewed(Renewed {
        life,
        granted: u64::try_from(granted).ok()?,
        remaining: units(remaining).unwrap_or(Units::MAX),
        idle_elsewhere: units(idle_elsewhere)?,
        used_elsewhere: units(used_elsewhere)?,
        learning: learning != 0,
    }))
}

/// What `life.lua` answered.
pub(super) fn read_book(value: &Value) -> Option<Book> {
    let Value::Array(values) = value else { return None };
    let [life, learning] = values.as_slice() else { return None };
    let life = Life(u64::try_from(read_number(life)?).ok()?);
    Some(Book { life, learning: read_number(learning)? != 0 })
}

fn read_number(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(*number),
        _ => None,
    }
}
