//! Finds the scripts of the profile's paths: the files, their order, format and checksum.
//!
//! The project's own files come first; missing ones are looked for among the built-in ones, so that a built-in profile
//! works in an empty directory.

use std::{
    fs,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::Path,
};

use devenv_api::LedgerMode;
use sha2::{Digest, Sha256};

use super::{
    folder::{self, Entry},
    outside::{leads_to_no_script, no_script},
    sections,
};
use devenv_shipped as shipped;
use devenv_spec::OfKind;

pub use crate::capability::{Checksums, Content, Script, ScriptFormat};
use crate::capability::{Known, ScriptError, Scripts, ServiceKind, Stamp};

impl Script {
    /// An archive that was made of it, to be sent as it is.
    pub(crate) fn as_archive(&self, archive: &Path) -> Self {
        Self { path: format!("{}.tar", self.path), content: Content::File(archive.to_owned()), only_up: false, ..self.clone() }
    }
}

/// The scripts of some paths, in the order in which they are applied.
#[derive(Debug, Default)]
pub struct Gathered {
    pub scripts: Vec<Script>,
    /// Skipped files, and other notes for the user.
    pub notices: Vec<String>,
}

/// The scripts of `paths`, in the order in which they are applied.
pub async fn gather(project: &Path, target: &OfKind, paths: &[String], seed: bool, checksums: &Checksums) -> Result<Gathered, ScriptError> {
    let named = paths.iter().map(|path| project.join(path)).collect();
    let (project, target, own, checksums) = (project.to_owned(), target.clone(), paths.to_owned(), checksums.clone());
    devenv_files::read_in_time(named, move || gathered(&project, &target, &own, seed, &checksums))
        .await
        .unwrap_or_else(|error| Err(ScriptError::of(&paths.join(", "), format!("cannot be read: {error}"))))
}

pub(super) fn gathered(
    project: &Path,
    target: &OfKind,
    paths: &[String],
    seed: bool,
    checksums: &Checksums,
) -> Result<Gathered, ScriptError> {
    let Some(kind) = crate::of(target).and_then(ServiceKind::scripts) else {
        return Err(ScriptError::of(&target.kind, "takes no scripts in this version"));
    };
    let mut gathered = Gathered::default();
    for path in paths {
        let path = path.trim_end_matches('/');
        for Found { name, content, repeatable } in listed(project, path, kind, &mut gathered.notices)? {
            let format = format_of(kind, &name, &content)?;
            let unreadable = |error: io::Error| ScriptError::of(&name, format!("cannot be read: {error}"));
            let mut known = checksums.of(&content).map_err(unreadable)?;
            let size = size_of(&content).map_err(unreadable)?;
            if known.may_read
                && let Content::File(script) = &content
            {
                checksums.add_read(&mut known, kind, script, format, project).map_err(unreadable)?;
            }
            let mode = if repeatable && known.mode == LedgerMode::Once { LedgerMode::OnChange } else { known.mode };
            let only_up = known.only_up && is_sql(&name);
            gathered.scripts.push(Script { path: name, content, format, mode, checksum: known.checksum, seed, size, only_up });
        }
    }
    Ok(gathered)
}

fn is_sql(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    [".gz", ".xz", ".zst"].iter().find_map(|ending| lower.strip_suffix(ending)).unwrap_or(&lower).ends_with(".sql")
}

struct Found {
    name: String,
    content: Content,
    repeatable: bool,
}

