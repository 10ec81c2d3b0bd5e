//! Saves images to archives, loads them, and describes local images.

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use serde::Deserialize;

use super::{
    client::Client,
    error::from_wire,
    images,
    wire::{ARCHIVE, Call},
};
use crate::{EngineError, ImageFacts};

const SAVE: &str = "save images";
const LOAD: &str = "load images";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ImageDocument {
    id: String,
    #[serde(default)]
    repo_digests: Option<Vec<String>>,
    #[serde(default)]
    size: i64,
}

pub(super) async fn facts(client: &Client, name: &str) -> Result<Option<ImageFacts>, EngineError> {
    let found = client.wire.find::<ImageDocument>(images::inspect(name)).await?;
    Ok(found.map(|image| ImageFacts {
        id: image.id,
        digest: image.repo_digests.into_iter().flatten().next(),
        size: u64::try_from(image.size).unwrap_or_default(),
    }))
}

pub(super) fn save(client: Client, names: Vec<String>) -> BoxStream<'static, Result<Bytes, EngineError>> {
    stream::once(async move {
        let call = names.iter().fold(Call::get(SAVE, "/images/get").within(ARCHIVE), |call, name| call.with("names", name.clone()));
        let response = client.wire.open(call).await?;
        let endpoint = client.endpoint().clone();
        Ok::<_, EngineError>(response.bytes_stream().map_err(move |error| from_wire(&endpoint, SAVE, error)))
    })
    .try_flatten()
    .boxed()
}

#[derive(Deserialize)]
struct Step {
    #[serde(default)]
    stream: Option<String>,
    #[serde(default)]
    error: Option<String>,
}

/// The engine reports progress while it loads, and may report an error in the middle.
pub(super) async fn load(client: &Client, archive: BoxStream<'static, std::io::Result<Bytes>>) -> Result<Vec<String>, EngineError> {
    let call = Call::post(LOAD, "/images/load").with("quiet", "1").within(ARCHIVE);
    let response = client.wire.open_with(call, reqwest::Body::wrap_stream(archive), "application/x-tar").await?;
    let mut steps = client.wire.documents::<Step>(response, LOAD).boxed();
    let mut names = Vec::new();
    while let Some(step) = steps.next().await {
        let step = step?;
        if let Some(message) = step.error {
            return Err(EngineError::Refused { action: LOAD.to_owned(), status: 500, message });
        }
        names.extend(step.stream.as_deref().and_then(loaded).map(str::to_owned));
    }
    Ok(names)
}

/// The name as the engine expects it.
fn loaded(line: &str) -> Option<&str> {
    line.trim().strip_prefix("Loaded image: ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_loaded_images_are_read_from_the_engines_words() {
        assert_eq!(loaded("Loaded image: postgres:17\n"), Some("postgres:17"));
        assert_eq!(loaded("Loaded image ID: sha256:ab\n"), None);
    }

    #[test]
    fn an_image_that_no_registry_knows_has_no_digest() {
        let document: ImageDocument = serde_json::from_str(r#"{"Id":"sha256:ab","RepoDigests":null,"Size":7,"New":1}"#).unwrap();
        assert_eq!((document.id.as_str(), document.repo_digests, document.size), ("sha256:ab", None, 7));
    }
}
