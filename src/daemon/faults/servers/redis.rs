//! Redis, as its default user.

use std::time::Duration;

use redis::{AsyncCommands, RedisError, aio::MultiplexedConnection};
use tokio::time::timeout;

use super::{Server, Told};
use crate::kinds::redis::{
    probe::{self, SessionError},
    spec::RedisProvision,
};

const ANSWER: Duration = Duration::from_secs(5);
/// A paused server is silent for longer than this.
const SILENCE: Duration = Duration::from_millis(500);

impl Server {
    async fn redis<T, W>(&self, work: impl FnOnce(MultiplexedConnection) -> W) -> Result<T, String>
    where
        W: Future<Output = Result<T, RedisError>>,
    {
        let RedisProvision { port, password, tls: encrypts, .. } = self.provision(RedisProvision::of)?;
        let password = self.vault.reveal(&password).map_err(|error| error.to_string())?;
        let session = probe::session(port, "default", &password, self.trust(encrypts)?, |connection| async move {
            work(connection).await.map_err(SessionError::from)
        });
        match timeout(ANSWER, session).await {
            Ok(result) => result.map_err(|error| probe::words(port, error)),
            Err(_) => Err(format!("127.0.0.1:{port} did not answer within {} s", ANSWER.as_secs())),
        }
    }

    pub(in super::super) async fn redis_setting(&self, name: &str) -> Result<String, String> {
        let pair: Vec<String> = self
            .redis(|mut connection| async move { redis::cmd("CONFIG").arg("GET").arg(name).query_async(&mut connection).await })
            .await?;
        pair.into_iter().nth(1).ok_or_else(|| format!("this server has no setting `{name}`"))
    }

    pub(in super::super) async fn set_redis(&self, settings: &[(String, String)]) -> Result<(), String> {
        self.redis(|mut connection| async move {
            for (name, value) in settings {
                redis::cmd("CONFIG").arg("SET").arg(name).arg(value).query_async::<()>(&mut connection).await?;
            }
            Ok(())
        })
        .await
    }

    pub(in super::super) async fn pause_redis(&self, time: Duration, writes_only: bool) -> Result<Told, String> {
        self.redis(|mut connection| async move {
            let mut pause = redis::cmd("CLIENT");
            pause.arg("PAUSE").arg(time.as_millis() as u64).arg(if writes_only { "WRITE" } else { "ALL" });
            pause.query_async::<()>(&mut connection).await?;
            // Removing what is not there is a write that changes nothing.
            let asked = connection.del::<_, i64>("devenv:no-such-key");
            Ok(match timeout(SILENCE, asked).await {
                Err(_) => Told::yes(format!("a write was not answered within {} ms", SILENCE.as_millis())),
                Ok(_) => Told::no("writes still succeed"),
            })
        })
        .await
    }

    /// If the server pauses all clients, this waits too, until the pause is over.
    pub(in super::super) async fn unpause_redis(&self) -> Result<(), String> {
        self.redis(|mut connection| async move { redis::cmd("CLIENT").arg("UNPAUSE").query_async::<()>(&mut connection).await }).await
    }

    pub(in super::super) async fn squeeze_redis(&self, limit: u64) -> Result<Told, String> {
        self.redis(|mut connection| async move {
            redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(limit).query_async::<()>(&mut connection).await?;
            let key = "devenv:witness";
            Ok(match connection.set_ex::<_, _, ()>(key, "x", 1).await {
                Err(error) if error.code() == Some("OOM") => Told::yes("a write was refused: out of memory"),
                Err(error) => return Err(error),
                Ok(()) => {
                    let info: String = redis::cmd("INFO").query_async(&mut connection).await?;
                    let figure = |name: &str| {
                        info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse::<u64>().ok()).unwrap_or(0)
                    };
                    let (used, evicted) = (figure("used_memory"), figure("evicted_keys"));
                    let _ = connection.del::<_, i64>(key).await;
                    if used > limit || evicted > 0 {
                        Told::yes(format!("{used} bytes are in use, the limit is {limit}, {evicted} keys were evicted"))
                    } else {
                        Told::no(format!("only {used} of {limit} bytes are in use"))
                    }
                }
            })
        })
        .await
    }

    pub(in super::super) async fn flush_redis(&self) -> Result<Told, String> {
        self.redis(|mut connection| async move {
            let keys = |info: &str| -> u64 {
                info.lines().filter_map(|line| line.split_once("keys=")?.1.split(',').next()?.parse::<u64>().ok()).sum()
            };
            let before: String = redis::cmd("INFO").arg("keyspace").query_async(&mut connection).await?;
            redis::cmd("FLUSHALL").query_async::<()>(&mut connection).await?;
            Ok(Told::yes(format!("{} keys were removed", keys(&before))))
        })
        .await
    }

    /// Asks for a snapshot and waits for how it ended.
    pub(in super::super) async fn save_redis(&self) -> Result<bool, String> {
        self.redis(|mut connection| async move {
            // A BGSAVE that is already running is sufficient.
            let _ = redis::cmd("BGSAVE").query_async::<String>(&mut connection).await;
            loop {
                let info: String = redis::cmd("INFO").arg("persistence").query_async(&mut connection).await?;
                let field = |name: &str| {
                    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(|value| value.trim().to_owned())
                };
                if field("rdb_bgsave_in_progress").as_deref() == Some("0") {
                    return Ok(field("rdb_last_bgsave_status").as_deref() == Some("ok"));
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
    }
}
