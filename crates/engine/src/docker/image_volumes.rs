//! Volumes with the files of an image, as other containers mount them.
//!
//! An image that has only the wanted files under one path is built, and a container of it is created with the volume at that path:
//! the engine then copies the files into the empty volume. The container never runs, except that Podman copies only when it is started.

use bollard::{
    models::{ContainerCreateBody, HostConfig},
    query_parameters::CreateContainerOptionsBuilder,
};
use devenv_spec::ImageFiles;

use super::{build, client::Client, containers, create as bodies, images, volumes};
use crate::{CreatedMount, EngineError, Labels, VolumeCreate};

/// The role of the container that fills a volume.
const ROLE: &str = "filler";

/// Removes the volume if it exists, and creates it with the files.
pub(super) async fn create(client: &Client, volume: &VolumeCreate, files: &ImageFiles) -> Result<(), EngineError> {
    let container = format!("{}-filler", volume.name);
    // An earlier attempt may have been interrupted.
    containers::remove(client, &container).await?;
    volumes::remove(client, &volume.name).await?;
    volumes::create(client, volume).await?;
    let image = build::files_of(client, &files.image, files.subpath.as_deref()).await?;
    let filled = fill(client, volume, &container, &image).await;
    let removed = containers::remove(client, &container).await;
    if let Err(error) = images::untag(client, &image).await {
        tracing::warn!(%error, image, "Cannot remove an image that held the files of a volume.");
    }
    filled.and(removed)
}

async fn fill(client: &Client, volume: &VolumeCreate, name: &str, image: &str) -> Result<(), EngineError> {
    let mount = CreatedMount::Volume { name: volume.name.clone(), target: build::FILES.to_owned(), read_only: false };
    let labels = Labels { role: Some(ROLE.to_owned()), ..volume.labels.clone() };
    let body = ContainerCreateBody {
        image: Some(image.to_owned()),
        // The engine demands a command.
        cmd: Some(vec!["none".to_owned()]),
        labels: Some(labels.to_map()),
        host_config: Some(HostConfig {
            network_mode: Some("none".to_owned()),
            mounts: Some(bodies::mounts(&[mount])),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    };
    let options = CreateContainerOptionsBuilder::default().name(name).build();
    let created = client.docker.create_container(Some(options), body).await;
    let id = created.map_err(client.explain(&format!("fill the volume `{}`", volume.name)))?.id;
    if client.info().await?.kind == "podman" {
        // There is no such program: the start fails after the files are copied.
        let _ = containers::start(client, &id).await;
    }
    Ok(())
}
