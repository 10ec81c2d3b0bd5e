//! The daemon's interface as an OpenAPI 3.1 document: every route with its request, its answer and its errors.
//!
//! The schemas are those of the wire types, whose derives the profile's schema uses too. The table of routes is below; a test of
//! the server compares it with what is served. The server answers with it, `devenv openapi` prints it, and `docs/reference/api.md`
//! is made of it.

use devenv_api::{self as api, route};
use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

/// A type's schema, which leaves its definitions in the generator.
type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// One route.
struct Route {
    method: &'static str,
    path: &'static str,
    about: &'static str,
    request: Option<SchemaOf>,
    answer: Answer,
}

enum Answer {
    /// One document.
    Document(SchemaOf),
    /// One document a line, as things happen. Errors after the first line are lines too.
    Lines(SchemaOf),
    /// The connection changes to this protocol.
    Upgrade { protocol: &'static str, messages: Messages },
}

/// What follows on a connection after it has changed.
enum Messages {
    /// One JSON document a line, from the daemon and from the client.
    Lines(SchemaOf, SchemaOf),
    /// Binary frames.
    Frames,
}

fn get<A: JsonSchema>(path: &'static str, about: &'static str) -> Route {
    Route { method: "get", path, about, request: None, answer: Answer::Document(of::<A>) }
}

fn post<R: JsonSchema, A: JsonSchema>(path: &'static str, about: &'static str) -> Route {
    Route { method: "post", path, about, request: Some(of::<R>), answer: Answer::Document(of::<A>) }
}

fn lines<R: JsonSchema, A: JsonSchema>(path: &'static str, about: &'static str) -> Route {
    Route { answer: Answer::Lines(of::<A>), ..post::<R, A>(path, about) }
}

fn upgrade<R: JsonSchema>(path: &'static str, about: &'static str, protocol: &'static str, messages: Messages) -> Route {
    Route { answer: Answer::Upgrade { protocol, messages }, ..post::<R, Value>(path, about) }
}

/// A route after which both sides say how a claim goes on.
fn claim<R: JsonSchema>(path: &'static str, about: &'static str) -> Route {
    upgrade::<R>(path, about, api::LEASE_PROTOCOL, Messages::Lines(of::<api::LeaseMessage>, of::<api::LeaseCommand>))
}

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

fn routes() -> Vec<Route> {
    vec![
        get::<api::DaemonStatus>(route::DAEMON, "The daemon's version, engine and environments."),
        post::<Value, Value>(route::DAEMON_STOP, "Stops the daemon. Services keep running."),
        get::<Value>(route::OPENAPI, "This document."),
        get::<Vec<api::Status>>(route::ENVIRONMENTS, "The status of every environment."),
        get::<Vec<api::EnvironmentUsage>>(route::USAGE, "Memory and disk space of every environment."),
        post::<api::EnvironmentTarget, api::Status>(route::STATUS, "The status of an environment; `absent` if there is none."),
        post::<api::UpRequest, api::Plan>(route::PLAN, "What `up` would do."),
        lines::<api::WaitRequest, api::UpMessage>(route::WAIT, "Waits until services are ready."),
        lines::<api::LogsRequest, api::LogLine>(route::LOGS, "Output of services."),
        lines::<api::EventsRequest, api::Event>(route::EVENTS, "Events of an environment."),
        post::<api::WhyRequest, api::Why>(route::WHY, "What led to a service's last change."),
        post::<api::VariablesRequest, api::Variables>(route::VARIABLES, "The variables of an environment, with secrets."),
        upgrade::<api::ExecRequest>(route::EXEC, "Runs a command in a service.", api::EXEC_PROTOCOL, Messages::Frames),
        claim::<api::LeaseRequest>(route::LEASE, "Leases private parts of services until the connection ends."),
        claim::<api::HoldRequest>(route::HOLD, "Holds an environment until the connection ends."),
        lines::<api::BundleRequest, api::BundleFile>(route::BUNDLE, "Diagnostics of an environment without secrets, in chunks of files."),
        post::<api::EnvironmentTarget, api::Ledger>(route::LEDGER, "Scripts and data sets, and what has been applied of them."),
        post::<api::AcceptRequest, api::Ledger>(route::LEDGER_ACCEPT, "Records a changed script as applied."),
        post::<api::AcceptRequest, api::LedgerChanges>(route::LEDGER_CHANGES, "The lines of a script that differ from what was applied."),
        post::<api::AcceptRequest, api::Ledger>(route::LEDGER_RUN, "Applies a script again from its beginning."),
        post::<api::OutlineRequest, api::Outline>(route::OUTLINE, "What a server holds: databases and tables, keys, topics, groups."),
        post::<api::RowsRequest, api::Rows>(route::ROWS, "Rows of a table, elements of a key, records of a topic, lag of a group."),
        post::<api::QueryRequest, api::Rows>(route::QUERY, "Runs one statement that only reads."),
        post::<api::ProduceRequest, api::Produced>(route::PRODUCE, "Produces one record."),
        post::<api::TracesRequest, api::Traces>(route::TRACES, "Traces that the environment's tracing service has collected."),
        post::<api::MetricsRequest, api::Metrics>(route::METRICS, "Current metrics of an environment, its containers and servers."),
        post::<api::AgentCall, Value>(route::AGENT, "Records that an agent has called a tool."),
        post::<api::EnvironmentTarget, api::Secrets>(route::SECRETS, "The secrets of an environment, without their values."),
        post::<api::SetSecretRequest, api::Secrets>(route::SECRETS_SET, "Sets the value of a secret that the profile declares."),
        post::<api::EnvironmentTarget, api::Snapshots>(route::SNAPSHOTS, "The snapshots of an environment."),
        post::<api::EnvironmentTarget, api::Backups>(route::BACKUPS, "The backups of an environment."),
        post::<api::InjectRequest, api::Fault>(route::CHAOS_INJECT, "Injects a fault, and observes its effect."),
        post::<api::InjectRequest, Value>(route::CHAOS_CHECK, "Whether a fault can be injected."),
        post::<api::HealRequest, api::Faults>(route::CHAOS_HEAL, "Undoes faults."),
        post::<api::FaultsRequest, api::Faults>(route::CHAOS_STATUS, "The active faults."),
        post::<api::ImpairmentsRequest, Vec<api::Impairments>>(route::CHAOS_IMPAIRMENTS, "What faults have changed of services now."),
        get::<api::Operations>(route::OPERATIONS, "Operations under way, and the last that ended."),
        lines::<Value, api::Operation>(route::OPERATIONS_FOLLOW, "Each operation whenever it changes."),
        lines::<api::Submission, api::OperationMessage>(route::SUBMIT, "Submits an operation and follows it to its end."),
        post::<api::OperationTarget, api::Operation>(route::CANCEL, "Asks an operation to stop."),
        lines::<api::UiRequest, api::UiOpened>(
            route::UI,
            "Serves the page in the browser as long as the connection lasts. One line: its address.",
        ),
        lines::<api::FetchRequest, api::FetchMessage>(route::IMAGES_FETCH, "Pulls images that are missing."),
        post::<api::ArchiveRequest, api::Images>(route::IMAGES_SAVE, "Writes images to an archive."),
        post::<api::ArchiveRequest, api::Images>(route::IMAGES_LOAD, "Reads images from an archive."),
    ]
}

/// The field with the schemas of the lines that follow an upgrade, by their sender.
const MESSAGES: &str = "x-messages";

/// The status codes of errors. The body is always an `ErrorDocument`, whose `code` says more.
const ERRORS: &[(&str, &str)] = &[
    ("400", "The request is wrong: `usage` or `invalid-profile`."),
    ("404", "There is no such environment, service or thing: `not-found`."),
    ("405", "The route has another method."),
    ("409", "Another operation is in progress, or the daemon uses another engine: `conflict`, `engine-mismatch`."),
    ("413", "The body is too large."),
    ("415", "The body is not declared as `application/json`."),
    ("422", "It failed: `failed`, `interrupted` or `drift`; or the body does not fit the schema: `usage`."),
    ("500", "A bug in devenv: `internal`."),
    ("503", "No engine answers: `no-engine`."),
    ("504", "The time limit expired: `timed-out`."),
];

/// The document.
pub(crate) fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let error = of::<api::ErrorDocument>(&mut generator);
    let mut paths = Map::new();
    for route in routes() {
        let operation = operation(&route, &error, &mut generator);
        paths.insert(route.path.to_owned(), json!({ route.method: operation }));
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "devenv",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The daemon's interface, over HTTP on its unix socket `devenv.sock`. It changes only by adding.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "http://devenv", "description": "The daemon's unix socket; the host name does not matter." }],
        "paths": paths,
        "components": { "schemas": generator.take_definitions(true) },
    })
}

