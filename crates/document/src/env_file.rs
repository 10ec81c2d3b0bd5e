//! Parses files of variables in Compose's grammar: comments, quotes, `export`, multi-line values, variables in values.

use indexmap::IndexMap;

use crate::{
    interpolate::{self, Grammar, Lookup},
    source::{FileId, Findings, Sources, Span},
};

/// One variable of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Given {
    pub value: String,
    pub span: Span,
}

/// The most that the values of one file may hold, in bytes.
const MOST: usize = 4 << 20;
/// A file with this many problems is not a file of variables.
const WRONG: usize = 50;

/// Parses a file of variables. A value may refer to variables of the process's environment, of `before` and of earlier lines,
/// and the process's environment takes precedence.
pub fn parse(
    sources: &Sources,
    file: FileId,
    environment: &dyn Lookup,
    before: &IndexMap<String, Given>,
    findings: &mut Findings,
) -> IndexMap<String, Given> {
    let text = sources.get(file).text.as_str();
    let enough = findings.len() + WRONG;
    let mut reader = Reader { sources, file, text, position: 0, findings, environment, before, given: IndexMap::new(), left: MOST };
    while reader.position < text.len() && reader.findings.len() < enough {
        reader.statement();
    }
    reader.given
}

struct Reader<'a> {
    sources: &'a Sources,
    file: FileId,
    text: &'a str,
    position: usize,
    findings: &'a mut Findings,
    environment: &'a dyn Lookup,
    before: &'a IndexMap<String, Given>,
    given: IndexMap<String, Given>,
    left: usize,
}

impl Reader<'_> {
    fn rest(&self) -> &str {
        &self.text[self.position..]
    }

    fn line_end(&self) -> usize {
        self.rest().find('\n').map_or(self.text.len(), |end| self.position + end)
    }

    fn skip_blanks(&mut self) {
        let rest = self.rest();
        self.position += rest.len() - rest.trim_start_matches([' ', '\t']).len();
    }

    /// One line, or several for a quoted value.
    fn statement(&mut self) {
        self.skip_blanks();
        let line = self.text[self.position..self.line_end()].trim_end();
        if line.is_empty() || line.starts_with('#') {
            self.position = self.line_end() + 1;
            return;
        }
        if let Some(after) = line.strip_prefix("export").filter(|after| after.starts_with([' ', '\t'])) {
            self.position += line.len() - after.len();
            self.skip_blanks();
        }
        let start = self.position;
        let line = self.text[start..self.line_end()].trim_end();
        let key = &line[..line.find(['=', ':']).unwrap_or(line.len())];
        let name = key.trim_end().to_owned();
        let span = self.sources.span(self.file, start, start + name.len());
        self.position = start + key.len();
        if interpolate::name_length(&name) != name.len() || name.is_empty() {
            self.findings
                .error(span, "bad-variable", format!("`{}` is not a variable name", crate::tree::shortened(&name)))
                .hint("write lines as `NAME=value`: a name consists of letters, digits and `_`, and a comment starts with `#`");
            self.position = self.line_end() + 1;
            return;
        }
        if key.len() == line.len() {
            // A name alone takes its value from the process's environment, and stays unset if that has none.
            if let Some(value) = self.environment.value(&name) {
                self.given.insert(name, Given { value, span });
            }
            self.position = self.line_end() + 1;
            return;
        }
        self.position += 1;
        self.skip_blanks();
        let Some(value) = self.value() else { return };
        if let Some(left) = self.left.checked_sub(value.len()) {
            self.left = left;
            self.given.insert(name, Given { value, span });
        } else {
            self.findings.error(span, "too-large", "the values in this file exceed the size limit");
            self.position = self.text.len();
        }
    }

    fn value(&mut self) -> Option<String> {
        match self.rest().chars().next() {
            Some('"') => {
                let (raw, start) = self.quoted('"')?;
                Some(self.filled(&unescaped(&raw), start, raw.len()))
            }
            Some('\'') => self.quoted('\'').map(|(raw, _)| raw.replace("\\'", "'")),
            _ => {
                let (start, end) = (self.position, self.line_end());
                let line = &self.text[start..end];
                // A comment in an unquoted value begins after a space.
                let comment = line
                    .char_indices()
                    .find(|(at, c)| *c == '#' && (*at == 0 || line[..*at].ends_with([' ', '\t'])))
                    .map_or(line.len(), |(at, _)| at);
                let raw = line[..comment].trim_end().to_owned();
                self.position = end + 1;
                Some(self.filled(&raw, start, raw.len()))
            }
        }
    }

    /// The text in quotes, possibly over several lines, and its position.
    fn quoted(&mut self, quote: char) -> Option<(String, usize)> {
        let opening = self.position;
        let body = &self.text[opening + 1..];
        let mut escaped = false;
        let closing = body.char_indices().find(|(_, c)| {
            let ends = *c == quote && !escaped;
            escaped = *c == '\\' && !escaped;
            ends
        });
        let Some((length, _)) = closing else {
            let span = self.sources.span(self.file, opening, opening + 1);
            self.findings.error(span, "unclosed-quote", format!("this `{quote}` is never closed"));
            self.position = self.line_end() + 1;
            return None;
        };
        let raw = body[..length].to_owned();
        self.position = opening + 1 + length + 1;
        self.skip_blanks();
        let end = self.line_end();
        let after = self.text[self.position..end].trim_end();
        if !after.is_empty() && !after.starts_with('#') {
            let span = self.sources.span(self.file, self.position, self.position + after.len());
            self.findings
                .error(span, "bad-variable", format!("unexpected `{}` after the closing quote", crate::tree::shortened(after)))
                .hint("only a comment may follow the closing quote");
        }
        self.position = end + 1;
        Some((raw, opening + 1))
    }

    fn filled(&mut self, text: &str, start: usize, length: usize) -> String {
        let lookup = Above { environment: self.environment, before: self.before, given: &self.given };
        let expanded = interpolate::expand(text, &lookup, Grammar::EnvFile);
        for trouble in expanded.troubles {
            let needle = &text[trouble.offset..trouble.offset + trouble.length];
            let at = self.text[start..start + length].find(needle).unwrap_or_default();
            let span = self.sources.span(self.file, start + at, start + at + trouble.length);
            self.findings.error(span, trouble.code, trouble.message).maybe_hint(trouble.hint);
        }
        expanded.text
    }
}

