//! Redis: a dump that the server itself writes in the background, and a digest of its keys.
//!
//! Writers are paused from before the dump until the keys are counted, so that both describe the same moment;
//! never longer than a few seconds, after which the counts are those of a moment later and carry no checksum.

use std::{
    collections::BTreeMap,
    io::Read,
    path::Path,
    time::{Duration, Instant},
};

use ::redis::{Client, TlsCertificates, aio::MultiplexedConnection, cmd};
use devenv_api::Content;
use futures_util::StreamExt;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;

use async_trait::async_trait;
use devenv_engine::{Engine, ExecStream, SessionRequest};
use devenv_secrets::{Vault, tls};
use devenv_spec::{MountSource, ServiceSpec};

use super::{RedisKind, spec::RedisProvision};
use crate::{
    backup::{BackupError, private},
    capability::{Backups, Dumped, DumpedFile, RemoteSource, Restores, ServerSite, Transfers, VolumeRestore, Way},
};

/// The longest time that writers wait.
const HELD: Duration = Duration::from_secs(10);
/// A dump that takes longer is stuck.
const LIMIT: Duration = Duration::from_mins(10);
const KEYS_AT_ONCE: usize = 500;

/// Type, content and whether it expires, of each key: what a dump restores, whatever its encoding in memory.
const DIGEST: &str = r"
local out = {}
for i, key in ipairs(KEYS) do
    local kind = redis.call('TYPE', key).ok
    local parts = { key, kind }
    local add = function(list) for j = 1, #list do local v = list[j] if type(v) == 'table' then parts[#parts + 1] = cjson.encode(v) else parts[#parts + 1] = tostring(v) end end end
    if kind == 'string' then add({ redis.call('GET', key) })
    elseif kind == 'list' then add(redis.call('LRANGE', key, 0, -1))
    elseif kind == 'set' then local all = redis.call('SMEMBERS', key) table.sort(all) add(all)
    elseif kind == 'hash' then
        local flat, pairs_ = redis.call('HGETALL', key), {}
        for j = 1, #flat, 2 do pairs_[#pairs_ + 1] = #flat[j] .. ':' .. flat[j] .. flat[j + 1] end
        table.sort(pairs_) add(pairs_)
    elseif kind == 'zset' then add(redis.call('ZRANGE', key, 0, -1, 'WITHSCORES'))
    elseif kind == 'stream' then add(redis.call('XRANGE', key, '-', '+'))
    end
    for j = 1, #parts do parts[j] = #parts[j] .. ':' .. parts[j] end
    out[i] = { redis.sha1hex(table.concat(parts)), redis.call('PTTL', key) >= 0 and 1 or 0, kind == 'none' and 1 or 0 }
end
return out
";

/// The file that the server reads at its start.
const FILE: &str = "dump.rdb";

#[async_trait]
impl Backups for RedisKind {
    fn way(&self, service: &ServiceSpec) -> Way {
        let mut mounts = service.container().into_iter().flat_map(|container| &container.mounts);
        if mounts.any(|mount| matches!(mount.source, MountSource::Volume(_))) { Way::Dump } else { Way::Skipped("its persistence is off") }
    }

    async fn dump(&self, site: &ServerSite<'_>, directory: &Path) -> Result<Dumped, BackupError> {
        let name = format!("{}.rdb", site.service.name);
        let contents = Server::of(site).await?.dump(site.engine, site.container, &directory.join(&name)).await?;
        Ok(Dumped { files: vec![DumpedFile { name, database: None }], contents })
    }

    fn restores(&self) -> Option<Restores<'_>> {
        Some(Restores::Volume(self))
    }
}

/// If there is an append-only file too, Redis reads that and not the dump; from a dump alone, the container's start makes
/// the base of a new one.
#[async_trait]
impl VolumeRestore for RedisKind {
    fn file(&self) -> &'static str {
        FILE
    }

    async fn contents(&self, site: &ServerSite<'_>) -> Result<Vec<Content>, BackupError> {
        Server::of(site).await?.contents().await
    }
}

