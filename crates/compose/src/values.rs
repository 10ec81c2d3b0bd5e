//! Reads values of the types that keys have; what does not fit is reported at its place.

use std::str::FromStr;

use devenv_document::{
    source::{Findings, Span},
    tree::{Content, Node, shortened},
};
use indexmap::IndexMap;

use crate::words;

pub(crate) struct Values<'a> {
    pub(crate) findings: &'a mut Findings,
}

impl Values<'_> {
    pub(crate) fn wrong(&mut self, span: Span, name: &str, wanted: &str, found: &Node) {
        self.findings.error(span, "wrong-type", format!("`{name}` must be {wanted}, but is {}", found.noun()));
    }

    pub(crate) fn text(&mut self, owner: &Node, name: &str) -> Option<String> {
        let node = owner.get(name)?;
        match &node.content {
            Content::Scalar(scalar) => Some(scalar.text.clone()),
            Content::Null => None,
            _ => {
                self.wrong(node.span, name, "text", node);
                None
            }
        }
    }

    pub(crate) fn boolean(&mut self, owner: &Node, name: &str) -> Option<bool> {
        let node = owner.get(name).filter(|node| !matches!(node.content, Content::Null))?;
        match node.text().unwrap_or_default().to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "y" | "1" => Some(true),
            "false" | "no" | "off" | "n" | "0" => Some(false),
            _ => {
                self.wrong(node.span, name, "`true` or `false`", node);
                None
            }
        }
    }

    pub(crate) fn number<T: FromStr>(&mut self, owner: &Node, name: &str) -> Option<T> {
        let node = owner.get(name).filter(|node| !matches!(node.content, Content::Null))?;
        let number = node.text().and_then(|text| text.trim().parse().ok());
        if number.is_none() {
            self.wrong(node.span, name, "a number", node);
        }
        number
    }

    /// In milliseconds.
    pub(crate) fn duration(&mut self, owner: &Node, name: &str) -> Option<u64> {
        let node = owner.get(name).filter(|node| !matches!(node.content, Content::Null))?;
        let duration = node.text().and_then(words::duration);
        if duration.is_none() {
            self.findings
                .error(node.span, "bad-duration", format!("`{name}` must be a duration, but is {}", node.noun()))
                .hint("write numbers and units: `300ms`, `30s`, `1m30s`");
        }
        duration
    }

    /// In bytes.
    pub(crate) fn size(&mut self, owner: &Node, name: &str) -> Option<u64> {
        let node = owner.get(name).filter(|node| !matches!(node.content, Content::Null))?;
        let size = node.text().and_then(words::size);
        if size.is_none() {
            self.findings
                .error(node.span, "bad-size", format!("`{name}` must be a size, but is {}", node.noun()))
                .hint("write a number and a unit: `512k`, `64m`, `1g`");
        }
        size
    }

    /// A list of texts, or one text.
    pub(crate) fn texts(&mut self, owner: &Node, name: &str) -> Vec<String> {
        let Some(node) = owner.get(name) else { return Vec::new() };
        match &node.content {
            Content::Null => Vec::new(),
            Content::Scalar(scalar) => vec![scalar.text.clone()],
            Content::List(items) => {
                let mut texts = Vec::new();
                for item in items {
                    match item.text() {
                        Some(text) => texts.push(text.to_owned()),
                        None => self.wrong(item.span, name, "a list of texts", item),
                    }
                }
                let mut seen = std::collections::HashSet::new();
                texts.retain(|text| seen.insert(text.clone()));
                texts
            }
            Content::Map(_) => {
                self.wrong(node.span, name, "a list of texts", node);
                Vec::new()
            }
        }
    }

    /// A list of words, each as it is, or a text that is split as a shell splits it.
    pub(crate) fn command(&mut self, owner: &Node, name: &str) -> Option<Vec<String>> {
        let node = owner.get(name)?;
        match &node.content {
            Content::Null => None,
            Content::Scalar(scalar) => {
                let words = words::split(&scalar.text);
                if words.is_none() {
                    self.findings.error(
                        node.span,
                        "unclosed-quote",
                        format!("a quote in `{name}` is never closed: `{}`", shortened(&scalar.text)),
                    );
                }
                words
            }
            Content::List(items) => {
                let words: Option<Vec<String>> = items.iter().map(|item| item.text().map(str::to_owned)).collect();
                if words.is_none() {
                    self.wrong(node.span, name, "text or a list of texts", node);
                }
                words
            }
            Content::Map(_) => {
                self.wrong(node.span, name, "text or a list of texts", node);
                None
            }
        }
    }

    /// Names with their values; one without a value is `None`.
    pub(crate) fn pairs(&mut self, owner: &Node, name: &str) -> IndexMap<String, Option<String>> {
        let Some(node) = owner.get(name) else { return IndexMap::new() };
        let mut pairs = IndexMap::new();
        match &node.content {
            Content::Null => {}
            Content::Map(entries) => {
                for (key, entry) in entries {
                    match &entry.node.content {
                        Content::Null => {
                            pairs.insert(key.clone(), None);
                        }
                        Content::Scalar(scalar) => {
                            pairs.insert(key.clone(), Some(scalar.text.clone()));
                        }
                        _ => self.wrong(entry.node.span, key, "text", &entry.node),
                    }
                }
            }
            _ => self.wrong(node.span, name, "a mapping, or a list of `NAME=value`", node),
        }
        pairs
    }

    /// One of some words.
    pub(crate) fn choice(&mut self, owner: &Node, name: &str, known: &[&str]) -> Option<String> {
        let text = self.text(owner, name)?;
        if known.contains(&text.as_str()) {
            return Some(text);
        }
        let span = owner.get(name).map_or(owner.span, |node| node.span);
        let words = devenv_document::spelling::one_of(known.iter().copied());
        self.findings.error(span, "bad-value", format!("`{name}` must be {words}, but is `{}`", shortened(&text)));
        None
    }
}
