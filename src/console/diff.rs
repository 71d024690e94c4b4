//! What a row of the audit log changed, told field by field.

use std::collections::BTreeSet;

use serde_json::Value;

/// One field that is not as it was before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct FieldChange {
    /// Its name; of what lies within another, `outer.inner`.
    pub(super) field: String,
    /// `None`: it was not there.
    pub(super) before: Option<String>,
    /// `None`: it is not there any more.
    pub(super) after: Option<String>,
}

/// The fields that differ, in the order of their names. Lists and texts are told whole.
pub(super) fn changes(before: Option<&Value>, after: Option<&Value>) -> Vec<FieldChange> {
    let mut changes = Vec::new();
    compare("", before, after, &mut changes);
    changes
}

fn compare(field: &str, before: Option<&Value>, after: Option<&Value>, changes: &mut Vec<FieldChange>) {
    if before == after {
        return;
    }
    let inner = [before, after].map(|value| value.and_then(Value::as_object));
    let is_whole = |value: Option<&Value>| value.is_some_and(|value| !value.is_object());
    if inner == [None, None] || is_whole(before) || is_whole(after) {
        let (before, after) = (before.map(told), after.map(told));
        changes.push(FieldChange { field: field.to_owned(), before, after });
        return;
    }
    let names: BTreeSet<_> = inner.into_iter().flatten().flat_map(|object| object.keys()).collect();
    for name in names {
        let [before, after] = inner.map(|object| object.and_then(|object| object.get(name)));
        let field = if field.is_empty() { name.clone() } else { format!("{field}.{name}") };
        compare(&field, before, after, changes);
    }
}

/// As a person writes it.
fn told(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "nothing".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::changes;

    fn check(before: Value, after: Value, expected: &[(&str, Option<&str>, Option<&str>)]) {
        let [before, after] = [before, after].map(|value| (!value.is_null()).then_some(value));
        let changes = changes(before.as_ref(), after.as_ref());
        let told =
            |change: &super::FieldChange| (change.field.clone(), change.before.clone(), change.after.clone());
        let owned = |text: &Option<&str>| text.map(str::to_owned);
        let expected = expected.iter().map(|(field, b, a)| ((*field).to_owned(), owned(b), owned(a)));
        assert_eq!(changes.iter().map(told).collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    }

    #[test]
    fn only_what_differs_is_told_field_by_field() {
        check(
            json!({ "tier": "free", "name": "Acme", "address": { "city": "Bern", "zip": 1 } }),
            json!({ "tier": "pro", "name": "Acme", "address": { "city": "Basel", "zip": 1 }, "tags": [1] }),
            &[
                ("address.city", Some("Bern"), Some("Basel")),
                ("tags", None, Some("[1]")),
                ("tier", Some("free"), Some("pro")),
            ],
        );
    }

    #[test]
    fn what_was_made_or_removed_is_told_whole() {
        check(Value::Null, json!({ "name": "ci" }), &[("name", None, Some("ci"))]);
        check(json!({ "name": "ci" }), Value::Null, &[("name", Some("ci"), None)]);
        check(json!({ "a": { "b": 1 } }), json!({ "a": 2 }), &[("a", Some("{\"b\":1}"), Some("2"))]);
        check(Value::Null, Value::Null, &[]);
    }
}
