//! Volumes, memory, and files with settings and secrets.

use serde_json::{Map, Value, json};

use super::{Renderer, escaped, escaped_text};
use crate::mounts::{anonymous, is_image};

impl Renderer {
    /// Whether it had no name in a Compose file, and needs none: no other service uses it.
    pub(super) fn is_nameless(&self, service: &str, volume: &Value) -> bool {
        let source = volume["source"].as_str().unwrap_or_default();
        volume.get("of").is_none()
            && source == anonymous(volume["target"].as_str().unwrap_or_default())
            && !self.lent.contains(&(service.to_owned(), source.to_owned()))
    }

    pub(super) fn storage(&mut self, name: &str, container: &Value, rendered: &mut Map<String, Value>) {
        let mut volumes = Vec::new();
        for volume in container["volumes"].as_array().into_iter().flatten() {
            let source = volume["source"].as_str().unwrap_or_default();
            let bind = source.starts_with(['.', '/']);
            if is_image(source) {
                volumes.push(self.image(source, volume));
                continue;
            }
            let mut value = Map::new();
            value.insert("type".to_owned(), json!(if bind { "bind" } else { "volume" }));
            if bind {
                value.insert("source".to_owned(), escaped(&volume["source"]));
            } else if volume["external"] == true {
                self.volumes.insert(source.to_owned(), json!({ "external": true }));
                value.insert("source".to_owned(), json!(source));
            } else if !self.is_nameless(name, volume) {
                let owner = volume["of"].as_str().unwrap_or(name);
                let shared = self.owners.get(source).is_some_and(|owners| owners.len() > 1);
                let source = if shared { format!("{owner}-{source}") } else { source.to_owned() };
                self.volumes.insert(source.clone(), json!({}));
                value.insert("source".to_owned(), json!(source));
            }
            value.insert("target".to_owned(), escaped(&volume["target"]));
            if volume["read_only"] == true {
                value.insert("read_only".to_owned(), json!(true));
            }
            if bind {
                let mut options = Map::from_iter([("create_host_path".to_owned(), json!(volume["create"] == true))]);
                for field in ["propagation", "selinux"] {
                    if let Some(option) = volume.get(field) {
                        options.insert(field.to_owned(), option.clone());
                    }
                }
                value.insert("bind".to_owned(), options.into());
            } else {
                let mut options = Map::new();
                if volume["no_copy"] == true {
                    options.insert("nocopy".to_owned(), json!(true));
                }
                if let Some(path) = volume.get("subpath") {
                    options.insert("subpath".to_owned(), escaped(path));
                }
                if !options.is_empty() {
                    value.insert("volume".to_owned(), options.into());
                }
            }
            volumes.push(Value::from(value));
        }
        if !volumes.is_empty() {
            rendered.insert("volumes".to_owned(), volumes.into());
        }
        let mut memory = Vec::new();
        for (target, options) in container["tmpfs"].as_object().into_iter().flatten() {
            let options = options.as_str().unwrap_or_default();
            let size = crate::words::size(options).map(|_| format!("size={options}"));
            let options = size.unwrap_or_else(|| options.to_owned());
            memory.push(if options.is_empty() { target.clone() } else { format!("{target}:{options}") });
        }
        if !memory.is_empty() {
            rendered.insert("tmpfs".to_owned(), escaped(&json!(memory)));
        }
        self.files(name, container, rendered);
    }

    /// A mount of the files of an image.
    fn image(&self, source: &str, volume: &Value) -> Value {
        let name = match source.strip_prefix("service:") {
            Some(service) => json!(self.images.get(service)),
            None => escaped(&json!(source.trim_start_matches("docker-image://"))),
        };
        let mut value = json!({ "type": "image", "source": name, "target": escaped(&volume["target"]) });
        if volume["read_only"] == true {
            value["read_only"] = json!(true);
        }
        if let Some(path) = volume.get("subpath") {
            value["image"] = json!({ "subpath": escaped(path) });
        }
        value
    }

    /// Each file is a config or a secret at the top level of the file.
    fn files(&mut self, name: &str, container: &Value, rendered: &mut Map<String, Value>) {
        let (mut configs, mut secrets) = (Vec::new(), Vec::new());
        for (field, list) in [("config_files", &mut configs), ("secret_files", &mut secrets)] {
            for (path, file) in container[field].as_object().into_iter().flatten() {
                let words: String = path.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
                let id = format!("{name}{words}");
                let mut used = Map::from_iter([("source".to_owned(), json!(id)), ("target".to_owned(), json!(path))]);
                for field in ["uid", "gid"] {
                    if let Some(value) = file.get(field) {
                        used.insert(field.to_owned(), json!(value.to_string()));
                    }
                }
                if let Some(mode) = file.get("mode") {
                    used.insert("mode".to_owned(), mode.clone());
                }
                let content = file["content"].as_str();
                let variable =
                    content.and_then(|content| content.strip_prefix("${")?.strip_suffix('}')).filter(|_| field == "secret_files");
                let named = file["secret"].as_str().and_then(|name| self.declared.get(name));
                let definition = match (variable, content) {
                    _ if named.is_some() => named.cloned().unwrap_or_default(),
                    (Some(variable), _) => json!({ "environment": variable }),
                    (None, Some(content)) => json!({ "content": escaped_text(content) }),
                    (None, None) => json!({ "file": file["file"] }),
                };
                if field == "secret_files" { &mut self.secrets } else { &mut self.configs }.insert(id, definition);
                list.push(Value::from(used));
            }
        }
        for (section, list) in [("configs", configs), ("secrets", secrets)] {
            if !list.is_empty() {
                rendered.insert(section.to_owned(), list.into());
            }
        }
    }
}
