//! Mounts of a service: short and long forms to the volumes, files and memory of a profile.

use devenv_document::tree::{Content, Node};
use indexmap::IndexMap;
use serde_json::{Map, Value, json};

use crate::{
    project::{Device, Project, Volume},
    values::Values,
    words,
};

/// So many services may take each other's mounts in a row.
const DEEPEST: usize = 16;

/// What a service mounts, as a profile says it.
#[derive(Debug, Default)]
pub(crate) struct Mounts {
    pub(crate) volumes: Vec<Value>,
    /// By path.
    pub(crate) memory: Map<String, Value>,
}

/// One mount, in whichever form.
struct Mount {
    kind: String,
    source: Option<String>,
    target: String,
    more: Map<String, Value>,
}

pub(crate) fn mounts(name: &str, service: &Node, project: &mut Project<'_>) -> Mounts {
    let mut own = own(name, service, project);
    for value in others(service, 0, project) {
        if own.volumes.iter().all(|known| known["target"] != value["target"]) {
            own.volumes.push(value);
        }
    }
    own
}

/// The mounts of the services that `volumes_from` names, as this one has them.
fn others(service: &Node, depth: usize, project: &mut Project<'_>) -> Vec<Value> {
    let mut volumes = Vec::new();
    for item in service.get("volumes_from").into_iter().flat_map(Node::items) {
        let text = item.text().unwrap_or_default();
        let (name, mode) = text.split_once(':').unwrap_or((text, "rw"));
        if name == "container" {
            project
                .findings
                .error(item.span, "not-supported", format!("`{text}` is a container outside of the file"))
                .hint("mount its volumes by name, with `external: true`");
            continue;
        }
        if !matches!(mode, "rw" | "ro") {
            project.findings.error(item.span, "bad-value", format!("`{text}` must end with `:ro` or `:rw`"));
        }
        // One that does not exist is reported with what the service depends on.
        let Some(other) = project.root.get("services").and_then(|services| services.get(name)) else { continue };
        if depth >= DEEPEST {
            project.findings.error(item.span, "volumes-cycle", "these services take each other's volumes, or too many in a row");
            return volumes;
        }
        let owner = project.copy_name(name, 1);
        // What is wrong with its mounts is reported there.
        let before = project.findings.len();
        let found = own(&owner, other, project).volumes;
        project.findings.retain_since(before, |_| false);
        for mut volume in found.into_iter().map(|volume| of_service(volume, &owner)).chain(others(other, depth + 1, project)) {
            if mode == "ro" {
                volume["read_only"] = json!(true);
            }
            volumes.push(volume);
        }
    }
    volumes
}

/// A mount of a service as another service has it: a volume of its own stays the first one's.
pub(crate) fn of_service(mut volume: Value, owner: &str) -> Value {
    let named = |source: &str| !source.starts_with(['.', '/']) && !is_image(source);
    let own = volume["source"].as_str().is_some_and(named) && volume["external"] != true;
    if own && volume.get("of").is_none() {
        volume["of"] = json!(owner);
    }
    volume
}

/// The name of a volume without one, made from its path: it is kept across `up`, as Compose keeps it.
pub(crate) fn anonymous(target: &str) -> String {
    let words: String = target.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    format!("anonymous{words}")
}

/// Whether the source of a mount is an image.
pub(crate) fn is_image(source: &str) -> bool {
    source.starts_with("docker-image://") || source.starts_with("service:")
}

