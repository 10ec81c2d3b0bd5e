//! The state of a file when it was read, and lists of files in JSON.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::Metadata,
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::MetadataExt,
    },
    path::{Path, PathBuf},
    time::SystemTime,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// The prefix of the hexadecimal form of a path that is not UTF-8: no path contains this character.
const HEX: char = '\0';

/// Files by their paths. In JSON, a path that is not UTF-8 has a form of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Stamps(#[serde(serialize_with = "write", deserialize_with = "read")] pub(super) BTreeMap<PathBuf, Stamp>);

/// A file with an equal stamp has not been written since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    inode: u64,
    pub(super) size: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub(super) fn of(data: &Metadata) -> Option<Self> {
        data.is_file().then(|| Self {
            inode: data.ino(),
            size: data.len(),
            modified: (data.mtime(), data.mtime_nsec()),
            changed: (data.ctime(), data.ctime_nsec()),
        })
    }

    pub(super) fn is_before(&self, moment: SystemTime) -> bool {
        let since = moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let moment = (since.as_secs().cast_signed(), i64::from(since.subsec_nanos()));
        self.modified <= moment && self.changed <= moment
    }
}

fn write<S: Serializer>(files: &BTreeMap<PathBuf, Stamp>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(files.iter().map(|(path, stamp)| (text(path), stamp)))
}

fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<PathBuf, Stamp>, D::Error> {
    let files = BTreeMap::<String, Stamp>::deserialize(deserializer)?;
    files.into_iter().map(|(text, stamp)| Ok((path(text).map_err(D::Error::custom)?, stamp))).collect()
}

fn text(path: &Path) -> String {
    match path.to_str() {
        Some(text) => text.to_owned(),
        None => format!("{HEX}{}", hex::encode(path.as_os_str().as_bytes())),
    }
}

fn path(text: String) -> Result<PathBuf, hex::FromHexError> {
    match text.strip_prefix(HEX) {
        Some(digits) => Ok(OsString::from_vec(hex::decode(digits)?).into()),
        None => Ok(text.into()),
    }
}