#[async_trait]
impl Transfers for RedisKind {
    fn databases(&self, _: &ServiceSpec) -> Vec<String> {
        Vec::new()
    }

    fn ending(&self) -> &'static str {
        "rdb"
    }

    async fn export(&self, site: &ServerSite<'_>, _: Option<&str>, file: &Path) -> Result<Vec<Content>, BackupError> {
        Server::of(site).await?.dump(site.engine, site.container, file).await
    }

    fn check(&self, file: &Path) -> Result<(), (String, Option<String>)> {
        let mut magic = [0; 5];
        let read = devenv_files::TimedReader::open(file).map_err(std::io::Error::from).and_then(|mut file| file.read_exact(&mut magic));
        match read {
            Ok(()) if &magic == b"REDIS" => Ok(()),
            Ok(()) => Err((
                format!("{} is not a Redis dump", file.display()),
                Some("a `.jsonl` file of keys is seed data: add it to `seed:` in the profile".to_owned()),
            )),
            Err(error) => Err((format!("cannot read {}: {error}", file.display()), None)),
        }
    }

    fn remote(&self) -> Result<&dyn RemoteSource, &'static str> {
        Err("`redis-cli -u URL --rdb FILE` writes a dump file; the password goes into REDISCLI_AUTH")
    }
}

struct Server {
    connection: MultiplexedConnection,
}

impl Server {
    async fn of(site: &ServerSite<'_>) -> Result<Self, BackupError> {
        let declared = RedisProvision::of(site.service)
            .ok_or_else(|| BackupError::refused("look at the service", format!("`{}` is no Redis server", site.service.name)))?;
        Self::open(&declared, site.vault, site.authority).await
    }

