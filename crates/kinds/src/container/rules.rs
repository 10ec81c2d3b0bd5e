//! Rules for image, ports and volumes.

use std::collections::BTreeSet;

use devenv_document::{
    source::Findings,
    tree::{Content, Node},
    value::{image_name, positive},
};

use super::ContainerKind;
use crate::capability::{KindReload, Rules, ServiceNode};

impl Rules for ContainerKind {
    fn check(&self, service: &ServiceNode<'_>, _services: &[ServiceNode<'_>], findings: &mut Findings) {
        let fields = service.fields;
        let images = [fields.entry("image"), service.node.entry("image")].into_iter().flatten().collect::<Vec<_>>();
        match (images.as_slice(), fields.entry("build")) {
            ([], None) if matches!(fields.content, Content::Map(_)) && !fields.entries().any(|(_, entry)| findings.touches(entry.key)) => {
                findings
                    .error(
                        service.key,
                        "missing-field",
                        format!("`{}` needs an image: set `image` or `build` under `container`", service.name),
                    )
                    .hint("write `image: name:tag`, or `build: { context: . }`");
            }
            ([image, ..], Some(_)) => {
                findings
                    .error(image.key, "too-many", format!("`{}` has both `image` and `build`, but only one is allowed", service.name))
                    .hint("remove one of them");
            }
            ([_, second], None) => {
                findings.error(second.key, "too-many", format!("`{}` has two images", service.name)).hint("remove one of them");
            }
            _ => {}
        }
        if let Some(image) = fields.get("image") {
            image_name(image, findings);
        }
        for port in fields.get("expose").into_iter().flat_map(Node::items) {
            positive(port, "expose", findings);
        }
        let mut targets = BTreeSet::new();
        for volume in fields.get("volumes").into_iter().flat_map(Node::items) {
            if let Some(source) = volume.get("source")
                && let Some(name) = source.text()
                && !name.starts_with(['.', '/'])
                && name.contains('/')
            {
                findings
                    .error(source.span, "bad-value", format!("`{name}` is neither a path nor the name of a volume"))
                    .hint(format!("write `./{name}` for a directory of the project"));
            }
            let Some(target) = volume.get("target") else { continue };
            let Some(path) = target.text() else { continue };
            if !path.starts_with('/') {
                findings.error(
                    target.span,
                    "bad-value",
                    format!("`target` must be an absolute path in the container, but is {}", target.noun()),
                );
            } else if !targets.insert(path) {
                findings.error(target.span, "given-twice", format!("two volumes have the target `{path}`"));
            }
        }
    }

    fn is_own_program(&self) -> bool {
        true
    }

    fn port_hint(&self, service: &ServiceNode<'_>) -> Option<&'static str> {
        let exposed = service.fields.get("expose").is_some_and(|expose| expose.list().is_none_or(|items| !items.is_empty()));
        (!exposed).then_some("set `expose: [8080]` under `container`")
    }

    fn reloads(&self) -> &'static [KindReload] {
        &[KindReload { on_change: "sync", needs: None }, KindReload { on_change: "rebuild", needs: Some("build") }]
    }
}
