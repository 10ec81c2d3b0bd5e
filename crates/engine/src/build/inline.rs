//! Here-documents for engines whose BuildKit does not support them (before Docker 23): an equivalent Dockerfile
//! without them, and the files that it copies. Pure.
//!
//! `RUN` gets the text as the argument of its shell. `COPY` and `ADD` copy from an image that holds only these files, with
//! their variables expanded, so the context is unchanged. What cannot be converted exactly is an error with its line.

use std::collections::{BTreeMap, HashMap};

use indexmap::IndexMap;

use super::{
    dockerfile::{Dockerfile, Instruction, words},
    variables::{ImageSettings, Variables},
};

/// A Dockerfile without here-documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inlined {
    pub text: String,
    /// The files of that image: path, mode and content.
    pub files: Vec<(String, u32, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: the here-document cannot be used with this engine, whose BuildKit is older than here-documents: {why}")]
pub struct InlineError {
    pub line: usize,
    pub why: String,
}

/// The base images of the stages that matter for here-documents.
pub fn base_images(file: &Dockerfile, arguments: &IndexMap<String, String>) -> Vec<String> {
    let mut stages: Vec<String> = Vec::new();
    let mut found = Vec::new();
    let mut outer = Variables::default();
    for instruction in &file.instructions {
        match instruction.keyword.as_str() {
            // An invalid one is reported when it is used.
            "ARG" if stages.is_empty() => drop(outer.argument(&instruction.rest, arguments, &Variables::default())),
            "FROM" => {
                let (image, name) = from(instruction, &outer);
                if image != "scratch" && !stages.contains(&image.to_lowercase()) && !found.contains(&image) {
                    found.push(image);
                }
                stages.push(name);
            }
            _ => {}
        }
    }
    found
}

/// `image` is the name of the image with the files; `settings` are those of the base images, `platform` the values of
/// `TARGETARCH` and the like.
#[expect(clippy::implicit_hasher, reason = "only this crate and its caller use it")]
pub fn without_heredocs(
    text: &str,
    arguments: &IndexMap<String, String>,
    settings: &HashMap<String, ImageSettings>,
    platform: &BTreeMap<String, String>,
    image: &str,
) -> Result<Inlined, InlineError> {
    let file = Dockerfile::parse(text);
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let mut written = String::new();
    let mut copied = 0;
    let mut work = Rewriting {
        image,
        files: Vec::new(),
        stage: Stage::default(),
        stages: HashMap::new(),
        current: String::new(),
        outer: Variables::default(),
    };
    for (name, value) in platform {
        // Only assignments without variables, which cannot fail.
        drop(work.outer.argument(&format!("{name}={value}"), &IndexMap::new(), &Variables::default()));
    }
    for instruction in &file.instructions {
        let at = |why: String| InlineError { line: instruction.line, why };
        work.follow(instruction, arguments, settings).map_err(at)?;
        if instruction.heredocs.is_empty() {
            continue;
        }
        written.extend(lines[copied..instruction.line - 1].iter().copied());
        written.push_str(&work.rewritten(instruction).map_err(at)?);
        // Keeps the line numbers of the following lines.
        written.push_str(&"\n".repeat(instruction.end - instruction.line + 1));
        copied = instruction.end;
    }
    written.extend(lines[copied..].iter().copied());
    Ok(Inlined { text: written, files: work.files })
}

#[derive(Clone, Default)]
struct Stage {
    variables: Variables,
    shell: Option<Vec<String>>,
    /// A reference that cannot be resolved; an error only if its variables are needed.
    unclear: Option<String>,
}

struct Rewriting<'a> {
    image: &'a str,
    files: Vec<(String, u32, String)>,
    stage: Stage,
    /// By name or number, as of the last instruction read.
    stages: HashMap<String, Stage>,
    /// Empty before the first stage.
    current: String,
    outer: Variables,
}

