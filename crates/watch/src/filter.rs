//! Which files are ignored: `.gitignore`, `.dockerignore`, the profile's own globs, and the temporary files of editors.

use std::{
    collections::HashMap,
    ffi::OsStr,
    path::{Path, PathBuf},
};

use ignore::{
    Match,
    gitignore::{Gitignore, GitignoreBuilder},
};

use crate::Rule;

/// Version control, caches that programs write while they run, and the temporary files of editors.
const ALWAYS: &[&str] = &[
    ".git",
    ".hg",
    ".svn",
    ".jj",
    "__pycache__/",
    "*.py[co]",
    ".DS_Store",
    "*~",
    ".#*",
    "\\#*#",
    ".*.sw?",
    "*.sw[px]",
    "4913",
    "!4913/",
    "*___jb_tmp___",
    "*___jb_old___",
    ".goutputstream-*",
    "*.kate-swp",
    "*.vsctmp",
];
/// The most that a file of patterns may hold, in bytes; a larger one ignores nothing.
const LARGEST_RULES: u64 = 1 << 20;
const GIT: &str = ".gitignore";
const DOCKER: &str = ".dockerignore";

/// What one rule ignores.
#[derive(Debug)]
pub(super) struct Filter {
    profile: Gitignore,
    /// The files that count, if the rule names them.
    included: Option<Gitignore>,
    /// The ignore files of each directory.
    levels: HashMap<PathBuf, Vec<Gitignore>>,
    /// These apply everywhere, the first that matches decides: the repository's excludes, the user's excludes, then our own.
    base: Vec<Gitignore>,
    /// The lock files that show that git is at work.
    pub(super) git_lock: Option<PathBuf>,
}

impl Filter {
    pub(super) fn new(project: &Path, rule: &Rule) -> Self {
        let mut base = Vec::new();
        let repository = project.ancestors().find(|above| above.join(".git").exists());
        let git = repository.and_then(git_directory);
        if let Some((git, repository)) = git.as_ref().zip(repository) {
            base.extend(from_file(repository, &git.join("info/exclude"), |line| Some(line.to_owned())));
        }
        base.push(Gitignore::global().0);
        base.push(from_lines(Path::new("/"), ALWAYS.iter().copied()));
        let profile = from_lines(project, rule.ignore.iter().map(String::as_str));
        let included = (!rule.include.is_empty()).then(|| from_lines(project, rule.include.iter().map(String::as_str)));
        let mut filter = Self { profile, included, levels: HashMap::new(), base, git_lock: git.map(|git| git.join("index.lock")) };
        for above in project.ancestors().take_while(|above| repository.is_some_and(|repository| above.starts_with(repository))) {
            filter.load(above);
        }
        filter.load(project);
        for root in &rule.paths {
            for above in root.ancestors().skip(1).take_while(|above| above.starts_with(project)) {
                filter.load(above);
            }
        }
        filter
    }

    /// Reads a directory's ignore files, if it has any.
    pub(super) fn load(&mut self, directory: &Path) {
        let found: Vec<Gitignore> = [
            from_file(directory, &directory.join(GIT), |line| Some(line.to_owned())),
            from_file(directory, &directory.join(DOCKER), docker_to_git),
        ]
        .into_iter()
        .flatten()
        .collect();
        if found.is_empty() {
            self.levels.remove(directory);
        } else {
            self.levels.insert(directory.to_owned(), found);
        }
    }

    /// Whether this is the name of an ignore file. A change of one changes what is watched, but is not a change of a watched file.
    pub(super) fn is_ignore_file(name: &OsStr) -> bool {
        name == GIT || name == DOCKER
    }

    /// For a path whose directory is not ignored.
    pub(super) fn ignores(&self, path: &Path, is_directory: bool) -> bool {
        if path.file_name().and_then(OsStr::to_str).is_some_and(is_rsync_temporary) {
            return true;
        }
        if let Some(included) = self.included.as_ref().filter(|_| !is_directory)
            && !(path.starts_with(included.path()) && included.matched_path_or_any_parents(path, false).is_ignore())
        {
            return true;
        }
        let levels = path.ancestors().skip(1).filter_map(|above| self.levels.get(above)).flatten();
        for rules in std::iter::once(&self.profile).chain(levels).chain(&self.base) {
            if !path.starts_with(rules.path()) {
                continue;
            }
            match rules.matched(path, is_directory) {
                Match::Ignore(_) => return true,
                Match::Whitelist(_) => return false,
                Match::None => {}
            }
        }
        false
    }
}

