//! `/api/openapi.json`: what the API says of itself, as one OpenAPI 3.1 document.
//!
//! Each handler says above itself what is its own: path, parameters, body and answers. What follows from an
//! operation's form is said here, once and for all of them: the parameters of its path, who may call it,
//! `Idempotency-Key` on a POST, the refusals that there may be, and the header of every answer. The router is built of
//! the same annotations ([`router`](super::router())), so that what is routed is documented and the other way round.

use std::sync::LazyLock;

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::openapi::{OpenApi, RefOr, Required};
use utoipa::{IntoParams, PartialSchema};

use super::error::ProblemKind;
use super::{export, idempotency};
use crate::domain::{Resource, TenantStatus};
use crate::store::Page;
use crate::web::SESSION_COOKIE;

/// Whether an operation asks for a credential.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Access {
    Guarded,
    Open,
}

/// The parameters of every list that has pages.
pub(super) enum Paged {}

/// Put together when it is first asked for: most processes, those of the command line among them, never are.
static DOCUMENT: LazyLock<String> = LazyLock::new(|| super::document().to_string());

const METHODS: [&str; 5] = ["get", "put", "post", "delete", "patch"];

/// Describes this API, as OpenAPI 3.1.
#[utoipa::path(
    get, path = "/api/openapi.json",
    responses(
        (
            status = 200,
            description = "The document",
            content_type = "application/json",
            body = serde_json::Value,
        ),
    ),
)]
pub(super) async fn show() -> Response {
    let kind = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    ([kind], DOCUMENT.as_str()).into_response()
}

/// The document of all operations, those of each part with what its access means.
pub(super) fn document(parts: [(Access, OpenApi); 2]) -> Value {
    let (mut paths, mut schemas) = (Map::new(), Map::new());
    for (access, part) in parts {
        let mut part = serde_json::to_value(part).unwrap_or_default();
        for (path, mut item) in taken(&mut part["paths"]) {
            for method in METHODS {
                if let Some(operation) = item.get_mut(method) {
                    complete(operation, &path, method, access);
                }
            }
            // What asks for a credential and what does not may share a path.
            match paths.get_mut(&path).and_then(Value::as_object_mut) {
                Some(known) => known.extend(taken(&mut item)),
                None => drop(paths.insert(path, item)),
            }
        }
        schemas.extend(taken(&mut part["components"]["schemas"]));
    }
    relax_flattened(&mut schemas);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Tollgate",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The control plane: tenants, what they may use and what they have used. Every path is known \
                            with and without a trailing slash. Every refusal is `application/problem+json` (RFC 9457).",
            "license": { "name": env!("CARGO_PKG_LICENSE"), "identifier": env!("CARGO_PKG_LICENSE") },
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": refusals(),
            "headers": {
                "X-Request-Id": {
                    "description": "One id for all that this request did: in the log and in the audit rows",
                    "schema": { "type": "string", "format": "uuid" },
                },
            },
            "securitySchemes": {
                "bearer": {
                    "type": "http", "scheme": "bearer",
                    "description": "A platform token, or an API key with a scope of administration",
                },
                "session": {
                    "type": "apiKey", "in": "cookie", "name": SESSION_COOKIE,
                    "description": "What POST /api/sessions sets. Whatever changes something needs the header \
                                    x-csrf-token as well, as GET /api/sessions/current tells it",
                },
            },
        },
    })
}

/// A parameter of the query, which may be missing.
pub(super) fn query<T: PartialSchema>(name: &str, about: &str) -> Parameter {
    optional(ParameterIn::Query, name, about, T::schema())
}

/// The same, for a UUID.
pub(super) fn query_id(name: &str, about: &str) -> Parameter {
    let id = ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Uuid)));
    optional(ParameterIn::Query, name, about, id.into())
}

/// A parameter that may be missing.
pub(super) fn optional(place: ParameterIn, name: &str, about: &str, schema: RefOr<Schema>) -> Parameter {
    let parameter = ParameterBuilder::new().name(name).parameter_in(place).required(Required::False);
    parameter.description(Some(about)).schema(Some(schema)).build()
}

fn taken(object: &mut Value) -> Map<String, Value> {
    object.as_object_mut().map(std::mem::take).unwrap_or_default()
}