fn listed(project: &Path, path: &str, scripts: &dyn Scripts, notices: &mut Vec<String>) -> Result<Vec<Found>, ScriptError> {
    let file = project.join(path);
    let unreadable = |error: io::Error| ScriptError::of(path, format!("cannot be read: {error}"));
    match fs::metadata(&file) {
        Ok(found) if found.is_dir() && scripts.directory(&file).is_none() => {
            let inside = entries(&file, scripts, 0).map_err(unreadable)?;
            let is_script = |name: &str| {
                let lower = name.to_ascii_lowercase();
                scripts.directory(&file.join(name)).is_some() || known_format(scripts, &lower).is_some()
            };
            let listing = folder::list(path, inside, &is_script)?;
            if let Some(listed) = listing.files.iter().find(|listed| leads_to_no_script(project, &file.join(&listed.name), scripts)) {
                return Err(no_script(&format!("{path}/{}", listed.name)));
            }
            notices.extend(listing.notices);
            let found = listing.files.into_iter().map(|listed| Found {
                name: format!("{path}/{}", listed.name),
                content: Content::File(file.join(listed.name)),
                repeatable: listed.repeatable,
            });
            Ok(found.collect())
        }
        Ok(_) if leads_to_no_script(project, &file, scripts) => Err(no_script(path)),
        Ok(_) => Ok(vec![Found { name: path.to_owned(), content: Content::File(file), repeatable: false }]),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let inside = format!("{path}/");
            let found: Vec<_> = shipped::FILES
                .iter()
                .filter(|(name, _)| {
                    *name == path || name.strip_prefix(&inside).is_some_and(|name| !name.contains('/') && !folder::is_passed_over(name))
                })
                .map(|(name, text)| Found { name: (*name).to_owned(), content: Content::Shipped(text.as_bytes()), repeatable: false })
                .collect();
            if found.is_empty() {
                return Err(ScriptError::of(path, "no such file or directory")
                    .hint(format!("paths in the profile are relative to {}", project.display())));
            }
            Ok(found)
        }
        Err(error) => Err(unreadable(error)),
    }
}

/// How deep directories are searched, and how many files are counted there.
const DEEPEST: usize = 4;
const MOST_ENTRIES: usize = 10_000;

fn entries(directory: &Path, scripts: &dyn Scripts, depth: usize) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(directory)?.take(MOST_ENTRIES) {
        let entry = entry?;
        let (name, path) = (entry.file_name().to_string_lossy().into_owned(), entry.path());
        let divides = !folder::is_passed_over(&name) && path.is_dir() && scripts.directory(&path).is_none();
        // What cannot be read there is not applied either.
        let inside =
            divides.then(|| if depth < DEEPEST { self::entries(&path, scripts, depth + 1).unwrap_or_default() } else { Vec::new() });
        entries.push(Entry { name, inside });
    }
    Ok(entries)
}

fn format_of(scripts: &dyn Scripts, name: &str, content: &Content) -> Result<ScriptFormat, ScriptError> {
    if let Content::File(path) = content
        && path.is_dir()
        && let Some(format) = scripts.directory(path)
    {
        return Ok(format);
    }
    known_format(scripts, &name.to_ascii_lowercase()).ok_or_else(|| {
        ScriptError::of(name, "is not a script for this kind of service").hint(format!("its parameters are {}", scripts.endings()))
    })
}

/// `lower` is a lower-case name.
pub(super) fn known_format(scripts: &dyn Scripts, lower: &str) -> Option<ScriptFormat> {
    let plain = [".gz", ".xz", ".zst"].iter().find_map(|ending| lower.strip_suffix(ending)).unwrap_or(lower);
    scripts.format(plain, plain.len() != lower.len())
}

impl Checksums {
    fn of(&self, content: &Content) -> io::Result<Known> {
        match content {
            Content::Shipped(bytes) => {
                let mut digest = Digester::default();
                digest.add(bytes);
                Ok(digest.finish())
            }
            Content::File(path) if path.is_dir() => {
                let mut names: Vec<_> = fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<_>>()?;
                names.sort();
                let mut digest = Digester::default();
                for name in names {
                    // Such a directory is flat: a directory in it could be a link that leads back.
                    let known = self.of_file(&path.join(&name))?;
                    digest.add(name.as_encoded_bytes());
                    digest.add(known.checksum.as_bytes());
                }
                Ok(Known { mode: LedgerMode::Once, only_up: false, may_read: false, ..digest.finish() })
            }
            Content::File(path) => self.of_file(path),
        }
    }

