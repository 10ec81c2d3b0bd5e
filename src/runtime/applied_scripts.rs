//! The texts of applied scripts, by checksum, so that the ledger can show which lines of a script have changed since.
//!
//! The ledger in the data has only checksums. What is kept here is bounded, private to the user, and only shown: if it is lost, the
//! ledger still says that a script has changed.

use std::{fs, io, path::PathBuf, time::SystemTime};

use devenv_api::{ChangedLine, LineChange};
use devenv_files::{Durability, PRIVATE, read_bounded};
use devenv_kinds::script::{Script, files::Content};
use similar::{ChangeTag, TextDiff};

use crate::store::create_private;

/// Bytes of a script that is kept.
const LARGEST: u64 = 256 << 10;
/// Of an environment. The oldest are removed first.
const MOST: usize = 500;
/// Lines of a comparison that are shown, and how much of each.
const MOST_LINES: usize = 400;
const LONGEST_LINE: usize = 400;
/// Unchanged lines around a change.
const AROUND: usize = 3;

pub(super) struct AppliedScripts {
    pub(super) directory: PathBuf,
}

/// How a script differs from what was applied.
pub(super) struct Compared {
    pub(super) lines: Vec<ChangedLine>,
    /// Why the lines are not known, or not all of them.
    pub(super) incomplete: Option<String>,
}

impl AppliedScripts {
    /// Keeps the present texts of these scripts, which have been applied. Blocks.
    pub(super) fn keep(&self, scripts: &[Script]) {
        for script in scripts.iter().filter(|script| script.size <= LARGEST) {
            let path = self.directory.join(&script.checksum);
            if path.exists() {
                continue;
            }
            let kept = text_of(&script.content).and_then(|text| {
                create_private(&self.directory).map_err(io::Error::other)?;
                self.make_room()?;
                devenv_files::write_with(&path, &text, PRIVATE, Durability::Cached)
            });
            if let Err(error) = kept {
                tracing::debug!(%error, script = script.path, "Cannot keep the text of an applied script.");
            }
        }
    }

    fn make_room(&self) -> io::Result<()> {
        let found = fs::read_dir(&self.directory)?.filter_map(Result::ok);
        let mut kept: Vec<(SystemTime, PathBuf)> =
            found.filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path()))).collect();
        kept.sort_unstable();
        kept.iter().rev().skip(MOST - 1).try_for_each(|(_, path)| fs::remove_file(path))
    }

    /// Compares the present file with what was applied with that checksum. Blocks.
    pub(super) fn compare(&self, checksum: &str, script: Option<&Script>) -> Compared {
        let unknown = |reason: &str| Compared { lines: Vec::new(), incomplete: Some(reason.to_owned()) };
        let Some(script) = script else { return unknown("the profile has no such script any more") };
        let is_checksum = checksum.len() == 64 && checksum.bytes().all(|byte| byte.is_ascii_hexdigit());
        let applied = self.directory.join(checksum);
        // A checksum comes from the data, which anybody may have written.
        let Some(Ok(applied)) = is_checksum.then(|| read_bounded(&applied, LARGEST)) else {
            return unknown(
                "the text that was applied is not known: it was applied by a former version or from another machine, or it is larger than 256 KiB",
            );
        };
        let present = match text_of(&script.content) {
            Ok(present) => present,
            Err(error) => return unknown(&format!("the file cannot be read: {error}")),
        };
        match (String::from_utf8(applied), String::from_utf8(present)) {
            (Ok(applied), Ok(present)) if applied == present => unknown("the file is the same; another file that it reads has changed"),
            (Ok(applied), Ok(present)) => compared(&applied, &present),
            _ => unknown("the file is not text"),
        }
    }
}

fn text_of(content: &Content) -> io::Result<Vec<u8>> {
    match content {
        Content::Shipped(text) => Ok(text.to_vec()),
        Content::File(path) => read_bounded(path, LARGEST).map_err(io::Error::other),
    }
}

