//! The images that a profile needs, as its kinds describe them.

use std::{collections::BTreeMap, path::Path};

use devenv_kinds::describe::{Context, Facts};
use devenv_profile::Profile;
use devenv_spec::{EnvironmentId, Image, Workload};
use indexmap::IndexMap;

/// Each once, in the profile's order. They depend on neither ports nor variables, so none are leased.
pub(super) fn images(profile: &Profile) -> Vec<Image> {
    let environment = EnvironmentId::of("", &profile.project, "default");
    let (no_ports, no_variables) = (BTreeMap::new(), IndexMap::new());
    let mut neighbours: IndexMap<_, Facts> = IndexMap::new();
    let mut images = IndexMap::new();
    // Twice, because a kind may ask for facts about a service that follows it.
    for _ in 0..2 {
        images.clear();
        let mut facts = IndexMap::new();
        for (name, service) in &profile.services {
            let cx = Context {
                environment: &environment,
                project: &profile.project,
                name,
                declared: service.declared(),
                ports: &no_ports,
                neighbours: &neighbours,
                variables: &no_variables,
                assets: &profile.assets,
                authority: Path::new(""),
                metrics_address: None,
            };
            facts.insert(name.clone(), service.kind.fields().facts(&cx));
            if !neighbours.is_empty()
                && let Workload::Container(container) = service.kind.fields().describe(&cx).workload
            {
                // The image of another service, `service:NAME`, is that service's.
                let mounted = container.mounts.iter().filter_map(|mount| mount.image.as_ref()).map(|files| files.image.clone());
                let mounted: Vec<_> = mounted.filter(|name| !name.starts_with("service:")).collect();
                images.insert(container.image.name().to_owned(), container.image);
                for name in mounted {
                    images.entry(name.clone()).or_insert(Image::Named(name));
                }
            }
        }
        neighbours = facts;
    }
    images.into_values().collect()
}
