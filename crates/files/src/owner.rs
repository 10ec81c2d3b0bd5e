//! Whether another user of this machine can change a file or a directory.
//!
//! Called before a project, a profile or a socket is used. It checks that one path only: the caller also checks the
//! parent directories that matter.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Who besides this user can change a path.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Untrusted {
    #[error("{} belongs to another user ({})", path.display(), user_name(*owner))]
    Owner { path: PathBuf, owner: u32 },
    #[error("{} is writable by other users (mode {mode:04o})", path.display())]
    Writable { path: PathBuf, mode: u32 },
}

/// `None` if only this user and root can change `path`. Links are followed; an error if there is nothing.
///
/// Under `sudo`, what belongs to the user who ran it is their own as well, as in git.
pub fn untrusted(path: &Path) -> io::Result<Option<Untrusted>> {
    let metadata = fs::metadata(path)?;
    let user = rustix::process::geteuid().as_raw();
    let invoker = if user == 0 { std::env::var("SUDO_UID").ok().and_then(|id| id.parse().ok()) } else { None };
    let group = rustix::process::getegid().as_raw();
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
    let path = || path.to_owned();
    if !(owner == user || owner == 0 || Some(owner) == invoker) {
        return Ok(Some(Untrusted::Owner { path: path(), owner }));
    }
    // Many systems give each user a group of their own and let it write.
    let alone = || metadata.gid() == group && (group == 0 || private_group(group, user));
    if mode & 0o002 != 0 || (mode & 0o020 != 0 && !alone()) {
        return Ok(Some(Untrusted::Writable { path: path(), mode }));
    }
    Ok(None)
}

/// Whether a group has no other member, as far as this machine's files say.
fn private_group(group: u32, user: u32) -> bool {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    only_member(&users, &groups, group, user)
}

fn only_member(users: &str, groups: &str, group: u32, user: u32) -> bool {
    let field = |line: &str, index: usize| line.split(':').nth(index).map(str::to_owned).unwrap_or_default();
    let mut own_name = None;
    for line in users.lines() {
        let (id, primary) = (field(line, 2), field(line, 3));
        if id == user.to_string() {
            own_name = Some(field(line, 0));
        } else if primary == group.to_string() {
            return false;
        }
    }
    match groups.lines().find(|line| field(line, 2) == group.to_string()) {
        Some(line) => field(&line.replace('\r', ""), 3).split(',').all(|member| member.is_empty() || Some(member) == own_name.as_deref()),
        // Defined elsewhere, such as in a directory service: only the usual numbering shows that the group is the user's own.
        None => group == user,
    }
}

fn user_name(id: u32) -> String {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let mut lines = users.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let found = lines.find(|fields| fields.get(2) == Some(&id.to_string().as_str()));
    found.and_then(|fields| fields.first().map(|name| (*name).to_owned())).unwrap_or_else(|| id.to_string())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn files_that_everybody_can_write_are_not_trusted_and_our_own_are() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(untrusted(directory.path()).unwrap(), None);
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        let found = untrusted(directory.path()).unwrap().unwrap();
        assert!(found.to_string().ends_with("is writable by other users (mode 1777)"), "{found}");
        assert!(untrusted(&directory.path().join("absent")).is_err());
    }

    #[test]
    fn files_of_another_user_are_not_trusted() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        std::os::unix::fs::chown(directory.path(), Some(12345), None).unwrap();
        assert!(matches!(untrusted(directory.path()).unwrap(), Some(Untrusted::Owner { owner: 12345, .. })));
    }

    #[test]
    fn a_group_is_private_only_if_it_has_no_other_member() {
        let users = "ada:x:1000:1000::/home/ada:/bin/sh\nbob:x:1001:100::/home/bob:/bin/sh\ncy:x:1002:100::/:/bin/sh\n";
        let groups = "ada:x:1000:\nusers:x:100:\nteam:x:2000:ada,bob\nown:x:3000:ada\n";
        let alone = |group| only_member(users, groups, group, 1000);
        assert!(alone(1000) && alone(3000));
        assert!(!alone(100) && !alone(2000) && !alone(4000));
        assert!(only_member("", "", 1000, 1000));
    }
}
