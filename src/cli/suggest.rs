//! Names that other tools use for commands, for the tip after an unknown command.
//!
//! clap itself suggests similarly spelled words.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// A word of other tools, and devenv's command.
const WORDS: &[(&str, &str)] = &[
    ("attach", "up --attach"),
    ("clean", "gc"),
    ("clone", "fork"),
    ("connect", "psql"),
    ("convert", "config"),
    ("create", "up"),
    ("delete", "down"),
    ("destroy", "down"),
    ("inspect", "status"),
    ("kill", "stop"),
    ("ls", "list"),
    ("migrate", "init"),
    ("port", "status"),
    ("prune", "gc"),
    ("pull", "fetch"),
    ("remove", "down"),
    ("rm", "down"),
    ("scaffold", "new"),
    ("setup", "new"),
    ("shell", "exec"),
    ("sh", "exec"),
    ("watch", "dev"),
];

/// The error with a tip, if another tool has such a command.
pub(super) fn with_tip(mut error: clap::Error) -> clap::Error {
    if error.kind() == ErrorKind::InvalidSubcommand
        && let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand)
        && let Some((_, command)) = WORDS.iter().find(|(known, _)| known == word)
    {
        error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(vec![(*command).to_owned()]));
    }
    error
}

/// The first suggestion of an error, for a hint.
pub(super) fn of(error: &clap::Error) -> Option<String> {
    match error.get(ContextKind::SuggestedSubcommand)? {
        ContextValue::Strings(words) => words.first().cloned(),
        ContextValue::String(word) => Some(word.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args;

    fn tip(word: &str) -> Option<String> {
        of(&args::parse(["devenv", word].map(Into::into)).unwrap_err())
    }

    #[test]
    fn words_of_other_tools_and_misspelled_ones_lead_to_commands() {
        for (word, command) in [("pull", "fetch"), ("rm", "down"), ("watch", "dev"), ("upp", "up"), ("lits", "list")] {
            assert_eq!(tip(word).as_deref(), Some(command), "{word}");
        }
        assert_eq!(tip("zzzzzz"), None);
    }

    #[test]
    fn every_tip_is_a_command_and_no_word_is_one() {
        let command = args::command();
        for (word, tip) in WORDS {
            assert!(command.find_subcommand(word).is_none(), "{word} is a command");
            let first = tip.split(' ').next().unwrap();
            assert!(command.find_subcommand(first).is_some(), "{tip}");
        }
    }
}