    fn of_file(&self, path: &Path) -> io::Result<Known> {
        let mut file = devenv_files::open_regular(path)?;
        let found = file.metadata()?;
        let stamp = Stamp(
            found.dev(),
            found.ino(),
            found.size(),
            found.mtime() * 1_000_000_000 + found.mtime_nsec(),
            found.ctime() * 1_000_000_000 + found.ctime_nsec(),
        );
        if let Some((seen, known)) = self.known.lock().expect("no code panics while it holds this lock").get(path)
            && *seen == stamp
        {
            return Ok(known.clone());
        }
        let mut digest = Digester::default();
        let mut buffer = vec![0; 256 * 1024];
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                count => digest.add(&buffer[..count]),
            }
        }
        let known = digest.finish();
        self.known.lock().expect("no code panics while it holds this lock").insert(path.to_owned(), (stamp, known.clone()));
        Ok(known)
    }
}

impl Checksums {
    /// Files that a script includes count as part of it: if one changes, the script changes.
    fn add_read(&self, known: &mut Known, kind: &dyn Scripts, script: &Path, format: ScriptFormat, project: &Path) -> io::Result<()> {
        let read = kind.reads(script, format, project);
        if read.is_empty() {
            return Ok(());
        }
        let mut digest = Digester::default();
        digest.add(known.checksum.as_bytes());
        for path in read {
            let own = self.of_file(&path)?;
            digest.add(path.strip_prefix(project).unwrap_or(&path).as_os_str().as_encoded_bytes());
            digest.add(own.checksum.as_bytes());
        }
        known.checksum = digest.finish().checksum;
        Ok(())
    }
}

/// Computes the checksum, and examines the file's beginning on the way.
#[derive(Default)]
struct Digester {
    digest: Sha256,
    head: Vec<u8>,
    after_backslash: bool,
    may_read: bool,
}

impl Digester {
    fn add(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
        let room = sections::HEAD.saturating_sub(self.head.len());
        self.head.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if !self.may_read {
            let begins = |byte: &u8| matches!(byte, b'i' | b'c' | b'l');
            self.may_read = self.after_backslash && bytes.first().is_some_and(begins)
                || bytes.windows(2).any(|pair| pair[0] == b'\\' && begins(&pair[1]));
            self.after_backslash = bytes.last() == Some(&b'\\');
        }
    }

    fn finish(self) -> Known {
        let checksum = hex::encode(self.digest.finalize());
        let mode = declared_mode(&self.head[..self.head.len().min(200)]);
        Known { checksum, mode, only_up: sections::is_divided(&self.head), may_read: self.may_read }
    }
}

/// `-- devenv: mode=on-change` (or after `#`) on the first line; after `#!…` on the second.
fn declared_mode(head: &[u8]) -> LedgerMode {
    let head = String::from_utf8_lossy(head);
    let line = head.lines().find(|line| !line.starts_with("#!")).unwrap_or_default();
    let Some(said) = line.trim_start_matches(['-', '#', ' ']).strip_prefix("devenv:") else { return LedgerMode::Once };
    match said.split_whitespace().find_map(|word| word.strip_prefix("mode=")) {
        Some("on-change") if line.starts_with(['-', '#']) => LedgerMode::OnChange,
        Some("always") if line.starts_with(['-', '#']) => LedgerMode::Always,
        _ => LedgerMode::Once,
    }
}

