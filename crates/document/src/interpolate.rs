//! `${NAME}`, `${NAME:-default}`, `${NAME-default}`, `${NAME:?message}` and `$$` in text. Pure: the variables are an argument.

use devenv_spec::sensitive;

use crate::{
    source::{Findings, Sources, Span},
    spelling,
    tree::{Content, Filled, Node},
};

/// The syntax of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grammar {
    /// `$NAME` without braces is left alone: it belongs to a shell.
    Profile,
    /// `$NAME` is a variable too, and `\$` is a dollar sign.
    EnvFile,
    /// `$NAME` is a variable too, `:+` and `+` give an alternative text for a set variable, and an unset one is empty.
    Compose,
}

/// The variables that text may refer to.
pub trait Lookup {
    fn value(&self, name: &str) -> Option<String>;
    fn names(&self) -> Vec<String>;

    /// Whether the limit on expanded text is reached.
    fn exhausted(&self) -> bool {
        false
    }
}

/// The variables of a process.
impl Lookup for std::collections::BTreeMap<String, String> {
    fn value(&self, name: &str) -> Option<String> {
        self.get(name).cloned()
    }

    fn names(&self) -> Vec<String> {
        self.keys().cloned().collect()
    }
}

/// Text with its variables expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expanded {
    pub text: String,
    /// The variables that it refers to.
    pub names: Vec<String>,
    pub troubles: Vec<Trouble>,
}

/// Why a variable cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// The offset in the text, in bytes.
    pub offset: usize,
    pub length: usize,
    pub code: &'static str,
    pub message: String,
    pub hint: Option<String>,
    /// False if a language may use an empty text instead.
    pub required: bool,
}

/// Defaults within defaults are followed to this depth.
const DEEPEST: usize = 16;
/// The longest text that variables may make.
const LARGEST: usize = 1 << 20;

/// Expands every scalar of a tree. Problems stay with the scalar, since a later layer may replace it.
pub fn fill(node: &mut Node, sources: &Sources, lookup: &dyn Lookup) {
    match &mut node.content {
        Content::Null => {}
        Content::List(items) => items.iter_mut().for_each(|item| fill(item, sources, lookup)),
        Content::Map(entries) => entries.values_mut().for_each(|entry| fill(&mut entry.node, sources, lookup)),
        Content::Scalar(scalar) => {
            if !scalar.text.contains('$') || scalar.filled.is_some() {
                return;
            }
            let expanded = expand(&scalar.text, lookup, Grammar::Profile);
            if expanded.names.is_empty() && expanded.troubles.is_empty() {
                scalar.text = expanded.text;
                return;
            }
            let mut trouble = Findings::default();
            for one in expanded.troubles {
                // Computing the position takes time, which a text with many errors does not get.
                let span = if lookup.exhausted() { node.span } else { within(sources, node.span, &scalar.text, one.offset, one.length) };
                trouble.error(span, one.code, one.message).maybe_hint(one.hint);
            }
            let written = std::mem::replace(&mut scalar.text, expanded.text);
            scalar.filled = Some(Box::new(Filled { written, names: expanded.names, trouble }));
        }
    }
}

/// Expands the variables of one text.
pub fn expand(text: &str, lookup: &dyn Lookup, grammar: Grammar) -> Expanded {
    let mut expanded = Expanded { text: String::with_capacity(text.len()), names: Vec::new(), troubles: Vec::new() };
    let mut reader = Reader { text, position: 0, lookup, grammar, out: &mut expanded };
    reader.read(false, 0);
    expanded
}

struct Reader<'a> {
    text: &'a str,
    position: usize,
    lookup: &'a dyn Lookup,
    grammar: Grammar,
    out: &'a mut Expanded,
}