fn operation(route: &Route, error: &Schema, generator: &mut SchemaGenerator) -> Value {
    let mut operation = json!({ "operationId": name(route), "summary": route.about });
    if let Some(request) = route.request {
        let content = json!({ "application/json": { "schema": request(generator) } });
        operation["requestBody"] = json!({ "required": true, "content": content });
    }
    let mut responses = Map::new();
    match &route.answer {
        Answer::Document(schema) => {
            let content = json!({ "application/json": { "schema": schema(generator) } });
            responses.insert("200".to_owned(), json!({ "description": "The answer.", "content": content }));
        }
        Answer::Lines(schema) => {
            let content = json!({ "application/x-ndjson": { "schema": schema(generator) } });
            responses.insert("200".to_owned(), json!({ "description": "One document a line.", "content": content }));
        }
        Answer::Upgrade { protocol, messages } => {
            let description = format!("The connection speaks `{protocol}` from here on.");
            let mut response = json!({ "description": description });
            // OpenAPI has no words for what follows an upgrade.
            if let Messages::Lines(daemon, client) = messages {
                response[MESSAGES] = json!({ "daemon": daemon(generator), "client": client(generator) });
            }
            responses.insert("101".to_owned(), response);
        }
    }
    for (status, description) in ERRORS {
        let content = json!({ "application/json": { "schema": error } });
        responses.insert((*status).to_owned(), json!({ "description": description, "content": content }));
    }
    operation["responses"] = Value::Object(responses);
    operation
}

