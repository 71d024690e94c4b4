//! Subjects that take turns.

use crate::load::Spent;
use crate::report::Row;
use crate::rig::{Fault, median, micros};

/// How each subject fared in each round.
pub(crate) struct Rounds {
    /// By subject, then by round.
    samples: Vec<Vec<Sample>>,
}

#[derive(Clone, Copy)]
struct Sample {
    /// CPU per answered request, in microseconds.
    gateways: f64,
    workers: f64,
    helpers: f64,
    per_second: f64,
    p50: f64,
    p99: f64,
}

// === impl Rounds ===

impl Rounds {
    /// So many rounds of so many subjects. The first, which the others are compared with, runs at the end of each round
    /// once more, and counts as the mean of both: what drifts within a round, drifts for it as well.
    pub(crate) fn run(
        rounds: usize,
        subjects: usize,
        mut run: impl FnMut(usize) -> Result<Spent, Fault>,
    ) -> Result<Rounds, Fault> {
        let mut samples = vec![Vec::new(); subjects];
        for _ in 0..rounds {
            for (subject, samples) in samples.iter_mut().enumerate() {
                samples.push(Sample::of(&run(subject)?));
                eprint!(".");
            }
            if let [reference, _, ..] = samples.as_mut_slice()
                && let Some(first) = reference.last_mut()
            {
                *first = first.mean(Sample::of(&run(0)?));
            }
        }
        eprintln!();
        Ok(Rounds { samples })
    }

    /// Medians of a subject.
    pub(crate) fn row(&self, subject: usize, name: impl Into<String>) -> Row {
        let row = Row::of(name)
            .with("CPU µs", self.middle(subject, |sample| sample.gateways))
            .with("× first", self.ratio(subject, |sample| sample.gateways))
            .with("workers µs", self.middle(subject, |sample| sample.workers))
            .with("workers ×", self.ratio(subject, |sample| sample.workers))
            .with("req/s", self.middle(subject, |sample| sample.per_second))
            .with("p50 µs", self.middle(subject, |sample| sample.p50))
            .with("p99 µs", self.middle(subject, |sample| sample.p99));
        match self.middle(subject, |sample| sample.helpers) {
            0.0 => row,
            helpers => row.with("helpers µs", helpers),
        }
    }

    /// The median of the ratios to the first subject inside each round.
    fn ratio(&self, subject: usize, value: impl Fn(&Sample) -> f64) -> f64 {
        let pairs = self.samples[subject].iter().zip(&self.samples[0]);
        let ratios = pairs.map(|(own, reference)| value(own) / value(reference));
        median(ratios.collect()).unwrap_or(f64::NAN)
    }

    fn middle(&self, subject: usize, value: impl Fn(&Sample) -> f64) -> f64 {
        median(self.samples[subject].iter().map(value).collect()).unwrap_or(f64::NAN)
    }
}

// === impl Sample ===

impl Sample {
    fn of(spent: &Spent) -> Sample {
        let Spent { load, gateways, workers, helpers } = spent;
        Sample {
            gateways: spent.per_request(*gateways),
            workers: spent.per_request(*workers),
            helpers: spent.per_request(*helpers),
            per_second: load.per_second,
            p50: micros(load.p50),
            p99: micros(load.p99),
        }
    }

    fn mean(self, other: Sample) -> Sample {
        let mean = |value: fn(&Sample) -> f64| f64::midpoint(value(&self), value(&other));
        Sample {
            gateways: mean(|sample| sample.gateways),
            workers: mean(|sample| sample.workers),
            helpers: mean(|sample| sample.helpers),
            per_second: mean(|sample| sample.per_second),
            p50: mean(|sample| sample.p50),
            p99: mean(|sample| sample.p99),
        }
    }
}
