//! The JSON Schema of the configuration, for editors: from the types that read it.

use super::Config;

/// The schema of `tollgate.toml` (JSON Schema 2020-12), with descriptions, units and defaults.
pub fn schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(Config);
    schema.insert("title".to_owned(), "Configuration of Tollgate".into());
    schema.to_value()
}
