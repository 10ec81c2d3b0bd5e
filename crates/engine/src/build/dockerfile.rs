//! A Dockerfile as its instructions, each with its line, as BuildKit's own parser splits them. Pure.

/// A parsed Dockerfile: its instructions without comments and empty lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    /// The frontend that `# syntax=` names: an image that parses the file instead of the engine.
    pub syntax: Option<String>,
    pub instructions: Vec<Instruction>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// From 1.
    pub line: usize,
    /// Its last line.
    pub end: usize,
    /// In upper case.
    pub keyword: String,
    /// `--mount=…` and other flags, as written.
    pub flags: Vec<String>,
    /// The arguments, joined into one line.
    pub rest: String,
    pub heredocs: Vec<Heredoc>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// As written in the instruction: `<<-"EOF"`.
    pub word: String,
    pub name: String,
    /// Whether variables are expanded; a quoted delimiter prevents that.
    pub expand: bool,
    /// With line ends; without leading tabs after `<<-`.
    pub content: String,
}

impl Dockerfile {
    pub fn parse(text: &str) -> Self {
        let lines: Vec<&str> = text.trim_start_matches('\u{FEFF}').split_inclusive('\n').collect();
        let (syntax, escape) = directives(&lines);
        let mut instructions = Vec::new();
        let mut next = 0;
        while next < lines.len() {
            let first = lines[next].trim();
            if first.is_empty() || first.starts_with('#') {
                next += 1;
                continue;
            }
            let line = next + 1;
            let mut whole = String::new();
            let mut goes_on = true;
            while goes_on && next < lines.len() {
                let text = lines[next].trim_end_matches(['\n', '\r']);
                next += 1;
                let trimmed = text.trim();
                // Comments and empty lines do not end an instruction.
                if !whole.is_empty() && (trimmed.starts_with('#') || trimmed.is_empty()) {
                    continue;
                }
                let text = if whole.is_empty() { text.trim_start() } else { text };
                match continued(text, escape) {
                    Some(text) => whole.push_str(text),
                    None => {
                        whole.push_str(text);
                        goes_on = false;
                    }
                }
            }
            let mut instruction = split(&whole, line);
            if takes_heredocs(&instruction) {
                for word in words(&instruction.rest, escape) {
                    let Some(mut heredoc) = heredoc(&word, escape) else { continue };
                    let chomp = word.contains("<<-");
                    while let Some(text) = lines.get(next) {
                        next += 1;
                        let text = if chomp { text.trim_start_matches('\t') } else { text };
                        if text.trim_end_matches(['\n', '\r']) == heredoc.name {
                            break;
                        }
                        heredoc.content.push_str(text);
                    }
                    instruction.heredocs.push(heredoc);
                }
            }
            instruction.end = next;
            instructions.push(instruction);
        }
        Self { syntax, instructions }
    }

    /// The first instruction that an engine without BuildKit refuses or misunderstands, and why.
    pub fn needs_buildkit(&self) -> Option<(&Instruction, String)> {
        const PLATFORM: [&str; 8] =
            ["TARGETPLATFORM", "TARGETOS", "TARGETARCH", "TARGETVARIANT", "BUILDPLATFORM", "BUILDOS", "BUILDARCH", "BUILDVARIANT"];
        self.instructions.iter().find_map(|instruction| {
            let flags = ["--mount", "--network", "--security", "--chmod", "--link", "--checksum", "--exclude", "--parents"];
            let flag = instruction.flags.iter().find(|flag| flags.iter().any(|known| flag.starts_with(known)));
            let named = |name: &&&str| instruction.rest.split(['=', ' ', '\t']).next() == Some(**name);
            let why = if !instruction.heredocs.is_empty() {
                "a here-document".to_owned()
            } else if let Some(flag) = flag {
                format!("`{}`", flag.split('=').next().unwrap_or(flag))
            } else if instruction.keyword == "ARG"
                && let Some(name) = PLATFORM.iter().find(named)
            {
                format!("the variable `{name}`")
            } else {
                return None;
            };
            Some((instruction, why))
        })
    }
}

/// `# syntax=` and `# escape=`, which come before everything else.
fn directives(lines: &[&str]) -> (Option<String>, char) {
    let (mut syntax, mut escape) = (None, '\\');
    for line in lines {
        let Some((name, value)) = line.trim().strip_prefix('#').and_then(|text| text.split_once('=')) else { break };
        match name.trim().to_ascii_lowercase().as_str() {
            "syntax" => syntax = Some(value.trim().to_owned()),
            "escape" if value.trim() == "`" => escape = '`',
            "escape" | "check" => {}
            _ => break,
        }
    }
    (syntax, escape)
}

/// The line without the escape at its end, which joins it with the next line. A doubled escape does not join.
fn continued(text: &str, escape: char) -> Option<&str> {
    let without = text.trim_end_matches([' ', '\t']).strip_suffix(escape)?;
    (!without.ends_with(escape)).then_some(without)
}

