//! `devenv why`: shows the chain of causes of a service's last change.

use devenv_api::{Condition, ServiceState, Status, WhyRequest};

use super::{Outcome, events, exit::ExitStatus, session::Session};

/// Explain the last change of a service's state, root cause first.
///
/// Example: devenv why api
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The service to explain.
    service: String,
}

pub(super) async fn run(arguments: &Arguments, session: &Session) -> Outcome {
    let (client, target) = (session.client().await?, session.target()?);
    let request = WhyRequest { target: target.clone(), service: arguments.service.clone() };
    let why = client.why(&request).await?;
    let waits = waits_for(&client.status(&target).await?, &arguments.service);
    session.printer.result(&why, || match why.events.as_slice() {
        [] => format!("no events of {} yet", arguments.service),
        events => events.iter().map(events::line).chain(waits).collect::<Vec<_>>().join("\n"),
    })?;
    Ok(ExitStatus::SUCCESS)
}

/// What keeps a service from starting now, with its state.
fn waits_for(status: &Status, service: &str) -> Option<String> {
    let of = |name: &str| status.services.iter().find(|known| known.name == name);
    let pending = of(service).filter(|known| known.state == ServiceState::Pending)?;
    let blockers: Vec<String> = pending
        .depends_on
        .iter()
        .filter_map(|(name, condition)| {
            let state = of(name)?.state;
            let holds = match condition {
                Condition::Ready => matches!(state, ServiceState::Ready | ServiceState::Completed),
                Condition::Completed => state == ServiceState::Completed,
                Condition::Started => !matches!(state, ServiceState::Pending | ServiceState::Pulling | ServiceState::Creating),
            };
            (!holds).then(|| format!("{name}, which is {state} and has to be {condition}"))
        })
        .collect();
    (!blockers.is_empty()).then(|| format!("{service} waits for {}", blockers.join(", and for ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_that_waits_is_explained_by_what_it_waits_for() {
        let service = |name: &str, state: &str, depends_on: serde_json::Value| serde_json::json!({ "name": name, "kind": "container", "state": state, "restarts": 0, "ports": [], "urls": {}, "depends_on": depends_on });
        let status = serde_json::json!({
            "environment": "e", "project": "/p", "instance": "default", "profile": "shop", "phase": "starting",
            "services": [
                service("gateway", "pending", serde_json::json!({ "api": "ready", "mailer": "ready", "migrate": "completed" })),
                service("api", "ready", serde_json::json!({})),
                service("mailer", "starting", serde_json::json!({})),
                service("migrate", "starting", serde_json::json!({})),
            ]
        });
        let status: Status = serde_json::from_value(status).unwrap();
        let expected =
            "gateway waits for mailer, which is starting and has to be ready, and for migrate, which is starting and has to be completed";
        assert_eq!(waits_for(&status, "gateway").unwrap(), expected);
        assert_eq!(waits_for(&status, "mailer"), None);
    }
}
