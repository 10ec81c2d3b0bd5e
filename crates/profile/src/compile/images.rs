//! Images that services take from one another: `service:NAME` in the contexts of builds, and in mounts. Pure.

use devenv_spec::{Image, ImageBuild, ServiceName, ServiceSpec, Workload};
use indexmap::IndexMap;

const OF_SERVICE: &str = "service:";

/// Puts images in place of the services that builds and mounts name. What does not exist was reported, and stays.
pub(super) fn resolve(services: &mut IndexMap<ServiceName, ServiceSpec>) {
    let images: IndexMap<ServiceName, Image> =
        services.iter().filter_map(|(name, service)| Some((name.clone(), service.container()?.image.clone()))).collect();
    let uses = |value: &str| value.strip_prefix(OF_SERVICE).is_some_and(|name| images.contains_key(name));
    for service in services.values_mut() {
        let Workload::Container(container) = &mut service.workload else { continue };
        if let Image::Built(build) = &mut container.image
            && build.options.contexts.values().any(|value| uses(value))
        {
            *build = resolved(build, &images);
        }
        for files in container.mounts.iter_mut().filter_map(|mount| mount.image.as_mut()) {
            let Some(image) = files.image.strip_prefix(OF_SERVICE).and_then(|name| images.get(name)) else { continue };
            if let Image::Built(build) = image {
                files.build = Some(resolved(build, &images));
            }
            image.name().clone_into(&mut files.image);
        }
    }
}

/// The build with the images in its contexts, and with what must be built first.
fn resolved(build: &ImageBuild, images: &IndexMap<ServiceName, Image>) -> ImageBuild {
    let mut build = build.clone();
    let mut first = Vec::new();
    before(&build, images, &mut vec![build.tag.clone()], &mut first);
    name_images(&mut build, images);
    build.options.first = first;
    build
}

/// All builds that a build needs, in their order, each once. `open` are those that wait for it: a circle was reported.
fn before(build: &ImageBuild, images: &IndexMap<ServiceName, Image>, open: &mut Vec<String>, found: &mut Vec<ImageBuild>) {
    for name in build.options.contexts.values().filter_map(|value| value.strip_prefix(OF_SERVICE)) {
        let Some(Image::Built(other)) = images.get(name) else { continue };
        if open.contains(&other.tag) || found.iter().any(|known| known.tag == other.tag) {
            continue;
        }
        open.push(other.tag.clone());
        before(other, images, open, found);
        open.pop();
        let mut other = other.clone();
        name_images(&mut other, images);
        found.push(other);
    }
}

fn name_images(build: &mut ImageBuild, images: &IndexMap<ServiceName, Image>) {
    for value in build.options.contexts.values_mut() {
        if let Some(image) = value.strip_prefix(OF_SERVICE).and_then(|name| images.get(name)) {
            *value = format!("docker-image://{}", image.name());
        }
    }
}
