//! Whether a role's stored verifier is that of a password, found without a login and its line in the server's log.

use crate::provision::hmac;
use sha2::{Digest, Sha256};

/// `SCRAM-SHA-256$rounds:salt$stored key:server key`; any other kind of verifier is replaced.
pub(super) fn matches(verifier: &str, password: &str) -> bool {
    parse(verifier).is_some_and(|(rounds, salt, stored)| {
        let salted = hmac::stretch(password.as_bytes(), &salt, rounds);
        Sha256::digest(hmac::sign(&salted, b"Client Key"))[..] == stored[..]
    })
}

fn parse(verifier: &str) -> Option<(u32, Vec<u8>, Vec<u8>)> {
    let (rounds, rest) = verifier.strip_prefix("SCRAM-SHA-256$")?.split_once(':')?;
    let (salt, keys) = rest.split_once('$')?;
    let (stored, _) = keys.split_once(':')?;
    Some((rounds.parse().ok()?, decode(salt)?, decode(stored)?))
}

/// Base64 as the server writes it.
fn decode(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0_u32, 0);
    for letter in text.trim_end_matches('=').bytes() {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    Some(bytes)
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
}
