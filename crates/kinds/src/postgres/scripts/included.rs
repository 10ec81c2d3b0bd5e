//! The files that a script reads while it runs: what `\i`, `\ir`, `\copy … from` and `\lo_import` name, and what the scripts among
//! them name.
//!
//! They are on the host and psql is in the container, so they are sent along, each under the path that it has on the host. Only
//! regular files inside the project, or beside the script, are sent, up to a size: a script says nothing about what else is on the host.

use std::{
    collections::BTreeSet,
    io::{self, BufRead, BufReader, Read},
    ops::ControlFlow,
    path::{Component, Path, PathBuf},
};

use super::scan::{Named, Role, Scan, Scanner, Session};

/// Far more than any project has; this limit ends an endless chain of links.
const MOST: usize = 10_000;
/// Of a script that another one names.
const LARGEST_SCRIPT: u64 = 256 << 20;
/// Of a file of rows, or of a large object.
const LARGEST_ROWS: u64 = 8 << 30;
/// A longer line is read in pieces.
const LONGEST_LINE: u64 = 64 << 20;

/// A file that a script names, and that is not sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// The script, as people know it.
    pub(super) script: String,
    pub(super) line: u64,
    pub(super) why: String,
}

/// What was found by following the names.
#[derive(Debug, Default)]
pub(super) struct Followed {
    pub(super) files: BTreeSet<PathBuf>,
    pub(super) refused: Option<Refused>,
}

/// The existing ones, without the script itself.
pub(super) fn files(script: &Path, project: &Path) -> BTreeSet<PathBuf> {
    let script = absolute(script);
    match scanned(&script, &Session::default()) {
        Ok(scan) => named_by(&scan.files, &script, project).files,
        Err(_) => BTreeSet::new(),
    }
}

/// The files that a script with these names includes.
pub(super) fn named_by(names: &[Named], script: &Path, project: &Path) -> Followed {
    walk(names, script, project, true, |_, _| ControlFlow::Continue(()))
}

/// The first statement in the included scripts that an owner's script may not contain: the file, its line and its text.
pub(super) fn reaching(names: &[Named], script: &Path, project: &Path) -> Option<(PathBuf, u64, String)> {
    let mut reaching = None;
    walk(names, script, project, false, |path, scan| match &scan.reaches {
        Some((line, what)) => {
            reaching = Some((path.to_owned(), *line, what.clone()));
            ControlFlow::Break(())
        }
        None => ControlFlow::Continue(()),
    });
    reaching
}

/// A file, and where it is named.
struct Mention {
    role: Role,
    path: PathBuf,
    script: PathBuf,
    line: u64,
}

/// The directories whose files are sent, without links.
struct Bounds {
    project: PathBuf,
    beside: PathBuf,
}

/// Follows the names through the scripts that they lead to. `look` sees each of those once; files of rows are passed over
/// or only listed. What does not exist is left for psql to complain about.
fn walk(
    names: &[Named],
    script: &Path,
    project: &Path,
    with_rows: bool,
    mut look: impl FnMut(&Path, &Scan) -> ControlFlow<()>,
) -> Followed {
    let (script, project) = (absolute(script), absolute(project));
    let bounds = Bounds::of(&script, &project);
    let mut followed = Followed::default();
    let mut waiting = mentioned(names, &script, &project);
    while let Some(mention) = waiting.pop() {
        let Mention { role, path, .. } = &mention;
        let is_passed_over = *role == Role::Rows && !with_rows;
        if is_passed_over || *path == script || followed.files.len() >= MOST || !path.exists() || followed.files.contains(path) {
            continue;
        }
        if let Err(why) = bounds.check(path, *role) {
            let known_as = mention.script.strip_prefix(&project).unwrap_or(&mention.script).display().to_string();
            followed.refused.get_or_insert(Refused { script: known_as, line: mention.line, why });
            continue;
        }
        followed.files.insert(path.clone());
        if *role != Role::Rows
            && let Ok(scan) = scanned(path, &Session::default())
        {
            if look(path, &scan).is_break() {
                break;
            }
            waiting.extend(mentioned(&scan.files, path, &project));
        }
    }
    followed
}

impl Bounds {
    fn of(script: &Path, project: &Path) -> Self {
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        Self { project: real(project), beside: real(script.parent().unwrap_or(project)) }
    }

    /// Why a file that exists is not sent.
    fn check(&self, path: &Path, role: Role) -> Result<(), String> {
        let shown = path.display();
        let real = path.canonicalize().map_err(|error| format!("{shown}, which it reads, cannot be found: {error}"))?;
        if !real.starts_with(&self.project) && !real.starts_with(&self.beside) {
            return Err(format!("{shown}, which it reads, is outside of the project"));
        }
        let opened = devenv_files::TimedReader::open_with_metadata(&real);
        let size = opened.map_err(|error| format!("{shown}, which it reads, {error}"))?.1.len();
        let largest = if role == Role::Rows { LARGEST_ROWS } else { LARGEST_SCRIPT };
        if size > largest {
            return Err(format!("{shown}, which it reads, has {size} bytes, more than the {largest} that are read"));
        }
        Ok(())
    }
}