/// `.server.py.Ab12Cd`: `rsync` writes such a file, perhaps slowly, and then renames it. `.env.sample` does not match.
fn is_rsync_temporary(name: &str) -> bool {
    name.strip_prefix('.').and_then(|name| name.rsplit_once('.')).is_some_and(|(_, end)| {
        end.len() == 6 && end.bytes().all(|byte| byte.is_ascii_alphanumeric()) && !end.bytes().all(|byte| byte.is_ascii_lowercase())
    })
}

/// `.git` itself, or the directory that it names in a worktree.
fn git_directory(repository: &Path) -> Option<PathBuf> {
    let git = repository.join(".git");
    if git.is_dir() {
        return Some(git);
    }
    let text = devenv_files::read_text_bounded(&git, LARGEST_RULES).ok()?;
    Some(repository.join(text.strip_prefix("gitdir:")?.trim()))
}

fn from_file(root: &Path, file: &Path, line: impl Fn(&str) -> Option<String>) -> Option<Gitignore> {
    let text = devenv_files::read_text_bounded(file, LARGEST_RULES).ok()?;
    let lines: Vec<String> = text.lines().filter_map(line).collect();
    Some(from_lines(root, lines.iter().map(String::as_str)))
}

fn from_lines<'a>(root: &Path, lines: impl Iterator<Item = &'a str>) -> Gitignore {
    let mut builder = GitignoreBuilder::new(root);
    for line in lines {
        // An invalid glob ignores nothing, as in git.
        let _ = builder.add_line(None, line);
    }
    builder.build().unwrap_or_else(|_| Gitignore::empty())
}

/// In `.dockerignore` every pattern starts at the file's directory; in `.gitignore` a name without `/` matches at any depth.
fn docker_to_git(line: &str) -> Option<String> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let (sign, pattern) = line.strip_prefix('!').map_or(("", line), |pattern| ("!", pattern));
    let pattern = pattern.trim_start_matches("./").trim_start_matches('/');
    Some(format!("{sign}/{pattern}"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn rule(ignore: &[&str], include: &[&str], path: PathBuf) -> Rule {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Rule { service: "api".to_owned(), index: 0, paths: vec![path], ignore: texts(ignore), include: texts(include) }
    }

    #[test]
    fn of_included_files_those_alone_count_that_are_not_ignored() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let filter = Filter::new(root, &rule(&["*.tmp"], &["A.*", "src/"], root.join("app")));
        let ignored = |path: &str, is_directory| filter.ignores(&root.join(path), is_directory);
        assert!(!ignored("app/A.py", false) && !ignored("app/src/deep/x.py", false), "they are included");
        assert!(ignored("app/B.py", false) && ignored("app/A.tmp", false));
        assert!(!ignored("app/other", true), "a directory may hold files that count");
        assert!(ignored("/elsewhere/B.py", false));
    }

    #[test]
    fn ignore_files_hold_where_they_stand_and_the_profile_holds_over_them() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::create_dir_all(root.join("app/deep")).unwrap();
        fs::write(root.join(GIT), "*.log\nbuild/\n").unwrap();
        fs::write(root.join("app/.gitignore"), "!kept.log\n/local\n").unwrap();
        fs::write(root.join(DOCKER), "# a comment\ndocs\n**/*.bak\n!app/kept.bak\n").unwrap();
        let mut filter = Filter::new(root, &rule(&["*.tmp", "!special~"], &[], root.join("app/deep")));
        filter.load(&root.join("app"));
        let ignored: Vec<&str> = [
            "app/x.py",
            "app/x.log",
            "app/kept.log",
            "app/local",
            "app/deep/local",
            "docs",
            "app/docs",
            "a.bak",
            "app/a.bak",
            "app/kept.bak",
            "x.tmp",
            "x.py~",
            "special~",
            ".x.py.swp",
            "4913",
            ".env",
            ".env.sample",
            ".server.py.Ab12Cd",
            "x.pyc",
            "x.py___jb_tmp___",
        ]
        .into_iter()
        .filter(|path| filter.ignores(&root.join(path), false))
        .collect();
        assert_eq!(
            ignored,
            [
                "app/x.log",
                "app/local",
                "docs",
                "a.bak",
                "app/a.bak",
                "x.tmp",
                "x.py~",
                ".x.py.swp",
                "4913",
                ".server.py.Ab12Cd",
                "x.pyc",
                "x.py___jb_tmp___"
            ]
        );
        assert!(filter.ignores(&root.join("app/build"), true) && !filter.ignores(&root.join("app/build"), false));
        assert!(filter.ignores(&root.join(".git"), true));
    }
}
