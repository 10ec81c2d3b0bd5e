//! Private virtual hosts, each with its own user and with the exchanges, queues and bindings of the shared one, but without its
//! messages.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard},
};

use async_trait::async_trait;
use devenv_spec::{SecretRef, ServiceName, ServiceSpec, variable_form};
use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::task::TaskTracker;

use super::{
    RabbitmqKind,
    fields::{ADMINISTRATOR, LEASE, encoded},
    management::{Management, ManagementError, permission_path, user_path, vhost_path},
    provision::everything,
    spec::RabbitmqProvision,
};
use crate::{
    capability::{Leases, Lessor, Part},
    lease::{
        LeaseError, PREFIX,
        variables::{replace, set},
    },
    provision::ProvisionContext,
};

/// The parts of the shared virtual host that a lease copies.
const COPIED: [&str; 5] = ["exchanges", "queues", "bindings", "policies", "parameters"];

impl Leases for RabbitmqKind {
    fn lessor(&self, service: &ServiceSpec, cx: &ProvisionContext) -> Option<Arc<dyn Lessor>> {
        let provision = RabbitmqProvision::of(service)?;
        Some(Arc::new(RabbitmqLeases::with(service.name.clone(), provision, cx.clone(), Arc::default())))
    }
}

/// The leases on one broker. Cheap to clone.
#[derive(Clone)]
struct RabbitmqLeases {
    shared: Arc<Shared>,
}

struct Shared {
    service: ServiceName,
    provision: RabbitmqProvision,
    cx: ProvisionContext,
    /// Virtual hosts that are leased or being removed, even if the profile has changed since.
    alive: Arc<Mutex<HashSet<String>>>,
    swept: tokio::sync::OnceCell<()>,
    work: TaskTracker,
}

/// A virtual host; its user has its name.
struct Private {
    leases: RabbitmqLeases,
    vhost: String,
    name: String,
    password: String,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[async_trait]
impl Lessor for RabbitmqLeases {
    fn renewed(&self, service: &ServiceSpec) -> Option<Arc<dyn Lessor>> {
        let provision = RabbitmqProvision::of(service)?;
        let shared = &self.shared;
        if shared.provision == provision {
            return Some(Arc::new(self.clone()));
        }
        Some(Arc::new(Self::with(shared.service.clone(), provision, shared.cx.clone(), shared.alive.clone())))
    }

    /// A lease has no messages, so no data is copied.
    fn databases(&self) -> Option<Vec<String>> {
        None
    }

    async fn take(&self, lease: &str, _: Option<&str>, _: &str) -> Result<Box<dyn Part>, LeaseError> {
        let shared = &self.shared;
        shared.swept.get_or_try_init(|| self.sweep()).await?;
        let management = Management::open(&shared.provision.target, &shared.cx.vault)?;
        // All leases share one secret, so that it can be masked in logs; leases are separate
        // because nobody can guess another's name.
        let password = shared.cx.vault.reveal(&SecretRef::new(shared.service.as_str(), LEASE))?;
        let name = format!("{PREFIX}{lease}");
        let vhost = shared.provision.vhosts[0].name.clone();
        shared.alive().insert(name.clone());
        let part = Private { leases: self.clone(), vhost, name, password };
        match make(&management, &part).await {
            Ok(()) => Ok(Box::new(part)),
            Err(error) => {
                let refused = LeaseError::refused(&shared.service, "create a virtual host", error);
                Box::new(part).give_back().await;
                Err(refused)
            }
        }
    }

    async fn sweep(&self) -> Result<(), LeaseError> {
        let shared = &self.shared;
        let management = Management::open(&shared.provision.target, &shared.cx.vault)?;
        let alive = shared.alive().clone();
        let swept = async {
            let is_left = |one: &Named| one.name.starts_with(PREFIX) && !alive.contains(&one.name);
            for vhost in management.get::<Vec<Named>>("vhosts").await?.into_iter().filter(is_left) {
                management.delete(&vhost_path(&vhost.name)).await?;
            }
            for user in management.get::<Vec<Named>>("users").await?.into_iter().filter(is_left) {
                management.delete(&user_path(&user.name)).await?;
            }
            Ok::<_, ManagementError>(())
        };
        swept.await.map_err(|error| LeaseError::refused(&shared.service, "remove the remains of leases", error))
    }
}

#[async_trait]
impl Part for Private {
    fn make_private(&self, variables: &mut IndexMap<String, String>) {
        let service = self.leases.shared.service.variable();
        make_private(variables, &service, &self.vhost, &self.name, &self.password);
    }

