//! Lists in the form that is asked for, by `format` or else by `Accept`: JSON, NDJSON or CSV.
//!
//! NDJSON and CSV hold one page, like JSON; where the next one begins stands in `x-next-cursor`.

use axum::Json;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;
use utoipa::openapi::path::{Parameter, ParameterIn};

use super::error::Problem;
use super::extract::Params;
use super::openapi::query;
use crate::store::{Listed, Page};

/// A column of CSV: its name, and where its value is.
pub(super) type Column = (&'static str, &'static [&'static str]);

/// A form that an answer can have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    Json,
    Ndjson,
    Csv,
    /// Of single things that are for paper, too.
    Html,
}

pub(super) const NDJSON: &str = "application/x-ndjson";
pub(super) const CSV: &str = "text/csv";
const CSV_UTF8: &str = "text/csv; charset=utf-8";
const NEXT_CURSOR: HeaderName = HeaderName::from_static("x-next-cursor");

/// The parameter of every list that is not for programs of ours alone.
pub(super) enum Formats {}

/// The page of a list and the form that are asked for, where nothing is asked for but them and what was taken.
///
/// # Errors
/// As [`Params::finish`].
pub(super) fn page(mut params: Params, headers: &HeaderMap) -> Result<(Page, Form), Problem> {
    let (page, form) = (params.page(), Form::asked(&mut params, headers));
    params.finish().map(|()| (page, form))
}

/// The list as the caller wants it.
pub(super) fn listed<T: Serialize>(form: Form, list: Listed<T>, columns: &[Column]) -> Response {
    let (text, kind) = match form {
        Form::Json | Form::Html => return Json(list).into_response(),
        Form::Ndjson => (lines(&list.items), NDJSON),
        Form::Csv => (table(&list.items, columns), CSV_UTF8),
    };
    let mut response = text.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if let Some(Ok(cursor)) = list.next_cursor.as_deref().map(HeaderValue::from_str) {
        headers.insert(NEXT_CURSOR, cursor);
    }
    response
}

/// Rows that are not a page of a list.
pub(super) fn in_csv<T: Serialize>(rows: &[T], columns: &[Column]) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static(CSV_UTF8))], table(rows, columns)).into_response()
}

fn lines<T: Serialize>(items: &[T]) -> String {
    let line = |item| serde_json::to_string(item).map(|line| line + "\n").unwrap_or_default();
    items.iter().map(line).collect()
}

fn table<T: Serialize>(items: &[T], columns: &[Column]) -> String {
    let mut text = columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(",");
    text.push_str("\r\n");
    for item in items {
        let item = serde_json::to_value(item).unwrap_or(Value::Null);
        let value = |path: &[&str]| path.iter().fold(&item, |value, part| &value[*part]).clone();
        let cells: Vec<_> = columns.iter().map(|(_, path)| cell(&value(path))).collect();
        text.push_str(&cells.join(","));
        text.push_str("\r\n");
    }
    text
}

/// RFC 4180. Text that a spreadsheet would take for a formula gets an apostrophe in front.
fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => return String::new(),
        Value::Number(_) | Value::Bool(_) => return value.to_string(),
        Value::String(text) if text.starts_with(['=', '+', '-', '@', '\t', '\r']) => format!("'{text}"),
        Value::String(text) => text.clone(),
        Value::Array(_) | Value::Object(_) => value.to_string(),
    };
    if text.contains([',', '"', '\r', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

// === impl Formats ===

impl utoipa::IntoParams for Formats {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![query::<String>("format", "json, ndjson or csv; if absent, as `Accept` says")]
    }
}

// === impl Form ===

impl Form {
    /// A link says it in its query, a program in its header.
    pub(super) fn asked(params: &mut Params, headers: &HeaderMap) -> Form {
        let asked = params.read("format", "json, ndjson or csv", |text| match text {
            "json" => Some(Form::Json),
            "ndjson" => Some(Form::Ndjson),
            "csv" => Some(Form::Csv),
            _ => None,
        });
        asked.unwrap_or_else(|| Form::accepted(headers))
    }

    /// Whether it is of rows and nothing around them.
    pub(super) const fn is_of_rows(self) -> bool {
        matches!(self, Form::Ndjson | Form::Csv)
    }

    /// The first of the accepted types that there is; JSON if there is none.
    pub(super) fn accepted(headers: &HeaderMap) -> Form {
        let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let forms = accept.split(',').filter_map(|kind| {
            match kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
                CSV => Some(Form::Csv),
                "text/html" => Some(Form::Html),
                NDJSON | "application/jsonl" => Some(Form::Ndjson),
                "application/json" | "*/*" | "application/*" => Some(Form::Json),
                _ => None,
            }
        });
        forms.into_iter().next().unwrap_or(Form::Json)
    }
}

#[cfg(test)]
mod tests {
    use super::{cell, table};
    use serde_json::json;

    #[test]
    fn cells_are_quoted_where_they_must_be_and_are_no_formulas() {
        for (value, expected) in [
            (json!(null), ""),
            (json!(-1), "-1"),
            (json!("a"), "a"),
            (json!("a,b"), "\"a,b\""),
            (json!("say \"a\"\nb"), "\"say \"\"a\"\"\nb\""),
            (json!("=1+1"), "'=1+1"),
            (json!({ "a": 1 }), "\"{\"\"a\"\":1}\""),
        ] {
            assert_eq!(cell(&value), expected);
        }
    }

    #[test]
    fn a_table_has_its_head_even_without_rows() {
        let columns: [super::Column; 2] = [("a", &["a"]), ("b", &["b", "c"])];
        assert_eq!(table::<()>(&[], &columns), "a,b\r\n");
        assert_eq!(table(&[json!({ "a": 1, "b": { "c": "x" } })], &columns), "a,b\r\n1,x\r\n");
    }
}
