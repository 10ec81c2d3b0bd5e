//! RabbitMQ: a copy of its files, which contain definitions, messages and the ledger, and the broker's counts of them.
//!
//! Messages cannot be dumped: reading one takes it from its queue, and returns it as a redelivered one. So the files are
//! copied while the broker is paused, and it recovers from them as after a crash. Its files change at every start, so the
//! broker's own view is compared: its definitions, and the number of messages in each durable queue.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use devenv_api::Content;
use devenv_spec::{Probe, ServiceSpec};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use super::{
    RabbitmqKind,
    channel::Channel,
    fields::ADMINISTRATOR,
    management::{Management, ManagementError},
    spec::{RabbitmqProbe, RabbitmqProvision},
};
use crate::{
    capability::{BackupError, Backups, ServerSite, Way},
    lease::PREFIX,
};

/// The time limit for all queues.
const LIMIT: Duration = Duration::from_mins(1);

#[async_trait]
impl Backups for RabbitmqKind {
    fn way(&self, _: &ServiceSpec) -> Way {
        Way::Files
    }

    async fn contents(&self, site: &ServerSite<'_>) -> Result<Option<Vec<Content>>, BackupError> {
        let counted = timeout(LIMIT, contents(site)).await;
        counted.unwrap_or_else(|_| Err(refused(format!("no answer within {LIMIT:?}")))).map(Some)
    }
}

fn refused(reason: impl Into<String>) -> BackupError {
    BackupError::refused("count what RabbitMQ holds", reason)
}

async fn contents(site: &ServerSite<'_>) -> Result<Vec<Content>, BackupError> {
    let declared = RabbitmqProvision::of(site.service).ok_or_else(|| refused(format!("`{}` is no RabbitMQ server", site.service.name)))?;
    let Probe::OfKind(probe) = &site.service.probe else { return Err(refused("it has no probe")) };
    let login: RabbitmqProbe = probe.decode().map_err(|error| refused(error.to_string()))?;
    let password = site.vault.reveal(&login.password)?;
    let management = Management::open(&declared.target, site.vault)?;
    let definitions: Value = management.get("definitions").await.map_err(|error: ManagementError| refused(error.to_string()))?;
    let mut contents = vec![digest(&definitions)];
    // The administrator has rights only in the virtual hosts that the profile declares.
    for vhost in &declared.vhosts {
        let mut channel = None;
        for queue in queues(&definitions, &vhost.name) {
            let mut open = match channel.take() {
                Some(open) => open,
                None => {
                    let opened = Channel::open(login.port, ADMINISTRATOR, &password, &vhost.name).await;
                    opened.map_err(|error| refused(error.to_string()))?
                }
            };
            // A queue that was removed meanwhile, or that is exclusive to a connection, closes the channel.
            if let Ok(rows) = open.waiting(&queue).await {
                contents.push(Content { name: format!("{}/{queue}", vhost.name), rows: rows.into(), checksum: None });
                channel = Some(open);
            }
        }
    }
    Ok(contents)
}

/// The durable queues of a virtual host: others are not in the definitions.
fn queues(definitions: &Value, vhost: &str) -> Vec<String> {
    let all = definitions["queues"].as_array().into_iter().flatten();
    all.filter(|queue| queue["vhost"] == vhost).filter_map(|queue| queue["name"].as_str()).map(str::to_owned).collect()
}

/// Everything that is declared, sorted: without passwords, which get a new salt at each start, and without the
/// objects of leases.
fn digest(definitions: &Value) -> Content {
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    for (kind, entries) in definitions.as_object().into_iter().flatten() {
        for entry in entries.as_array().into_iter().flatten() {
            let leased = ["vhost", "name", "user"].iter().any(|field| entry[field].as_str().is_some_and(|name| name.starts_with(PREFIX)));
            if !leased {
                let mut entry = entry.clone();
                if let Some(fields) = entry.as_object_mut() {
                    fields.retain(|name, _| !matches!(name.as_str(), "password_hash" | "hashing_algorithm"));
                    fields.sort_keys();
                }
                found.insert(format!("{kind} {entry}"), String::new());
            }
        }
    }
    let mut sum = Sha256::new();
    for line in found.keys() {
        sum.update(line);
        sum.update([0]);
    }
    Content { name: "definitions".to_owned(), rows: found.len() as u64, checksum: Some(hex::encode(&sum.finalize()[..16])) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn definitions_are_the_same_in_any_order_and_without_what_changes_by_itself() {
        let one = json!({
            "users": [{ "name": "app", "password_hash": "a" }, { "name": "devenv_lease_1", "password_hash": "x" }],
            "queues": [{ "name": "b", "vhost": "app" }, { "name": "a", "vhost": "app" }, { "name": "a", "vhost": "devenv_lease_1" }],
        });
        let other = json!({
            "queues": [{ "vhost": "app", "name": "a" }, { "name": "b", "vhost": "app" }],
            "users": [{ "name": "app", "password_hash": "b" }],
        });
        assert_eq!(digest(&one), digest(&other));
        assert_eq!(digest(&one).rows, 3);
        assert_ne!(digest(&one).checksum, digest(&json!({ "users": [{ "name": "app" }] })).checksum);
        assert_eq!(queues(&one, "app"), ["b", "a"]);
    }
}