    async fn give_back(self: Box<Self>) {
        let shared = self.leases.shared.clone();
        let work = shared.work.clone();
        work.spawn(async move {
            let removed = async {
                let management = Management::open(&shared.provision.target, &shared.cx.vault).map_err(|error| error.to_string())?;
                // Its connections end with the user.
                management.delete(&user_path(&self.name)).await.map_err(|error| error.to_string())?;
                management.delete(&vhost_path(&self.name)).await.map_err(|error| error.to_string())
            };
            if let Err(error) = removed.await {
                tracing::debug!(%error, vhost = %self.name, "Cannot remove a leased virtual host; the next sweep does.");
            }
            shared.alive().remove(&self.name);
        });
    }
}

async fn make(management: &Management, part: &Private) -> Result<(), ManagementError> {
    let (name, account) = (&part.name, json!({ "password": part.password, "tags": "management" }));
    let copied = format!("definitions/{}", encoded(&part.vhost));
    let (vhost, user) = (vhost_path(name), user_path(name));
    let nothing = json!({});
    let (mut definitions, (), ()): (Value, (), ()) =
        futures_util::try_join!(management.get(&copied), management.put(&vhost, &nothing), management.put(&user, &account))?;
    if let Some(all) = definitions.as_object_mut() {
        all.retain(|name, _| COPIED.contains(&name.as_str()));
    }
    let (own, administrator, rights) = (permission_path(name, name), permission_path(name, ADMINISTRATOR), everything());
    futures_util::try_join!(management.put(&own, &rights), management.put(&administrator, &rights))?;
    management.post(&format!("definitions/{}", encoded(name)), &definitions).await.map(drop)
}

impl RabbitmqLeases {
    fn with(service: ServiceName, provision: RabbitmqProvision, cx: ProvisionContext, alive: Arc<Mutex<HashSet<String>>>) -> Self {
        let shared = Shared { service, provision, cx, alive, swept: tokio::sync::OnceCell::new(), work: TaskTracker::new() };
        Self { shared: Arc::new(shared) }
    }
}

impl Shared {
    fn alive(&self) -> MutexGuard<'_, HashSet<String>> {
        self.alive.lock().expect("no code panics while it holds this lock")
    }
}

/// Every variable with the shared virtual host leads to the private one.
fn make_private(variables: &mut IndexMap<String, String>, service: &str, vhost: &str, name: &str, password: &str) {
    let own = |suffix: &str| format!("{service}_{}_{suffix}", variable_form(vhost));
    let Some(old) = variables.get(&own("URL")).cloned() else { return };
    let place = old.rsplit_once('@').map_or(old.as_str(), |(_, place)| place);
    let server = place.split_once('/').map_or(place, |(server, _)| server);
    let new = format!("amqp://{name}:{password}@{server}/{name}");
    replace(variables, &old, &new);
    set(variables, own("USER"), name);
    set(variables, own("PASSWORD"), password);
    set(variables, own("VHOST"), name);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_led_to_the_shared_virtual_host_leads_to_the_private_one() {
        let url = "amqp://app:s@127.0.0.1:2/app";
        let mut variables: IndexMap<String, String> =
            [("QUEUE_URL", url), ("QUEUE_APP_URL", url), ("QUEUE_APP_USER", "app"), ("QUEUE_OTHER_URL", "amqp://o:t@127.0.0.1:2/other")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into();
        make_private(&mut variables, "QUEUE", "app", "x", "p");
        assert_eq!(variables["QUEUE_URL"], "amqp://x:p@127.0.0.1:2/x");
        assert_eq!((variables["QUEUE_APP_USER"].as_str(), variables["QUEUE_APP_VHOST"].as_str()), ("x", "x"));
        assert_eq!(variables["QUEUE_OTHER_URL"], "amqp://o:t@127.0.0.1:2/other");
    }
}
