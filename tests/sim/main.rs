//! The simulation: real tills, the real supply and the real scripts, in a world that is as bad as a seed makes it.
//!
//! One thread, one clock, one stream of chance: a seed is a run. Nothing here decides what the system does. The scripts
//! are run by Lua on simulated servers ([`scripts`], `redis.lua`), gateways are real tills in real files and the real
//! state machine of refilling ([`gateway`]); what is made up is time, the network, the faults and the clients
//! ([`world`], [`plan`]). [`oracle`] says what must hold.
//!
//! ```text
//! SIM_SEED=42 SIM_TRACE=1 cargo test --test sim -- --nocapture a_sweep      one seed, step by step
//! SIM_SEEDS=10000 cargo test --test sim -- --nocapture a_sweep              a longer sweep
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "all of it is a test, which fails by panicking and tells"
)]

mod chance;
mod fleet;
mod gateway;
mod mutants;
mod oracle;
mod plan;
mod scripts;
mod world;

use std::rc::Rc;
use std::time::{Duration, Instant};

use mutants::Mutant;
use scripts::{Engine, Sources};
use world::Tally;

/// Seeds of a sweep unless `SIM_SEEDS` says otherwise, and how long it may take where they are slow.
const SEEDS: u64 = 300;
const SWEEP_MAX: Duration = Duration::from_secs(40);
/// A mutant must not survive so many.
const MUTANT_SEEDS: u64 = 1_000;

#[test]
fn a_sweep_of_seeds_finds_no_violation() {
    let (first, count) = (setting("SIM_SEED"), setting("SIM_SEEDS"));
    let seeds = count.unwrap_or(if first.is_some() { 1 } else { SEEDS });
    let first = first.unwrap_or(0);
    let engine = Rc::new(Engine::new(&Sources::default()));
    let began = Instant::now();
    let mut tally = Tally::default();
    for seed in first..first + seeds {
        if count.is_none() && began.elapsed() > SWEEP_MAX {
            break;
        }
        let (more, result) = world::run(engine.clone(), seed, None, setting("SIM_TRACE").is_some());
        tally.add(more);
        if let Err(what) = result {
            panic!(
                "seed {seed}: {what}\nreplay: SIM_SEED={seed} SIM_TRACE=1 cargo test --test sim -- --nocapture a_sweep"
            );
        }
        if seed % 64 == 0 {
            engine.sweep();
        }
    }
    let took = began.elapsed();
    println!("{took:.1?}, {:.0} seeds/s: {tally:#?}", tally.seeds as f64 / took.as_secs_f64());
    assert!(tally.lives > 0 && tally.admitted > 0 || seeds == 1, "nothing happened: {tally:?}");
}

#[test]
fn every_mutant_is_caught() {
    for mutant in Mutant::ALL {
        let engine = Rc::new(Engine::new(&mutant.sources()));
        let caught = (0..MUTANT_SEEDS)
            .find_map(|seed| Some((seed, world::run(engine.clone(), seed, Some(mutant), false).1.err()?)));
        let Some((seed, what)) = caught else { panic!("{mutant:?} was not caught in {MUTANT_SEEDS} seeds") };
        println!("{mutant:?}: caught by seed {seed}: {}", what.lines().next().unwrap_or_default());
    }
}

#[test]
fn a_seed_is_a_run() {
    let run = |seed| world::run(Rc::new(Engine::new(&Sources::default())), seed, None, false);
    for seed in 0..20 {
        assert_eq!(run(seed), run(seed), "seed {seed} ran in two ways");
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}
