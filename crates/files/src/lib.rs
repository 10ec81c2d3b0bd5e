//! Atomic replacement of files: a reader sees the old content or the new content, whatever dies in between.
//!
//! Everything that keeps state on disk calls this. The new content goes to a temporary file in the same directory, with a
//! random name that no other writer and no other target shares; [`tempfile`] removes it when the write fails. Only a
//! process that is killed leaves one behind: its name ends in [`UNFINISHED`], and readers of a directory skip it by [`is_unfinished`].
//!
//! [`read_bounded`] and [`open_regular`] read files that a user or a profile names: never a pipe, a device or without end.
//! [`read_in_time`] does so where a disk may hang, and [`TimedReader`] and [`TimedFile`] where a file is sent while it is read.
//! [`untrusted`] says whether another user can change a file or directory. It knows no formats and makes no directories.

mod bounded;
mod in_time;
mod owner;
mod timed;

use std::{
    ffi::OsString,
    fs::{self, File, Permissions},
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use tempfile::{Builder, NamedTempFile};

pub use bounded::{ReadError, Regular, open_regular, read_bounded, read_text_bounded};
pub use in_time::{progressed, read_in_time};
pub use owner::{Untrusted, untrusted};
pub use timed::{TimedFile, TimedReader, read_bounded_in_time};

/// The suffix of a file that is not in its place yet.
pub const UNFINISHED: &str = ".unfinished";

/// Only the owner may read and write.
pub const PRIVATE: u32 = 0o600;

/// What is guaranteed about the data when a write returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// File and directory entry are on the disk: they survive a power cut.
    Synced,
    /// The kernel has them: they survive the death of this process, which is enough for state that ends with the machine.
    Cached,
}

/// Replaces the content of `path` with a private file, synced.
pub fn write_atomically(path: &Path, content: &[u8]) -> io::Result<()> {
    write_with(path, content, PRIVATE, Durability::Synced)
}

/// The same with another file mode (the process's umask applies) or without waiting for the disk.
pub fn write_with(path: &Path, content: &[u8], mode: u32, durability: Durability) -> io::Result<()> {
    let mut file = unfinished(path, mode)?;
    file.write_all(content)?;
    put_in_place(file, path, durability)
}

/// Writes a file that a user asked for, in a directory that others may write too: never through a link, and with the usual mode.
pub fn write_result(path: &Path, content: &[u8]) -> io::Result<()> {
    check_replaceable(path)?;
    write_with(path, content, 0o666, Durability::Cached)
}

/// A new, empty file beside `path`, for content that is too large to hold or that another program writes. It goes away
/// unless it is [put in place](put_in_place).
pub fn unfinished(path: &Path, mode: u32) -> io::Result<NamedTempFile> {
    let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path has no file name"))?;
    let mut prefix = OsString::from(".");
    prefix.push(name);
    prefix.push(".");
    Builder::new().prefix(&prefix).suffix(UNFINISHED).permissions(Permissions::from_mode(mode)).tempfile_in(directory_of(path))
}

