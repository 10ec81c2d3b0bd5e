//! Virtual hosts and their users, by the management API.
//!
//! A user may use the management for its own virtual host, and has all rights on that and none on another. Last comes the wait
//! for queues that do not answer yet: scripts publish to them, and a ready broker is one whose queues answer.

use std::collections::HashSet;

use async_trait::async_trait;
use devenv_spec::OfKind;
use serde::Deserialize;
use serde_json::json;

use super::{
    RabbitmqKind,
    fields::ADMINISTRATOR,
    management::{Management, ManagementError, permission_path, user_path, vhost_path},
    queues::{self, QueuesError},
    spec::RabbitmqProvision,
};
use crate::{
    capability::Provisions,
    provision::{Change, ProvisionContext, ProvisionError},
};

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
struct Permission {
    user: String,
    vhost: String,
    configure: String,
    write: String,
    read: String,
}

#[async_trait]
impl Provisions for RabbitmqKind {
    async fn apply(&self, wanted: &OfKind, cx: &ProvisionContext) -> Result<Vec<Change>, ProvisionError> {
        let wanted: RabbitmqProvision = wanted.decode()?;
        let management = Management::open(&wanted.target, &cx.vault)?;
        let read = "read the server's roles and databases";
        let names = |found: Vec<Named>| found.into_iter().map(|one| one.name).collect::<HashSet<_>>();
        let (vhosts, users, permissions) = futures_util::try_join!(
            management.get::<Vec<Named>>("vhosts"),
            management.get::<Vec<Named>>("users"),
            management.get::<Vec<Permission>>("permissions")
        )
        .map_err(|error| failed(read, error))?;
        let (vhosts, users) = (names(vhosts), names(users));
        let mut changes = Vec::new();
        for vhost in &wanted.vhosts {
            let (name, user) = (&vhost.name, &vhost.user);
            let action = format!("create the virtual host `{name}`");
            if !vhosts.contains(name) {
                management.put(&vhost_path(name), &json!({})).await.map_err(|error| failed(&action, error))?;
                changes.push(Change::made(format!("virtual host `{name}` created for `{user}`")));
            }
            if user != ADMINISTRATOR {
                let password = cx.vault.reveal(&vhost.password)?;
                let exists = users.contains(user);
                if !exists || !management.knows(user, &password).await.map_err(|error| failed(read, error))? {
                    let account = json!({ "password": password, "tags": "management" });
                    management
                        .put(&user_path(user), &account)
                        .await
                        .map_err(|error| failed(&format!("create the user `{user}`"), error))?;
                    changes.push(Change::made(if exists {
                        format!("password of the user `{user}` set to the stored one")
                    } else {
                        format!("user `{user}` created")
                    }));
                }
            }
            // The administrator creates leases and data sets in it, which needs rights like any other user's.
            for who in [user.as_str(), ADMINISTRATOR] {
                let all = |permission: &Permission| {
                    [&permission.configure, &permission.write, &permission.read].iter().all(|rights| *rights == ".*")
                };
                if !permissions.iter().any(|permission| permission.vhost == *name && permission.user == who && all(permission)) {
                    management.put(&permission_path(name, who), &everything()).await.map_err(|error| failed(&action, error))?;
                    if who == user && vhosts.contains(name) {
                        changes.push(Change::made(format!("virtual host `{name}` opened to its user `{user}`")));
                    }
                }
            }
        }
        queues::answer(&management).await.map_err(|error| match error {
            QueuesError::Management(error) => failed("list the queues", error),
            QueuesError::NoLeader { .. } => ProvisionError::refused("wait for the queues", error),
        })?;
        Ok(changes)
    }
}

/// All rights in a virtual host.
pub(super) fn everything() -> serde_json::Value {
    json!({ "configure": ".*", "write": ".*", "read": ".*" })
}

fn failed(action: &str, error: ManagementError) -> ProvisionError {
    match error {
        ManagementError::Unreachable(_) => ProvisionError::Unreachable { reason: error.to_string() },
        ManagementError::Unauthorized(reason) => {
            ProvisionError::WrongPassword { service: "RabbitMQ server", user: ADMINISTRATOR.to_owned(), reason }
        }
        ManagementError::Refused(reason) => ProvisionError::refused(action, reason),
    }
}
