//! The networks of a service and the ports that it publishes.

use devenv_document::{source::Span, spelling::did_you_mean, tree::Node};
use serde_json::{Map, Value, json};

use crate::ports::ports;

use super::Converter;

impl Converter<'_, '_> {
    pub(super) fn ports(&mut self) {
        let mut expose = Vec::new();
        let mut fixed = Map::new();
        let mut publish = Vec::new();
        let copies = self.project.copies.get(self.name).copied().unwrap_or(1);
        for port in ports(self.node, &mut self.project.values()) {
            let published = match port.published {
                Some(_) if copies > 1 && port.choice < copies => {
                    let span = self.node.get("ports").map_or(self.key, |node| node.span);
                    let message = format!(
                        "port {} of the host can be published by one container, but `{}` has {copies} copies",
                        port.published.unwrap_or_default(),
                        self.name
                    );
                    self.project.findings.error(span, "port-taken", message).hint(format!(
                        "leave the port of the host out, or give a range: `8000-{}:{}`",
                        7999 + copies,
                        port.target
                    ));
                    continue;
                }
                published => published.map(|first| first + (self.copy - 1).min(port.choice - 1)),
            };
            let loopback = port.address.as_deref().is_none_or(|address| address == "127.0.0.1");
            let known = fixed.contains_key(&port.target.to_string()) || expose.contains(&port.target);
            match published {
                None if loopback && !port.udp && !known => expose.push(port.target),
                Some(host) if loopback && !port.udp && !known => {
                    fixed.insert(port.target.to_string(), json!(host));
                }
                published => {
                    let mut value = Map::from_iter([("port".to_owned(), json!(port.target))]);
                    if let Some(host) = published {
                        value.insert("host".to_owned(), json!(host));
                    }
                    // Without an address it is the loopback.
                    if let Some(address) = port.address.filter(|address| address != "127.0.0.1") {
                        value.insert("address".to_owned(), json!(address));
                    }
                    if port.udp {
                        value.insert("protocol".to_owned(), json!("udp"));
                    }
                    publish.push(Value::from(value));
                }
            }
        }
        if !expose.is_empty() {
            self.set("expose", expose);
        }
        if !publish.is_empty() {
            self.set("publish", publish);
        }
        if !fixed.is_empty() {
            self.service.insert("ports".to_owned(), fixed.into());
        }
    }

    pub(super) fn networks(&mut self) {
        if self.copy > 1 {
            self.aliases.push(self.project.copy_name(self.name, 1));
        }
        if self.project.copy_name(self.name, 1) != self.name {
            self.aliases.push(self.name.to_owned());
        }
        if let Some(name) = self.project.values().text(self.node, "container_name") {
            self.aliases.push(name);
        }
        let linked = self.project.root.get("services").into_iter().flat_map(Node::entries);
        let links = linked.flat_map(|(_, entry)| entry.node.get("links").into_iter().flat_map(Node::items)).filter_map(Node::text);
        self.aliases
            .extend(links.filter_map(|link| link.split_once(':')).filter(|(of, _)| *of == self.name).map(|(_, alias)| alias.to_owned()));
        let mode = self.project.values().text(self.node, "network_mode");
        match mode.as_deref() {
            None | Some("" | "bridge" | "default") => {}
            Some("host" | "none") => self.set("network_mode", mode.unwrap_or_default()),
            Some(other) => {
                let span = self.node.get("network_mode").map_or(self.key, |node| node.span);
                match self.shared_with(other, span, "network_mode") {
                    Some(mode) => self.set("network_mode", mode),
                    None => return,
                }
            }
        }
        let mut attached = Map::new();
        let names: Vec<(String, Node, Span)> = self
            .node
            .get("networks")
            .into_iter()
            .flat_map(Node::entries)
            .map(|(name, entry)| (name.to_owned(), entry.node.clone(), entry.key))
            .collect();
        let mut names: Vec<_> = names
            .into_iter()
            .map(|(name, node, span)| (self.project.values().number::<i64>(&node, "priority").unwrap_or(0), name, node, span))
            .collect();
        names.sort_by_key(|(priority, ..)| -priority);
        for (_, name, node, span) in names {
            let defined = self.project.root.get("networks").is_some_and(|networks| networks.entry(&name).is_some());
            if !defined && name != "default" {
                let known: Vec<&str> =
                    self.project.root.get("networks").into_iter().flat_map(Node::entries).map(|(name, _)| name).collect();
                let hint = did_you_mean(&name, known).unwrap_or_else(|| format!("add `{name}:` under `networks` at the top level"));
                self.project.findings.error(span, "unknown-network", format!("the network `{name}` is not defined")).hint(hint);
                continue;
            }
            let mut value = Map::new();
            let aliases = self.project.values().texts(&node, "aliases");
            if !aliases.is_empty() {
                value.insert("aliases".to_owned(), json!(aliases));
            }
            if let Some(address) = self.project.values().text(&node, "ipv4_address") {
                value.insert("address".to_owned(), json!(address));
            }
            attached.insert(name, value.into());
        }
        if attached.is_empty() && self.project.default_network_is_defined() && !self.container.contains_key("network_mode") {
            attached.insert("default".to_owned(), json!({}));
        }
        let aliases = std::mem::take(&mut self.aliases);
        if attached.is_empty() {
            self.set_aliases(aliases);
            return;
        }
        for value in attached.values_mut().filter_map(Value::as_object_mut).filter(|_| !aliases.is_empty()) {
            let list = value.entry("aliases").or_insert_with(|| json!([]));
            for alias in aliases.iter().map(|alias| json!(alias)) {
                if let Some(list) = list.as_array_mut().filter(|list| !list.contains(&alias)) {
                    list.push(alias);
                }
            }
        }
        // The environment's own network goes without saying.
        let own = attached.len() == 1 && !self.project.default_network_is_defined();
        let own = own.then(|| attached.get("default")).flatten().filter(|value| value.get("address").is_none());
        match own {
            Some(value) => {
                let aliases = value["aliases"].as_array().into_iter().flatten();
                self.set_aliases(aliases.filter_map(Value::as_str).map(str::to_owned).collect());
            }
            None => self.set("networks", attached),
        }
    }

    fn set_aliases(&mut self, mut aliases: Vec<String>) {
        let mut seen = std::collections::HashSet::new();
        aliases.retain(|alias| seen.insert(alias.clone()));
        if !aliases.is_empty() {
            self.set("aliases", aliases);
        }
    }
}
