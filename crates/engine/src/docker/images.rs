//! Images: whether they are present, pulling and removing them.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use bollard::{models::CreateImageInfo, query_parameters::CreateImageOptionsBuilder};
use futures_util::{StreamExt, stream::BoxStream};
use serde::Deserialize;

use super::{
    client::Client,
    error::from_bollard,
    wire::{ARCHIVE, Call, filters, segment},
};
use crate::{EngineError, ImageDefaults, PullProgress, build::ImageSettings};

/// An image, as the engine describes it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ImageDocument {
    id: String,
    config: Option<ConfigDocument>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ConfigDocument {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    shell: Option<Vec<String>>,
}

pub(super) fn inspect(name: &str) -> Call<'static> {
    Call::get("inspect an image", format!("/images/{}/json", segment(name)))
}

pub(super) async fn id(client: &Client, name: &str) -> Result<Option<String>, EngineError> {
    Ok(client.wire.find::<ImageDocument>(inspect(name)).await?.map(|image| image.id))
}

pub(super) async fn defaults(client: &Client, name: &str) -> Result<ImageDefaults, EngineError> {
    let config = client.wire.read::<ImageDocument>(inspect(name)).await?.config.unwrap_or_default();
    Ok(ImageDefaults { entrypoint: config.entrypoint.unwrap_or_default(), command: config.cmd.unwrap_or_default() })
}

/// The settings that the image passes on to derived images; `None` if it is not present.
pub(super) async fn settings(client: &Client, name: &str) -> Result<Option<ImageSettings>, EngineError> {
    Ok(client.wire.find::<ImageDocument>(inspect(name)).await?.map(|image| {
        let config = image.config.unwrap_or_default();
        ImageSettings { environment: config.env.unwrap_or_default(), shell: config.shell.filter(|shell| !shell.is_empty()) }
    }))
}

/// Removes the tags of older images of this repository. One that cannot be removed stays until the next time.
pub(super) async fn untag_older(client: &Client, repository: &str, age: Duration) {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Found {
        created: i64,
        #[serde(default)]
        repo_tags: Option<Vec<String>>,
    }
    let call = Call::get("list images", "/images/json").with("filters", filters(&[("reference", &[repository])]));
    let found: Vec<Found> = client.wire.read(call).await.unwrap_or_default();
    let oldest = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().saturating_sub(age).as_secs() as i64;
    for name in found.into_iter().filter(|image| image.created < oldest).flat_map(|image| image.repo_tags.unwrap_or_default()) {
        let _ = untag(client, &name).await;
    }
}

/// Removes its tag; the layers are removed with the last tag.
pub(super) async fn untag(client: &Client, name: &str) -> Result<(), EngineError> {
    let call = Call::delete("remove an image", format!("/images/{}", segment(name)));
    client.wire.open(call).await.map(drop)
}

/// From a tar of its files; the engine streams progress, and an error may come in the middle.
pub(super) async fn import(client: &Client, name: &str, tree: bytes::Bytes) -> Result<(), EngineError> {
    #[derive(Deserialize)]
    struct Step {
        error: Option<String>,
    }
    let (repository, tag) = split(name);
    let action = "import an image";
    let call = Call::post(action, "/images/create").with("fromSrc", "-").with("repo", repository).with("tag", tag).within(ARCHIVE);
    let response = client.wire.open_with(call, reqwest::Body::from(tree), "application/x-tar").await?;
    let steps = client.wire.documents::<Step>(response, action);
    futures_util::pin_mut!(steps);
    while let Some(step) = steps.next().await {
        if let Some(message) = step?.error {
            return Err(EngineError::Refused { action: format!("import the image `{name}`"), status: 500, message });
        }
    }
    Ok(())
}

pub(super) fn pull(client: &Client, name: &str) -> BoxStream<'static, Result<PullProgress, EngineError>> {
    let (repository, tag) = split(name);
    let options = CreateImageOptionsBuilder::default().from_image(repository).tag(tag).build();
    let endpoint = client.endpoint().clone();
    let name = name.to_owned();
    let mut layers = Layers::default();
    client
        .docker
        .create_image(Some(options), None, None)
        .map(move |item| {
            let action = format!("pull the image `{name}`");
            let failed = |error: EngineError| explain(&name, error);
            let item = item.map_err(|error| failed(from_bollard(&endpoint, &action, error)))?;
            if let Some(message) = item.error_detail.as_ref().and_then(|detail| detail.message.clone()) {
                return Err(failed(EngineError::Refused { action, status: 500, message }));
            }
            Ok(layers.add(&item))
        })
        .boxed()
}

