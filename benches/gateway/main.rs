//! What a request costs end to end on loopback, beside the peers: CPU time of the proxy per answered request.
//!
//! `cargo bench --bench gateway -- [--cases h1,h1-16k,tls,h2,h1-all] [--rounds 5] [--seconds 3] [--only NAME,NAME]
//! [--tollgate PATH]`
//!
//! The proxy is alone on core 0 with one worker; load generator (wrk, for HTTP/2 h2load; 64 connections) and upstream are
//! on core 1. In the case `h1-all` it has two workers, and all share both cores.
//! CPU time is the kernel's own: the scheduler's run time of the proxy's process tree, so it does not depend on
//! how busy the other core is. Rounds are interleaved, nginx first and last in each, and ratios are taken inside a
//! round, because a small machine drifts more between rounds than the peers differ.
//!
//! Prints a table, and writes `target/bench/gateway.json`. A peer that is not installed is skipped with a line that
//! says so. An answer that is not 2xx fails the run.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]

mod case;
mod load;
mod report;
#[path = "../rig/mod.rs"]
mod rig;
mod subject;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use case::Case;
use report::Sample;
use rig::certificate::Certificate;
use rig::process::require;
use rig::upstream::{self, Upstream};
use rig::{Fault, number};
use subject::{Kind, Place, Subject};

struct Options {
    cases: Vec<Case>,
    rounds: usize,
    seconds: u64,
    only: Vec<String>,
    tollgate: PathBuf,
}

/// Long enough for caches, pools and the branch predictor.
const WARM_UP: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == upstream::ARGUMENT) {
        upstream::run();
    }
    match Options::parse(&arguments).and_then(|options| run(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("benches/gateway: {fault}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Fault> {
    require("taskset")?;
    let mut measured = Vec::new();
    for case in &options.cases {
        require(load::generator(case))?;
        let samples = compare(options, case)?;
        report::print(case, &samples);
        measured.push((*case, samples));
    }
    report::write(&measured)
}

fn compare(options: &Options, case: &Case) -> Result<Vec<Sample>, Fault> {
    let directory = tempfile::tempdir().map_err(|error| format!("a temporary directory: {error}"))?;
    let upstream = Upstream::start(case.workers.other_cores(), case.answer_bytes)?;
    let subjects = subjects(options, case, directory.path(), upstream.port)?;
    if subjects.is_empty() {
        return Err("there is nothing to measure".to_owned());
    }
    let mut samples = Vec::new();
    for round in 0..options.rounds {
        for subject in in_order(&subjects) {
            samples.push(measure(round, case, subject, options.seconds)?);
            eprint!(".");
        }
    }
    eprintln!();
    Ok(samples)
}

/// Every subject that is wanted and installed, started.
fn subjects(options: &Options, case: &Case, directory: &Path, upstream: u16) -> Result<Vec<Subject>, Fault> {
    let certificate = Certificate::make(directory)?;
    let mut subjects = Vec::new();
    for kind in Kind::ALL.into_iter().filter(|kind| options.wants(kind.name())) {
        match kind.missing(&options.tollgate) {
            Some(reason) => println!("{}: skipped, {reason}", kind.name()),
            None => {
                let place = Place { case, certificate: &certificate, directory, upstream };
                subjects.push(Subject::start(kind, place, &options.tollgate)?);
            }
        }
    }
    Ok(subjects)
}

/// The reference first and last.
fn in_order(subjects: &[Subject]) -> impl Iterator<Item = &Subject> {
    let again = subjects.iter().take(1).filter(|first| first.kind == Kind::NginxPlain && subjects.len() > 1);
    subjects.iter().chain(again)
}

fn measure(round: usize, case: &Case, subject: &Subject, seconds: u64) -> Result<Sample, Fault> {
    load::run(case, subject, WARM_UP)?;
    let (proxy, helpers) = (subject.cpu()?, subject.helpers_cpu()?);
    let load = load::run(case, subject, Duration::from_secs(seconds))?;
    let proxy = subject.cpu()? - proxy;
    let helpers = subject.helpers_cpu()? - helpers;
    Ok(Sample::new(round, subject.kind.name(), &load, proxy, helpers))
}

// === impl Options ===

impl Options {
    fn parse(arguments: &[String]) -> Result<Options, Fault> {
        let mut options = Options {
            cases: Case::ALL.into(),
            rounds: 5,
            seconds: 3,
            only: Vec::new(),
            tollgate: PathBuf::from(env!("CARGO_BIN_EXE_tollgate")),
        };
        // Cargo adds `--bench` itself.
        let mut rest = arguments.iter().filter(|argument| *argument != "--bench");
        while let Some(name) = rest.next() {
            let value = rest.next().ok_or_else(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--cases" => options.cases = value.split(',').map(case).collect::<Result<_, _>>()?,
                "--rounds" => options.rounds = number(name, value)?,
                "--seconds" => options.seconds = number(name, value)?,
                "--only" => options.only = value.split(',').map(str::to_owned).collect(),
                "--tollgate" => options.tollgate = PathBuf::from(value),
                _ => {
                    return Err(format!(
                        "{name} is no option: --cases, --rounds, --seconds, --only, --tollgate"
                    ));
                }
            }
        }
        Ok(options)
    }

    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| name.contains(part.as_str()))
    }
}

fn case(name: &str) -> Result<Case, Fault> {
    let known = Case::ALL.into_iter().find(|case| case.name == name);
    known.ok_or_else(|| format!("`{name}` is no case: {}", Case::ALL.map(|case| case.name).join(", ")))
}
