//! A document as a tree of values with their positions and original text.

use indexmap::IndexMap;

use crate::source::{Findings, Span};

#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub span: Span,
    pub content: Content,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// Nothing, `~` or `null`.
    Null,
    Scalar(Scalar),
    List(Vec<Node>),
    Map(IndexMap<String, Entry>),
}

/// One key of a mapping with its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub key: Span,
    pub node: Node,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Scalar {
    pub text: String,
    /// Neither quoted nor a block: its type follows from its spelling.
    pub plain: bool,
    /// The result of interpolation, if there was any.
    pub filled: Option<Box<Filled>>,
}

/// A scalar with variables.
#[derive(Debug, Clone, PartialEq)]
pub struct Filled {
    /// As written in the file.
    pub written: String,
    /// The variables that were used.
    pub names: Vec<String>,
    /// Its problem, which is reported only if this value takes effect.
    pub trouble: Findings,
}

impl Node {
    pub fn map(&self) -> Option<&IndexMap<String, Entry>> {
        match &self.content {
            Content::Map(entries) => Some(entries),
            _ => None,
        }
    }

    pub fn list(&self) -> Option<&[Node]> {
        match &self.content {
            Content::List(items) => Some(items),
            _ => None,
        }
    }

    pub fn scalar(&self) -> Option<&Scalar> {
        match &self.content {
            Content::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }

    /// The text of a scalar; `None` if a variable in it is unset, which is reported elsewhere.
    pub fn text(&self) -> Option<&str> {
        self.scalar().filter(|scalar| !scalar.is_broken()).map(|scalar| scalar.text.as_str())
    }

    pub fn map_mut(&mut self) -> Option<&mut IndexMap<String, Entry>> {
        match &mut self.content {
            Content::Map(entries) => Some(entries),
            _ => None,
        }
    }

    pub fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        self.map_mut()?.get_mut(key).map(|entry| &mut entry.node)
    }

    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.node)
    }

    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.map()?.get(key)
    }

    /// Each key of a mapping with its entry; empty for other values.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.map().into_iter().flatten().map(|(key, entry)| (key.as_str(), entry))
    }

    /// Each item of a list; empty for other values.
    pub fn items(&self) -> impl Iterator<Item = &Node> {
        self.list().into_iter().flatten()
    }

    /// The type, for messages.
    pub fn noun(&self) -> String {
        match &self.content {
            Content::Null => "nothing".to_owned(),
            Content::List(_) => "a list".to_owned(),
            Content::Map(_) => "a mapping".to_owned(),
            Content::Scalar(scalar) => format!("`{}`", shortened(scalar.written())),
        }
    }
}

impl Scalar {
    /// As written in the file, without expanded variables, which may be secrets.
    pub fn written(&self) -> &str {
        self.filled.as_ref().map_or(&self.text, |filled| &filled.written)
    }

    /// A variable in it is not set.
    pub fn is_broken(&self) -> bool {
        self.filled.as_ref().is_some_and(|filled| filled.trouble.has_errors())
    }

    /// An expanded scalar means what its text means, quoted or not.
    pub fn typed_by_spelling(&self) -> bool {
        self.plain || self.filled.is_some()
    }
}

/// Enough of a text to recognise it.
pub fn shortened(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    match line.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None if line.len() < text.len() => format!("{line}…"),
        None => line.to_owned(),
    }
}
