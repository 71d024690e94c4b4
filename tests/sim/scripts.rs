//! The very scripts that Redis runs, run by the same version of Lua on simulated servers (`redis.lua`).

use mlua::{Function, Lua, LuaOptions, StdLib, Table};

/// Which script.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Script {
    Renew,
    Seed,
    Life,
}

/// The text of the scripts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Sources {
    pub(crate) book: String,
    pub(crate) account: String,
    pub(crate) renew: String,
    pub(crate) seed: String,
    pub(crate) life: String,
}

/// Lua with the scripts compiled.
pub(crate) struct Engine {
    lua: Lua,
    model: Table,
    run: Function,
    renew: Table,
    seed: Table,
    life: Table,
}

/// A master with its replica.
#[derive(Clone)]
pub(crate) struct Redis {
    server: Table,
    model: Table,
}

/// What a script answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Reply {
    pub(crate) numbers: Vec<i64>,
    pub(crate) published: Vec<String>,
}

// === impl Sources ===

impl Default for Sources {
    /// As they are delivered.
    fn default() -> Self {
        Sources {
            book: include_str!("../../src/authority/redis/book.lua").to_owned(),
            account: include_str!("../../src/authority/redis/account.lua").to_owned(),
            renew: include_str!("../../src/authority/redis/renew.lua").to_owned(),
            seed: include_str!("../../src/authority/redis/seed.lua").to_owned(),
            life: include_str!("../../src/authority/redis/life.lua").to_owned(),
        }
    }
}

// === impl Engine ===

impl Engine {
    /// # Panics
    /// If a script does not compile.
    pub(crate) fn new(sources: &Sources) -> Self {
        let Sources { book, account, renew, seed, life } = sources;
        let lua =
            Lua::new_with(StdLib::TABLE | StdLib::STRING | StdLib::MATH, LuaOptions::default()).unwrap();
        let model: Table = lua.load(include_str!("redis.lua")).set_name("redis.lua").call(()).unwrap();
        let compile = |parts: &[&String]| {
            let text: String = parts.iter().flat_map(|part| [part.as_str(), "\n"]).collect();
            model.get::<Function>("compile").unwrap().call(text).unwrap()
        };
        Engine {
            run: model.get("run").unwrap(),
            renew: compile(&[book, account, renew]),
            seed: compile(&[book, account, seed]),
            life: compile(&[book, life]),
            model,
            lua,
        }
    }

    /// A server whose replica is behind by at most `lag_max` scripts.
    pub(crate) fn server(&self, node: &str, lag_max: usize) -> Redis {
        let server = self.model.get::<Function>("server").unwrap().call((node, lag_max)).unwrap();
        Redis { server, model: self.model.clone() }
    }

    /// `EVALSHA` at `clock`, in microseconds. Each of `words` ends with a line feed; the first `keys` are keys.
    ///
    /// # Panics
    /// If the script fails: it never should.
    pub(crate) fn run(&self, on: &Redis, script: Script, clock: i64, keys: usize, words: &str) -> Reply {
        let compiled = match script {
            Script::Renew => &self.renew,
            Script::Seed => &self.seed,
            Script::Life => &self.life,
        };
        let (reply, published): (String, String) = self
            .run
            .call((&on.server, compiled, clock, keys, words))
            .unwrap_or_else(|error| panic!("{script:?} {words:?}: {error}"));
        Reply {
            numbers: reply.split(' ').map(|number| number.parse().unwrap()).collect(),
            published: published.lines().map(str::to_owned).collect(),
        }
    }

    /// Frees what ended servers have used.
    pub(crate) fn sweep(&self) {
        self.lua.gc_collect().unwrap();
    }
}

// === impl Redis ===

impl Redis {
    /// The replica is promoted, without what it has not got. It is `node` from now on.
    pub(crate) fn fail_over(&self, node: &str) {
        self.model.get::<Function>("fail_over").unwrap().call::<()>((&self.server, node)).unwrap();
    }

    /// The process starts again with nothing.
    pub(crate) fn restart_empty(&self, node: &str) {
        self.model.get::<Function>("restart_empty").unwrap().call::<()>((&self.server, node)).unwrap();
    }

    /// `FLUSHALL`.
    pub(crate) fn flush_all(&self) {
        self.model.get::<Function>("flush_all").unwrap().call::<()>(&self.server).unwrap();
    }

    /// Takes all keys that begin with `prefix` to `other`, as `MIGRATE` does.
    pub(crate) fn migrate(&self, other: &Redis, prefix: &str) {
        let migrate = self.model.get::<Function>("migrate").unwrap();
        migrate.call::<()>((&self.server, &other.server, prefix)).unwrap();
    }

    /// The replication id.
    pub(crate) fn node(&self) -> String {
        self.server.get("node").unwrap()
    }

    /// A field as it is, whatever has expired; empty if it is not there.
    pub(crate) fn peek(&self, key: &str, field: &str) -> String {
        self.model.get::<Function>("peek").unwrap().call((&self.server, key, field)).unwrap()
    }
}
