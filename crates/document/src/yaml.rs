//! Parses YAML text to a tree.
//!
//! Read from the parser's events rather than through serde, so that a duplicate key or a wrong type does not hide the next
//! problem, and a number where text is expected keeps its spelling (`8.0` stays `8.0`). Bounded in size, depth and
//! alias expansion: no text makes it panic, hang or exhaust the memory.

use std::collections::{BTreeMap, HashMap};

use granit_parser::{Event, Parser, ScalarStyle, ScanError, Tag};
use indexmap::IndexMap;

use crate::{
    source::{FileId, Findings, Sources, Span},
    tree::{Content, Entry, Node, Scalar},
};

/// The largest file, in bytes.
pub const LARGEST: usize = 1 << 20;
/// The deepest nesting.
const DEEPEST: usize = 64;
/// The most that aliases may add, in bytes of text plus 64 for each value.
const ALIASES: usize = 1 << 20;

/// The result of parsing a text.
#[derive(Debug)]
pub struct Parsed {
    pub root: Node,
    /// The documents after the first, for a language that has several.
    pub more: Vec<Node>,
    /// False if the text ends in a syntax error: then only the values before it are known.
    pub complete: bool,
    /// The values with a tag that the caller knows, by position.
    pub tags: BTreeMap<Span, String>,
}

/// Parses one document. YAML errors go to `findings`.
pub fn parse(sources: &Sources, file: FileId, findings: &mut Findings) -> Parsed {
    parse_with(sources, file, Language::default(), findings)
}

/// What a language has beyond plain YAML in one document.
#[derive(Debug, Clone, Copy, Default)]
pub struct Language<'a> {
    /// Tags with a meaning, such as `!reset`.
    pub tags: &'a [&'a str],
    /// Whether a text may be several documents.
    pub documents: bool,
}

/// The same for a language that uses more of YAML.
pub fn parse_with(sources: &Sources, file: FileId, language: Language<'_>, findings: &mut Findings) -> Parsed {
    let text = sources.get(file).text.as_str();
    let start = sources.span(file, 0, 0);
    if text.len() > LARGEST {
        findings.error(start, "too-large", format!("the file has {} bytes, more than the limit of {LARGEST}", text.len()));
        return Parsed { root: Node { span: start, content: Content::Null }, more: Vec::new(), complete: false, tags: BTreeMap::new() };
    }
    let options = granit_parser::options! {
        emit_comments: false,
        emit_unresolved_aliases: true,
        flow_nesting_limit: DEEPEST,
        block_nesting_limit: DEEPEST,
    };
    let mut builder = Builder {
        text,
        file,
        findings,
        stack: Vec::new(),
        root: None,
        former: Vec::new(),
        anchors: HashMap::new(),
        expanded: 0,
        language,
        tags: BTreeMap::new(),
    };
    let complete = builder.read(Parser::new_from_str_with_options(text, options), sources).is_some();
    builder.close_all();
    let tags = std::mem::take(&mut builder.tags);
    let mut documents = std::mem::take(&mut builder.former).into_iter().chain(builder.root.take());
    let root = documents.next().unwrap_or(Node { span: start, content: Content::Null });
    Parsed { root, more: documents.collect(), complete, tags }
}

struct Builder<'a> {
    text: &'a str,
    file: FileId,
    findings: &'a mut Findings,
    stack: Vec<Frame>,
    root: Option<Node>,
    anchors: HashMap<usize, Node>,
    expanded: usize,
    /// The documents before this one.
    former: Vec<Node>,
    language: Language<'a>,
    /// The values with a tag that the caller knows.
    tags: BTreeMap<Span, String>,
}

/// A list or mapping that is still open.
struct Frame {
    span: Span,
    anchor: usize,
    tag: Option<String>,
    open: Open,
}

enum Open {
    List(Vec<Node>),
    Map { entries: IndexMap<String, Entry>, key: Option<Key>, merged: Vec<Node> },
}

/// A key that waits for its value.
enum Key {
    Named(String, Span),
    /// `<<`: the following value is merged in.
    Merge,
    /// Already reported; its value is dropped.
    Wrong,
}

