//! A table for people, and the same as JSON.

use std::collections::BTreeMap;
use std::fs;

use serde_json::json;

use crate::rig::{Fault, results};

/// What a part found: rows with the same columns, or some of them.
pub(crate) struct Table {
    title: String,
    rows: Vec<Row>,
}

/// What was found of one subject.
pub(crate) struct Row {
    name: String,
    values: Vec<(&'static str, f64)>,
}

// === impl Table ===

impl Table {
    pub(crate) fn new(title: impl Into<String>) -> Table {
        Table { title: title.into(), rows: Vec::new() }
    }

    pub(crate) fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Prints it, and writes `scale-PART.json`.
    pub(crate) fn publish(&self, part: &str) -> Result<(), Fault> {
        self.print();
        let path = results().join(format!("scale-{part}.json"));
        let text = format!("{:#}\n", self.to_json());
        fs::create_dir_all(results())
            .and_then(|()| fs::write(&path, text))
            .map_err(|error| format!("writing {}: {error}", path.display()))?;
        println!("{}\n", path.display());
        Ok(())
    }

    fn print(&self) {
        let columns = self.columns();
        let wide = |column: &str| column.chars().count().max(9);
        let first = self.rows.iter().map(|row| row.name.chars().count()).chain([self.title.chars().count()]);
        let first = first.max().unwrap_or(0);
        let heads: Vec<String> = columns.iter().map(|name| format!("{name:>0$}", wide(name))).collect();
        println!("{:<first$}  {}", self.title, heads.join("  "));
        for row in &self.rows {
            let cell = |name: &&str| format!("{:>1$}", row.text(name), wide(name));
            let cells: Vec<String> = columns.iter().map(cell).collect();
            println!("{:<first$}  {}", row.name, cells.join("  "));
        }
    }

    /// In the order in which they first occur.
    fn columns(&self) -> Vec<&'static str> {
        let mut columns = Vec::new();
        for (name, _) in self.rows.iter().flat_map(|row| &row.values) {
            if !columns.contains(name) {
                columns.push(*name);
            }
        }
        columns
    }

    fn to_json(&self) -> serde_json::Value {
        let row = |row: &Row| {
            let values: BTreeMap<_, _> = row.values.iter().copied().collect();
            json!({ "name": row.name, "values": values })
        };
        json!({ "title": self.title, "rows": self.rows.iter().map(row).collect::<Vec<_>>() })
    }
}

// === impl Row ===

impl Row {
    pub(crate) fn of(name: impl Into<String>) -> Row {
        Row { name: name.into(), values: Vec::new() }
    }

    pub(crate) fn with(mut self, column: &'static str, value: f64) -> Row {
        self.values.push((column, value));
        self
    }

    fn text(&self, column: &str) -> String {
        let value = self.values.iter().find(|(name, _)| *name == column);
        value.map_or("–".to_owned(), |(_, value)| figures(*value))
    }
}

/// With as many decimals as say something.
fn figures(value: f64) -> String {
    match value.abs() {
        size if size >= 1_000.0 || size == 0.0 => format!("{value:.0}"),
        size if size >= 100.0 => format!("{value:.1}"),
        size if size >= 0.1 => format!("{value:.2}"),
        size if size >= 0.001 => format!("{value:.4}"),
        _ => format!("{value:.6}"),
    }
}