/// Says of an operation what follows from its form.
fn complete(operation: &mut Value, path: &str, method: &str, access: Access) {
    operation["tags"] = json!([noun(path)]);
    operation["operationId"] = operation_id(method, path).into();
    operation["security"] = match access {
        Access::Guarded => json!([{ "bearer": [] }, { "session": [] }]),
        Access::Open => json!([]),
    };
    if let Some(body) = operation.get_mut("requestBody").filter(|body| body["required"] != true) {
        let schema = &mut body["content"]["application/json"]["schema"];
        // No body at all is as good as an empty one; `null` is not.
        *schema = without_null(schema);
    }
    complete_parameters(operation, path, method, access);
    complete_answers(operation, path, method, access);
}

/// What the operation is about: the last part of its path that every tenant has, or else the first.
fn noun(path: &str) -> &str {
    let parts: Vec<_> = path.trim_start_matches("/api/").split('/').collect();
    match parts[..] {
        ["tenants", "{tenant}", noun, ..] if !["status", "erase"].contains(&noun) => noun,
        [noun, ..] => noun.trim_end_matches(".json"),
        [] => "",
    }
}

/// `GET /api/tenants/{tenant}/usage-logs` is `get_tenants_tenant_usage_logs`.
fn operation_id(method: &str, path: &str) -> String {
    let words = path.trim_start_matches("/api/").replace(['{', '}'], "");
    format!("{method}_{}", words.replace(['/', '-', '.'], "_"))
}

/// What a schema is, where `null` is the alternative.
fn without_null(schema: &Value) -> Value {
    let mut any = schema.get("oneOf").and_then(Value::as_array).into_iter().flatten();
    any.find(|one| one["type"] != "null").unwrap_or(schema).clone()
}

/// Of a part that is flattened into another and may be missing, each field may be; it is never `null` as a whole.
fn relax_flattened(schemas: &mut Map<String, Value>) {
    let mut relaxed = Vec::new();
    for schema in schemas.values_mut() {
        for part in schema.get_mut("allOf").and_then(Value::as_array_mut).into_iter().flatten() {
            if part.get("oneOf").is_some() {
                *part = without_null(part);
                relaxed.extend(
                    part["$ref"].as_str().and_then(|name| name.rsplit('/').next()).map(str::to_owned),
                );
            }
        }
    }
    for name in relaxed {
        schemas.entry(name).and_modify(remove_required);
    }
}

fn remove_required(schema: &mut Value) {
    let Some(members) = schema.as_object_mut() else { return };
    members.remove("required");
    members.get_mut("allOf").and_then(Value::as_array_mut).into_iter().flatten().for_each(remove_required);
}

fn complete_parameters(operation: &mut Value, path: &str, method: &str, access: Access) {
    let of_path = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let mut parameters: Vec<_> = of_path.map(path_parameter).collect();
    if method == "post" && access == Access::Guarded {
        parameters.push(json!({
            "name": "Idempotency-Key", "in": "header", "required": false,
            "description": "Sent again with this key within a day, the request is answered as before and not done \
                            again",
            "schema": {
                "type": "string", "minLength": 1, "maxLength": idempotency::KEY_LENGTH_MAX,
                "pattern": "^[!-~]([ -~]*[!-~])?$",
            },
        }));
    }
    let own = operation.get_mut("parameters").and_then(Value::as_array_mut).map(std::mem::take);
    parameters.extend(own.unwrap_or_default());
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
}

/// A parameter of a path. One that is not known here gets no schema, which a test refuses.
fn path_parameter(name: &str) -> Value {
    let uuid = json!({ "type": "string", "format": "uuid" });
    let (about, schema) = match name {
        "tenant" => ("Its id or its slug", json!({ "type": "string", "pattern": "^[0-9a-z][0-9a-z-]*$" })),
        "key" => ("The key's id", uuid),
        "user" => ("The user's id", uuid),
        "invitation" => ("The invitation's id", uuid),
        "session" => ("The session's id", uuid),
        "role" => ("The role's name", json!({ "type": "string", "pattern": "^[a-z]([a-z0-9-]*[a-z0-9])?$" })),
        "alert" => ("The alert's id", uuid),
        "rule" => ("The rule's id", uuid),
        "invoice" => ("The invoice's id", uuid),
        "channel" => ("The channel's id", uuid),
        "delivery" => ("The delivery's id", uuid),
        "event" => ("The event's id", uuid),
        "operation" => ("The operation's id", uuid),
        "resource" => ("The resource's name", schema_of::<Resource>()),
        "setting" => (
            "A known setting, or one that begins with `custom.`",
            json!({ "type": "string", "minLength": 1 }),
        ),
        "status" => ("The status to move to", schema_of::<TenantStatus>()),
        _ => ("", Value::Null),
    };
    json!({ "name": name, "in": "path", "required": true, "description": about, "schema": schema })
}

