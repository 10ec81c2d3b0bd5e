//! The subnet of an environment: the one that its profile demands, or one that is free.

use devenv_api::{ApiError, ErrorCode};
use devenv_engine::UsedSubnet;
use devenv_profile::Profile;
use ipnet::{IpNet, Ipv4Net};

use super::Environments;
use crate::{
    error::{internal, no_engine},
    net,
    store::Record,
};

impl Environments {
    /// The subnet that the environment keeps, or that it gets if it comes up now. An error if the profile demands one that is in use.
    pub(super) async fn subnet(&self, record: &Record, profile: &Profile) -> Result<Ipv4Net, ApiError> {
        let planned = profile.network.subnet.as_ref().and_then(|subnet| subnet.parse().ok());
        match (planned, record.subnet) {
            (None, Some(subnet)) => Ok(subnet),
            (None, None) => {
                let mut taken = self.shared.engine.subnets().await.map_err(|error| no_engine(&error))?;
                taken.extend(net::host_routes());
                net::choose_subnet(&record.id, &taken).map_err(internal)
            }
            (Some(planned), _) => {
                let used = self.shared.engine.used_subnets().await.map_err(|error| no_engine(&error))?;
                accept(planned, record, &used, &net::host_routes())
            }
        }
    }
}

/// The subnet that the profile demands, unless it is in use.
fn accept(planned: Ipv4Net, record: &Record, used: &[UsedSubnet], routes: &[IpNet]) -> Result<Ipv4Net, ApiError> {
    let is_own = |used: &&UsedSubnet| used.labels.as_ref().is_some_and(|labels| labels.environment == record.id);
    if used.iter().any(|used| is_own(&used)) {
        // Its own networks have the host's routes by now.
        return match record.subnet {
            Some(subnet) if subnet != planned => Err(ApiError::new(
                ErrorCode::Conflict,
                format!("the environment runs on the subnet {subnet}, and its profile demands {planned}"),
            )
            .hint("run `devenv down` and then `devenv up`: the subnet of a network cannot change while services use it")),
            _ => Ok(planned),
        };
    }
    if let Some(other) = used.iter().find(|used| net::overlaps(&used.subnet, planned)) {
        let owner = match &other.labels {
            Some(labels) => {
                format!("the environment `{}` (instance `{}` of the project {})", labels.environment, labels.instance, labels.project)
            }
            None => format!("the network `{}` of the engine", other.network),
        };
        let message = format!("the subnet {planned} of the profile overlaps {}, which {owner} uses", other.subnet);
        return Err(ApiError::new(ErrorCode::Conflict, message).hint(
            "write another `network.subnet` in the profile, or run `devenv down` for the other environment; `devenv list --subnets` shows \
             the subnets of this state directory",
        ));
    }
    if let Some(route) = routes.iter().find(|route| net::overlaps(route, planned)) {
        let message =
            format!("the subnet {planned} of the profile overlaps {route}, to which this host has a route, such as that of a VPN");
        return Err(ApiError::new(ErrorCode::Conflict, message).hint("write another `network.subnet` in the profile"));
    }
    Ok(planned)
}

#[cfg(test)]
mod tests {
    use devenv_engine::{Labels, OwnerId};
    use devenv_spec::EnvironmentId;

    use super::*;

    fn used(subnet: &str, environment: Option<&str>) -> UsedSubnet {
        let labels = environment.map(|environment| Labels {
            owner: OwnerId("o".to_owned()),
            environment: EnvironmentId::recorded(environment),
            project: "/p/shop".to_owned(),
            instance: "two".to_owned(),
            service: None,
            spec: None,
            role: None,
        });
        UsedSubnet { subnet: subnet.parse().unwrap(), network: "lan".to_owned(), labels }
    }

    fn accepted(planned: &str, kept: Option<&str>, used: &[UsedSubnet], routes: &[&str]) -> Result<(), String> {
        let mut record = Record::new(EnvironmentId::recorded("own"), "/p/own".into(), "default".to_owned());
        record.subnet = kept.map(|subnet| subnet.parse().unwrap());
        let routes: Vec<IpNet> = routes.iter().map(|route| route.parse().unwrap()).collect();
        accept(planned.parse().unwrap(), &record, used, &routes).map(drop).map_err(|error| error.message)
    }

    #[test]
    fn a_subnet_that_another_environment_uses_is_refused_by_the_name_of_that_environment() {
        let refused = accepted("10.10.0.0/16", None, &[used("10.10.3.0/26", Some("shop-two-1"))], &[]).unwrap_err();
        assert!(refused.contains("10.10.0.0/16") && refused.contains("`shop-two-1`") && refused.contains("/p/shop"), "{refused}");
        let refused = accepted("10.10.3.0/26", None, &[used("10.10.0.0/16", None)], &[]).unwrap_err();
        assert!(refused.contains("the network `lan`"), "{refused}");
        assert_eq!(accepted("10.10.3.0/26", None, &[used("10.10.4.0/26", Some("shop-two-1")), used("fd00::/64", None)], &[]), Ok(()));
    }

    #[test]
    fn a_subnet_to_which_the_host_has_a_route_is_refused_unless_it_is_the_environments_own() {
        let refused = accepted("10.10.0.0/16", None, &[], &["10.0.0.0/8"]).unwrap_err();
        assert!(refused.contains("10.0.0.0/8"), "{refused}");
        let own = [used("10.10.0.0/17", Some("own"))];
        assert_eq!(accepted("10.10.0.0/16", Some("10.10.0.0/16"), &own, &["10.10.0.0/17"]), Ok(()));
    }

    #[test]
    fn the_subnet_of_an_environment_that_runs_is_not_changed() {
        let refused = accepted("10.10.0.0/16", Some("10.213.0.0/26"), &[used("10.213.0.0/26", Some("own"))], &[]).unwrap_err();
        assert!(refused.contains("10.213.0.0/26") && refused.contains("10.10.0.0/16"), "{refused}");
        assert_eq!(accepted("10.10.0.0/16", Some("10.213.0.0/26"), &[], &[]), Ok(()));
    }
}
