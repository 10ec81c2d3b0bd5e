//! Networks, and the containers on them.

use std::{collections::HashMap, time::Duration};

use bollard::models::{
    EndpointIpamConfig, EndpointSettings, Ipam, IpamConfig, NetworkConnectRequest, NetworkCreateRequest, NetworkDisconnectRequest,
};
use ipnet::IpNet;
use serde::Deserialize;

use super::{
    client::Client,
    containers,
    reach::Place,
    wire::{Call, filters, segment},
};
use crate::{CreatedAttachment, EngineError, Labels, NetworkCreate, ObservedNetwork, OwnerId, UsedSubnet, labels};

/// How often a network is cleared again if containers join while it is being removed.
const ATTEMPTS: u32 = 6;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkDocument {
    id: String,
    name: String,
    #[serde(default)]
    labels: Option<HashMap<String, String>>,
    #[serde(rename = "IPAM", default)]
    addresses: Option<AddressDocument>,
    #[serde(default)]
    containers: Option<HashMap<String, MemberDocument>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AddressDocument {
    #[serde(default)]
    config: Option<Vec<SubnetDocument>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SubnetDocument {
    #[serde(default)]
    subnet: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MemberDocument {
    #[serde(default)]
    name: String,
}

impl NetworkDocument {
    fn labels(&self) -> Option<Labels> {
        Labels::parse(self.labels.as_ref()?)
    }

    fn subnets(&self) -> impl Iterator<Item = IpNet> {
        let configurations = self.addresses.iter().flat_map(|addresses| addresses.config.iter().flatten());
        configurations.filter_map(|configuration| configuration.subnet.as_deref()?.parse().ok())
    }

    fn observed(&self) -> Option<ObservedNetwork> {
        let subnet = self.subnets().find_map(|subnet| match subnet {
            IpNet::V4(subnet) => Some(subnet),
            IpNet::V6(_) => None,
        });
        Some(ObservedNetwork { id: self.id.clone(), name: self.name.clone(), labels: self.labels()?, subnet })
    }
}

pub(super) async fn list(client: &Client, owner: &OwnerId) -> Result<Vec<ObservedNetwork>, EngineError> {
    let label = format!("{}={owner}", labels::OWNER);
    let networks = filtered(client, &[("label", &[label.as_str()])]).await?;
    Ok(networks.iter().filter_map(NetworkDocument::observed).collect())
}

pub(super) async fn subnets(client: &Client) -> Result<Vec<IpNet>, EngineError> {
    let networks = filtered(client, &[]).await?;
    Ok(networks.iter().flat_map(NetworkDocument::subnets).collect())
}

pub(super) async fn used_subnets(client: &Client) -> Result<Vec<UsedSubnet>, EngineError> {
    let networks = filtered(client, &[]).await?;
    let of = |network: &NetworkDocument| {
        let (name, labels) = (network.name.clone(), network.labels());
        network.subnets().map(|subnet| UsedSubnet { subnet, network: name.clone(), labels: labels.clone() }).collect::<Vec<_>>()
    };
    Ok(networks.iter().flat_map(of).collect())
}

async fn filtered(client: &Client, by: &[(&str, &[&str])]) -> Result<Vec<NetworkDocument>, EngineError> {
    client.wire.read(Call::get("list networks", "/networks").with("filters", filters(by))).await
}

/// An engine allows several networks of one name, so an existing one is looked up first.
pub(super) async fn create(client: &Client, network: &NetworkCreate) -> Result<String, EngineError> {
    let action = format!("create the network `{}`", network.name);
    // The filter also matches parts of names.
    let named = filtered(client, &[("name", &[network.name.as_str()])]).await?;
    if let Some(there) = named.iter().find(|there| there.name == network.name) {
        if there.labels().is_some_and(|labels| labels.owner == network.labels.owner) {
            return Ok(there.id.clone());
        }
        let message = "a network with that name belongs to someone else".to_owned();
        return Err(EngineError::Refused { action, status: 409, message });
    }
    let configuration = IpamConfig { subnet: Some(network.subnet.to_string()), ..IpamConfig::default() };
    let request = NetworkCreateRequest {
        name: network.name.clone(),
        driver: Some("bridge".to_owned()),
        labels: Some(network.labels.to_map()),
        internal: Some(network.internal),
        ipam: Some(Ipam { config: Some(vec![configuration]), ..Ipam::default() }),
        ..NetworkCreateRequest::default()
    };
    match client.docker.create_network(request).await.map_err(client.explain(&action)) {
        Ok(created) => Ok(created.id),
        Err(EngineError::Refused { message, .. }) if overlaps(&message) => Err(EngineError::SubnetTaken(network.subnet)),
        Err(error) => Err(error),
    }
}

fn overlaps(message: &str) -> bool {
    let message = message.to_lowercase();
    message.contains("pool overlaps") || message.contains("networks have overlapping") || message.contains("subnet is already used")
}

/// Containers may join while it is being cleared, and the engine takes a moment to forget those that left: hence the attempts.
pub(super) async fn remove(client: &Client, id: &str) -> Result<Vec<String>, EngineError> {
    let mut foreign = Vec::new();
    let mut pause = Duration::from_millis(50);
    for attempt in 1.. {
        let call = Call::get("inspect the network", format!("/networks/{}", segment(id)));
        let Some(network) = client.wire.find::<NetworkDocument>(call).await? else { return Ok(foreign) };
        let owner = network.labels().map(|labels| labels.owner);
        for (member, MemberDocument { name }) in network.containers.iter().flatten() {
            let own = matches!(client.place().await, Place::Beside(own) if own.id == *member);
            let ours = own || owner.is_some() && owner == owner_of(client, member).await?;
            cut(client, id, member).await?;
            if !ours && !foreign.contains(name) {
                foreign.push(name.clone());
            }
        }
        match client.docker.remove_network(id).await.map_err(client.explain("remove the network")) {
            Ok(()) | Err(EngineError::NotFound { .. } | EngineError::Refused { status: 404, .. }) => return Ok(foreign),
            Err(EngineError::Refused { message, .. }) if attempt < ATTEMPTS && message.contains("active endpoints") => {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(foreign)
}

/// Connects a container to a network; one that is connected already stays so.
pub(super) async fn connect(client: &Client, container: &str, attachment: &CreatedAttachment) -> Result<(), EngineError> {
    let action = format!("connect a container to the network `{}`", attachment.network);
    let request =
        NetworkConnectRequest { container: container.to_owned(), endpoint_config: Some(endpoint(&attachment.aliases, attachment.address)) };
    match client.docker.connect_network(&attachment.network, request).await.map_err(client.explain(&action)) {
        Err(EngineError::Refused { message, .. }) if message.contains("already exists in network") => Ok(()),
        Err(EngineError::Refused { message, .. }) if message.contains("is already attached") => Ok(()),
        result => result,
    }
}

/// A container's place on a network, as requested.
pub(super) fn endpoint(aliases: &[String], address: Option<std::net::Ipv4Addr>) -> EndpointSettings {
    let fixed = address.map(|address| EndpointIpamConfig { ipv4_address: Some(address.to_string()), ..EndpointIpamConfig::default() });
    EndpointSettings { aliases: Some(aliases.to_vec()), ipam_config: fixed, ..EndpointSettings::default() }
}

async fn owner_of(client: &Client, container: &str) -> Result<Option<OwnerId>, EngineError> {
    let document = containers::document(client, container).await?;
    Ok(document.and_then(|document| document.labels()).map(|labels| labels.owner))
}

async fn cut(client: &Client, network: &str, container: &str) -> Result<(), EngineError> {
    let request = NetworkDisconnectRequest { container: container.to_owned(), force: Some(true) };
    match client.docker.disconnect_network(network, request).await.map_err(client.explain("disconnect a container from the network")) {
        // It left by itself.
        Err(EngineError::NotFound { .. } | EngineError::Refused { .. }) => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlap_is_recognised_in_the_words_of_every_engine() {
        for message in [
            "Pool overlaps with other one on this address space",
            "invalid pool request: Pool overlaps with other one on this address space",
            "cannot create network 1 (br-1): conflicts with network 2 (br-2): networks have overlapping IPv4",
            "subnet 10.1.0.0/24 is already used on the host or by another config: subnet is already used",
        ] {
            assert!(overlaps(message), "{message}");
        }
    }

    #[test]
    fn a_network_is_read_with_absent_and_new_fields() {
        let json = r#"{"Id":"1","Name":"n","New":1,"Labels":{"dev.devenv.owner":"o"},"IPAM":{"Driver":"default","Config":[{"Subnet":"fd00::/64"},{"Subnet":"10.1.0.0/24"}]}}"#;
        let network: NetworkDocument = serde_json::from_str(json).unwrap();
        assert_eq!(network.observed().unwrap().subnet, Some("10.1.0.0/24".parse().unwrap()));
        let bare: NetworkDocument = serde_json::from_str(r#"{"Id":"1","Name":"host","IPAM":{"Config":null},"Labels":null}"#).unwrap();
        assert_eq!(bare.observed(), None);
    }
}
