//! Definitions (`.json`) and messages (`.jsonl`), with their ledger: a global parameter of the server, which is exported and
//! copied with everything else.
//!
//! Existing definitions are left as they are, so an interrupted attempt is repeated. Published
//! messages cannot be undone: their row records the start before the first is sent.

use std::{collections::HashMap, io::Read, time::Instant};

use async_trait::async_trait;
use devenv_spec::{OfKind, ScriptPlace};
use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    RabbitmqKind,
    fields::encoded,
    management::{Management, ManagementError},
    spec::RabbitmqTarget,
};
use crate::{
    capability::{ScriptStore, Scripts},
    script::{
        Progress, Recorded, Script, ScriptContext, ScriptError, ScriptFormat,
        lines::{lines, plain},
        row::{self, Row},
        source, ways_on,
    },
};

const DEFINITIONS: ScriptFormat = ScriptFormat("rabbitmq-definitions");
const MESSAGES: ScriptFormat = ScriptFormat("rabbitmq-messages");

const LEDGER: &str = "global-parameters/devenv_ledger";
/// Between two progress messages.
const TOLD_EVERY: u64 = 100;

/// One line of a `.jsonl` file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Message {
    /// Default: the service's first.
    #[serde(default)]
    vhost: Option<String>,
    /// The default exchange unless one is given: it routes to every queue by name.
    #[serde(default)]
    exchange: String,
    routing_key: String,
    /// Text as it is, anything else as compact JSON.
    body: Value,
    #[serde(default)]
    headers: IndexMap<String, Value>,
    /// `content_type` and others, with the names of the management API.
    #[serde(default)]
    properties: IndexMap<String, Value>,
}

/// A global parameter.
#[derive(Deserialize)]
struct Parameter {
    value: HashMap<String, Row>,
}

#[async_trait]
impl Scripts for RabbitmqKind {
    fn format(&self, name: &str, _packed: bool) -> Option<ScriptFormat> {
        [(".json", DEFINITIONS), (".jsonl", MESSAGES)].iter().find(|(ending, _)| name.ends_with(ending)).map(|(_, format)| *format)
    }

    fn endings(&self) -> &'static str {
        "`.json` definitions and `.jsonl` messages, both also `.gz`, `.xz`, `.zst`"
    }

    async fn open(
        &self,
        service: &str,
        target: &OfKind,
        _: &ScriptPlace,
        cx: &ScriptContext<'_>,
    ) -> Result<Box<dyn ScriptStore>, ScriptError> {
        let fail = |message: String| ScriptError::of(service, message);
        let target: RabbitmqTarget = target.decode().map_err(|error| fail(error.to_string()))?;
        let management = Management::open(&target, cx.vault).map_err(|error| fail(error.to_string()))?;
        Ok(Box::new(Broker { service: service.to_owned(), vhost: target.vhost, management }))
    }
}

struct Broker {
    service: String,
    vhost: String,
    management: Management,
}

#[async_trait]
impl ScriptStore for Broker {
    async fn recorded(&mut self) -> Result<Vec<Recorded>, ScriptError> {
        Ok(row::recorded(self.rows().await?))
    }

    async fn interrupted(&mut self, script: &Script) -> Result<(), ScriptError> {
        self.write(script, Row::interrupted(script)).await
    }

    async fn forget(&mut self, script: &Script) -> Result<(), ScriptError> {
        self.write(script, Row::forgotten(script)).await
    }

    async fn apply(&mut self, script: &Script, cx: &ScriptContext<'_>) -> Result<(), ScriptError> {
        let began = Instant::now();
        let mut sent = 0;
        let result = match script.format {
            DEFINITIONS => self.define(script).await,
            MESSAGES => self.publish(script, &mut sent, cx).await,
            ScriptFormat(other) => Err(ScriptError::of(&script.path, format!("RabbitMQ does not support scripts of the format `{other}`"))),
        };
        match result {
            Ok(rows) => self.write(script, Row::applied(script, Some(rows), began.elapsed())).await,
            Err(mut error) => {
                let row = if sent > 0 { Row::interrupted_by(script, &error) } else { Row::failed(script, &error) };
                if sent > 0 {
                    let ways = ways_on(&self.service, &script.path);
                    error.hint = Some(format!("the previous {sent} messages stay published; {ways}"));
                }
                if let Err(unrecorded) = self.write(script, row).await {
                    tracing::warn!(service = %self.service, path = %script.path, error = %unrecorded, "Cannot record the failure of a script.");
                }
                Err(error)
            }
        }
    }

    async fn accept(&mut self, script: &Script) -> Result<(), ScriptError> {
        self.write(script, Row::applied(script, None, std::time::Duration::ZERO)).await
    }
}

impl Broker {
    async fn rows(&self) -> Result<HashMap<String, Row>, ScriptError> {
        let found: Option<Parameter> = self.management.find(LEDGER).await.map_err(|error| self.broken(&error))?;
        Ok(found.map(|parameter| parameter.value).unwrap_or_default())
    }

    async fn write(&self, script: &Script, row: Row) -> Result<(), ScriptError> {
        let mut rows = self.rows().await?;
        rows.insert(script.path.clone(), row);
        let parameter = json!({ "value": rows });
        self.management.put(LEDGER, &parameter).await.map_err(|error| self.broken(&error))
    }