fn split(whole: &str, line: usize) -> Instruction {
    let (keyword, mut rest) = whole.split_once([' ', '\t']).unwrap_or((whole, ""));
    let mut flags = Vec::new();
    rest = rest.trim();
    while rest.starts_with("--") {
        let end = rest.find([' ', '\t']).unwrap_or(rest.len());
        flags.push(rest[..end].to_owned());
        rest = rest[end..].trim_start();
    }
    let keyword = keyword.trim().to_ascii_uppercase();
    Instruction { line, end: line, keyword, flags, rest: rest.to_owned(), heredocs: Vec::new() }
}

fn takes_heredocs(instruction: &Instruction) -> bool {
    let json = instruction.rest.starts_with('[') && serde_json::from_str::<Vec<String>>(&instruction.rest).is_ok();
    matches!(instruction.keyword.as_str(), "RUN" | "COPY" | "ADD") && !json
}

/// Splits words and keeps their quotes.
pub(super) fn words(text: &str, escape: char) -> Vec<String> {
    let (mut found, mut word, mut quote) = (Vec::new(), String::new(), None);
    let mut rest = text.chars();
    while let Some(letter) = rest.next() {
        match quote {
            None if letter.is_whitespace() => {
                if !word.is_empty() {
                    found.push(std::mem::take(&mut word));
                }
                continue;
            }
            None if letter == '"' || letter == '\'' => quote = Some(letter),
            Some(open) if letter == open => quote = None,
            _ => {}
        }
        word.push(letter);
        if letter == escape && quote != Some('\'') {
            word.extend(rest.next());
        }
    }
    if !word.is_empty() {
        found.push(word);
    }
    found
}

/// Parses a word like `<<EOF`, `3<<EOF`, `<<-"EOF"`.
fn heredoc(word: &str, escape: char) -> Option<Heredoc> {
    let name = word.trim_start_matches(|letter: char| letter.is_ascii_digit()).strip_prefix("<<")?;
    let name = name.strip_prefix('-').unwrap_or(name);
    if name.is_empty() || name.contains('<') {
        return None;
    }
    let plain: String = name.chars().filter(|letter| !matches!(letter, '"' | '\'') && *letter != escape).collect();
    (!plain.is_empty()).then(|| Heredoc { word: word.to_owned(), expand: plain == name, name: plain, content: String::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_have_their_lines_flags_and_bodies() {
        let text = "# syntax=docker/dockerfile:1\n\nFROM a AS b\nRUN --mount=type=cache,target=/c one \\\n  # a comment\n\n  two\nRUN cat <<EOF > /made && echo \"<<NOT\"\none\n$two\nEOF\ncopy --chmod=755 <<-'X' <<Y /d/\n\tx\n\tX\n# y\nY\nARG TARGETARCH\n";
        let file = Dockerfile::parse(text);
        assert_eq!(file.syntax.as_deref(), Some("docker/dockerfile:1"));
        let described: Vec<String> = file
            .instructions
            .iter()
            .map(|it| {
                format!(
                    "{}-{} {} {:?} {} {:?}",
                    it.line,
                    it.end,
                    it.keyword,
                    it.flags,
                    it.rest,
                    it.heredocs.iter().map(|doc| (doc.name.as_str(), doc.expand, doc.content.as_str())).collect::<Vec<_>>()
                )
            })
            .collect();
        insta::assert_snapshot!(described.join("\n"), @r##"
        3-3 FROM [] a AS b []
        4-7 RUN ["--mount=type=cache,target=/c"] one   two []
        8-11 RUN [] cat <<EOF > /made && echo "<<NOT" [("EOF", true, "one\n$two\n")]
        12-16 COPY ["--chmod=755"] <<-'X' <<Y /d/ [("X", false, "x\n"), ("Y", true, "# y\n")]
        17-17 ARG [] TARGETARCH []
        "##);
    }

    #[test]
    fn an_instruction_that_needs_buildkit_is_named_with_its_line() {
        for (text, expected) in [
            ("FROM a\nRUN <<E\nx\nE\n", Some("2 a here-document")),
            ("FROM a\nRUN echo a\nCOPY --chmod=1 a b\n", Some("3 `--chmod`")),
            ("FROM a\nRUN --mount=type=cache,target=/c x\n", Some("2 `--mount`")),
            ("FROM a\nARG TARGETARCH\n", Some("2 the variable `TARGETARCH`")),
            ("FROM a\nRUN [\"cat\", \"<<E\"]\nARG TARGETARCHIVE\nCOPY --from=b c d\n", None),
        ] {
            let file = Dockerfile::parse(text);
            let found = file.needs_buildkit().map(|(instruction, why)| format!("{} {why}", instruction.line));
            assert_eq!(found.as_deref(), expected, "{text}");
        }
    }
}
