//! The first start of a PostgreSQL on an empty volume: whether it got as far as letting anybody in.
//!
//! An image initialises the volume at that start and takes any data directory with a `PG_VERSION` for done. The last that it
//! writes before clients can come is the line in `pg_hba.conf` that lets them in. What was killed before it can never
//! be used, and holds nothing of anybody's, so that it is emptied and initialised again. A file beside the environment's
//! record, written before the start, says that this start began on nothing; it goes with the first answer.

use std::{
    fs, io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use crate::{
    spec::ServiceName,
    store::{StoreError, write_atomically},
};

/// The note of a service's first start.
pub(super) struct FirstStart {
    note: PathBuf,
}

impl FirstStart {
    /// `directory` is the environment's own.
    pub(super) fn of(directory: &Path, service: &ServiceName) -> Self {
        Self { note: directory.join(format!("first-start-{service}")) }
    }

    /// It is about to start on this volume, which is empty.
    pub(super) fn begins(&self, volume: &Path) -> Result<(), StoreError> {
        write_atomically(&self.note, volume.as_os_str().as_bytes())
    }

    /// It was killed on this volume before it could let anybody in.
    pub(super) fn was_broken_off(&self, volume: &Path, data: &Path) -> bool {
        fs::read(&self.note).is_ok_and(|begun| begun == volume.as_os_str().as_bytes())
            && data.exists()
            && !fs::read_to_string(data.join("pg_hba.conf")).is_ok_and(|rules| lets_anybody_in(&rules))
    }

    /// It has answered.
    pub(super) fn is_over(&self) {
        match fs::remove_file(&self.note) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, path = %self.note.display(), "A file could not be removed.");
            }
            _ => {}
        }
    }
}

/// Whether there is a rule for other addresses than the server's own.
fn lets_anybody_in(rules: &str) -> bool {
    rules.lines().any(|rule| {
        let words: Vec<&str> = rule.split_whitespace().collect();
        matches!(words.as_slice(), ["host" | "hostssl" | "hostnossl", _, _, address, ..] if !matches!(*address, "127.0.0.1/32" | "::1/128"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `initdb` leaves it.
    const INITIAL: &str = "# host  DATABASE  USER  ADDRESS  METHOD\nlocal all all trust\nhost all all 127.0.0.1/32 trust\nhost replication all ::1/128 trust\n";

    #[test]
    fn a_first_start_is_broken_off_until_the_last_rule_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let (volume, other) = (directory.path().join("volume"), directory.path().join("other"));
        let data = volume.join("pgdata");
        let first = FirstStart::of(directory.path(), &"db".parse().unwrap());
        first.begins(&volume).unwrap();
        assert!(!first.was_broken_off(&volume, &data), "nothing is there yet");
        fs::create_dir_all(&data).unwrap();
        assert!(first.was_broken_off(&volume, &data), "nothing is whole");
        fs::write(data.join("PG_VERSION"), "17\n").unwrap();
        fs::write(data.join("pg_hba.conf"), INITIAL).unwrap();
        assert!(first.was_broken_off(&volume, &data));
        assert!(!first.was_broken_off(&other, &data), "it began on another volume");
        fs::write(data.join("pg_hba.conf"), format!("{INITIAL}\nhost all all all scram-sha-256\n")).unwrap();
        assert!(!first.was_broken_off(&volume, &data));
    }

    #[test]
    fn data_that_has_answered_once_is_never_taken_for_broken_off() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("pgdata");
        fs::create_dir(&data).unwrap();
        fs::write(data.join("pg_hba.conf"), INITIAL).unwrap();
        let first = FirstStart::of(directory.path(), &"db".parse().unwrap());
        first.begins(directory.path()).unwrap();
        first.is_over();
        assert!(!first.was_broken_off(directory.path(), &data));
    }
}
