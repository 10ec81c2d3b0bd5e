//! Builds with BuildKit, which calls back: it asks for files and secrets over a session that is opened first, and
//! streams the progress of each step.
//!
//! The parts: `protobuf` and `grpc` implement what the session needs of both formats, `session` answers the engine's calls,
//! `files` sends the context, `trace` turns the engine's progress into lines.

mod files;
mod grpc;
mod protobuf;
mod session;
mod trace;

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use devenv_spec::ImageBuild;
use futures_util::{StreamExt, stream, stream::BoxStream};
use serde::Deserialize;
use tokio::task::JoinSet;

use super::{
    client::Client,
    wire::{ARCHIVE, Call},
};
use crate::{
    EngineError,
    build::{BuildContext, BuildInputs},
};
pub(super) use session::Offer;
use trace::Trace;

/// One line of the answer.
#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    aux: Option<serde_json::Value>,
    #[serde(default)]
    error: Option<String>,
}

/// `dockerfile`: the text to build, which may differ from the file on the disk.
pub(super) async fn build(
    client: Client,
    build: ImageBuild,
    inputs: BuildInputs,
    context: BuildContext,
    dockerfile: Vec<u8>,
) -> Result<BoxStream<'static, Result<String, EngineError>>, EngineError> {
    let action = "build the image";
    let id = hex::encode(rand::random::<[u8; 16]>());
    let name = build.dockerfile.clone();
    let offer = Arc::new(Offer { context, dockerfile, secrets: inputs.secrets, ssh: inputs.ssh });
    let io = session::open(&client, &id, &build.tag, &offer).await?;
    let mut session = JoinSet::new();
    session.spawn(session::serve(io, offer));
    let mut call = Call::post(action, "/build")
        .with("version", "2")
        .with("session", id.clone())
        .with("buildid", id)
        .with("remote", "client-session")
        .with("t", build.tag.clone())
        .with("dockerfile", "Dockerfile")
        .with("buildargs", serde_json::json!(build.arguments).to_string())
        .with("rm", "1")
        .within(ARCHIVE);
    for (name, value) in super::build::settings(&build, inputs.no_cache) {
        call = call.with(name, value);
    }
    let response = client.wire.open(call).await?;
    let documents = client.wire.documents::<Document>(response, action).boxed();
    // The session ends with the stream, because dropping the set aborts its tasks.
    let state = (documents, Trace::new(build.tag, name), session);
    let lines = stream::unfold(Some(state), |state| async move {
        let (mut documents, mut trace, session) = state?;
        let document = match documents.next().await? {
            Ok(document) => document,
            Err(error) => return Some((vec![Err(error)], None)),
        };
        if let Some(message) = document.error {
            return Some((vec![Err(trace.failure(&message))], None));
        }
        let status = match (document.id.as_deref(), document.aux) {
            (Some("moby.buildkit.trace"), Some(serde_json::Value::String(text))) => BASE64_STANDARD.decode(text).unwrap_or_default(),
            _ => Vec::new(),
        };
        let lines = trace.lines(&status).into_iter().map(Ok).collect();
        Some((lines, Some((documents, trace, session))))
    });
    Ok(lines.flat_map(stream::iter).boxed())
}
