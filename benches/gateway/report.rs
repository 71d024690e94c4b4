//! Medians, ratios, a table and a file.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use serde_json::json;

use crate::case::Case;
use crate::rig::load::Load;
use crate::rig::{Fault, median, micros, results};
use crate::subject::Kind;

/// One subject in one round.
pub(crate) struct Sample {
    round: usize,
    name: &'static str,
    cpu_micros: f64,
    helpers_micros: f64,
    per_second: f64,
    p50: Duration,
    p99: Duration,
}

/// One subject over all rounds: medians.
struct Summary {
    cpu_micros: f64,
    helpers_micros: f64,
    /// Of the ratios to nginx plain inside each round; `None` without nginx.
    ratio: Option<f64>,
    /// The ratio in the round in which both together cost the least: the one that was disturbed least.
    ratio_quietest: Option<f64>,
    per_second: f64,
    p50_micros: f64,
    p99_micros: f64,
}

pub(crate) fn print(case: &Case, samples: &[Sample]) {
    println!(
        "{:<22} {:>8} {:>8} {:>8} {:>9} {:>9} {:>8} {:>8}",
        case.title(),
        "CPU µs",
        "helpers",
        "× nginx",
        "quietest",
        "req/s",
        "p50 µs",
        "p99 µs"
    );
    for (name, summary) in summaries(samples) {
        println!(
            "{name:<22} {:>8.2} {:>8.2} {:>8} {:>9} {:>9.0} {:>8.0} {:>8.0}",
            summary.cpu_micros,
            summary.helpers_micros,
            ratio_text(summary.ratio),
            ratio_text(summary.ratio_quietest),
            summary.per_second,
            summary.p50_micros,
            summary.p99_micros,
        );
    }
}

/// Writes `bench/gateway.json` below the target directory: by case all samples, and what the table says.
pub(crate) fn write(measured: &[(Case, Vec<Sample>)]) -> Result<(), Fault> {
    let directory = results();
    let path = directory.join("gateway.json");
    let cases: BTreeMap<_, _> =
        measured.iter().map(|(case, samples)| (case.name, to_json(samples))).collect();
    let text = format!("{:#}\n", json!(cases));
    fs::create_dir_all(&directory)
        .and_then(|()| fs::write(&path, text))
        .map_err(|error| format!("writing {}: {error}", path.display()))?;
    println!("{}", path.display());
    Ok(())
}

fn to_json(samples: &[Sample]) -> serde_json::Value {
    let summaries: BTreeMap<_, _> =
        summaries(samples).into_iter().map(|(name, summary)| (name, summary.to_json())).collect();
    let samples: Vec<_> = samples.iter().map(Sample::to_json).collect();
    json!({ "summaries": summaries, "samples": samples })
}

fn summaries(samples: &[Sample]) -> Vec<(&'static str, Summary)> {
    let names = Kind::ALL.into_iter().map(Kind::name);
    names.filter_map(|name| Some((name, Summary::of(name, samples)?))).collect()
}

/// Mean CPU per request of a subject in a round; nginx occurs twice.
fn in_round(name: &str, round: usize, samples: &[Sample]) -> Option<f64> {
    let of_it = samples.iter().filter(|sample| sample.round == round && sample.name == name);
    let costs: Vec<f64> = of_it.map(|sample| sample.cpu_micros).collect();
    (!costs.is_empty()).then(|| costs.iter().sum::<f64>() / count(&costs))
}

#[expect(clippy::cast_precision_loss, reason = "a handful")]
fn count(values: &[f64]) -> f64 {
    values.len() as f64
}

fn ratio_text(ratio: Option<f64>) -> String {
    ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.2}"))
}

// === impl Sample ===

impl Sample {
    #[expect(clippy::cast_precision_loss, reason = "requests of some seconds are far below 2^52")]
    pub(crate) fn new(
        round: usize,
        name: &'static str,
        load: &Load,
        proxy: Duration,
        helpers: Duration,
    ) -> Self {
        let requests = load.requests as f64;
        Sample {
            round,
            name,
            cpu_micros: micros(proxy) / requests,
            helpers_micros: micros(helpers) / requests,
            per_second: load.per_second,
            p50: load.p50,
            p99: load.p99,
        }
    }

    fn to_json(&self) -> serde_json::Value {
        json!({
            "round": self.round,
            "subject": self.name,
            "cpu_micros": self.cpu_micros,
            "helpers_micros": self.helpers_micros,
            "requests_per_second": self.per_second,
            "p50_micros": micros(self.p50),
            "p99_micros": micros(self.p99),
        })
    }
}

// === impl Summary ===

impl Summary {
    fn of(name: &str, samples: &[Sample]) -> Option<Summary> {
        let of = |value: fn(&Sample) -> f64| {
            median(samples.iter().filter(|sample| sample.name == name).map(value).collect())
        };
        let pairs = pairs(name, samples);
        let quietest = pairs.iter().copied().min_by(|a, b| (a.0 + a.1).total_cmp(&(b.0 + b.1)));
        Some(Summary {
            cpu_micros: of(|sample| sample.cpu_micros)?,
            helpers_micros: of(|sample| sample.helpers_micros)?,
            ratio: median(pairs.iter().map(|(own, nginx)| own / nginx).collect()),
            ratio_quietest: quietest.map(|(own, nginx)| own / nginx),
            per_second: of(|sample| sample.per_second)?,
            p50_micros: of(|sample| micros(sample.p50))?,
            p99_micros: of(|sample| micros(sample.p99))?,
        })
    }

    fn to_json(&self) -> serde_json::Value {
        json!({
            "cpu_micros": self.cpu_micros,
            "helpers_micros": self.helpers_micros,
            "ratio_to_nginx": self.ratio,
            "ratio_to_nginx_quietest": self.ratio_quietest,
            "requests_per_second": self.per_second,
            "p50_micros": self.p50_micros,
            "p99_micros": self.p99_micros,
        })
    }
}

/// The subject's cost and nginx's, for each round that has both.
fn pairs(name: &str, samples: &[Sample]) -> Vec<(f64, f64)> {
    let rounds = samples.iter().map(|sample| sample.round).max().map_or(0, |last| last + 1);
    let both =
        |round| Some((in_round(name, round, samples)?, in_round(Kind::NginxPlain.name(), round, samples)?));
    (0..rounds).filter_map(both).collect()
}