/// `/v1/environment/data/rows` is `environment_data_rows`.
fn name(route: &Route) -> String {
    route.path.trim_start_matches("/v1/").replace(['/', '-', '.'], "_")
}

/// The reference page.
#[cfg(test)]
fn page() -> String {
    use std::fmt::Write;

    let document = document();
    let head = "# The daemon's interface\n\nHTTP over the daemon's unix socket, `devenv.sock` in the runtime directory. This page is made from \
        the types; `devenv openapi` prints the whole document (OpenAPI 3.1), and the daemon serves it at `/v1/openapi.json`. Every \
        request with a body has `content-type: application/json`. The interface changes only by adding.\n\n\
        ```sh\ncurl --unix-socket \"$XDG_RUNTIME_DIR/devenv/devenv.sock\" http://devenv/v1/environments\n```\n\n";
    let mut page = head.to_owned();
    let shown = |schema: &Value| -> String {
        let name = |schema: &Value| schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()).map(str::to_owned);
        name(schema).or_else(|| name(&schema["items"]).map(|item| format!("[{item}]"))).unwrap_or_else(|| "any JSON".to_owned())
    };
    let _ = writeln!(page, "## Routes\n\n| route | request | answer | |\n|---|---|---|---|");
    for (path, methods) in document["paths"].as_object().expect("paths are an object") {
        for (method, operation) in methods.as_object().expect("methods are an object") {
            let request = &operation["requestBody"]["content"]["application/json"]["schema"];
            let request = if request.is_null() { String::new() } else { shown(request) };
            let answer = &operation["responses"]["200"]["content"];
            let answer = match (&answer["application/json"]["schema"], &answer["application/x-ndjson"]["schema"]) {
                (Value::Null, Value::Null) => match &operation["responses"]["101"][MESSAGES] {
                    Value::Null => "an upgraded connection".to_owned(),
                    messages => format!(
                        "an upgraded connection: lines of {}, and of {} from the client",
                        shown(&messages["daemon"]),
                        shown(&messages["client"])
                    ),
                },
                (Value::Null, lines) => format!("lines of {}", shown(lines)),
                (document, _) => shown(document),
            };
            let about = operation["summary"].as_str().unwrap_or_default();
            let _ = writeln!(page, "| `{} {path}` | {request} | {answer} | {about} |", method.to_uppercase());
        }
    }
    let _ = writeln!(
        page,
        "\n## Errors\n\nThe body of every error is an `ErrorDocument`: `{{\"error\": {{\"code\", \"message\", \"hint\"?, \"problems\"?}}}}`.\n"
    );
    for (status, about) in ERRORS {
        let _ = writeln!(page, "- {status}: {about}");
    }
    let _ = writeln!(page, "\n## Types");
    for (name, schema) in document["components"]["schemas"].as_object().expect("schemas are an object") {
        let about = schema["description"].as_str().map(|about| format!("{about}\n\n")).unwrap_or_default();
        let body = serde_json::to_string_pretty(schema).unwrap_or_default();
        let _ = writeln!(page, "\n### {name}\n\n{about}```json\n{body}\n```");
    }
    page
}

/// What is described, as method and path.
#[cfg(test)]
pub(crate) fn described() -> Vec<(&'static str, &'static str)> {
    routes().iter().map(|route| (route.method, route.path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_in_the_document_leads_to_a_schema() {
        fn check(value: &Value, whole: &Value) {
            match value {
                Value::Object(fields) => {
                    if let Some(path) = fields.get("$ref").and_then(Value::as_str) {
                        assert!(whole.pointer(path.trim_start_matches('#')).is_some(), "{path}");
                    }
                    fields.values().for_each(|value| check(value, whole));
                }
                Value::Array(items) => items.iter().for_each(|value| check(value, whole)),
                _ => {}
            }
        }
        let document = document();
        check(&document, &document);
        assert!(document["paths"].as_object().unwrap().len() > 30);
        let names: std::collections::BTreeSet<String> = routes().iter().map(name).collect();
        assert_eq!(names.len(), routes().len(), "two operations with one name");
    }

    #[test]
    fn the_reference_of_the_interface_is_up_to_date() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference/api.md");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(file, page()).unwrap();
        }
        let is_current = std::fs::read_to_string(file).is_ok_and(|text| text == page());
        assert!(is_current, "run `UPDATE=1 cargo test -p devenv --lib the_reference` to write docs/reference/api.md");
    }

    #[test]
    fn the_reference_for_the_client_packages_is_up_to_date() {
        use std::{io::Write, process::Stdio};

        let mut generate = std::process::Command::new("python3");
        generate.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/clients/generate.py"));
        if std::env::var_os("UPDATE").is_none() {
            generate.arg("--check");
        }
        let mut child = generate.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(document().to_string().as_bytes()).unwrap();
        let done = child.wait_with_output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
}
