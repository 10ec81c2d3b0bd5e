//! How devenv's own clients log in to a broker that asks for a password.
//!
//! By SASL/PLAIN, over the loopback: the client library here has no SCRAM without OpenSSL. The broker takes PLAIN from the same users.

use devenv_secrets::{SecretError, Vault};
use rdkafka::ClientConfig;

use super::spec::KafkaLogin;

/// A user and the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    pub(super) user: String,
    pub(super) password: String,
}

impl Login {
    /// Nothing for a broker that lets everybody in.
    pub(super) fn of(login: Option<&KafkaLogin>, vault: &Vault) -> Result<Option<Self>, SecretError> {
        login.map(|login| Ok(Self { user: login.user.clone(), password: vault.reveal(&login.password)? })).transpose()
    }

    pub(super) fn configure(login: Option<&Self>, config: &mut ClientConfig) {
        if let Some(Self { user, password }) = login {
            config
                .set("security.protocol", "sasl_plaintext")
                .set("sasl.mechanisms", "PLAIN")
                .set("sasl.username", user)
                .set("sasl.password", password);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_library_knows_the_way_in_which_devenv_logs_in() {
        let login = Login { user: "devenv".to_owned(), password: "s3cr3t".to_owned() };
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", "127.0.0.1:1");
        Login::configure(Some(&login), &mut config);
        config.create::<rdkafka::consumer::BaseConsumer>().unwrap();
    }
}