fn schema_of<T: PartialSchema>() -> Value {
    serde_json::to_value(T::schema()).unwrap_or_default()
}

/// The header of every answer, and the refusals that an operation of this form may meet.
fn complete_answers(operation: &mut Value, path: &str, method: &str, access: Access) {
    let mut statuses = refusals_of(operation, path, method, access);
    for (status, answer) in operation["responses"].as_object_mut().into_iter().flatten() {
        match status.parse() {
            Ok(status) if status >= 400 => statuses.push(status),
            _ => {
                if let Some(tag) = answer["headers"].get_mut("ETag") {
                    tag["description"] = "Its version, for `If-Match`".into();
                }
                answer["headers"]["X-Request-Id"] = json!({ "$ref": "#/components/headers/X-Request-Id" });
                if answer["headers"]["X-Next-Cursor"].is_object() {
                    complete_export(answer);
                }
            }
        }
    }
    for status in statuses {
        operation["responses"][status.to_string()] =
            json!({ "$ref": format!("#/components/responses/{}", refusal_name(status)) });
    }
}

/// A list that tells its next cursor in a header can be had in other forms.
fn complete_export(answer: &mut Value) {
    answer["headers"]["X-Next-Cursor"]["description"] =
        "The `next_cursor` of NDJSON and CSV; absent at the list's end".into();
    for kind in [export::NDJSON, export::CSV] {
        answer["content"][kind] = json!({ "schema": { "type": "string" } });
    }
}

fn refusals_of(operation: &Value, path: &str, method: &str, access: Access) -> Vec<u16> {
    let mut statuses = vec![500, 503];
    let has_parameter = |place: &str, name: Option<&str>| {
        let mut parameters = operation["parameters"].as_array().into_iter().flatten();
        parameters.any(|one| one["in"] == place && name.is_none_or(|name| one["name"] == name))
    };
    let (has_body, writes) = (operation["requestBody"].is_object(), method != "get");
    if access == Access::Guarded {
        statuses.extend([401, 403]);
    }
    if path.contains('{') {
        statuses.push(404);
    }
    if writes {
        statuses.push(409);
    }
    if has_parameter("header", Some("If-Match")) {
        statuses.push(412);
    }
    if has_body {
        statuses.push(415);
    }
    if has_body || method == "post" {
        statuses.push(413);
    }
    if has_body || method == "post" || has_parameter("query", None) || path.contains("{status}") {
        statuses.extend([400, 422]);
    }
    statuses
}

/// All refusals, by their status: each with the `type`s that it may have.
fn refusals() -> Map<String, Value> {
    let mut by_status = Map::new();
    for kind in ProblemKind::ALL {
        let status = kind.status().as_u16();
        let answer = by_status.entry(refusal_name(status)).or_insert_with(|| refusal(status, kind));
        let types =
            &mut answer["content"]["application/problem+json"]["schema"]["allOf"][1]["properties"]["type"];
        if let Some(types) = types["enum"].as_array_mut() {
            types.push(kind.uri().into());
        }
    }
    by_status
}

fn refusal_name(status: u16) -> String {
    format!("Refused{status}")
}

fn refusal(status: u16, kind: ProblemKind) -> Value {
    let mut headers = json!({ "X-Request-Id": { "$ref": "#/components/headers/X-Request-Id" } });
    let text = json!({ "schema": { "type": "string" } });
    match kind {
        ProblemKind::Unauthenticated => headers["WWW-Authenticate"] = text,
        ProblemKind::Unavailable => headers["Retry-After"] = text,
        ProblemKind::Stale => headers["ETag"] = text,
        _ => {}
    }
    json!({
        "description": kind.title(),
        "headers": headers,
        "content": { "application/problem+json": { "schema": { "allOf": [
            { "$ref": "#/components/schemas/Problem" },
            { "properties": { "status": { "const": status }, "type": { "enum": [] } } },
        ] } } },
    })
}

// === impl Paged ===

impl IntoParams for Paged {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let number = |name, about, [minimum, maximum, default]: [u32; 3]| {
            let number = ObjectBuilder::new().schema_type(Type::Integer).default(Some(default.into()));
            let number = number.minimum(Some(minimum)).maximum(Some(maximum));
            optional(ParameterIn::Query, name, about, number.into())
        };
        vec![
            number("limit", "How many items at most", [1, Page::LIMIT_MAX, Page::LIMIT_DEFAULT]),
            number(
                "offset",
                "How many items to skip; go on with the cursor beyond",
                [0, Page::OFFSET_MAX, 0],
            ),
            query::<String>("cursor", "Where to go on: the `next_cursor` of the page before"),
        ]
    }
}
