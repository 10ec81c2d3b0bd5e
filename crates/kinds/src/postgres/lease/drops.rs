//! Drops leased databases, many at once: they share the checkpoint that every drop waits for.

use std::{sync::MutexGuard, time::Duration};

use futures_util::{
    FutureExt, StreamExt,
    future::{join_all, ready},
    stream::FuturesUnordered,
};
use tokio_postgres::Client;

use super::{PostgresLeases, Shared, backlog::Share};
use crate::{
    capability::LeaseError,
    postgres::provision::{identifier, literal},
};

/// The most databases that are dropped at the same time; they use at most half of the server's free connections.
const DROPPING: usize = 64;
/// Dropping waits until no database has been released for this long.
const QUIET: Duration = Duration::from_millis(500);
/// How often what is in the way of a drop is cleared away.
const TRIES: usize = 3;
/// In mebibytes: the assumed size of a database of an earlier daemon.
const USUAL: u32 = 8;

/// A database to be dropped.
pub(super) struct PendingDrop {
    name: String,
    size: u32,
    _share: Share,
}

impl PostgresLeases {
    /// Drops databases soon, many at once.
    pub(super) fn discard(&self, names: Vec<String>) {
        let shared = &self.shared;
        let pending = names.into_iter().map(|name| {
            let size = shared.alive().get(&name).copied().unwrap_or(USUAL);
            // Added now, so that the next caller sees what is left.
            PendingDrop { name, size, _share: shared.backlog.add(size) }
        });
        let pending: Vec<_> = pending.collect();
        shared.pending().extend(pending);
        shared.more.notify_one();
        let shared = shared.clone();
        self.shared.work.spawn(async move {
            // The task that drops looks once more at the end, so that no database is left over.
            while !shared.pending().is_empty() {
                let Ok(_guard) = shared.dropping.try_lock() else { return };
                while !shared.backlog.is_worth_dropping(shared.pending().iter().map(|pending| u64::from(pending.size)).sum()) {
                    if tokio::time::timeout(QUIET, shared.more.notified()).await.is_err() {
                        break;
                    }
                }
                shared.drop_databases().await;
            }
        });
    }
}

impl Shared {
    fn pending(&self) -> MutexGuard<'_, Vec<PendingDrop>> {
        self.pending.lock().expect("no code panics while it holds this lock")
    }

    /// Drops all at the same moment, and databases that are released before the first is dropped: each declares at once that its files
    /// are not needed any more, before the checkpoints that they wait for write them. The first one starts a checkpoint,
    /// and the others share the one after it.
    async fn drop_databases(&self) {
        let together = self.sessions.spare().await.unwrap_or_default().clamp(2, DROPPING * 2) / 2;
        let next = |room: usize| {
            let mut pending = self.pending();
            let kept = pending.len().saturating_sub(room);
            pending.split_off(kept)
        };
        let first = next(together);
        let clients = join_all(first.iter().map(|_| self.sessions.client())).await;
        let mut dropping: FuturesUnordered<_> =
            first.into_iter().zip(clients).map(|(one, client)| self.drop_database(one, ready(client)).boxed()).collect();
        let mut is_first = true;
        while !dropping.is_empty() {
            // Both branches are cancel-safe: running drops stay in the set, and a lost notice concerned databases that
            // the next round finds.
            tokio::select! {
                Some(()) = dropping.next() => is_first = false,
                () = self.more.notified(), if is_first && dropping.len() < together => {
                    dropping.extend(next(together - dropping.len()).into_iter().map(|one| self.drop_database(one, self.sessions.client()).boxed()));
                }
            }
        }
    }

    async fn drop_database(&self, pending: PendingDrop, client: impl Future<Output = Result<Client, LeaseError>>) {
        let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", identifier(&pending.name));
        let dropped = async { self.sessions.on(client.await?, std::slice::from_ref(&drop)).await };
        let mut dropped = dropped.await;
        for _ in 0..TRIES {
            if dropped.is_ok() {
                break;
            }
            let cleared = async {
                self.clear(&pending.name).await?;
                self.sessions.on(self.sessions.client().await?, std::slice::from_ref(&drop)).await
            };
            dropped = cleared.await;
        }
        self.alive().remove(&pending.name);
        if let Err(error) = dropped {
            tracing::warn!(%error, database = %pending.name, "Cannot drop a leased database; the next lease tries again.");
        }
    }

    /// Ends what keeps a database even from `WITH (FORCE)`: prepared transactions, and readers of its logical replication slots.
    /// The slots go with the database.
    async fn clear(&self, database: &str) -> Result<(), LeaseError> {
        let (shown, name) = (identifier(database), literal(database));
        let prepared = self.sessions.ask(&format!("SELECT gid FROM pg_catalog.pg_prepared_xacts WHERE database = {name}")).await?;
        let prepared: Vec<String> = prepared.into_iter().filter_map(|row| row.into_iter().next()?).collect();
        if !prepared.is_empty() {
            self.sessions.ask(&format!("ALTER DATABASE {shown} ALLOW_CONNECTIONS true")).await?;
            // Only a session of the same database may end them.
            let client = self.sessions.connect_to(database).await?;
            for gid in prepared {
                let rollback = format!("ROLLBACK PREPARED {}", literal(&gid));
                if let Err(error) = client.batch_execute(&rollback).await {
                    tracing::debug!(%error, database, "Cannot roll back a prepared transaction.");
                }
            }
        }
        let close = format!(
            "ALTER DATABASE {shown} ALLOW_CONNECTIONS false; \
             SELECT pg_terminate_backend(active_pid, 2000) FROM pg_replication_slots WHERE database = {name} AND active_pid IS NOT NULL"
        );
        self.sessions.ask(&close).await.map(drop)
    }
}