    fn broken(&self, error: &ManagementError) -> ScriptError {
        ScriptError::of(&self.service, error.to_string())
    }

    /// Imports the file. Returns the number of objects that it defines.
    async fn define(&self, script: &Script) -> Result<u64, ScriptError> {
        let fail = |message: String| ScriptError::of(&script.path, message);
        let reading = script.clone();
        let text = blocking(script, move || {
            let mut text = Vec::new();
            source::open(&reading)
                .and_then(|mut input| input.read_to_end(&mut text))
                .map_err(|error| ScriptError::of(&reading.path, format!("cannot be read: {error}")))?;
            Ok(text)
        })
        .await?;
        let definitions: Value = serde_json::from_slice(&text).map_err(|error| fail(error.to_string()).at(error.line() as u64))?;
        let count =
            definitions.as_object().into_iter().flat_map(|all| all.values()).filter_map(Value::as_array).map(Vec::len).sum::<usize>();
        self.management.post("definitions", &definitions).await.map_err(|error| {
            fail(error.to_string()).hint(
                "create such a file with `rabbitmqctl export_definitions`, or Export in the \
                management UI",
            )
        })?;
        Ok(count as u64)
    }

    /// Publishes every message, in order. Returns the number.
    async fn publish(&self, script: &Script, sent: &mut u64, cx: &ScriptContext<'_>) -> Result<u64, ScriptError> {
        let reading = script.clone();
        // Every line is parsed before the first message is sent, so that a bad one has no effect.
        let messages = blocking(script, move || {
            let mut messages = Vec::new();
            lines(&reading, |number, line| {
                let message: Message =
                    serde_json::from_str(line).map_err(|error| ScriptError::of(&reading.path, error.to_string()).at(number))?;
                messages.push((number, message));
                Ok(())
            })?;
            Ok(messages)
        })
        .await?;
        self.write(script, Row::running(script)).await?;
        let total = messages.len() as u64;
        for (line, message) in messages {
            let failed = |error| ScriptError::of(&script.path, error).at(line).hint("declare the queue in `definitions` first");
            self.send(&message).await.map_err(failed)?;
            *sent += 1;
            if sent.is_multiple_of(TOLD_EVERY) {
                let bytes = script.size * *sent / total;
                (cx.progress)(Progress { path: &script.path, rows: *sent, bytes, total_bytes: script.size });
            }
        }
        (cx.progress)(Progress { path: &script.path, rows: total, bytes: script.size, total_bytes: script.size });
        Ok(total)
    }

    async fn send(&self, message: &Message) -> Result<(), String> {
        let (path, body) = published(message, &self.vhost);
        let answer = self.management.post(&path, &body).await.map_err(|error| error.to_string())?;
        if answer["routed"] == json!(true) {
            return Ok(());
        }
        let exchange = if message.exchange.is_empty() { "the default exchange" } else { &message.exchange };
        Err(format!("no queue receives it: nothing is bound to {exchange} for `{}`", message.routing_key))
    }
}

/// Where it is published, and its properties: persistent if its queue is durable.
pub(super) fn published(message: &Message, vhost: &str) -> (String, Value) {
    let vhost = message.vhost.as_deref().unwrap_or(vhost);
    let exchange = if message.exchange.is_empty() { "amq.default" } else { &message.exchange };
    let mut properties = serde_json::Map::new();
    properties.insert("delivery_mode".to_owned(), json!(2));
    if !message.body.is_string() {
        properties.insert("content_type".to_owned(), json!("application/json"));
    }
    properties.extend(message.properties.iter().map(|(name, value)| (name.clone(), value.clone())));
    if !message.headers.is_empty() {
        properties.insert("headers".to_owned(), json!(message.headers));
    }
    let body = json!({
        "properties": properties,
        "routing_key": message.routing_key,
        "payload": plain(&message.body),
        "payload_encoding": "string",
    });
    (format!("exchanges/{}/{}/publish", encoded(vhost), encoded(exchange)), body)
}

async fn blocking<T: Send + 'static>(
    script: &Script,
    work: impl FnOnce() -> Result<T, ScriptError> + Send + 'static,
) -> Result<T, ScriptError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| ScriptError::of(&script.path, error.to_string()))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_becomes_a_lasting_message_for_its_exchange() {
        let message: Message = serde_json::from_value(json!({ "routing_key": "jobs", "body": { "n": 1 }, "headers": { "a": 1 } })).unwrap();
        let (path, body) = published(&message, "app");
        assert_eq!(path, "exchanges/app/amq.default/publish");
        assert_eq!(
            body,
            json!({
                "properties": { "delivery_mode": 2, "content_type": "application/json", "headers": { "a": 1 } },
                "routing_key": "jobs", "payload": "{\"n\":1}", "payload_encoding": "string",
            })
        );
        let other: Message = serde_json::from_value(
            json!({ "vhost": "/", "exchange": "e", "routing_key": "", "body": "text", "properties": { "delivery_mode": 1 } }),
        )
        .unwrap();
        let (path, body) = published(&other, "app");
        assert_eq!((path.as_str(), &body["properties"]), ("exchanges/%2F/e/publish", &json!({ "delivery_mode": 1 })));
        assert!(serde_json::from_value::<Message>(json!({ "routing_key": "a", "body": 1, "key": 2 })).is_err());
    }
}