impl Builder<'_> {
    fn read<'t>(
        &mut self,
        parser: impl Iterator<Item = Result<(Event<'t>, granit_parser::Span), ScanError>>,
        sources: &Sources,
    ) -> Option<()> {
        for event in parser {
            let (event, span) = match event {
                Ok(found) => found,
                Err(error) => {
                    self.syntax(&error, sources);
                    return None;
                }
            };
            let span = self.span(span);
            match event {
                Event::Scalar(text, style, anchor, tag) => {
                    let known = self.tagged(span, tag.as_deref());
                    let plain = matches!(style, ScalarStyle::Plain) && !is_text(tag.as_deref());
                    let content = if plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL") {
                        Content::Null
                    } else {
                        Content::Scalar(Scalar { text: text.into_owned(), plain, filled: None })
                    };
                    self.keep_tag(span, known);
                    self.add(Node { span, content }, anchor)?;
                }
                Event::SequenceStart(_, anchor, tag) => {
                    let tag = self.tagged(span, tag.as_deref());
                    self.stack.push(Frame { span, anchor, tag, open: Open::List(Vec::new()) });
                }
                Event::MappingStart(_, anchor, tag) => {
                    let tag = self.tagged(span, tag.as_deref());
                    let open = Open::Map { entries: IndexMap::new(), key: None, merged: Vec::new() };
                    self.stack.push(Frame { span, anchor, tag, open });
                }
                Event::SequenceEnd | Event::MappingEnd => self.close(span.end)?,
                Event::Alias(id) => {
                    if let Some(node) = self.anchors.get(&id).cloned() {
                        self.spend(&node, span)?;
                        self.add(node, 0)?;
                    } else {
                        self.findings.error(span, "recursive-alias", "this alias is inside the value it refers to");
                        self.add(Node { span, content: Content::Null }, 0)?;
                    }
                }
                Event::UnresolvedAlias(name) => {
                    self.findings.error(span, "unknown-alias", format!("unknown alias: no `&{name}` before this line"));
                    self.add(Node { span, content: Content::Null }, 0)?;
                }
                Event::DocumentStart(..) if self.root.is_some() && self.language.documents => {
                    self.former.extend(self.root.take());
                    self.anchors.clear();
                }
                Event::DocumentStart(..) if self.root.is_some() => {
                    self.findings
                        .error(span, "second-document", "a second document starts here, but a profile is a single document")
                        .hint("remove the `---`, or move the rest to another file");
                    return None;
                }
                _ => {}
            }
            if self.stack.len() > DEEPEST {
                self.findings.error(span, "too-deep", format!("nested more than {DEEPEST} levels deep"));
                return None;
            }
        }
        Some(())
    }

    /// Adds a complete value to its parent. `None` when parsing must end.
    fn add(&mut self, node: Node, anchor: usize) -> Option<()> {
        if anchor != 0 {
            self.spend(&node, node.span)?;
            self.anchors.insert(anchor, node.clone());
        }
        let findings = &mut *self.findings;
        match self.stack.last_mut().map(|frame| &mut frame.open) {
            None => self.root = Some(node),
            Some(Open::List(items)) => items.push(node),
            Some(Open::Map { entries, key, merged }) => match key.take() {
                None => *key = Some(key_of(&node, entries, findings)),
                Some(Key::Named(name, span)) => {
                    entries.insert(name, Entry { key: span, node });
                }
                Some(Key::Merge) => merged.push(node),
                Some(Key::Wrong) => {}
            },
        }
        Some(())
    }

    fn close(&mut self, end: usize) -> Option<()> {
        let frame = self.stack.pop()?;
        let span = Span { end: end.max(frame.span.start), ..frame.span };
        self.keep_tag(span, frame.tag);
        let content = match frame.open {
            Open::List(items) => Content::List(items),
            Open::Map { mut entries, key, merged } => {
                // A key whose value is incomplete because of a syntax error is still a key.
                if let Some(Key::Named(name, key)) = key {
                    entries.insert(name, Entry { key, node: Node { span: key, content: Content::Null } });
                }
                for node in merged {
                    self.merge(node, &mut entries);
                }
                Content::Map(entries)
            }
        };
        self.add(Node { span, content }, frame.anchor)
    }

    fn close_all(&mut self) {
        while let Some(frame) = self.stack.last() {
            let end = frame.span.end;
            self.close(end);
        }
    }

    /// `<<: *base`, or a list of them: existing keys take precedence.
    fn merge(&mut self, node: Node, entries: &mut IndexMap<String, Entry>) {
        match node.content {
            Content::Map(more) => {
                for (key, entry) in more {
                    entries.entry(key).or_insert(entry);
                }
            }
            Content::List(nodes) if nodes.iter().all(|node| node.map().is_some()) => {
                for node in nodes {
                    self.merge(node, entries);
                }
            }
            _ => {
                self.findings.error(node.span, "wrong-type", "`<<` needs a mapping, or a list of mappings");
            }
        }
    }

    /// Anchors and aliases copy; the copies are counted, so that a short text cannot become a large tree.
    fn spend(&mut self, node: &Node, span: Span) -> Option<()> {
        self.expanded = self.expanded.saturating_add(cost(node, ALIASES - self.expanded.min(ALIASES) + 1));
        if self.expanded <= ALIASES {
            return Some(());
        }
        self.findings
            .error(span, "too-many-aliases", "the expanded aliases exceed the size limit")
            .hint("write the values out, or use `extends`");
        None
    }

    /// Tags other than those of plain YAML are errors, because ignoring them silently would change the meaning. Returns the tag if
    /// the caller knows it.
    fn tagged(&mut self, span: Span, tag: Option<&Tag>) -> Option<String> {
        let tag = tag.filter(|tag| tag.core_suffix().is_none())?;
        let name = tag.original();
        if self.language.tags.contains(&name.as_str()) {
            return Some(name);
        }
        self.findings.error(span, "unknown-tag", format!("unknown tag `{name}`")).hint("put text that starts with `!` in quotes");
        None
    }

    fn keep_tag(&mut self, span: Span, tag: Option<String>) {
        if let Some(tag) = tag {
            self.tags.insert(span, tag);
        }
    }

    fn span(&self, span: granit_parser::Span) -> Span {
        let start = span.start.byte_offset().unwrap_or_default();
        Span {
            file: self.file,
            line: span.start.line() as u32,
            column: span.start.col() as u32 + 1,
            start,
            end: span.end.byte_offset().unwrap_or(start).max(start),
        }
    }

    fn syntax(&mut self, error: &ScanError, sources: &Sources) {
        let offset = error.marker().byte_offset().unwrap_or(self.text.len());
        let mut span = sources.span(self.file, offset, offset + 1);
        if let Some(tab) = indented_with_tab(self.text, span.line) {
            span = sources.span(self.file, tab, tab + 1);
            self.findings.error(span, "tab", "a tab is used for indentation, which YAML does not allow").hint("indent with spaces");
            return;
        }
        let line = self.text.lines().nth(span.line as usize - 1).unwrap_or_default();
        let message = format!("not valid YAML: {}", error.info());
        let finding = self.findings.error(span, "syntax", message);
        if line.contains("${") {
            finding.hint("inside `{…}` or `[…]`, `${NAME}` needs quotes: \"${NAME}\"");
        }
    }
}