/// What the service itself mounts.
fn own(name: &str, service: &Node, project: &mut Project<'_>) -> Mounts {
    // Of two for the same place in the container, the later one.
    let mut found: IndexMap<String, (Mount, &Node)> = IndexMap::new();
    if let Some(node) = service.get("volumes") {
        if !matches!(node.content, Content::List(_) | Content::Null) {
            project.values().wrong(node.span, "volumes", "a list", node);
        }
        for item in node.items() {
            let mount = match item.text() {
                Some(text) => short(text),
                None => long(item, &mut project.values()),
            };
            match mount {
                Ok(mount) if !mount.target.starts_with('/') => {
                    let message = format!("`{}` is not an absolute path in the container", mount.target);
                    project.findings.error(item.span, "bad-value", message);
                }
                Ok(mount) => {
                    found.insert(mount.target.trim_end_matches('/').to_owned(), (mount, item));
                }
                // It is reported already.
                Err(reason) if reason.is_empty() => {}
                Err(reason) => {
                    project
                        .findings
                        .error(item.span, "bad-volume", format!("{} is not a volume: {reason}", item.noun()))
                        .hint("write `name:/path`, `./directory:/path:ro`, or a mapping with `type`, `source` and `target`");
                }
            }
        }
    }
    let mut mounts = Mounts::default();
    for (mount, item) in found.into_values() {
        add(name, mount, item, project, &mut mounts);
    }
    let texts = project.values().texts(service, "tmpfs");
    for text in texts {
        let (target, options) = text.split_once(':').unwrap_or((&text, ""));
        let size = options.strip_prefix("size=").filter(|size| !size.contains(',')).and_then(words::size);
        let options = size.map_or_else(|| options.to_owned(), words::size_of_profile);
        mounts.memory.insert(target.to_owned(), json!(options));
    }
    mounts
}

fn short(text: &str) -> Result<Mount, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, modes) = match parts.as_slice() {
        [target] => (None, *target, ""),
        [source, target] => (Some(*source), *target, ""),
        [source, target, modes] => (Some(*source), *target, *modes),
        _ => return Err("it has too many parts".to_owned()),
    };
    if source == Some("") {
        return Err("its source is empty".to_owned());
    }
    let bind = source.is_some_and(|source| source.starts_with(['.', '/', '~']));
    let mut more = Map::new();
    if bind {
        more.insert("create".to_owned(), json!(true));
    }
    for mode in modes.split(',').filter(|mode| !mode.is_empty()) {
        match mode {
            "ro" => more.insert("read_only".to_owned(), json!(true)),
            "rw" | "cached" | "delegated" | "consistent" => None,
            "z" | "Z" => more.insert("selinux".to_owned(), json!(mode)),
            "nocopy" => more.insert("no_copy".to_owned(), json!(true)),
            "shared" | "rshared" | "slave" | "rslave" | "private" | "rprivate" => more.insert("propagation".to_owned(), json!(mode)),
            other => return Err(format!("the mode `{other}` is not known")),
        };
    }
    let kind = if bind { "bind" } else { "volume" };
    Ok(Mount { kind: kind.to_owned(), source: source.map(str::to_owned), target: target.to_owned(), more })
}

fn long(item: &Node, values: &mut Values<'_>) -> Result<Mount, String> {
    if item.map().is_none() {
        return Err("it is neither text nor a mapping".to_owned());
    }
    let kind = match item.get("type").and_then(Node::text) {
        None => return Err("its `type` is missing".to_owned()),
        Some(_) => values.choice(item, "type", &["volume", "bind", "tmpfs", "image"]).ok_or("")?,
    };
    let target = values.text(item, "target").ok_or("`target` is missing")?;
    let source = values.text(item, "source");
    let mut more = Map::new();
    if values.boolean(item, "read_only") == Some(true) {
        more.insert("read_only".to_owned(), json!(true));
    }
    if kind == "bind" {
        let create = item.get("bind").is_none_or(|bind| values.boolean(bind, "create_host_path") != Some(false));
        if create {
            more.insert("create".to_owned(), json!(true));
        }
    }
    if let Some(bind) = item.get("bind") {
        for name in ["propagation", "selinux"] {
            if let Some(text) = values.text(bind, name) {
                more.insert(name.to_owned(), json!(text));
            }
        }
    }
    if let Some(volume) = item.get("volume") {
        if values.boolean(volume, "nocopy") == Some(true) {
            more.insert("no_copy".to_owned(), json!(true));
        }
        if let Some(path) = values.text(volume, "subpath").filter(|path| !path.is_empty()) {
            more.insert("subpath".to_owned(), json!(path));
        }
    }
    if let Some(path) = item.get("image").and_then(|image| values.text(image, "subpath")).filter(|path| !path.is_empty()) {
        more.insert("subpath".to_owned(), json!(path));
    }
    if let Some(tmpfs) = item.get("tmpfs") {
        if let Some(size) = values.size(tmpfs, "size") {
            more.insert("size".to_owned(), json!(words::size_of_profile(size)));
        }
        if let Some(mode) = values.text(tmpfs, "mode") {
            more.insert("mode".to_owned(), json!(mode));
        }
    }
    Ok(Mount { kind, source, target, more })
}

