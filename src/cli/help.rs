//! `devenv help`: the help of a command, or a page of the guide, which is embedded in the binary.

use std::ffi::OsString;

use devenv_profile::did_you_mean;

use super::{
    Outcome, args,
    exit::ExitStatus,
    failure::usage,
    printer::{BOLD, paint},
    session::Session,
};

/// Show the help of a command, or a page of the guide.
///
/// Without a word, lists the commands and the topics. A topic that is also a command is shown with `devenv help guide TOPIC`.
///
/// Example: devenv help
///
/// Example: devenv help data
///
/// Example: devenv help chaos run
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A command with its subcommands, or a topic.
    #[arg(value_name = "COMMAND|TOPIC")]
    words: Vec<String>,
}

/// The pages of the guide by the names of their files.
const TOPICS: &[(&str, &str)] = &[
    ("installing", include_str!("../../docs/guide/installing.md")),
    ("getting-started", include_str!("../../docs/guide/getting-started.md")),
    ("first-profile", include_str!("../../docs/guide/first-profile.md")),
    ("cookbook", include_str!("../../docs/guide/cookbook.md")),
    ("profiles", include_str!("../../docs/guide/profiles.md")),
    ("services", include_str!("../../docs/guide/services.md")),
    ("data", include_str!("../../docs/guide/data.md")),
    ("compose", include_str!("../../docs/guide/compose.md")),
    ("reloading", include_str!("../../docs/guide/reloading.md")),
    ("sleep", include_str!("../../docs/guide/sleep.md")),
    ("agents", include_str!("../../docs/guide/agents.md")),
    ("debugging", include_str!("../../docs/guide/debugging.md")),
    ("testing", include_str!("../../docs/guide/testing.md")),
    ("clients", include_str!("../../docs/guide/clients.md")),
    ("ci", include_str!("../../docs/guide/ci.md")),
    ("remote-engines", include_str!("../../docs/guide/remote-engines.md")),
    ("ui", include_str!("../../docs/guide/ui.md")),
    ("chaos", include_str!("../../docs/guide/chaos.md")),
    ("load", include_str!("../../docs/guide/load.md")),
    ("scenarios", include_str!("../../docs/guide/scenarios.md")),
    ("mariadb", include_str!("../../docs/guide/services/mariadb.md")),
    ("rabbitmq", include_str!("../../docs/guide/services/rabbitmq.md")),
    ("security", include_str!("../../docs/security.md")),
    ("troubleshooting", include_str!("../../docs/guide/troubleshooting.md")),
];
/// Precedes a topic that is also the name of a command.
const GUIDE: &str = "guide";

pub(super) fn run(arguments: &Arguments, session: &Session) -> Outcome {
    let words: Vec<&str> = arguments.words.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] => {
            session.printer.data(of_command(&[]).unwrap_or_default().trim_end())?;
            session.printer.data(format_args!("\n{}\n{}", paint(BOLD, "Topics:"), topics()))?;
        }
        [GUIDE] => session.printer.data(topics())?,
        [GUIDE, name] => session.printer.data(page(topic(name).ok_or_else(|| unknown(name))?))?,
        [first, ..] => match (of_command(&words), topic(first)) {
            (Some(help), guide) => {
                session.printer.data(help.trim_end())?;
                if guide.is_some() && words.len() == 1 {
                    session.printer.data(format_args!("\nThe guide has a page about it: `devenv help {GUIDE} {first}`"))?;
                }
            }
            (None, Some(text)) if words.len() == 1 => session.printer.data(page(text))?,
            (None, _) => return Err(unknown(&words.join(" ")).into()),
        },
    }
    Ok(ExitStatus::SUCCESS)
}

/// Everything that has a page, with one line about each.
pub(super) fn words() -> Vec<(String, String)> {
    let command = args::command();
    let commands = command.get_subcommands().map(|command| {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        (command.get_name().to_owned(), about)
    });
    commands.chain(TOPICS.iter().map(|(name, text)| ((*name).to_owned(), title(text).to_owned()))).collect()
}

fn topic(name: &str) -> Option<&'static str> {
    TOPICS.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// The output of `devenv WORDS --help`; `None` if there is no such command.
fn of_command(words: &[&str]) -> Option<String> {
    let mut command = &args::command();
    for word in words {
        command = command.find_subcommand(word)?;
    }
    let line = std::iter::once("devenv").chain(words.iter().copied()).chain(["--help"]).map(OsString::from);
    args::parse(line).err().map(|help| help.render().ansi().to_string())
}

fn topics() -> String {
    let lines = TOPICS.iter().map(|(name, text)| format!("  {name:<16} {}", title(text)));
    lines.collect::<Vec<_>>().join("\n")
}

fn title(text: &str) -> &str {
    text.lines().find_map(|line| line.strip_prefix("# ")).unwrap_or_default()
}

/// Markdown reads well as it is; only headings get weight.
fn page(text: &str) -> String {
    let mut in_code = false;
    let lines = text.trim_end().lines().map(|line| {
        in_code ^= line.starts_with("```");
        if line.starts_with('#') && !in_code { paint(BOLD, line) } else { line.to_owned() }
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn unknown(word: &str) -> devenv_api::ApiError {
    let known = words();
    let near = did_you_mean(word, known.iter().map(|(name, _)| name.as_str()));
    usage(format!("no command and no topic `{word}`"))
        .hint(near.unwrap_or_else(|| "run `devenv help` to list commands and topics".to_owned()))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::Path};

    use super::*;

    #[test]
    fn every_page_of_the_guide_is_a_topic_with_a_title() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let pages = ["docs/guide", "docs/guide/services"].iter().flat_map(|folder| std::fs::read_dir(root.join(folder)).unwrap());
        let mut names: BTreeSet<String> = pages
            .map(|page| page.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
            .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        names.insert("security".to_owned());
        assert_eq!(names, TOPICS.iter().map(|(name, _)| (*name).to_owned()).collect());
        assert!(TOPICS.iter().all(|(_, text)| !title(text).is_empty()));
        assert!(topic(GUIDE).is_none() && args::command().find_subcommand(GUIDE).is_none(), "`guide` is the word before a topic");
    }

    #[test]
    fn the_help_of_a_command_is_that_of_its_flag() {
        let help = of_command(&["chaos", "run"]).unwrap();
        assert!(help.contains("--dry-run") && help.contains("devenv chaos run"), "{help}");
        assert!(of_command(&["chaos", "rnu"]).is_none());
        assert!(unknown("dta").hint.unwrap().contains("`data`"));
    }

    #[test]
    fn headings_of_a_page_have_weight_and_comments_in_samples_do_not() {
        let shown = page("# One\n```sh\n# two\n```\n");
        assert!(shown.contains("\x1b[1m# One") && shown.contains("\n# two\n"), "{shown:?}");
    }
}