impl Rewriting<'_> {
    fn follow(
        &mut self,
        instruction: &Instruction,
        arguments: &IndexMap<String, String>,
        settings: &HashMap<String, ImageSettings>,
    ) -> Result<(), String> {
        match instruction.keyword.as_str() {
            "FROM" => {
                let (image, name) = from(instruction, &self.outer);
                let number = self.stages.len();
                self.stage = match (self.stages.get(&image.to_lowercase()), settings.get(&image)) {
                    (Some(before), _) => Stage { variables: before.variables.inherited(), ..before.clone() },
                    (None, Some(known)) => Stage { variables: Variables::of(known), shell: known.shell.clone(), unclear: None },
                    (None, None) if image == "scratch" => Stage::default(),
                    (None, None) => Stage { unclear: Some(format!("the image `{image}` is not known yet")), ..Stage::default() },
                };
                self.current = if name.is_empty() { number.to_string() } else { name };
            }
            "ARG" if self.stages.is_empty() => self.outer.argument(&instruction.rest, arguments, &Variables::default())?,
            "ARG" => {
                let outer = self.outer.clone();
                let done = self.stage.variables.argument(&instruction.rest, arguments, &outer);
                self.note(done);
            }
            "ENV" => {
                let done = self.stage.variables.environment(&instruction.rest);
                self.note(done);
            }
            "SHELL" => self.stage.shell = serde_json::from_str(&instruction.rest).ok(),
            _ => {}
        }
        if !self.current.is_empty() {
            self.stages.insert(self.current.clone(), self.stage.clone());
        }
        Ok(())
    }

    fn note(&mut self, done: Result<(), String>) {
        if let Err(why) = done {
            self.stage.unclear.get_or_insert(why);
        }
    }

    fn rewritten(&mut self, instruction: &Instruction) -> Result<String, String> {
        let flags: String = instruction.flags.iter().map(|flag| format!("{flag} ")).collect();
        if instruction.keyword == "RUN" { self.run(instruction, &flags) } else { self.copy(instruction, &flags) }
    }

    fn run(&mut self, instruction: &Instruction, flags: &str) -> Result<String, String> {
        let first = &instruction.heredocs[0];
        let alone = instruction.rest == first.word;
        if let (Some(why), None) = (&self.stage.unclear, &self.stage.shell)
            && why.contains("not known yet")
        {
            return Err(why.clone());
        }
        let mut flags = flags.to_owned();
        let command = if alone && first.content.starts_with("#!") {
            let path = self.file(&first.name, 0o755, first.content.clone())?;
            let directory = path.rsplit_once('/').map_or("/", |(directory, _)| directory).to_owned();
            flags.push_str(&format!("--mount=type=bind,from={},source={directory},target=/dev/pipes ", self.image));
            format!("/dev/pipes/{}", first.name)
        } else if alone {
            first.content.clone()
        } else {
            let bodies = instruction.heredocs.iter().map(|heredoc| format!("\n{}{}", heredoc.content, heredoc.name));
            format!("{}{}", instruction.rest, bodies.collect::<String>())
        };
        let mut all = self.stage.shell.clone().unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()]);
        all.push(command);
        Ok(format!("RUN {flags}{}", serde_json::json!(all)))
    }

    fn copy(&mut self, instruction: &Instruction, flags: &str) -> Result<String, String> {
        if instruction.flags.iter().any(|flag| flag.starts_with("--from")) {
            return Err("`--from` does not take here-documents".to_owned());
        }
        let all = words(&instruction.rest, '\\');
        let (target, sources) = all.split_last().ok_or("it has no target")?;
        if sources.len() != instruction.heredocs.len() {
            return Err("files and here-documents in one instruction; write two instructions".to_owned());
        }
        let mut paths = Vec::new();
        for heredoc in &instruction.heredocs {
            let content = if heredoc.expand {
                let needs = heredoc.content.contains('$');
                if let Some(why) = self.stage.unclear.as_ref().filter(|_| needs) {
                    return Err(why.clone());
                }
                self.stage.variables.fill(&heredoc.content, false)?
            } else {
                heredoc.content.clone()
            };
            paths.push(self.file(&heredoc.name, 0o644, content)?);
        }
        Ok(format!("COPY {flags}--from={} {} {target}", self.image, paths.join(" ")))
    }

    fn file(&mut self, name: &str, mode: u32, content: String) -> Result<String, String> {
        if !name.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.')) || name.starts_with('.') {
            return Err(format!("its name `{name}` must consist of letters, digits, `_`, `-` and `.`"));
        }
        let path = format!("/{}/{name}", self.files.len());
        self.files.push((path.clone(), mode, content));
        Ok(path)
    }
}