/// Refuses a target that is not a regular file: a link, device or pipe at that path is not ours to replace.
pub fn check_replaceable(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(()),
        Ok(_) => Err(io::Error::new(io::ErrorKind::InvalidInput, "exists and is not a regular file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Renames a complete file to `path`, replacing what is there.
pub fn put_in_place(file: NamedTempFile, path: &Path, durability: Durability) -> io::Result<()> {
    if durability == Durability::Synced {
        file.as_file().sync_all()?;
    }
    file.persist(path).map_err(|error| error.error)?;
    if durability == Durability::Synced {
        File::open(directory_of(path))?.sync_all()?;
    }
    Ok(())
}

/// Whether the name is that of an unfinished file.
pub fn is_unfinished(path: &Path) -> bool {
    path.file_name().is_some_and(|name| {
        let name = name.as_encoded_bytes();
        name.starts_with(b".") && name.ends_with(UNFINISHED.as_bytes())
    })
}

/// Removes what killed writers left in `directory` and, `depth` levels deep, in the directories below it. Nothing else may
/// write there at the same time.
pub fn remove_unfinished(directory: &Path, depth: usize) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            if depth > 0 {
                remove_unfinished(&entry.path(), depth - 1)?;
            }
        } else if is_unfinished(&entry.path()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::{path::PathBuf, thread};

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn files_that_differ_only_in_their_extension_do_not_share_a_temporary_file() {
        let directory = tempfile::tempdir().unwrap();
        let targets: Vec<PathBuf> = ["KEY.json", "KEY.spare", "KEY.overtaken"].map(|name| directory.path().join(name)).into();
        // All are open at the same time, and are finished in reverse order.
        let files: Vec<_> = targets.iter().map(|target| unfinished(target, PRIVATE).unwrap()).collect();
        for (mut file, target) in files.into_iter().zip(&targets).rev() {
            file.write_all(target.as_os_str().as_encoded_bytes()).unwrap();
            put_in_place(file, target, Durability::Synced).unwrap();
        }
        for target in &targets {
            assert_eq!(fs::read(target).unwrap(), target.as_os_str().as_encoded_bytes());
        }
        assert_eq!(names(directory.path()), ["KEY.json", "KEY.overtaken", "KEY.spare"]);
    }

    #[test]
    fn concurrent_writers_of_one_file_leave_one_complete_content() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("environment.json");
        thread::scope(|scope| {
            for letter in b'a'..=b'h' {
                let target = &target;
                scope.spawn(move || (0..20).for_each(|_| write_with(target, &[letter; 9000], PRIVATE, Durability::Cached).unwrap()));
            }
        });
        let content = fs::read(&target).unwrap();
        assert!(content.len() == 9000 && content.iter().all(|byte| *byte == content[0]));
        assert_eq!(names(directory.path()), ["environment.json"]);
    }

    #[test]
    fn a_file_is_private_unless_a_mode_says_otherwise_even_if_it_replaces_one_that_was_not() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("ca.pem");
        let mode = || fs::metadata(&target).unwrap().permissions().mode() & 0o777;
        write_with(&target, b"certificate", 0o644, Durability::Synced).unwrap();
        assert_eq!(mode() & 0o600, 0o600);
        write_atomically(&target, b"secret").unwrap();
        assert_eq!(mode(), 0o600);
    }

    #[test]
    fn a_write_that_fails_leaves_the_old_content_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("taken");
        fs::create_dir(&target).unwrap();
        fs::write(target.join("inside"), "kept").unwrap();
        assert!(write_atomically(&target, b"new").is_err());
        assert_eq!(names(directory.path()), ["taken"]);
        assert_eq!(fs::read_to_string(target.join("inside")).unwrap(), "kept");
    }

    #[test]
    fn links_and_devices_are_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("file"), "").unwrap();
        std::os::unix::fs::symlink(at("file"), at("link")).unwrap();
        assert!(check_replaceable(&at("file")).is_ok() && check_replaceable(&at("absent")).is_ok());
        for taken in [at("link"), directory.path().to_owned(), PathBuf::from("/dev/null")] {
            assert!(check_replaceable(&taken).is_err(), "{}", taken.display());
        }
        assert!(write_result(&at("link"), b"planted").is_err());
        assert_eq!(fs::read(at("file")).unwrap(), b"");
        write_result(&at("file"), b"new").unwrap();
        assert_eq!(fs::read(at("file")).unwrap(), b"new");
    }

    #[test]
    fn only_the_files_of_killed_writers_are_recognised_and_removed() {
        let directory = tempfile::tempdir().unwrap();
        let below = directory.path().join("secrets/db");
        fs::create_dir_all(&below).unwrap();
        // `keep` does what a kill does: no destructor runs.
        let (_, left) = unfinished(&below.join("app"), PRIVATE).unwrap().keep().unwrap();
        assert!(is_unfinished(&left));
        fs::write(below.join("my.unfinished"), "a name of the user's own").unwrap();
        remove_unfinished(directory.path(), 1).unwrap();
        assert!(left.exists());
        remove_unfinished(directory.path(), 2).unwrap();
        assert_eq!(names(&below), ["my.unfinished"]);
    }
}