fn size_of(content: &Content) -> io::Result<u64> {
    match content {
        Content::Shipped(bytes) => Ok(bytes.len() as u64),
        Content::File(path) if path.is_dir() => fs::read_dir(path)?.map(|entry| Ok(entry?.metadata()?.len())).sum(),
        Content::File(path) => Ok(fs::metadata(path)?.len()),
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    fn postgres() -> OfKind {
        OfKind { kind: "postgres".to_owned(), value: serde_json::Value::Null }
    }

    /// One file as a script for PostgreSQL.
    pub fn file(project: &Path, path: &str) -> Script {
        gathered(project, &postgres(), &[path.to_owned()], false, &Checksums::default()).unwrap().scripts.remove(0)
    }

    #[test]
    fn a_directory_is_taken_in_file_name_order_without_what_editors_leave() {
        let project = tempfile::tempdir().unwrap();
        let at = |name: &str| project.path().join(name);
        fs::create_dir_all(at("init/dump")).unwrap();
        fs::create_dir_all(at("init/other")).unwrap();
        for name in [
            "init/02-b.sql",
            "init/01-a.sql.zst",
            "init/10-c.csv",
            "init/.hidden.sql",
            "init/01-a.sql~",
            "init/README.md",
            "init/dump/toc.dat",
            "x.sh",
        ] {
            fs::write(at(name), name).unwrap();
        }
        let found = gathered(project.path(), &postgres(), &["init/".into(), "x.sh".into()], false, &Checksums::default()).unwrap();
        let found: Vec<_> = found.scripts.iter().map(|script| (script.path.as_str(), script.format.0)).collect();
        assert_eq!(
            found,
            [
                ("init/01-a.sql.zst", "sql"),
                ("init/02-b.sql", "sql"),
                ("init/10-c.csv", "csv"),
                ("init/dump", "dump-directory"),
                ("x.sh", "shell")
            ]
        );
    }

    #[test]
    fn a_missing_or_unknown_file_is_an_error_with_its_path() {
        let project = tempfile::tempdir().unwrap();
        fs::write(project.path().join("a.xlsx"), "").unwrap();
        let fails =
            |path: &str| gathered(project.path(), &postgres(), &[path.to_owned()], false, &Checksums::default()).unwrap_err().to_string();
        let pipe = std::process::Command::new("mkfifo").arg(project.path().join("pipe.sql")).status();
        assert!(pipe.unwrap().success());
        assert_eq!(fails("pipe.sql"), "pipe.sql: cannot be read: is not a regular file");
        assert_eq!(fails("none"), "none: no such file or directory");
        assert_eq!(fails("a.xlsx"), "a.xlsx: is not a script for this kind of service");
    }

    #[test]
    fn a_pipe_as_a_script_or_in_a_directory_of_scripts_is_refused_at_once() {
        let project = tempfile::tempdir().unwrap();
        fs::create_dir(project.path().join("init")).unwrap();
        for path in ["a.sql", "init/b.sql"] {
            let mode = rustix::fs::Mode::from_raw_mode(0o600);
            rustix::fs::mknodat(rustix::fs::CWD, project.path().join(path), rustix::fs::FileType::Fifo, mode, 0).unwrap();
        }
        for path in ["a.sql", "init/"] {
            let error = gathered(project.path(), &postgres(), &[path.to_owned()], false, &Checksums::default()).unwrap_err();
            assert!(error.to_string().contains("is not a regular file"), "{error}");
        }
    }

    #[test]
    fn a_changed_byte_changes_the_checksum_and_the_first_line_may_say_the_mode() {
        let project = tempfile::tempdir().unwrap();
        let path = project.path().join("a.sql");
        let checksums = Checksums::default();
        let mut seen = Vec::new();
        for (text, mode) in [
            ("SELECT 1;", LedgerMode::Once),
            ("SELECT 2;", LedgerMode::Once),
            ("-- devenv: mode=on-change\nSELECT 1;", LedgerMode::OnChange),
            ("-- devenv: mode=always", LedgerMode::Always),
            ("SELECT 1; -- devenv: mode=always", LedgerMode::Once),
        ] {
            fs::write(&path, text).unwrap();
            let script = gathered(project.path(), &postgres(), &["a.sql".into()], false, &checksums).unwrap().scripts.remove(0);
            assert_eq!(script.mode, mode, "{text}");
            assert!(!seen.contains(&script.checksum), "{text}");
            seen.push(script.checksum);
        }
    }
}
