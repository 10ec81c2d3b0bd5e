//! The files that a script reads while it runs: what `\i`, `\ir` and `\copy … from` name, and what the scripts among them name.
//!
//! They are on the host and psql is in the container, so they are sent along, each under the path that it has on the host.

use std::{
    collections::BTreeSet,
    io::{self, BufRead, BufReader},
    ops::ControlFlow,
    path::{Component, Path, PathBuf},
};

use super::scan::{Named, Role, Scan, Scanner, Session};

/// Far more than any project has; a chain of links without end stops here.
const MOST: usize = 10_000;

/// Those that exist, without the script itself.
pub(super) fn files(script: &Path, project: &Path) -> BTreeSet<PathBuf> {
    let script = absolute(script);
    match scanned(&script, &Session::default()) {
        Ok(scan) => named_by(&scan.files, &script, project),
        Err(_) => BTreeSet::new(),
    }
}

/// Those that a script with these names reads.
pub(super) fn named_by(names: &[Named], script: &Path, project: &Path) -> BTreeSet<PathBuf> {
    walk(names, script, project, true, |_, _| ControlFlow::Continue(()))
}

/// The first thing in the scripts among them that the owner may not say: the file, its line and its words.
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

/// Follows the names through the scripts that they lead to. `look` sees each of those once; files of rows are passed over
/// or only listed. Returns what it came across.
fn walk(
    names: &[Named],
    script: &Path,
    project: &Path,
    with_rows: bool,
    mut look: impl FnMut(&Path, &Scan) -> ControlFlow<()>,
) -> BTreeSet<PathBuf> {
    let (script, project) = (absolute(script), absolute(project));
    let mut found = BTreeSet::new();
    let mut waiting = resolved(names, &script, &project);
    while let Some((role, path)) = waiting.pop() {
        let is_passed_over = role == Role::Rows && !with_rows;
        if is_passed_over || path == script || found.len() >= MOST || !path.is_file() || !found.insert(path.clone()) {
            continue;
        }
        if role != Role::Rows
            && let Ok(scan) = scanned(&path, &Session::default())
        {
            if look(&path, &scan).is_break() {
                break;
            }
            waiting.extend(resolved(&scan.files, &path, &project));
        }
    }
    found
}

fn resolved(names: &[Named], script: &Path, project: &Path) -> Vec<(Role, PathBuf)> {
    let beside = script.parent().unwrap_or(project);
    let base = |role| if role == Role::ScriptBeside { beside } else { project };
    names.iter().map(|named| (named.role, normal(&base(named.role).join(&named.path)))).collect()
}

/// What is in a script that is not compressed.
pub(super) fn scanned(path: &Path, session: &Session) -> io::Result<Scan> {
    let mut input = BufReader::with_capacity(256 * 1024, std::fs::File::open(path)?);
    let mut scanner = Scanner::new(session.clone());
    let mut line = Vec::new();
    while input.read_until(b'\n', &mut line)? > 0 {
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
}