/// The files of an image; of a service of the file if that is whose image it is.
fn image(source: &str, project: &Project<'_>) -> String {
    let services = project.root.get("services").into_iter().flat_map(Node::entries);
    let builds = |node: &Node| node.get("build").is_some() && node.get("image").and_then(Node::text) == Some(source);
    let service = services.into_iter().find(|(name, entry)| project.enabled.contains(*name) && builds(&entry.node));
    let service = service.and_then(|(name, _)| project.names.get(name));
    service.map_or_else(|| format!("docker-image://{source}"), |name| format!("service:{name}"))
}

fn add(name: &str, mount: Mount, item: &Node, project: &mut Project<'_>, mounts: &mut Mounts) {
    let Mount { kind, source, target, more } = mount;
    let mut value = Map::new();
    match (kind.as_str(), source) {
        ("tmpfs", _) => {
            let size = more.get("size").and_then(Value::as_str);
            let mode = more.get("mode").and_then(Value::as_str);
            let options = match (size, mode) {
                (size, None) => size.unwrap_or_default().to_owned(),
                (size, Some(mode)) => {
                    let size = size.and_then(words::size).map(|size| format!("size={size},")).unwrap_or_default();
                    format!("{size}mode={}", mode.trim_start_matches("0o"))
                }
            };
            mounts.memory.insert(target, json!(options));
            return;
        }
        ("bind", None) => {
            project.findings.error(item.span, "missing-field", "a bind mount needs `source`");
            return;
        }
        ("bind", Some(source)) => {
            let source = match source.strip_prefix('~') {
                Some(rest) => format!("{}{rest}", project.environment.get("HOME").map_or("~", String::as_str)),
                None => source,
            };
            // Where a path is wanted, a plain name is one.
            let source = if source.starts_with(['.', '/']) { source } else { format!("./{source}") };
            value.insert("source".to_owned(), json!(source));
        }
        ("image", None) => {
            project.findings.error(item.span, "missing-field", "a mount of an image needs `source`, the image's name");
            return;
        }
        ("image", Some(source)) => {
            value.insert("source".to_owned(), json!(image(&source, project)));
        }
        (_, None) => {
            value.insert("source".to_owned(), json!(anonymous(&target)));
        }
        (_, Some(source)) => match project.volume(&source, item.span) {
            None => return,
            Some(Volume { device: Some(Device::Path(path)), .. }) => {
                value.insert("source".to_owned(), json!(path));
            }
            Some(Volume { device: Some(Device::Memory(options)), .. }) => {
                mounts.memory.insert(target, json!(options));
                return;
            }
            Some(volume) if volume.external => {
                value.insert("source".to_owned(), json!(volume.name));
                value.insert("external".to_owned(), json!(true));
            }
            Some(volume) => {
                value.insert("source".to_owned(), json!(volume.name));
                if volume.owner != name {
                    value.insert("of".to_owned(), json!(volume.owner));
                }
            }
        },
    }
    value.insert("target".to_owned(), json!(target));
    // In one order, however it was written.
    for field in ["create", "read_only", "selinux", "no_copy", "propagation", "subpath"] {
        if let Some(option) = more.get(field) {
            value.insert(field.to_owned(), option.clone());
        }
    }
    mounts.volumes.push(value.into());
}