fn compared(applied: &str, present: &str) -> Compared {
    // Beyond that, the comparison is coarser.
    let diff = TextDiff::configure().timeout(std::time::Duration::from_millis(500)).diff_lines(applied, present);
    let mut lines = Vec::new();
    let mut incomplete = None;
    for change in diff.grouped_ops(AROUND).iter().flatten().flat_map(|operation| diff.iter_changes(operation)) {
        if lines.len() == MOST_LINES {
            incomplete = Some(format!("more than {MOST_LINES} lines: the rest is left out"));
            break;
        }
        let number = |index: Option<usize>| index.map(|index| index as u64 + 1);
        lines.push(ChangedLine {
            change: match change.tag() {
                ChangeTag::Equal => LineChange::Same,
                ChangeTag::Delete => LineChange::Removed,
                ChangeTag::Insert => LineChange::Added,
            },
            applied: number(change.old_index()),
            present: number(change.new_index()),
            text: change.value().trim_end_matches(['\r', '\n']).chars().take(LONGEST_LINE).collect(),
        });
    }
    if lines.iter().all(|line| line.change == LineChange::Same) {
        incomplete = Some("only the ends of lines differ".to_owned());
    }
    Compared { lines, incomplete }
}

#[cfg(test)]
mod tests {
    use devenv_api::LedgerMode;
    use devenv_kinds::script::ScriptFormat;

    use super::*;

    fn script(text: &'static str, checksum: &str) -> Script {
        Script {
            path: "a.sql".to_owned(),
            content: Content::Shipped(text.as_bytes()),
            format: ScriptFormat("sql"),
            mode: LedgerMode::Once,
            checksum: checksum.to_owned(),
            seed: false,
            size: text.len() as u64,
            only_up: false,
        }
    }

    #[test]
    fn the_changed_lines_of_a_script_are_shown_with_those_around() {
        let directory = tempfile::tempdir().unwrap();
        let applied = AppliedScripts { directory: directory.path().join("applied") };
        let (before, after) = ("a".repeat(64), "b".repeat(64));
        applied.keep(&[script("one\ntwo\nthree\nfour\nfive\nsix\n", &before)]);
        let found = applied.compare(&before, Some(&script("one\ntwo\nthree\nfour\nFIVE\nsix\nseven\n", &after)));
        let shown: Vec<String> =
            found.lines.iter().map(|line| format!("{:?} {:?} {:?} {}", line.change, line.applied, line.present, line.text)).collect();
        assert_eq!(
            shown,
            [
                "Same Some(2) Some(2) two",
                "Same Some(3) Some(3) three",
                "Same Some(4) Some(4) four",
                "Removed Some(5) None five",
                "Added None Some(5) FIVE",
                "Same Some(6) Some(6) six",
                "Added None Some(7) seven",
            ]
        );
        assert_eq!(found.incomplete, None);
    }

    #[test]
    fn what_cannot_be_compared_is_explained() {
        let directory = tempfile::tempdir().unwrap();
        let applied = AppliedScripts { directory: directory.path().to_owned() };
        let known = "a".repeat(64);
        applied.keep(&[script("one\n", &known)]);
        let why = |checksum: &str, script: Option<&Script>| applied.compare(checksum, script).incomplete.unwrap();
        assert!(why("../a", Some(&script("x", &known))).starts_with("the text that was applied is not known"));
        assert!(why(&known, None).starts_with("the profile has no such script"));
        assert!(why(&known, Some(&script("one\n", &known))).starts_with("the file is the same"));
        let long: String = (0..1000).map(|number| format!("{number}\n")).collect();
        let found = applied.compare(&known, Some(&script(long.leak(), &known)));
        assert_eq!(found.lines.len(), MOST_LINES);
        assert!(found.incomplete.unwrap().starts_with("more than 400 lines"));
    }

    #[test]
    fn the_oldest_texts_make_room() {
        let directory = tempfile::tempdir().unwrap();
        let applied = AppliedScripts { directory: directory.path().to_owned() };
        for number in 0..MOST + 5 {
            applied.keep(&[script("x", &format!("{number:064}"))]);
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), MOST);
    }
}
