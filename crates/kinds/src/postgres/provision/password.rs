//! Whether a role's stored verifier matches a password, computed without a login and its line in the server's log.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use pbkdf2::pbkdf2_hmac_array;
use sha2::{Digest, Sha256};

/// `SCRAM-SHA-256$rounds:salt$stored key:server key`; any other kind of verifier is replaced.
pub(in crate::postgres) fn matches(verifier: &str, password: &str) -> bool {
    parse(verifier).is_some_and(|(rounds, salt, stored)| {
        let salted = pbkdf2_hmac_array::<Sha256, 32>(password.as_bytes(), &salt, rounds);
        let Ok(client) = Hmac::<Sha256>::new_from_slice(&salted) else { return false };
        Sha256::digest(client.chain_update(b"Client Key").finalize().into_bytes())[..] == stored[..]
    })
}

fn parse(verifier: &str) -> Option<(u32, Vec<u8>, Vec<u8>)> {
    let (rounds, rest) = verifier.strip_prefix("SCRAM-SHA-256$")?.split_once(':')?;
    let (salt, keys) = rest.split_once('$')?;
    let (stored, _) = keys.split_once(':')?;
    Some((rounds.parse().ok()?, STANDARD.decode(salt).ok()?, STANDARD.decode(stored).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifier_is_known_as_that_of_its_password_and_of_no_other() {
        let verifier = postgres_protocol::password::scram_sha_256(b"5ecret");
        assert!(matches(&verifier, "5ecret"));
        assert!(!matches(&verifier, "5ecret "));
        assert!(!matches("md5d2a7a4b9b8d3b9f0f0f0f0f0f0f0f0f0", "5ecret"));
        assert!(!matches("SCRAM-SHA-256$4096:!$:", "5ecret"));
    }

    #[test]
    fn the_verifier_of_rfc_7677_belongs_to_the_password_of_its_example() {
        // RFC 7677 gives user, salt and exchange; this is the StoredKey of its ClientProof.
        let verifier = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
            wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
        assert!(matches(verifier, "pencil"));
        assert!(!matches(verifier, "pencils"));
    }
}
