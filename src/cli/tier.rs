//! `tollgate tier`: what is sold, and selling it otherwise from now on.

use std::path::PathBuf;

use clap::{Args as Group, Subcommand};
use serde_json::Value;

use super::ask::{Ask, manifest, path};
use super::failure::Failure;
use super::show::{Table, items, list, text};

#[derive(Subcommand, Clone, Debug)]
pub enum Tier {
    /// List the tiers, each in its newest version
    #[command(after_help = "Example:\n  tollgate tier list --json")]
    List,
    /// Sell a tier as a file says, from now on: as its next version, or as a new tier
    #[command(after_help = "\
Example:
  tollgate tier create pro.toml --json

The file, TOML or JSON, has what `tier list --json` shows of a tier, without its version:
  slug = \"pro\"
  display = \"Professional\"
  price_minor = 29_900
  currency = \"USD\"
  retention_days = 90
  security_level = \"standard\"
  quotas = [
      { resource = \"api_calls\", period = \"month\", limit = 10_000, enforcement = \"soft\",
        overage = { price = \"0.40\", per = 1_000 } },
      { resource = \"users\", period = \"forever\", limit = 50, enforcement = \"soft\",
        overage = { price = \"5.00\", per = 1 }, charge_by = \"average\" },
  ]

Tenants keep the version that they have until their tier changes.")]
    Create(TierFile),
}

#[derive(Group, Clone, Debug)]
pub struct TierFile {
    /// How the tier is sold: TOML, or JSON if its name ends in .json
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

// === impl Tier ===

impl Tier {
    /// # Errors
    /// [`Failure`] for a file that can't be read.
    pub(super) fn ask(&self) -> Result<Ask, Failure> {
        Ok(match self {
            Tier::List => Ask::get(path(&["tiers"]), tiers),
            Tier::Create(TierFile { file }) => Ask::post(path(&["tiers"]), manifest(file)?, sold),
        })
    }
}

// === how answers look ===

fn tiers(listed: &Value) -> String {
    let mut table = Table::new(["TIER", "VERSION", "NAME", "PRICE, MINOR", "CURRENCY", "SECURITY"]);
    for tier in items(listed) {
        table.row([
            text(&tier["slug"]),
            text(&tier["version"]),
            text(&tier["display"]),
            text(&tier["price_minor"]),
            text(&tier["currency"]),
            text(&tier["security_level"]),
        ]);
    }
    list(listed, &table, "no tiers\n")
}

fn sold(tier: &Value) -> String {
    let mut table = Table::new(["RESOURCE", "PERIOD", "LIMIT", "AT THE LIMIT", "PRICE ABOVE", "PER", "BY"]);
    for quota in tier["quotas"].as_array().into_iter().flatten() {
        table.row([
            text(&quota["resource"]),
            text(&quota["period"]),
            text(&quota["limit"]),
            text(&quota["enforcement"]),
            text(&quota["overage"]["price"]),
            text(&quota["overage"]["per"]),
            text(&quota["charge_by"]),
        ]);
    }
    format!("{} is sold as version {}\n\n{table}", text(&tier["slug"]), text(&tier["version"]))
}