    async fn open(wanted: &RedisProvision, vault: &Vault, authority: &Path) -> Result<Self, BackupError> {
        let refused = |reason: String| BackupError::refused("reach Redis", reason);
        let password = vault.reveal(&wanted.password)?;
        let client = if wanted.tls {
            let root = devenv_files::read_bounded_in_time(authority, tls::LARGEST).map_err(|error| BackupError::File {
                action: "read",
                path: authority.to_owned(),
                source: error.into(),
            })?;
            tls::use_ring();
            Client::build_with_tls(
                format!("rediss://default:{password}@127.0.0.1:{}/0", wanted.port),
                TlsCertificates { client_tls: None, root_cert: Some(root) },
            )
        } else {
            Client::open(format!("redis://default:{password}@127.0.0.1:{}/0", wanted.port))
        };
        let patient = ::redis::AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_mins(1)));
        let connection = async { client?.get_multiplexed_async_connection_with_config(&patient).await }
            .await
            .map_err(|error| refused(error.to_string()))?;
        Ok(Self { connection })
    }

    /// Makes the server write a dump, and copies it out of its container.
    async fn dump(&mut self, engine: &dyn Engine, container: &str, file: &Path) -> Result<Vec<Content>, BackupError> {
        self.until_idle().await?;
        let before = self.persistence().await?;
        self.ask::<()>(cmd("CLIENT").arg("PAUSE").arg(HELD.as_millis() as u64).arg("WRITE")).await?;
        let began = Instant::now();
        let written = async {
            // The dump has the data as of this command: the child process that writes it has a copy of the memory.
            self.ask::<String>(&mut cmd("BGSAVE")).await?;
            let mut contents = self.contents().await?;
            if began.elapsed() >= HELD {
                for content in &mut contents {
                    content.checksum = None;
                }
            }
            Ok::<_, BackupError>(contents)
        };
        let written = written.await;
        self.ask::<()>(cmd("CLIENT").arg("UNPAUSE")).await?;
        let contents = written?;
        let after = self.until_idle().await?;
        if after.get("rdb_last_bgsave_status").map(String::as_str) != Some("ok") {
            return Err(BackupError::refused("ask Redis to save a dump", "its last BGSAVE failed; see `devenv logs` for the reason"));
        }
        if after.contains_key("rdb_saves") && after.get("rdb_saves") == before.get("rdb_saves") {
            return Err(BackupError::refused("ask Redis to save a dump", "it saved none"));
        }
        let command = ["cat", "/data/dump.rdb"].map(str::to_owned).into();
        let mut session = engine.exec_session(container, SessionRequest { command, ..SessionRequest::default() }).await?;
        let fail = |source| BackupError::File { action: "write", path: file.to_owned(), source };
        let mut target = private(file).await.map_err(fail)?;
        let mut said = Vec::new();
        while let Some(piece) = session.output.next().await {
            match piece? {
                (ExecStream::Stdout, content) => target.write_all(&content).await.map_err(fail)?,
                (ExecStream::Stderr, content) => said.extend_from_slice(&content),
            }
        }
        target.sync_all().await.map_err(fail)?;
        if session.exit_code.await? != 0 {
            return Err(BackupError::refused("read the Redis dump", String::from_utf8_lossy(&said).trim().to_owned()));
        }
        Ok(contents)
    }

    /// The keys that do not expire, by numbered database. Expiring ones may be gone at the time of comparison.
    async fn contents(&mut self) -> Result<Vec<Content>, BackupError> {
        let keyspace = self.info("keyspace").await?;
        let mut contents = Vec::new();
        for name in keyspace.keys().filter(|name| name.starts_with("db")) {
            self.ask::<()>(cmd("SELECT").arg(&name[2..])).await?;
            let (mut rows, mut sum, mut cursor) = (0, [0_u8; 32], 0_u64);
            let mut seen = std::collections::HashSet::new();
            loop {
                let (next, keys): (u64, Vec<Vec<u8>>) = self.ask(cmd("SCAN").arg(cursor).arg("COUNT").arg(KEYS_AT_ONCE)).await?;
                let keys: Vec<Vec<u8>> = keys.into_iter().filter(|key| seen.insert(key.clone())).collect();
                if !keys.is_empty() {
                    let digests: Vec<(String, i64, i64)> = self.ask(cmd("EVAL_RO").arg(DIGEST).arg(keys.len()).arg(&keys)).await?;
                    for (digest, ..) in digests.iter().filter(|(_, expires, gone)| *expires == 0 && *gone == 0) {
                        rows += 1;
                        for (byte, more) in sum.iter_mut().zip(Sha256::digest(digest)) {
                            *byte ^= more;
                        }
                    }
                }
                cursor = next;
                if cursor == 0 {
                    break;
                }
            }
            let checksum = hex::encode(&sum[..16]);
            contents.push(Content { name: name.clone(), rows, checksum: Some(checksum) });
        }
        self.ask::<()>(cmd("SELECT").arg(0)).await?;
        Ok(contents)
    }

    /// Waits until no dump and no rewrite of the append-only file is running.
    async fn until_idle(&mut self) -> Result<BTreeMap<String, String>, BackupError> {
        let began = Instant::now();
        loop {
            let found = self.persistence().await?;
            let idle = |name: &str| found.get(name).is_none_or(|value| value == "0");
            if idle("rdb_bgsave_in_progress") && idle("aof_rewrite_in_progress") && idle("loading") {
                return Ok(found);
            }
            if began.elapsed() > LIMIT {
                return Err(BackupError::refused("ask Redis to save a dump", format!("not finished after {LIMIT:?}")));
            }
            // Redis does not report when its child has finished.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn persistence(&mut self) -> Result<BTreeMap<String, String>, BackupError> {
        self.info("persistence").await
    }

    async fn info(&mut self, section: &str) -> Result<BTreeMap<String, String>, BackupError> {
        let text: String = self.ask(cmd("INFO").arg(section)).await?;
        Ok(text.lines().filter_map(|line| line.trim().split_once(':')).map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    async fn ask<T: ::redis::FromRedisValue>(&mut self, command: &mut ::redis::Cmd) -> Result<T, BackupError> {
        command.query_async(&mut self.connection).await.map_err(|error| BackupError::refused("query Redis", error.to_string()))
    }
}