fn key_of(node: &Node, entries: &IndexMap<String, Entry>, findings: &mut Findings) -> Key {
    let name = match &node.content {
        Content::Scalar(scalar) if scalar.plain && scalar.text == "<<" => return Key::Merge,
        Content::Scalar(scalar) => scalar.text.clone(),
        Content::Null => "null".to_owned(),
        Content::List(_) | Content::Map(_) => {
            findings
                .error(node.span, "wrong-key", "a key must be text, not a list or mapping")
                .hint("`${NAME}` or `{…}` needs quotes to be text");
            return Key::Wrong;
        }
    };
    if let Some(first) = entries.get(&name) {
        findings
            .error(node.span, "duplicate-key", format!("duplicate key `{name}`: the first is on line {}", first.key.line))
            .hint("remove one of them, or merge them");
        return Key::Wrong;
    }
    Key::Named(name, node.span)
}

/// Bytes of text plus 64 for each value, counted up to `limit`.
fn cost(node: &Node, limit: usize) -> usize {
    let mut sum = 64;
    match &node.content {
        Content::Null => {}
        Content::Scalar(scalar) => sum += scalar.text.len(),
        Content::List(items) => {
            for item in items {
                if sum > limit {
                    break;
                }
                sum += cost(item, limit - sum);
            }
        }
        Content::Map(entries) => {
            for (key, entry) in entries {
                if sum > limit {
                    break;
                }
                sum += key.len() + cost(&entry.node, limit - sum);
            }
        }
    }
    sum
}

fn is_text(tag: Option<&Tag>) -> bool {
    tag.and_then(Tag::core_suffix) == Some("str")
}

/// The first tab in the indentation at or right before `line`: the parser notices some of them only on the line after.
fn indented_with_tab(text: &str, line: u32) -> Option<usize> {
    let mut offset = 0;
    let mut found = None;
    for (number, content) in text.split_inclusive('\n').enumerate() {
        if number as u32 + 1 > line {
            break;
        }
        if number as u32 + 2 >= line {
            let indentation = content.len() - content.trim_start_matches([' ', '\t']).len();
            if let Some(tab) = content[..indentation].find('\t').filter(|_| !content.trim().is_empty()) {
                found = found.or(Some(offset + tab));
            }
        }
        offset += content.len();
    }
    found
}
