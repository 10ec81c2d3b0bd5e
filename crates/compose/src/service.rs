//! One service of a Compose file as one service of a profile.

pub(crate) mod hooks;
mod lifecycle;
mod machine;
mod network;

use devenv_document::{
    env_file,
    source::Span,
    tree::{Content, Entry, Node},
};
use indexmap::IndexMap;
use serde_json::{Map, Value, json};

use crate::{
    build,
    files::{Placed, Sort, files},
    mounts::mounts,
    project::Project,
};

/// The service, or its copy of that number from 1.
pub(crate) fn service(name: &str, entry: &Entry, copy: u16, project: &mut Project<'_>) -> Value {
    let mut converter = Converter {
        name,
        node: &entry.node,
        key: entry.key,
        copy,
        project,
        service: Map::new(),
        container: Map::new(),
        aliases: Vec::new(),
    };
    converter.image();
    converter.program();
    converter.environment();
    converter.ports();
    converter.storage();
    converter.networks();
    converter.machine();
    converter.dependencies();
    converter.health();
    converter.ending();
    converter.hooks();
    converter.resources();
    converter.watch();
    converter.finish()
}

struct Converter<'a, 'p> {
    /// In the file.
    name: &'a str,
    node: &'a Node,
    key: Span,
    copy: u16,
    project: &'a mut Project<'p>,
    service: Map<String, Value>,
    container: Map<String, Value>,
    /// Names on its networks, besides its own.
    aliases: Vec<String>,
}

impl Converter<'_, '_> {
    fn finish(mut self) -> Value {
        let mut service = Map::new();
        service.insert("container".to_owned(), self.container.into());
        // Exactly the variables of the file.
        service.insert("variables_from".to_owned(), json!([]));
        service.append(&mut self.service);
        service.into()
    }

    fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.container.insert(name.to_owned(), value.into());
    }

    fn copy_text(&mut self, name: &str) {
        if let Some(text) = self.project.values().text(self.node, name).filter(|text| !text.is_empty()) {
            self.set(name, text);
        }
    }

    fn copy_texts(&mut self, name: &str, as_name: &str) {
        let texts = self.project.values().texts(self.node, name);
        if !texts.is_empty() {
            self.set(as_name, texts);
        }
    }

    fn copy_flag(&mut self, name: &str) {
        if self.project.values().boolean(self.node, name) == Some(true) {
            self.set(name, true);
        }
    }

    fn image(&mut self) {
        let image = self.project.values().text(self.node, "image").filter(|image| !image.is_empty());
        match (image, self.node.get("build").filter(|build| !matches!(build.content, Content::Null))) {
            (image, Some(build)) => {
                let mut value = build::build(build, self.project);
                if let Some(image) = image {
                    value.insert("image".to_owned(), json!(image));
                }
                self.set("build", value);
            }
            (Some(image), None) => {
                if image.contains(char::is_whitespace) {
                    let span = self.node.get("image").map_or(self.key, |node| node.span);
                    self.project.findings.error(span, "bad-value", format!("`image` must be an image name, but is `{image}`"));
                }
                self.set("image", image);
            }
            (None, None) if self.node.get("provider").is_none() => {
                let message = format!("the service `{}` has neither `image` nor `build`", self.name);
                self.project.findings.error(self.key, "missing-field", message);
            }
            (None, None) => {}
        }
        self.copy_text("platform");
        let known = ["missing", "if_not_present", "always", "never", "build", "daily", "weekly"];
        let policy = self.project.values().text(self.node, "pull_policy");
        match policy.as_deref() {
            Some("always") => self.set("pull", "always"),
            Some("never") => self.set("pull", "never"),
            Some(other) if !known.contains(&other) && !other.starts_with("every_") => {
                let span = self.node.get("pull_policy").map_or(self.key, |node| node.span);
                let message = format!("`pull_policy` must be one of {}, but is `{other}`", known.join(", "));
                self.project.findings.error(span, "bad-value", message);
            }
            _ => {}
        }
    }

    fn program(&mut self) {
        for name in ["entrypoint", "command"] {
            if let Some(words) = self.project.values().command(self.node, name) {
                self.set(name, words);
            }
        }
        for name in ["working_dir", "user", "hostname", "domainname"] {
            self.copy_text(name);
        }
        // What profiles add by themselves, Compose does not.
        let init = self.project.values().boolean(self.node, "init") == Some(true);
        self.set("init", init);
        self.set("host_alias", false);
        for name in ["tty", "stdin_open", "read_only", "privileged"] {
            self.copy_flag(name);
        }
    }

    /// Files first, then what the service itself says; a name without a value takes the one of the shell.
    fn environment(&mut self) {
        let mut variables: IndexMap<String, String> = IndexMap::new();
        let files: Vec<Node> = self.node.get("env_file").into_iter().flat_map(Node::items).cloned().collect();
        for file in files {
            let Some(path) = self.project.values().text(&file, "path") else {
                self.project.findings.error(file.span, "missing-field", "`env_file` needs a `path`");
                continue;
            };
            let required = self.project.values().boolean(&file, "required") != Some(false);
            let raw = self.project.values().text(&file, "format").is_some_and(|format| format == "raw");
            let span = file.get("path").map_or(file.span, |node| node.span);
            for (name, value) in read_variables(&path, span, required, raw, &variables, self.project) {
                variables.insert(name, value);
            }
        }
        for (name, value) in self.project.values().pairs(self.node, "environment") {
            match value.or_else(|| self.project.variable(&name)) {
                Some(value) => {
                    variables.insert(name, value);
                }
                // Compose leaves it out, so that the image's own counts.
                None => {
                    variables.shift_remove(&name);
                }
            }
        }
        if !variables.is_empty() {
            self.service.insert("environment".to_owned(), json!(variables));
        }
    }

    fn storage(&mut self) {
        let name = self.project.copy_name(self.name, self.copy);
        let mut mounts = mounts(&name, self.node, self.project);
        for (sort, field) in [(Sort::Config, "config_files"), (Sort::Secret, "secret_files")] {
            let mut written = Map::new();
            for placed in files(self.node, sort, self.project) {
                match placed {
                    Placed::Mounted(value) => mounts.volumes.push(value),
                    Placed::Written(path, value) => {
                        written.insert(path, value);
                    }
                }
            }
            if !written.is_empty() {
                self.set(field, written);
            }
        }
        if !mounts.volumes.is_empty() {
            self.set("volumes", mounts.volumes);
        }
        if !mounts.memory.is_empty() {
            self.set("tmpfs", mounts.memory);
        }
    }

    /// `service:NAME`, with the name that the service has in the profile.
    fn shared_with(&mut self, text: &str, span: Span, field: &str) -> Option<String> {
        let name = text.strip_prefix("service:");
        let known = name.and_then(|name| self.project.names.get(name)).cloned();
        if let Some(known) = known {
            let depends = self.service.entry("depends_on").or_insert_with(|| json!({}));
            depends.as_object_mut()?.entry(known.clone()).or_insert_with(|| json!("started"));
            return Some(format!("service:{known}"));
        }
        if text.strip_prefix("container:").is_some_and(|container| !container.is_empty()) {
            // One that is not of this file; it must run.
            return Some(text.to_owned());
        }
        let message = match name {
            Some(name) => format!("`{field}` names the service `{name}`, which does not exist"),
            None => format!("`{field}: {text}` is not supported"),
        };
        self.project.findings.error(span, "not-supported", message).hint("write `host`, `none` or `service:NAME`");
        None
    }
}

/// The variables of a file; those before may be used in its values.
fn read_variables(
    path: &str,
    span: Span,
    required: bool,
    raw: bool,
    before: &IndexMap<String, String>,
    project: &mut Project<'_>,
) -> IndexMap<String, String> {
    let on_disk = project.request.project.join(path);
    if !required && !project.files.has(&on_disk) {
        return IndexMap::new();
    }
    let text = match project.files.read(&on_disk).map(String::from_utf8) {
        Ok(Ok(text)) => text,
        Ok(Err(_)) => {
            project.findings.error(span, "not-utf8", format!("`{path}` is not UTF-8"));
            return IndexMap::new();
        }
        Err(reason) => {
            let hint = format!("create it, or write `required: false` if it is optional: {}", on_disk.display());
            project.findings.error(span, "missing-file", format!("`{path}` {reason}")).hint(hint);
            return IndexMap::new();
        }
    };
    if raw {
        let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
        return lines.filter_map(|line| line.split_once('=')).map(|(name, value)| (name.trim().to_owned(), value.to_owned())).collect();
    }
    let file = project.sources.add(path, text);
    let given = before.iter().map(|(name, value)| (name.clone(), env_file::Given { value: value.clone(), span })).collect();
    let parsed = env_file::parse(project.sources, file, &project.place.variables, &given, project.findings);
    parsed.into_iter().map(|(name, given)| (name, given.value)).collect()
}