fn mentioned(names: &[Named], script: &Path, project: &Path) -> Vec<Mention> {
    let beside = script.parent().unwrap_or(project);
    let base = |role| if role == Role::ScriptBeside { beside } else { project };
    let mention = |named: &Named| Mention {
        role: named.role,
        path: normal(&base(named.role).join(&named.path)),
        script: script.to_owned(),
        line: named.line,
    };
    // The last one is taken first.
    names.iter().rev().map(mention).collect()
}

/// What is in a script that is not compressed.
pub(super) fn scanned(path: &Path, session: &Session) -> io::Result<Scan> {
    scan(devenv_files::TimedReader::open(path)?, session.clone())
}

/// What is in a script, with no more of it in memory than a line.
pub(super) fn scan(input: impl Read, session: Session) -> io::Result<Scan> {
    let mut input = BufReader::with_capacity(256 * 1024, input);
    let (mut scanner, mut line) = (Scanner::new(session), Vec::new());
    while Read::take(&mut input, LONGEST_LINE).read_until(b'\n', &mut line)? > 0 {
        scanner.line(&line);
        line.clear();
    }
    Ok(scanner.finish())
}

pub(super) fn absolute(path: &Path) -> PathBuf {
    normal(&std::path::absolute(path).unwrap_or_else(|_| path.to_owned()))
}

/// Without `.` and `..`, as psql writes a path.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => drop(normal.pop()),
            other => normal.push(other),
        }
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_scripts_include_are_found_in_the_project_or_beside_them() {
        let project = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = project.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("db/schema.sql", "\\ir tables/a.sql\n\\i db/tables/b.sql\n\\i none.sql\n\\copy a from 'rows.csv' csv\n");
        write("db/tables/a.sql", "\\ir ../more/c.sql\n\\ir a.sql\n");
        write("db/tables/b.sql", "-- \\i db/unread.sql\n");
        write("db/more/c.sql", "\\i db/schema.sql\n");
        write("db/unread.sql", "");
        write("rows.csv", "\\i db/unread.sql\n");
        let found = files(&project.path().join("db/schema.sql"), project.path());
        let shown: Vec<_> = found.iter().map(|path| path.strip_prefix(project.path()).unwrap().to_str().unwrap()).collect();
        assert_eq!(shown, ["db/more/c.sql", "db/tables/a.sql", "db/tables/b.sql", "rows.csv"]);
    }
    #[test]
    fn files_outside_of_the_project_and_what_is_no_regular_file_are_refused_where_they_are_named() {
        let place = tempfile::tempdir().unwrap();
        let project = place.path().join("project");
        let write = |path: &Path, text: &str| {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write(&place.path().join("secret.txt"), "s3cr3t");
        write(&place.path().join("shared/beside.sql"), "SELECT 1;\n");
        std::fs::create_dir_all(&project).unwrap();
        std::os::unix::fs::symlink(place.path().join("secret.txt"), project.join("link.csv")).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(project.join("pipe.csv")).status().unwrap().success());
        std::fs::File::create(project.join("huge.sql")).unwrap().set_len(LARGEST_SCRIPT + 1).unwrap();
        write(&project.join("inner.sql"), "SELECT 1;\n\n\\copy a from '../secret.txt'\n");
        let script = project.join("init.sql");
        for (text, place, why) in [
            ("\\i ../secret.txt\n", "init.sql:1", "is outside of the project"),
            ("SELECT 1;\n\\copy a from 'link.csv' csv\n", "init.sql:2", "is outside of the project"),
            ("\\lo_import '/etc/passwd'\n", "init.sql:1", "is outside of the project"),
            ("\\ir inner.sql\n", "inner.sql:3", "is outside of the project"),
            ("\\copy a from 'pipe.csv'\n", "init.sql:1", "is not a regular file"),
            ("\\i huge.sql\n", "init.sql:1", "more than the"),
            ("\\i .\n", "init.sql:1", "is not a regular file"),
        ] {
            write(&script, text);
            let names = scanned(&script, &Session::default()).unwrap().files;
            let followed = named_by(&names, &script, &project);
            let refused = followed.refused.unwrap_or_else(|| panic!("{text}"));
            assert_eq!(format!("{}:{}", refused.script, refused.line), place, "{text}");
            assert!(refused.why.contains(why), "{text}: {}", refused.why);
            assert!(followed.files.iter().all(|file| file.ends_with("inner.sql")), "{text}: {:?}", followed.files);
        }
        // A directory of scripts elsewhere, which the profile names, may read what is in it.
        let elsewhere = place.path().join("shared/all.sql");
        write(&elsewhere, "\\ir beside.sql\n");
        let names = scanned(&elsewhere, &Session::default()).unwrap().files;
        let followed = named_by(&names, &elsewhere, &project);
        assert_eq!((followed.refused, followed.files.len()), (None, 1));
    }
}
