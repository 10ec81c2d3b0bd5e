//! Follows an environment: its logs as they arrive, and between them the events of its services.

use devenv_api::{Client, EnvironmentTarget, Event, EventsRequest, LogsRequest};
use futures_util::StreamExt;
use jiff::Timestamp;

use super::{
    failure::Failure,
    logs,
    printer::{BAD, DIM, GOOD, paint},
    session::Session,
};

/// Follows until it is interrupted. Shows lines from `since` on.
pub(super) async fn follow(client: &Client, target: EnvironmentTarget, since: Timestamp, session: &Session) -> Result<(), Failure> {
    let since = format!("{since:.6}");
    let request = LogsRequest { since: Some(since.clone()), follow: true, ..LogsRequest::of(target.clone()) };
    let lines = logs::stream(client, &request, session);
    if session.printer.json() || session.printer.quiet() {
        return lines.await;
    }
    let mut events = client.events(&EventsRequest { target, follow: true }).await?;
    let api_error = async {
        while let Some(event) = events.next().await {
            let event = event?;
            if let Some(text) = words(&event).filter(|_| event.time >= since) {
                session.printer.say(text);
            }
        }
        Ok(())
    };
    tokio::select! {
        result = lines => result,
        result = api_error => result,
    }
}

/// An event to show between the log lines of `dev`.
fn words(event: &Event) -> Option<String> {
    let (style, sign) = match event.kind.as_str() {
        "service.changed" | "service.built" | "service.synced" | "service.ran" | "watch.started" => (DIM, "·"),
        "service.ready" | "service.swapped" | "service.signalled" | "service.completed" => (GOOD, "+"),
        "service.build-failed"
        | "service.run-failed"
        | "service.sync-failed"
        | "service.reload-failed"
        | "service.failed"
        | "service.crash-loop"
        | "service.restarting"
        | "service.unhealthy"
        | "service.feedback-loop"
        | "watch.limited" => (BAD, "!"),
        _ => return None,
    };
    Some(format!("{} {}", paint(style, sign), paint(style, &event.message)))
}
