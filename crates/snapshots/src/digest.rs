//! The checksum of a tree: SHA-256 over every path with its type, mode, owner and content, in sorted order.

use std::{
    fs,
    io::{self, Read},
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::Path,
};

use sha2::{Digest, Sha256};

use super::tree::{in_parallel, walk};

/// A tree's checksum and its size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeDigest {
    /// SHA-256, in hexadecimal.
    pub checksum: String,
    /// Bytes of its files.
    pub size: u64,
    /// Everything but directories.
    pub files: u64,
}

/// Reads every file. Blocking.
pub fn digest_tree(root: &Path) -> io::Result<TreeDigest> {
    let entries = walk(root)?;
    let contents = in_parallel(&entries, |entry| {
        let path = root.join(&entry.path);
        if entry.metadata.is_file() {
            return file(&path);
        }
        Ok(if entry.metadata.is_symlink() { Sha256::digest(fs::read_link(&path)?.as_os_str().as_bytes()).into() } else { [0; 32] })
    })?;
    let mut digest = Sha256::new();
    let mut size = 0;
    for (entry, content) in entries.iter().zip(contents) {
        let path = entry.path.as_os_str().as_bytes();
        digest.update((path.len() as u64).to_le_bytes());
        digest.update(path);
        for number in [entry.metadata.mode(), entry.metadata.uid(), entry.metadata.gid()] {
            digest.update(number.to_le_bytes());
        }
        digest.update(content);
        if entry.metadata.is_file() {
            size += entry.metadata.len();
        }
    }
    let files = entries.iter().filter(|entry| !entry.metadata.is_dir()).count() as u64;
    Ok(TreeDigest { checksum: hex::encode(digest.finalize()), size, files })
}

fn file(path: &Path) -> io::Result<[u8; 32]> {
    let mut file = fs::File::open(path)?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(digest.finalize().into()),
            count => digest.update(&buffer[..count]),
        }
    }
}
