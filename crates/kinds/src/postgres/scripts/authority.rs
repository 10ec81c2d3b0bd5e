//! PURE: what an owner's script may not contain, because it would reach the container's system or another role.
//!
//! psql runs inside the container, so its backslash commands act there. The scan of init scripts and the check of imported dumps
//! use this. Scripts under `admin_init` are not restricted.

/// The remedy.
pub(crate) const HINT: &str = "scripts and dumps run as the owner of the database; if this is your own script and needs the superuser, \
    list it under `admin_init`";

/// Commands that read or write the container's files, start programs or change how psql connects.
const SYSTEM: [&str; 11] = ["!", "cd", "e", "edit", "ef", "ev", "lo_export", "lo_unlink", "password", "prompt", "s"];
/// Commands that send output to a file or program if one is named.
const OUTPUT: [&str; 6] = ["o", "out", "w", "write", "g", "gx"];

/// Whether a backslash command reaches the system, by its name and the rest of its line.
pub(crate) fn command_reaches(name: &str, rest: &str) -> bool {
    let rest = rest.trim();
    if SYSTEM.contains(&name) || has_program(rest) {
        return true;
    }
    if OUTPUT.contains(&name) {
        let target = rest.rsplit_once(')').map_or(rest, |(_, target)| target).trim().trim_end_matches(';');
        return !matches!(target, "" | "/dev/null");
    }
    match name {
        "c" | "connect" => connects_elsewhere(rest),
        "copy" => copy_reaches(rest),
        _ => false,
    }
}

/// Whether a statement takes another role, by its first words in upper case.
pub(crate) fn statement_takes_role(words: &[&str]) -> bool {
    let rest = match words {
        ["SET", "LOCAL" | "SESSION", rest @ ..] if !matches!(rest, ["AUTHORIZATION", ..]) => rest,
        ["SET", rest @ ..] => rest,
        _ => return false,
    };
    matches!(rest, ["ROLE", ..] | ["SESSION", "AUTHORIZATION", ..])
}

/// Whether a statement returns to the role that the session began with, by its first words in upper case. A script begins as the owner,
/// and may return to that from a role that it has taken; a dump is restored by the superuser, who has taken the owner's role.
pub(crate) fn statement_leaves(words: &[&str]) -> bool {
    matches!(words, ["RESET", "ROLE", ..] | ["RESET", "SESSION", "AUTHORIZATION", ..])
}

/// Whether a command reads or sets the variables of psql's process, among them the password of the role that it connects as.
pub(crate) fn command_leaves(name: &str) -> bool {
    matches!(name, "getenv" | "setenv")
}

/// Backquotes outside of single quotes run a program, whose output becomes an argument.
fn has_program(rest: &str) -> bool {
    let mut quoted = false;
    rest.chars().any(|c| {
        quoted ^= c == '\'';
        c == '`' && !quoted
    })
}

/// As another user or on another server; another database of this one is allowed.
fn connects_elsewhere(rest: &str) -> bool {
    let words: Vec<&str> = rest.split_whitespace().filter(|word| !word.starts_with("-reuse-previous")).collect();
    match words.as_slice() {
        [] => false,
        [database] => {
            let database = database.to_ascii_lowercase();
            ["user", "host", "service", "://", "port"].iter().any(|word| database.contains(word))
        }
        _ => true,
    }
}

fn copy_reaches(rest: &str) -> bool {
    let lower = rest.to_ascii_lowercase();
    let words: Vec<&str> =
        lower.split(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | ';')).filter(|word| !word.is_empty()).collect();
    let after = |word: &str| words.iter().rposition(|known| *known == word).and_then(|at| words.get(at + 1));
    let program = words.windows(2).any(|pair| matches!(pair, ["from" | "to", "program"]));
    let written = after("to").is_some_and(|target| !matches!(*target, "stdout" | "pstdout"));
    program || (written && after("from").is_none_or(|source| !matches!(*source, "stdin" | "pstdin")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_that_reach_the_system_or_another_role_are_found() {
        for (line, reaches) in [
            ("! touch /tmp/x", true),
            ("o | sh", true),
            ("o /var/lib/postgresql/data/pg_hba.conf", true),
            ("o", false),
            ("o /dev/null", false),
            ("g | sh", true),
            ("g", false),
            ("gset", false),
            ("gexec", false),
            ("getenv here PG_LIBDIR", false),
            ("setenv here there", false),
            ("gx (format=aligned) | sh", true),
            ("w x.sql", true),
            ("set x `id`", true),
            ("set x 'a`b'", false),
            ("echo hello", false),
            ("copy t from program 'id'", true),
            ("copy (select 1) to program 'id'", true),
            ("copy t to '/tmp/x'", true),
            ("copy t to stdout", false),
            ("copy t from stdin", false),
            ("c - postgres", true),
            ("c orders", false),
            ("connect -reuse-previous=on \"dbname='shop'\"", false),
            ("c \"user=postgres\"", true),
            ("restrict abc", false),
            ("if true", false),
        ] {
            let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
            assert_eq!(command_reaches(name, rest), reaches, "\\{line}");
        }
        assert!(statement_leaves(&["RESET", "ROLE"]) && statement_leaves(&["RESET", "SESSION", "AUTHORIZATION"]));
        assert!(!statement_leaves(&["RESET", "search_path"]) && !statement_leaves(&["SET", "ROLE", "app"]));
        for taken in ["ROLE a", "LOCAL ROLE a", "SESSION ROLE a", "SESSION AUTHORIZATION a", "SESSION SESSION AUTHORIZATION a"] {
            let words: Vec<&str> = ["SET"].into_iter().chain(taken.split(' ')).collect();
            assert!(statement_takes_role(&words), "SET {taken}");
        }
        for other in [&["SET", "search_path"][..], &["SET", "LOCAL", "search_path"], &["SET", "SESSION", "CHARACTERISTICS"], &["ROLE"]] {
            assert!(!statement_takes_role(other), "{other:?}");
        }
    }
}