/// The variables for a value: the process's environment first.
struct Above<'a> {
    environment: &'a dyn Lookup,
    before: &'a IndexMap<String, Given>,
    given: &'a IndexMap<String, Given>,
}

impl Lookup for Above<'_> {
    fn value(&self, name: &str) -> Option<String> {
        self.environment.value(name).or_else(|| self.given.get(name).or_else(|| self.before.get(name)).map(|given| given.value.clone()))
    }

    fn names(&self) -> Vec<String> {
        let files = self.before.keys().chain(self.given.keys()).cloned();
        self.environment.names().into_iter().chain(files).collect()
    }
}

/// Escapes of double quotes; `\$` stays, for the interpolation to see.
fn unescaped(raw: &str) -> String {
    let mut text = String::with_capacity(raw.len());
    let mut characters = raw.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            text.push(character);
            continue;
        }
        match characters.next() {
            Some('n') => text.push('\n'),
            Some('r') => text.push('\r'),
            Some('t') => text.push('\t'),
            Some(other @ ('\\' | '"' | '\'')) => text.push(other),
            Some(other) => text.extend(['\\', other]),
            None => text.push('\\'),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn read(text: &str) -> (Vec<(String, String)>, Vec<String>) {
        let mut sources = Sources::default();
        let file = sources.add(".env", text);
        let mut findings = Findings::default();
        let environment = BTreeMap::from([("SHELL_VALUE", "from the shell")]);
        let given = parse(&sources, file, &environment, &IndexMap::new(), &mut findings);
        let reported =
            findings.problems(&sources).into_iter().map(|problem| format!("{}:{} {}", problem.line, problem.column, problem.message));
        (given.into_iter().map(|(name, given)| (name, given.value)).collect(), reported.collect())
    }

    #[test]
    fn compose_examples_read_as_compose_reads_them() {
        for (text, wanted) in [
            ("VAR=VAL", "VAL"),
            ("VAR=\"VAL\"", "VAL"),
            ("VAR='VAL'", "VAL"),
            ("VAR: VAL", "VAL"),
            ("VAR = VAL  ", "VAL"),
            ("export VAR=VAL", "VAL"),
            ("VAR=VAL # comment", "VAL"),
            ("VAR=VAL# not a comment", "VAL# not a comment"),
            ("VAR=\"VAL # not a comment\"", "VAL # not a comment"),
            ("VAR=\"VAL\" # comment", "VAL"),
            ("VAR='Let\\'s go!'", "Let's go!"),
            ("VAR=\"{\\\"hello\\\": \\\"json\\\"}\"", "{\"hello\": \"json\"}"),
            ("VAR=\"some\\tvalue\"", "some\tvalue"),
            ("VAR='some\\tvalue'", "some\\tvalue"),
            ("VAR=some\\tvalue", "some\\tvalue"),
            ("VAR='$OTHER'", "$OTHER"),
            ("VAR='${OTHER}'", "${OTHER}"),
            ("VAR=", ""),
            ("VAR=\"\"", ""),
            ("VAR= # nothing", ""),
            ("VAR=with some spaces", "with some spaces"),
            ("VAR=a=b", "a=b"),
            ("VAR=http://host:1/path", "http://host:1/path"),
            ("VAR='SOME\nVALUE'", "SOME\nVALUE"),
            ("VAR=\"one\n  two\"", "one\n  two"),
            ("# comment\n\n  VAR=VAL\r\n", "VAL"),
            ("VAR=${SHELL_VALUE}", "from the shell"),
            ("VAR=\"$SHELL_VALUE!\"", "from the shell!"),
            ("VAR=${NONE:-default}", "default"),
            ("VAR=${NONE-default}", "default"),
            ("VAR=a\\$b$$c", "a$b$c"),
            ("VAR=\"a\\$b\"", "a$b"),
        ] {
            let (given, reported) = read(text);
            assert_eq!(
                (given.as_slice(), reported.is_empty()),
                ([("VAR".to_owned(), wanted.to_owned())].as_slice(), true),
                "{text}: {reported:?}"
            );
        }
    }

    #[test]
    fn a_later_line_may_use_an_earlier_one_and_a_name_alone_asks_the_shell() {
        let (given, reported) = read("A=1\nB=${A}2\nSHELL_VALUE\nNOT_SET\n");
        assert!(reported.is_empty());
        let given: Vec<String> = given.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(given, ["A=1", "B=12", "SHELL_VALUE=from the shell"]);
    }

    #[test]
    fn every_problem_is_reported_at_its_position_and_the_rest_is_read() {
        let (given, reported) = read("A=\"open\nB B=1\nC=${NONE}\nD='x' y\n=1\nE=1\n");
        assert_eq!(
            reported,
            [
                "1:3 this `\"` is never closed",
                "2:1 `B B` is not a variable name",
                "3:3 the variable `NONE` is not set",
                "4:7 unexpected `y` after the closing quote",
                "5:1 `` is not a variable name",
            ]
        );
        assert_eq!(given.last().unwrap().0, "E");
    }
}
