//! Reads what Docker Compose has made of a project, by Compose's own labels. Changes nothing.

use std::{
    collections::{BTreeSet, HashMap},
    path::PathBuf,
};

use serde::Deserialize;

use super::{
    client::Client,
    volumes::{self, VolumeDocument},
    wire::{Call, filters},
};
use crate::{ComposeMount, ComposeProject, ComposeVolume, EngineError};

const PROJECT: &str = "com.docker.compose.project";
const VOLUME: &str = "com.docker.compose.volume";
const SERVICE: &str = "com.docker.compose.service";
const NUMBER: &str = "com.docker.compose.container-number";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ContainerDocument {
    id: String,
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    state: String,
    #[serde(default)]
    labels: Option<HashMap<String, String>>,
    #[serde(default)]
    mounts: Vec<MountDocument>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MountDocument {
    #[serde(default, rename = "Type")]
    kind: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    source: PathBuf,
    #[serde(default)]
    destination: String,
}

impl ContainerDocument {
    /// A paused container's program may write again at any time.
    fn may_write(&self) -> bool {
        matches!(self.state.as_str(), "running" | "paused" | "restarting")
    }

    fn shown_name(&self) -> String {
        self.names.first().map_or(self.id.as_str(), |name| name.trim_start_matches('/')).to_owned()
    }

    fn label(&self, name: &str) -> Option<&String> {
        self.labels.as_ref()?.get(name)
    }
}

pub(super) async fn project(client: &Client, name: &str) -> Result<ComposeProject, EngineError> {
    let label = format!("{PROJECT}={name}");
    let containers = containers(client, ("label", &[label.as_str()])).await?;
    let mut project = of(volumes::with_label(client, &label).await?, &containers);
    if !project.volumes.is_empty() {
        let names: Vec<&str> = project.volumes.iter().map(|volume| volume.name.as_str()).collect();
        let users = self::containers(client, ("volume", &names)).await?;
        let running = containers.iter().chain(&users).filter(|container| container.may_write()).map(ContainerDocument::shown_name);
        if !client.shares_machine() {
            project.volumes.iter_mut().for_each(|volume| volume.mountpoint = PathBuf::new());
        }
        project.running = running.collect::<BTreeSet<String>>().into_iter().collect();
    }
    Ok(project)
}

async fn containers(client: &Client, filter: (&str, &[&str])) -> Result<Vec<ContainerDocument>, EngineError> {
    client.wire.read(Call::get("list containers", "/containers/json").with("all", "true").with("filters", filters(&[filter]))).await
}

/// The volumes with the project's label, and the anonymous ones, which only its containers name.
fn of(listed: Vec<VolumeDocument>, containers: &[ContainerDocument]) -> ComposeProject {
    let mut volumes: Vec<ComposeVolume> = listed
        .into_iter()
        .map(|volume| ComposeVolume {
            key: volume.labels.and_then(|labels| labels.get(VOLUME).cloned()),
            name: volume.name,
            mountpoint: volume.mountpoint,
            mounts: Vec::new(),
        })
        .collect();
    for container in containers {
        let Some(service) = container.label(SERVICE) else { continue };
        let copy = container.label(NUMBER).and_then(|number| number.parse().ok()).unwrap_or(1);
        for mount in container.mounts.iter().filter(|mount| mount.kind == "volume" && !mount.name.is_empty()) {
            let mounted = ComposeMount { service: service.clone(), copy, target: mount.destination.clone() };
            match volumes.iter_mut().find(|volume| volume.name == mount.name) {
                Some(volume) => volume.mounts.push(mounted),
                // An external volume is none of the project, and anonymous ones have names like this.
                None if mount.name.len() == 64 && mount.name.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
                    let (name, mountpoint) = (mount.name.clone(), mount.source.clone());
                    volumes.push(ComposeVolume { name, key: None, mountpoint, mounts: vec![mounted] });
                }
                None => {}
            }
        }
    }
    ComposeProject { volumes, running: Vec::new() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn volumes_of_a_compose_project_are_found_by_label_and_anonymous_ones_by_their_containers() {
        let anonymous = "0123456789abcdef".repeat(4);
        let listed: Vec<VolumeDocument> = serde_json::from_value(json!([
            { "Name": "shop_rows", "Mountpoint": "/v/shop_rows/_data", "Labels": { (VOLUME): "rows", (PROJECT): "shop" } },
        ]))
        .unwrap();
        let containers: Vec<ContainerDocument> = serde_json::from_value(json!([
            { "Id": "1", "Names": ["/shop-db-2"], "State": "exited", "Labels": { (SERVICE): "db", (NUMBER): "2" }, "Mounts": [
                { "Type": "volume", "Name": "shop_rows", "Source": "/v/shop_rows/_data", "Destination": "/data" },
                { "Type": "volume", "Name": anonymous, "Source": "/v/a/_data", "Destination": "/more" },
                { "Type": "volume", "Name": "of-somebody-else", "Source": "/v/b/_data", "Destination": "/other" },
                { "Type": "bind", "Source": "/home", "Destination": "/home" },
            ] },
        ]))
        .unwrap();
        assert!(!containers[0].may_write());
        assert_eq!(containers[0].shown_name(), "shop-db-2");
        let mount = |target: &str| ComposeMount { service: "db".to_owned(), copy: 2, target: target.to_owned() };
        let volumes = of(listed, &containers).volumes;
        let rows = ComposeVolume {
            name: "shop_rows".to_owned(),
            key: Some("rows".to_owned()),
            mountpoint: "/v/shop_rows/_data".into(),
            mounts: vec![mount("/data")],
        };
        let more = ComposeVolume { name: anonymous, key: None, mountpoint: "/v/a/_data".into(), mounts: vec![mount("/more")] };
        assert_eq!(volumes, [rows, more]);
    }
}
