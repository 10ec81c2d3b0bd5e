//! Volumes.

use std::{collections::HashMap, path::PathBuf};

use bollard::{models::VolumeCreateRequest, query_parameters::RemoveVolumeOptions};
use serde::Deserialize;

use super::{
    client::Client,
    wire::{Call, filters, segment},
};
use crate::{EngineError, Labels, ObservedVolume, OwnerId, VolumeCreate, labels};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct VolumesDocument {
    #[serde(default)]
    volumes: Option<Vec<VolumeDocument>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct VolumeDocument {
    pub(super) name: String,
    #[serde(default)]
    pub(super) mountpoint: PathBuf,
    #[serde(default)]
    pub(super) labels: Option<HashMap<String, String>>,
    #[serde(default)]
    created_at: Option<String>,
}

impl VolumeDocument {
    /// A path of another machine's disk means nothing here, or something else.
    fn seen_by(mut self, client: &Client) -> Self {
        if !client.shares_machine() {
            self.mountpoint = PathBuf::new();
        }
        self
    }

    fn observed(self) -> Option<ObservedVolume> {
        let labels = Labels::parse(self.labels.as_ref()?)?;
        Some(ObservedVolume { name: self.name, labels, mountpoint: self.mountpoint, created_at: self.created_at })
    }
}

pub(super) async fn list(client: &Client, owner: &OwnerId) -> Result<Vec<ObservedVolume>, EngineError> {
    let found = with_label(client, &format!("{}={owner}", labels::OWNER)).await?;
    Ok(found.into_iter().filter_map(VolumeDocument::observed).collect())
}

/// All volumes with the label (`name=value`), also those of other tools.
pub(super) async fn with_label(client: &Client, label: &str) -> Result<Vec<VolumeDocument>, EngineError> {
    let call = Call::get("list volumes", "/volumes").with("filters", filters(&[("label", &[label])]));
    let document: VolumesDocument = client.wire.read(call).await?;
    Ok(document.volumes.unwrap_or_default().into_iter().map(|volume| volume.seen_by(client)).collect())
}

pub(super) async fn find(client: &Client, name: &str) -> Result<Option<ObservedVolume>, EngineError> {
    let call = Call::get("inspect a volume", format!("/volumes/{}", segment(name)));
    Ok(client.wire.find::<VolumeDocument>(call).await?.and_then(|volume| volume.seen_by(client).observed()))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UsageDocument {
    #[serde(default)]
    volumes: Option<Vec<UsedVolumeDocument>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UsedVolumeDocument {
    name: String,
    #[serde(default)]
    usage_data: Option<UsageDataDocument>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UsageDataDocument {
    /// -1 if it is not known.
    size: i64,
}

pub(super) async fn sizes(client: &Client) -> Result<HashMap<String, u64>, EngineError> {
    // Engines before API 1.42 ignore `type`, and compute all sizes.
    let document: UsageDocument = client.wire.read(Call::get("sum up the size of volumes", "/system/df").with("type", "volume")).await?;
    let sized = document.volumes.into_iter().flatten().filter_map(|volume| {
        let size = u64::try_from(volume.usage_data?.size).ok()?;
        Some((volume.name, size))
    });
    Ok(sized.collect())
}

/// The engine accepts an existing volume with that name, whatever its owner. A volume of another owner is refused here.
pub(super) async fn create(client: &Client, volume: &VolumeCreate) -> Result<(), EngineError> {
    let action = format!("create the volume `{}`", volume.name);
    let request = VolumeCreateRequest {
        name: Some(volume.name.clone()),
        driver: Some("local".to_owned()),
        driver_opts: Some(volume.options.clone().into_iter().collect()),
        labels: Some(volume.labels.to_map()),
        ..VolumeCreateRequest::default()
    };
    let there = client.docker.create_volume(request).await.map_err(client.explain(&action))?;
    if Labels::parse(&there.labels).is_some_and(|labels| labels.owner == volume.labels.owner) {
        return Ok(());
    }
    let message = "a volume with that name belongs to someone else".to_owned();
    Err(EngineError::Refused { action, status: 409, message })
}

pub(super) async fn remove(client: &Client, name: &str) -> Result<(), EngineError> {
    match client
        .docker
        .remove_volume(name, None::<RemoveVolumeOptions>)
        .await
        .map_err(client.explain(&format!("remove the volume `{name}`")))
    {
        Err(EngineError::NotFound { .. } | EngineError::Refused { status: 404, .. }) => Ok(()),
        result => result,
    }
}