/// Says what was tried and what else can be done: on a machine without a registry this is the first message that a user sees.
fn explain(name: &str, error: EngineError) -> EngineError {
    let (status, said) = match error {
        EngineError::Refused { status, message, .. } => (status, message),
        EngineError::NotFound { .. } => (404, "the registry has no such image".to_owned()),
        other => return other,
    };
    let recipe = name.rsplit('/').next().and_then(|last| last.split([':', '@']).next()).unwrap_or(name);
    let message = format!(
        "{said} (asked {}). Without a registry, `scripts/setup images {recipe}` builds a compatible image from packages; once the image \
            exists locally, `--offline` uses it without asking",
        registry(name)
    );
    EngineError::Refused { action: format!("pull the image `{name}`"), status, message }
}

/// The registry host in an image's name.
fn registry(name: &str) -> &str {
    match name.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => "docker.io",
    }
}

/// Without a tag the engine would pull every tag.
fn split(name: &str) -> (&str, &str) {
    if let Some((repository, digest)) = name.split_once('@') {
        return (repository, digest);
    }
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (name, "latest"),
    }
}

/// The bytes of all known layers: the total grows while the engine reads the manifest, the current value never shrinks.
#[derive(Default)]
struct Layers(HashMap<String, (u64, u64)>);

impl Layers {
    fn add(&mut self, item: &CreateImageInfo) -> PullProgress {
        let status = item.status.clone().unwrap_or_default();
        if let Some(id) = &item.id {
            let layer = self.0.entry(id.clone()).or_default();
            let detail = item.progress_detail.as_ref();
            match status.as_str() {
                "Downloading" => {
                    let bytes = |count: Option<i64>| count.and_then(|count| u64::try_from(count).ok()).unwrap_or(0);
                    layer.0 = layer.0.max(bytes(detail.and_then(|detail| detail.current)));
                    layer.1 = layer.1.max(bytes(detail.and_then(|detail| detail.total)));
                }
                "Download complete" | "Pull complete" => layer.0 = layer.1,
                _ => {}
            }
        }
        let message = match &item.id {
            Some(id) => format!("{id}: {status}"),
            None => status,
        };
        let sum = |part: fn(&(u64, u64)) -> u64| self.0.values().map(part).sum();
        PullProgress { current_bytes: sum(|layer| layer.0), total_bytes: sum(|layer| layer.1), message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_without_a_tag_is_the_latest() {
        for (name, expected) in [
            ("redis:8.0", ("redis", "8.0")),
            ("redis", ("redis", "latest")),
            ("localhost:5000/x", ("localhost:5000/x", "latest")),
            ("localhost:5000/x:1", ("localhost:5000/x", "1")),
            ("pgvector/pgvector@sha256:ab", ("pgvector/pgvector", "sha256:ab")),
        ] {
            assert_eq!(split(name), expected);
        }
    }

    #[test]
    fn bytes_are_summed_over_layers() {
        let mut layers = Layers::default();
        let mut receive = |json: &str| {
            let progress = layers.add(&serde_json::from_str(json).unwrap());
            (progress.current_bytes, progress.total_bytes, progress.message)
        };
        assert_eq!(receive(r#"{"status":"Pulling from library/redis","id":"8.0"}"#), (0, 0, "8.0: Pulling from library/redis".into()));
        receive(r#"{"status":"Downloading","id":"a","progressDetail":{"current":10,"total":100}}"#);
        receive(r#"{"status":"Downloading","id":"b","progressDetail":{"current":5,"total":50}}"#);
        assert_eq!(receive(r#"{"status":"Download complete","id":"b"}"#).0, 60);
        let extracting = r#"{"status":"Extracting","id":"b","progressDetail":{"current":1,"total":50}}"#;
        assert_eq!(receive(extracting), (60, 150, "b: Extracting".into()));
    }

    #[test]
    fn a_failed_pull_names_the_registry_and_the_alternatives() {
        let refused = EngineError::Refused {
            action: String::new(),
            status: 500,
            message: "dial tcp: lookup registry-1.docker.io: no such host".into(),
        };
        insta::assert_snapshot!(explain("pgvector/pgvector:pg17", refused).to_string(), @"the engine refused to pull the image `pgvector/pgvector:pg17`: dial tcp: lookup registry-1.docker.io: no such host (asked docker.io). Without a registry, `scripts/setup images pgvector` builds a compatible image from packages; once the image exists locally, `--offline` uses it without asking");
    }
}
