//! Connections to the server, as its superuser: one for short queries, and a few for long statements.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use devenv_spec::ServiceName;
use tokio_postgres::Client;
use tokio_util::task::TaskTracker;

use crate::{
    lease::LeaseError,
    postgres::{
        probe,
        provision::{SUPERUSER, Superuser, reason, rows},
        spec::PostgresProvision,
    },
    provision::ProvisionContext,
};

/// Connections that are kept for making and dropping, and how long they may be idle.
const KEPT: usize = 3;
const IDLE: Duration = Duration::from_secs(10);

pub(super) struct Sessions {
    pub(super) service: ServiceName,
    pub(super) provision: PostgresProvision,
    pub(super) cx: ProvisionContext,
    /// The connection for short queries.
    desk: tokio::sync::Mutex<Option<Arc<Client>>>,
    /// Idle connections for the next caller, with the time at which they are closed.
    idle: Mutex<Vec<(Instant, Client)>>,
    work: TaskTracker,
}

impl Sessions {
    pub(super) fn new(service: ServiceName, provision: PostgresProvision, cx: ProvisionContext) -> Arc<Self> {
        let work = TaskTracker::new();
        Arc::new(Self { service, provision, cx, desk: tokio::sync::Mutex::default(), idle: Mutex::default(), work })
    }

    /// Over a connection that is kept: a login costs a new server process, and more than all queries here.
    pub(super) async fn ask(&self, query: &str) -> Result<Vec<Vec<Option<String>>>, LeaseError> {
        let client = self.desk().await?;
        let answer = match rows(&client, query).await {
            // The server was restarted since the last query.
            Err(_) if client.is_closed() => rows(&*self.desk().await?, query).await,
            answer => answer,
        };
        answer.map_err(|reason| self.refused("lease a database", reason))
    }

    /// One statement after the other, on a connection that is kept afterwards.
    pub(super) async fn on(self: &Arc<Self>, client: Client, statements: &[String]) -> Result<(), LeaseError> {
        for statement in statements {
            client.batch_execute(statement).await.map_err(|error| self.refused("lease a database", reason(&error)))?;
        }
        self.keep(client);
        Ok(())
    }

    /// The number of connections that the server has free.
    pub(super) async fn spare(&self) -> Result<usize, LeaseError> {
        const SPARE: &str = "SELECT current_setting('max_connections')::int - count(*) FROM pg_catalog.pg_stat_activity WHERE backend_type = 'client backend'";
        let spare = self.ask(SPARE).await?.into_iter().flatten().flatten().next();
        Ok(spare.and_then(|spare| spare.parse().ok()).unwrap_or_default())
    }

    /// A connection with one user at a time.
    pub(super) async fn client(&self) -> Result<Client, LeaseError> {
        let kept = {
            let mut idle = self.idle.lock().expect("no code panics while it holds this lock");
            idle.retain(|(_, client)| !client.is_closed());
            idle.pop()
        };
        match kept {
            Some((_, client)) => Ok(client),
            None => self.connect().await,
        }
    }

    pub(super) async fn connect(&self) -> Result<Client, LeaseError> {
        self.connect_to(SUPERUSER).await
    }

    pub(super) async fn connect_to(&self, database: &str) -> Result<Client, LeaseError> {
        let superuser = Superuser::of(&self.provision, &self.cx).map_err(|error| self.refused("connect to the server", error))?;
        let config = superuser.config("devenv-lease", database);
        let connected = probe::connect(&config, superuser.tls).await;
        let (client, connection) =
            connected.map_err(|error| self.refused("connect to the server", probe::words(self.provision.port, &error)))?;
        // Ends with the client, or with the server.
        self.work.spawn(connection);
        // A server that dies loses its leases anyway, and is swept. To create and to drop a database is always synced.
        let unsynced = client.batch_execute("SET synchronous_commit = off").await;
        unsynced.map_err(|error| self.refused("connect to the server", reason(&error)))?;
        Ok(client)
    }

    pub(super) fn refused(&self, action: &str, reason: impl std::fmt::Display) -> LeaseError {
        LeaseError::refused(&self.service, action, reason)
    }

    async fn desk(&self) -> Result<Arc<Client>, LeaseError> {
        let mut desk = self.desk.lock().await;
        if let Some(client) = desk.as_ref().filter(|client| !client.is_closed()) {
            return Ok(client.clone());
        }
        Ok(desk.insert(Arc::new(self.connect().await?)).clone())
    }

    /// Keeps the connection for the next caller.
    fn keep(self: &Arc<Self>, client: Client) {
        let mut idle = self.idle.lock().expect("no code panics while it holds this lock");
        if idle.len() >= KEPT {
            return;
        }
        idle.push((Instant::now(), client));
        let sessions = Arc::downgrade(self);
        self.work.spawn(async move {
            tokio::time::sleep(IDLE).await;
            if let Some(sessions) = sessions.upgrade() {
                sessions.idle.lock().expect("no code panics while it holds this lock").retain(|(since, _)| since.elapsed() < IDLE);
            }
        });
    }
}
