//! Events of containers, as they happen.

use std::collections::HashMap;

use futures_util::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use serde::Deserialize;

use super::{
    client::Client,
    wire::{Call, filters},
};
use crate::{EngineError, EngineEvent, EngineEventKind, Labels, OwnerId, labels};

/// Every health check and exec causes three more events, which this list excludes.
const KINDS: &[&str] = &["start", "die", "oom", "pause", "unpause", "destroy"];

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct EventDocument {
    #[serde(default)]
    action: String,
    #[serde(default)]
    actor: ActorDocument,
}

#[derive(Default, Deserialize)]
struct ActorDocument {
    #[serde(rename = "ID", default)]
    id: String,
    #[serde(rename = "Attributes", default)]
    attributes: HashMap<String, String>,
}

/// From the time of this call on, not of the first poll: the engine repeats events since then, so an event
/// between this call and a list is not missed. If the engine's clock is ahead it repeats a little more, so
/// an event may be a repetition.
pub(super) fn follow(client: Client, owner: &OwnerId) -> BoxStream<'static, Result<EngineEvent, EngineError>> {
    let since = jiff::Timestamp::now();
    let since = format!("{}.{:09}", since.as_second(), since.subsec_nanosecond());
    let label = format!("{}={owner}", labels::OWNER);
    let wanted = filters(&[("type", &["container"]), ("label", &[label.as_str()]), ("event", KINDS)]);
    stream::once(async move {
        let call = Call::get("stream events", "/events").with("since", since).with("filters", wanted);
        let response = client.wire.open(call).await?;
        Ok::<_, EngineError>(client.wire.documents::<EventDocument>(response, "stream events"))
    })
    .try_flatten()
    .try_filter_map(|document| std::future::ready(Ok(document.event())))
    .boxed()
}

impl EventDocument {
    fn event(self) -> Option<EngineEvent> {
        let attributes = &self.actor.attributes;
        let kind = match self.action.as_str() {
            "start" => EngineEventKind::Started,
            "die" | "died" => EngineEventKind::Died { code: attributes.get("exitCode").and_then(|code| code.parse().ok()).unwrap_or(-1) },
            "oom" => EngineEventKind::OutOfMemory,
            "pause" => EngineEventKind::Paused,
            "unpause" => EngineEventKind::Unpaused,
            "destroy" => EngineEventKind::Removed,
            _ => return None,
        };
        Some(EngineEvent { labels: Labels::parse(attributes)?, container: self.actor.id, kind })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_and_unknown_ones_are_passed_over() {
        let read = |json: &str| serde_json::from_str::<EventDocument>(json).unwrap().event().map(|event| (event.container, event.kind));
        let died = r#"{"status":"die","id":"c1","Type":"container","Action":"die","Actor":{"ID":"c1","Attributes":{"dev.devenv.owner":"o","exitCode":"137","name":"x"}},"scope":"local","timeNano":1}"#;
        assert_eq!(read(died), Some(("c1".into(), EngineEventKind::Died { code: 137 })));
        assert_eq!(read(r#"{"Type":"novelty","Action":"shine","Actor":{"ID":"c1","Attributes":{"dev.devenv.owner":"o"}}}"#), None);
        assert_eq!(read(r#"{"Type":"container","Action":"start","Actor":{"ID":"c1","Attributes":{}}}"#), None);
    }
}
