//! Faults of a volume that is mounted in the agent as well.

use std::{
    fs,
    os::{fd::OwnedFd, unix::fs::PermissionsExt},
};

use crate::sys;

/// Fills the disk except for `leave` bytes, by a file without a name, which is gone with this process.
pub fn fill(path: &str, leave: u64) -> Result<(OwnedFd, u64), String> {
    let file = sys::nameless_file(path).map_err(|error| format!("cannot create a file: {error}"))?;
    let mut taken = 0;
    // As root, the blocks reserved for root are used too; the last bytes are written in ever smaller chunks.
    for _ in 0..64 {
        let (_, free) = sys::free_space(path).map_err(|error| format!("cannot query the free space: {error}"))?;
        let mut piece = free.saturating_sub(leave) / 4096 * 4096;
        if piece == 0 {
            break;
        }
        while piece >= 4096 {
            if sys::allocate(&file, taken, piece).is_ok() {
                taken += piece;
                break;
            }
            piece = piece / 2 / 4096 * 4096;
        }
        if piece < 4096 {
            break;
        }
    }
    if taken == 0 {
        return Err("cannot allocate any space".to_owned());
    }
    Ok((file, taken))
}

/// The mode that a directory had, in octal; changes it if a mode is given.
pub fn mode(path: &str, new: Option<&str>) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("cannot change the mode of {path}: {error}");
    let before = fs::metadata(path).map_err(failed)?.permissions().mode() & 0o7777;
    if let Some(new) = new {
        let new = u32::from_str_radix(new, 8).map_err(|_| format!("`{new}` is not a file mode"))?;
        fs::set_permissions(path, fs::Permissions::from_mode(new)).map_err(failed)?;
    }
    Ok(format!("{before:o}"))
}

/// Power cut.
pub fn cut(path: &str) -> Result<(), String> {
    sys::shut_down(path).map_err(|error| format!("cannot shut down the file system: {error}"))
}
