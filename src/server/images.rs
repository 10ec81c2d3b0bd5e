//! Images that are pulled ahead or carried in archives.

use std::sync::Arc;

use axum::{Json, extract::State, response::Response};
use devenv_api::{ArchiveRequest, FetchRequest, Images};

use super::{
    Daemon,
    failure::Failed,
    stream::{ndjson, received},
};
use crate::{error::absolute, runtime::images};

pub(super) async fn fetch(State(daemon): State<Arc<Daemon>>, Json(request): Json<FetchRequest>) -> Response {
    let (messages, work) = images::fetch(daemon.environments.engine().clone(), request.images);
    daemon.environments.look_after(work);
    ndjson(received(messages))
}

pub(super) async fn save(State(daemon): State<Arc<Daemon>>, Json(request): Json<ArchiveRequest>) -> Result<Json<Images>, Failed> {
    Ok(Json(images::save(daemon.environments.engine().as_ref(), &request.images, &absolute("`file`", &request.file)?).await?))
}

pub(super) async fn load(State(daemon): State<Arc<Daemon>>, Json(request): Json<ArchiveRequest>) -> Result<Json<Images>, Failed> {
    Ok(Json(images::load(daemon.environments.engine().as_ref(), &absolute("`file`", &request.file)?).await?))
}