impl Reader<'_> {
    /// Copies text and expands variables, up to the end or to the `}` that ends a default.
    fn read(&mut self, within_braces: bool, depth: usize) {
        while let Some(character) = self.text[self.position..].chars().next() {
            let rest = &self.text[self.position..];
            if within_braces && character == '}' {
                return;
            }
            if rest.starts_with("$$") || (self.grammar == Grammar::EnvFile && rest.starts_with("\\$")) {
                self.out.text.push('$');
                self.position += 2;
            } else if rest.starts_with("${") {
                self.braced(depth);
            } else if self.grammar != Grammar::Profile && character == '$' && name_length(&rest[1..]) > 0 {
                let length = name_length(&rest[1..]);
                let name = rest[1..=length].to_owned();
                let offset = self.position;
                self.position += 1 + length;
                self.simple(&name, offset);
            } else {
                // A `$` before anything else is itself, as in Compose: `$(date)`.
                self.out.text.push(character);
                self.position += character.len_utf8();
            }
        }
    }

    /// At `${`.
    fn braced(&mut self, depth: usize) {
        let offset = self.position;
        let rest = &self.text[offset + 2..];
        let length = name_length(rest);
        if let Some(name) = self.secret(rest) {
            self.out.text.push_str(&sensitive::declared_mark(&name));
            // Recorded so that the original text is shown.
            self.position = offset + "${secret:}".len() + name.len();
            self.out.names.push(format!("secret:{name}"));
            return;
        }
        let name = rest[..length].to_owned();
        let after = &rest[length..];
        self.position = offset + 2 + length;
        let operators: &[&str] =
            if self.grammar == Grammar::Compose { &[":-", "-", ":?", "?", ":+", "+", "}"] } else { &[":-", "-", ":?", "?", "}"] };
        let operator = operators.iter().copied().find(|operator| after.starts_with(operator));
        let (Some(operator), false, false) = (operator, name.is_empty(), depth >= DEEPEST) else {
            let end = rest.find('}').map_or(self.text.len(), |end| offset + 2 + end + 1);
            let written = &self.text[offset..end];
            self.out.troubles.push(Trouble {
                offset,
                length: end - offset,
                code: "bad-variable",
                message: format!("`{written}` is not a variable"),
                hint: Some("write `${NAME}`, `${NAME:-default}` or `${NAME:?message}`; `$$` is a dollar sign".to_owned()),
                required: true,
            });
            self.position = end;
            return;
        };
        self.position += operator.len();
        if operator == "}" {
            self.simple(&name, offset);
            return;
        }
        let value = self.lookup.value(&name).filter(|value| !(operator.starts_with(':') && value.is_empty()));
        self.out.names.push(name.clone());
        // The text after the operator is parsed even if it is not needed, to find its end.
        let (kept, known, troubles) = (self.out.text.len(), self.out.names.len(), self.out.troubles.len());
        self.read(true, depth + 1);
        let closed = self.text[self.position..].starts_with('}');
        self.position += usize::from(closed);
        let other = self.out.text.split_off(kept);
        if operator.ends_with('+') {
            if value.is_none() {
                self.out.names.truncate(known);
                self.out.troubles.truncate(troubles);
            } else {
                self.out.text.push_str(&other);
            }
            if !closed {
                self.unclosed(&name, offset);
            }
            return;
        }
        let wanted = value.is_none() && operator.ends_with('-');
        if !wanted {
            self.out.names.truncate(known);
            self.out.troubles.truncate(troubles);
        }
        if !closed {
            self.unclosed(&name, offset);
        }
        match value {
            Some(value) => self.out.text.push_str(&value),
            None if wanted => self.out.text.push_str(&other),
            None => {
                let said = if other.trim().is_empty() { "it is required".to_owned() } else { other };
                let message = format!("the variable `{name}` is not set: {said}");
                let before = self.out.troubles.len();
                self.unset(&name, offset, self.position - offset, message);
                for trouble in self.out.troubles.iter_mut().skip(before).filter(|trouble| trouble.code == "unset-variable") {
                    trouble.required = true;
                }
            }
        }
    }

    /// `secret:NAME}`: its value is not known here.
    fn secret(&self, rest: &str) -> Option<String> {
        let name = rest.strip_prefix("secret:").filter(|_| self.grammar == Grammar::Profile)?;
        let length = name_length(name);
        (length > 0 && name[length..].starts_with('}')).then(|| name[..length].to_owned())
    }

    fn unclosed(&mut self, name: &str, offset: usize) {
        self.out.troubles.push(Trouble {
            offset,
            length: self.text.len() - offset,
            code: "bad-variable",
            message: format!("missing `}}` after `${{{name}`"),
            hint: None,
            required: true,
        });
    }

    fn simple(&mut self, name: &str, offset: usize) {
        self.out.names.push(name.to_owned());
        match self.lookup.value(name) {
            Some(value) => self.out.text.push_str(&value),
            None => self.unset(name, offset, self.position - offset, format!("the variable `{name}` is not set")),
        }
        if self.out.text.len() > LARGEST {
            self.out.text.clear();
            self.too_much(offset, self.position - offset);
        }
    }

    fn too_much(&mut self, offset: usize, length: usize) {
        if self.out.troubles.iter().all(|trouble| trouble.code != "too-large") {
            let message = "the expanded variables exceed the size limit, or too many of them are not set".to_owned();
            self.out.troubles.push(Trouble { offset, length, code: "too-large", message, hint: None, required: true });
        }
    }

    fn unset(&mut self, name: &str, offset: usize, length: usize, message: String) {
        if self.lookup.exhausted() {
            self.too_much(offset, length);
            return;
        }
        let names = self.lookup.names();
        let hint = if names.iter().any(|known| known == name) {
            format!("the value of `{name}` refers to itself, or to a variable that is not set")
        } else if let Some(hint) = spelling::did_you_mean(name, names.iter().map(String::as_str)) {
            hint
        } else {
            format!("set it in the environment, in an `env_file` or under `variables`, or give it a default: `${{{name}:-…}}`")
        };
        self.out.troubles.push(Trouble { offset, length, code: "unset-variable", message, hint: Some(hint), required: false });
    }
}

