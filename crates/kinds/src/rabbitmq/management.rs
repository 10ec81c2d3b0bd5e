//! The management API, as the administrator: declared objects, messages, and devenv's own records on the server.

use std::sync::LazyLock;

use devenv_secrets::{SecretError, Vault};
use reqwest::{Client, Method, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    fields::{ADMINISTRATOR, encoded},
    spec::RabbitmqTarget,
};
use crate::limited::body;

static CLIENT: LazyLock<Client> = LazyLock::new(|| Client::builder().no_proxy().build().expect("these options are valid"));

/// The API of one server. Cheap to clone.
#[derive(Clone)]
pub(super) struct Management {
    root: String,
    password: String,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum ManagementError {
    #[error("the management API does not answer: {0}")]
    Unreachable(String),
    /// The password is wrong.
    #[error("the management API rejects the administrator: {0}")]
    Unauthorized(String),
    /// The server's own message.
    #[error("{0}")]
    Refused(String),
}

impl Management {
    pub(super) fn open(target: &RabbitmqTarget, vault: &Vault) -> Result<Self, SecretError> {
        Ok(Self { root: format!("http://127.0.0.1:{}/api", target.management), password: vault.reveal(&target.administrator)? })
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ManagementError> {
        let answer = self.send(Method::GET, path, None).await?;
        serde_json::from_slice(&answer).map_err(|error| ManagementError::Refused(format!("cannot decode its answer: {error}")))
    }

    /// `None` if there is no such object.
    pub(super) async fn find<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, ManagementError> {
        match self.get(path).await {
            Ok(found) => Ok(Some(found)),
            Err(ManagementError::Refused(reason)) if reason == NOT_FOUND => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn put(&self, path: &str, body: &Value) -> Result<(), ManagementError> {
        self.send(Method::PUT, path, Some(body)).await.map(drop)
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value, ManagementError> {
        let answer = self.send(Method::POST, path, Some(body)).await?;
        Ok(serde_json::from_slice(&answer).unwrap_or_default())
    }

    /// A missing object counts as removed.
    pub(super) async fn delete(&self, path: &str) -> Result<(), ManagementError> {
        match self.send(Method::DELETE, path, None).await {
            Err(ManagementError::Refused(reason)) if reason == NOT_FOUND => Ok(()),
            answer => answer.map(drop),
        }
    }

    /// Whether the user's password is this one. The user needs the right to use the management API.
    pub(super) async fn knows(&self, user: &str, password: &str) -> Result<bool, ManagementError> {
        let answer = CLIENT.get(format!("{}/whoami", self.root)).basic_auth(user, Some(password)).send().await.map_err(unreachable)?;
        Ok(answer.status().is_success())
    }

    async fn send(&self, method: Method, path: &str, content: Option<&Value>) -> Result<Vec<u8>, ManagementError> {
        let mut request = CLIENT.request(method, format!("{}/{path}", self.root)).basic_auth(ADMINISTRATOR, Some(&self.password));
        if let Some(content) = content {
            request = request.json(content);
        }
        let answer = request.send().await.map_err(unreachable)?;
        let status = answer.status();
        let text = body(answer, LARGEST).await.map_err(unreachable)?;
        match status {
            status if status.is_success() => Ok(text),
            StatusCode::NOT_FOUND => Err(ManagementError::Refused(NOT_FOUND.to_owned())),
            StatusCode::UNAUTHORIZED => Err(ManagementError::Unauthorized(words(&text, status))),
            status => Err(ManagementError::Refused(words(&text, status))),
        }
    }
}

/// The largest answer that is read, in bytes.
const LARGEST: usize = 8 << 20;
const NOT_FOUND: &str = "it does not exist";

fn unreachable(error: reqwest::Error) -> ManagementError {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text = cause.to_string();
        source = cause.source();
    }
    ManagementError::Unreachable(text)
}

/// `{"error": "bad_request", "reason": "…"}`
fn words(answer: &[u8], status: StatusCode) -> String {
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    match (answer["reason"].as_str(), answer["error"].as_str()) {
        (Some(reason), _) => reason.to_owned(),
        (None, Some(error)) => error.to_owned(),
        (None, None) => status.to_string(),
    }
}

pub(super) fn vhost_path(vhost: &str) -> String {
    format!("vhosts/{}", encoded(vhost))
}

pub(super) fn user_path(user: &str) -> String {
    format!("users/{}", encoded(user))
}

pub(super) fn permission_path(vhost: &str, user: &str) -> String {
    format!("permissions/{}/{}", encoded(vhost), encoded(user))
}
