//! ACL users: each with the rules of the profile and the stored password.

use std::collections::BTreeMap;

use async_trait::async_trait;
use devenv_spec::OfKind;
use redis::aio::MultiplexedConnection;
use sha2::{Digest, Sha256};

use super::{
    RedisKind,
    probe::{SessionError, session, words},
    spec::RedisProvision,
};
use crate::{
    capability::Provisions,
    provision::{Change, ProvisionContext, ProvisionError},
};

#[async_trait]
impl Provisions for RedisKind {
    async fn apply(&self, wanted: &OfKind, cx: &ProvisionContext) -> Result<Vec<Change>, ProvisionError> {
        apply(&wanted.decode()?, cx).await
    }
}

async fn apply(wanted: &RedisProvision, cx: &ProvisionContext) -> Result<Vec<Change>, ProvisionError> {
    if wanted.users.is_empty() {
        return Ok(Vec::new());
    }
    let password = cx.vault.reveal(&wanted.password)?;
    let mut users = Vec::new();
    for (name, rules, secret) in &wanted.users {
        // As a hash, so that the password itself is in no server's memory, log or monitor.
        let hash = format!("#{}", hex::encode(Sha256::digest(cx.vault.reveal(secret)?)));
        users.push((name.as_str(), rules.as_str(), hash));
    }
    session(wanted.port, "default", &password, cx.trust(wanted.tls)?, |connection| async move { Ok(provide(connection, &users).await) })
        .await
        .map_err(|error| {
            let refused = matches!(&error, SessionError::Redis(error) if error.code() == Some("WRONGPASS"));
            let reason = words(wanted.port, error);
            if refused {
                ProvisionError::WrongPassword { service: "Redis", user: "default".to_owned(), reason }
            } else {
                ProvisionError::Unreachable { reason }
            }
        })?
}

async fn provide(mut connection: MultiplexedConnection, users: &[(&str, &str, String)]) -> Result<Vec<Change>, ProvisionError> {
    let before = list(&mut connection).await?;
    for (name, rules, hash) in users {
        // One command, so that no client ever meets a half defined user; a user that is as requested notices nothing.
        let mut command = redis::cmd("ACL");
        command.arg("SETUSER").arg(name).arg(&["reset", "on", hash.as_str()]).arg(rules.split_whitespace().collect::<Vec<_>>());
        command
            .query_async::<()>(&mut connection)
            .await
            .map_err(|error| failed(format!("set the rules `{rules}` of the ACL user `{name}`"), &error))?;
    }
    let after = list(&mut connection).await?;
    let changed = users.iter().filter_map(|(name, ..)| match (before.get(*name), after.get(*name)) {
        (None, _) => Some(Change::made(format!("ACL user `{name}` created"))),
        (Some(before), Some(after)) if before != after => Some(Change::made(format!("ACL user `{name}` changed"))),
        _ => None,
    });
    // It was created manually, or was in the profile before; the two cannot be distinguished, so it stays.
    let strangers = after.keys().filter(|name| *name != "default" && !users.iter().any(|(wanted, ..)| wanted == name));
    let strangers = strangers.map(|name| Change::drift(format!("ACL user `{name}` is not in the profile and was kept")));
    Ok(changed.chain(strangers).collect())
}

/// The users' rules as the server writes them, by name. Passwords are hashes in it.
async fn list(connection: &mut MultiplexedConnection) -> Result<BTreeMap<String, String>, ProvisionError> {
    let lines: Vec<String> =
        redis::cmd("ACL").arg("LIST").query_async(connection).await.map_err(|error| failed("read the ACL users", &error))?;
    let users = lines.into_iter().filter_map(|line| {
        let (name, rules) = line.strip_prefix("user ")?.split_once(' ')?;
        Some((name.to_owned(), rules.to_owned()))
    });
    Ok(users.collect())
}

fn failed(action: impl Into<String>, error: &redis::RedisError) -> ProvisionError {
    let is_lost = error.is_io_error() || error.is_connection_dropped() || error.code() == Some("LOADING");
    if is_lost { ProvisionError::Unreachable { reason: said(error) } } else { ProvisionError::refused(action, said(error)) }
}

fn said(error: &redis::RedisError) -> String {
    error.detail().map_or_else(|| error.to_string(), str::to_owned)
}