/// The length of the variable's name that `text` begins with.
pub fn name_length(text: &str) -> usize {
    if text.starts_with(|first: char| first.is_ascii_digit()) {
        return 0;
    }
    text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len())
}

/// The position of an offset of a scalar's text in its file, which quotes and escapes shift.
fn within(sources: &Sources, span: Span, text: &str, offset: usize, length: usize) -> Span {
    let needle = &text[offset..offset + length];
    let before = text[..offset].matches(needle).count();
    match sources.slice(span).match_indices(needle).nth(before) {
        Some((at, _)) => sources.span(span.file, span.start + at, span.start + at + length),
        None => span,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    impl Lookup for BTreeMap<&str, &str> {
        fn value(&self, name: &str) -> Option<String> {
            self.get(name).map(ToString::to_string)
        }

        fn names(&self) -> Vec<String> {
            self.keys().map(ToString::to_string).collect()
        }
    }

    #[test]
    fn every_form_is_expanded_and_unset_variables_are_reported() {
        let variables = BTreeMap::from([("A", "1"), ("EMPTY", ""), ("NAME", "x$y")]);
        for (text, wanted) in [
            ("plain", "plain"),
            ("${A}", "1"),
            ("a${A}b${A}", "a1b1"),
            ("${NAME}", "x$y"),
            ("${X:-d}", "d"),
            ("${X-d}", "d"),
            ("${EMPTY:-d}", "d"),
            ("${EMPTY-d}", ""),
            ("${EMPTY}", ""),
            ("${X:-${A}}", "1"),
            ("${X:-${Y:-${A}z}}", "1z"),
            ("${A:-${Y}}", "1"),
            ("${A:?is needed}", "1"),
            ("${EMPTY?}", ""),
            ("$$", "$"),
            ("$${A}", "${A}"),
            ("$A $1 $", "$A $1 $"),
            ("é${A}é", "é1é"),
            ("x${secret:A}y", "x\u{fdd0}A\u{fdd1}y"),
            ("${secret:-d}", "d"),
        ] {
            let expanded = expand(text, &variables, Grammar::Profile);
            assert_eq!((expanded.text.as_str(), expanded.troubles.as_slice()), (wanted, [].as_slice()), "{text}");
        }
        for (text, reported) in [
            ("${X}", "the variable `X` is not set"),
            ("${X:?say it}", "the variable `X` is not set: say it"),
            ("${EMPTY:?}", "the variable `EMPTY` is not set: it is required"),
            ("${X:-${Y}}", "the variable `Y` is not set"),
            ("${1}", "`${1}` is not a variable"),
            ("${}", "`${}` is not a variable"),
            ("${A", "`${A` is not a variable"),
            ("${A:-x", "missing `}` after `${A`"),
            ("${A+x}", "`${A+x}` is not a variable"),
        ] {
            let troubles: Vec<String> =
                expand(text, &variables, Grammar::Profile).troubles.into_iter().map(|trouble| trouble.message).collect();
            assert_eq!(troubles, [reported], "{text}");
        }
    }
}