/// The image and the name of the stage, which may be empty.
fn from(instruction: &Instruction, outer: &Variables) -> (String, String) {
    let mut all = instruction.rest.split_whitespace();
    let image = all.next().unwrap_or_default();
    let image = outer.fill(image, true).unwrap_or_else(|_| image.to_owned());
    let name = match (all.next(), all.next()) {
        (Some(word), Some(name)) if word.eq_ignore_ascii_case("as") => name.to_lowercase(),
        _ => String::new(),
    };
    (image, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inlined(text: &str) -> Result<Inlined, InlineError> {
        let settings = HashMap::from([
            ("debian".to_owned(), ImageSettings { environment: vec!["PATH=/bin".into()], shell: None }),
            ("bash".to_owned(), ImageSettings { environment: Vec::new(), shell: Some(vec!["/bin/bash".into(), "-c".into()]) }),
        ]);
        let arguments = [("WHO".to_owned(), "you".to_owned())].into_iter().collect();
        let platform = BTreeMap::from([("TARGETARCH".to_owned(), "amd64".to_owned())]);
        without_heredocs(text, &arguments, &settings, &platform, "files")
    }

    #[test]
    fn a_dockerfile_without_here_documents_stays_as_it_is() {
        let text = "FROM debian\nRUN echo '<<EOF'\n";
        assert_eq!(inlined(text).unwrap(), Inlined { text: text.to_owned(), files: Vec::new() });
    }

    #[test]
    fn each_form_becomes_the_instruction_that_buildkit_runs_for_it() {
        let text = "ARG BASE=debian\nFROM $BASE AS one\nARG WHO=nobody\nARG TARGETARCH\nENV A=\"a b\"\nCOPY --chmod=755 <<EOF /run.sh\necho $WHO $TARGETARCH $A $PATH \\$HOME $(cat /word)\nEOF\nRUN --mount=type=cache,target=/c <<EOF\nset -e\necho \"$WHO\"\nEOF\nRUN cat <<A > /made\none\nA\nRUN <<X\n#!/usr/bin/env python3\nprint(1)\nX\nFROM bash\nRUN <<-E\n\techo $0\n\tE\nCOPY <<'Q' <<R /d/\n$WHO\nQ\n$WHO\nR\n";
        let inlined = inlined(text).unwrap();
        let lines: Vec<&str> = inlined.text.lines().filter(|line| !line.is_empty()).collect();
        insta::assert_snapshot!(lines.join("\n"), @r#"
        ARG BASE=debian
        FROM $BASE AS one
        ARG WHO=nobody
        ARG TARGETARCH
        ENV A="a b"
        COPY --chmod=755 --from=files /0/EOF /run.sh
        RUN --mount=type=cache,target=/c ["/bin/sh","-c","set -e\necho \"$WHO\"\n"]
        RUN ["/bin/sh","-c","cat <<A > /made\none\nA"]
        RUN --mount=type=bind,from=files,source=/1,target=/dev/pipes ["/bin/sh","-c","/dev/pipes/X"]
        FROM bash
        RUN ["/bin/bash","-c","echo $0\n"]
        COPY --from=files /2/Q /3/R /d/
        "#);
        let files: Vec<String> = inlined.files.iter().map(|(path, mode, text)| format!("{path} {mode:o} {text}")).collect();
        insta::assert_snapshot!(files.concat(), @r"
        /0/EOF 644 echo you amd64 a b /bin $HOME $(cat /word)
        /1/X 755 #!/usr/bin/env python3
        print(1)
        /2/Q 644 $WHO
        /3/R 644 
        ");
        assert_eq!(inlined.text.lines().position(|line| line == "FROM bash"), text.lines().position(|line| line == "FROM bash"));
    }

    #[test]
    fn what_cannot_be_converted_exactly_is_an_error_with_its_line() {
        for (text, line) in [
            ("FROM debian\nCOPY <<A file /d/\nx\nA\n", 2),
            ("FROM unknown\n\nCOPY <<A /d\n$X\nA\n", 3),
            ("FROM unknown\nRUN <<A\n$X\nA\n", 2),
            ("FROM debian\nCOPY <<A /d\n${X%y}\nA\n", 2),
            ("FROM debian\nCOPY <<../A /d\nx\n../A\n", 2),
        ] {
            assert_eq!(inlined(text).unwrap_err().line, line, "{text}");
        }
        inlined("FROM unknown\nCOPY <<A /d\nx\nA\n").unwrap();
    }
}
