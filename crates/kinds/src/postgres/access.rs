//! PURE: who may connect to a server as whom, and as which system user devenv's clients run in its container.
//!
//! Whatever runs in the container as the server's own user owns its data, and root can become that user. So these two, and nobody
//! else, are the superuser on the socket without a password. Scripts and dumps of an owner run as a user that has nothing there, and
//! need the owner's password on the socket as well as over TCP. A data directory's own `pg_hba.conf`, which trusts the socket if
//! a former version made it, is not used.

use crate::script::NOBODY;

pub const SUPERUSER: &str = "postgres";

pub(super) const ACCESS: &str = "/run/devenv/pg_hba.conf";
pub(super) const IDENTITIES: &str = "/run/devenv/pg_ident.conf";
/// Of root, for people who run a client in the container.
pub(super) const PASSWORDS: &str = "/run/devenv/pgpass";

/// The system users who are the superuser on the socket.
pub(super) const MAP: &str = "devenv root postgres\ndevenv postgres postgres\n";

/// `method`: how a password is checked.
pub(super) fn rules(encrypted_only: bool, method: &str) -> String {
    let host = if encrypted_only { "hostssl" } else { "host" };
    format!(
        "local all {SUPERUSER} peer map=devenv\nlocal replication {SUPERUSER} peer map=devenv\nlocal all all {method}\n\
         {host} all all all {method}\n{host} replication all all {method}\n"
    )
}

/// The system user that clients of a role run as in the container.
pub(super) fn system_user(role: &str) -> &'static str {
    if role == SUPERUSER { "postgres" } else { NOBODY }
}

/// A field of a password file.
pub(super) fn in_password_file(text: &str) -> String {
    text.replace('\\', "\\\\").replace(':', "\\:")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_but_root_and_the_servers_own_user_is_let_in_without_a_password() {
        for (encrypted_only, method) in [(false, "scram-sha-256"), (true, "scram-sha-256"), (false, "md5")] {
            for line in rules(encrypted_only, method).lines() {
                let is_peer = line.starts_with("local ") && line.ends_with("peer map=devenv") && line.contains(" postgres ");
                assert!(is_peer || line.ends_with(method), "{line}");
                assert!(!encrypted_only || !line.starts_with("host "), "{line}");
            }
        }
        assert!(MAP.lines().all(|line| line.ends_with(" postgres")));
        assert_eq!((system_user("postgres"), system_user("app")), ("postgres", "65534:65534"));
    }

    #[test]
    fn names_with_colons_stay_one_field_of_the_password_file() {
        assert_eq!(in_password_file("a:b\\c"), "a\\:b\\\\c");
    }
}
