//! `journal inspect` and `journal verify`: what the files of the journal hold, read without touching them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::failure::Failure;
use super::show::Table;
use super::{Found, args, gateway};
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::config::{Config, Loaded};
use crate::journal::{Inspection, JournalError, JournalFault, Position, ShardInspection};

/// Faults that are named one by one, at most.
const NAMED_MAX: usize = 20;

pub(super) fn journal(command: args::Journal, config: Option<&Path>) -> Result<Found, Failure> {
    let Loaded { config, .. } = Config::load(config).map_err(|faults| gateway::faulty(&faults))?;
    let data = config.data.directory;
    match Inspection::of(&data) {
        Ok(None) => Ok(nothing(&data)),
        Ok(Some(inspection)) => Ok(match command {
            args::Journal::Inspect => inspected(&inspection, SystemClock::default().now()),
            args::Journal::Verify => verified(&inspection),
        }),
        Err(error) => Err(unreadable(&error)),
    }
}

fn unreadable(error: &JournalError) -> Failure {
    Failure::caused("the journal can't be read", error)
        .help("run the command as the user that the gateway runs as; a damaged file is told by its name")
}

fn nothing(data: &Path) -> Found {
    let text = format!("no journal in {}: no gateway has run on it yet\n", data.display());
    Found { json: json!({ "ok": true, "journal": Value::Null }).to_string(), text, status: 0 }
}

fn inspected(inspection: &Inspection, now: Timestamp) -> Found {
    let (pending, oldest) = (inspection.pending_records(), inspection.oldest_pending());
    let age = oldest.map(|oldest| now.since(oldest));
    let json = json!({
        "ok": inspection.faults.is_empty(),
        "journal": inspection.journal,
        "directory": inspection.directory,
        "pending_records": pending,
        "oldest_pending": oldest,
        "oldest_pending_age_seconds": age.map(|age| age.as_secs()),
        "shards": inspection.shards,
        "faults": inspection.faults,
    });
    let mut text = format!("journal {} in {}\n\n", inspection.journal.0, inspection.directory.display());
    text.push_str(&shards(&inspection.shards, now).to_string());
    text.push_str(&match age {
        None => "\nthe database has every record\n".to_owned(),
        Some(age) => format!("\n{pending} records wait for the database, the oldest for {}\n", spoken(age)),
    });
    text.push_str(&faults(inspection));
    Found { json: json.to_string(), text, status: 0 }
}

fn shards(shards: &[ShardInspection], now: Timestamp) -> Table {
    let mut table = Table::new([
        "SHARD",
        "SEGMENTS",
        "FILE BYTES",
        "RECORDS",
        "PENDING",
        "PENDING BYTES",
        "OLDEST",
        "CURSOR",
        "SENDING TO",
        "IN FLIGHT",
        "SUSPECT",
    ]);
    for shard in shards {
        let sum = |of: fn(&crate::journal::SegmentInspection) -> u64| {
            shard.segments.iter().map(of).sum::<u64>().to_string()
        };
        let oldest = shard.segments.iter().filter_map(|segment| segment.oldest_pending).min();
        table.row([
            shard.shard.to_string(),
            shard.segments.len().to_string(),
            sum(|segment| segment.file_bytes),
            sum(|segment| segment.records),
            sum(|segment| segment.pending_records),
            sum(|segment| segment.pending_bytes),
            oldest.map_or("-".to_owned(), |oldest| spoken(now.since(oldest))),
            place(shard.cursor),
            shard.sending_to.map_or("-".to_owned(), place),
            shard.in_flight.map_or("-".to_owned(), |entries| (entries.admitted + entries.sent).to_string()),
            sum(|segment| segment.is_suspect.into()),
        ]);
    }
    table
}

fn verified(inspection: &Inspection) -> Found {
    let (records, files) = (inspection.records(), inspection.segments().count());
    let is_good = inspection.faults.is_empty();
    let json = json!({
        "ok": is_good,
        "journal": inspection.journal,
        "segments": files,
        "records": records,
        "faults": inspection.faults,
    });
    let mut text = format!("{records} records in {files} segments verify\n");
    text.push_str(&faults(inspection));
    Found { json: json.to_string(), text, status: u8::from(!is_good) }
}

/// What does not verify, and what to do.
fn faults(inspection: &Inspection) -> String {
    let faults = &inspection.faults;
    if faults.is_empty() {
        return String::new();
    }
    let mut text = format!("\n{} places do not verify:\n", faults.len());
    faults.iter().take(NAMED_MAX).for_each(|fault| text.push_str(&line(fault, &inspection.directory)));
    if faults.len() > NAMED_MAX {
        text.push_str(&format!("  and {} more: see --json\n", faults.len() - NAMED_MAX));
    }
    text.push_str(
        "\nWhat was recorded there is lost; the gateway goes on without it and counts it as damaged. Look at the disk\n\
         (dmesg, SMART), and keep a copy of the file: the gateway removes it once the rest of it is in the database.\n",
    );
    text
}

fn line(fault: &JournalFault, directory: &Path) -> String {
    let JournalFault { file, offset, bytes, what } = fault;
    let file: PathBuf = file.strip_prefix(directory).unwrap_or(file).to_owned();
    format!("  {}, offset {offset}, {bytes} bytes: {what}\n", file.display())
}

fn place(position: Position) -> String {
    format!("{}+{}", position.sequence, position.offset)
}

/// To the second, as a person says it.
fn spoken(age: Duration) -> String {
    match age.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        seconds => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
    }
}
