//! A server of a kind in a container that the user configures: what its variables and arguments reveal.

use devenv_spec::{Probe, SecretRef};
use indexmap::IndexMap;

use crate::describe::{Connection, Context, in_url_part};

/// The password in a server's secrets, as clients use it.
pub(crate) const PASSWORD: &str = "password";
/// The password, percent-encoded for a URL.
pub(crate) const PASSWORD_IN_URL: &str = "password-in-url";

/// Both forms of the password, for [`Servers::secrets`].
pub(crate) fn password_secrets(password: &str) -> Vec<(&'static str, String)> {
    vec![(PASSWORD, password.to_owned()), (PASSWORD_IN_URL, in_url_part(password))]
}

/// The parts of a container that describe its server.
#[derive(Debug, Clone)]
pub struct ServerFacts<'a> {
    pub environment: &'a IndexMap<String, String>,
    /// The entrypoint and its arguments, if they are given.
    pub words: Vec<&'a str>,
}

/// Containers with `server: NAME`, and images that are recognised by their name. Pure.
pub trait Servers: Send + Sync {
    /// Names of images without registry and tag, such as `postgres` or `bitnami/postgresql`.
    fn images(&self) -> &'static [&'static str];

    /// The programs with which such an image starts the server: with another command it is something else, such as a client.
    fn programs(&self) -> &'static [&'static str];

    /// The port in the container.
    fn port(&self, facts: &ServerFacts<'_>) -> u16;

    /// The credentials of clients, by the names that [`Self::question`] and [`Self::connection`] use.
    fn secrets(&self, _facts: &ServerFacts<'_>) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// The secrets that devenv makes for leases.
    fn generated_secrets(&self) -> &'static [&'static str] {
        &[]
    }

    /// The probe in the server's protocol, at a port of the host; `None` if the credentials are not known.
    fn question(&self, facts: &ServerFacts<'_>, port: u16, secret: &dyn Fn(&str) -> SecretRef) -> Option<Probe>;

    /// An equivalent command in the container, for a server without a port on the host.
    fn command(&self, facts: &ServerFacts<'_>) -> Option<Vec<String>>;

    /// The variables and addresses of the kind; the port is on the host.
    fn connection(&self, facts: &ServerFacts<'_>, port: u16, cx: &Context<'_>, connection: &mut Connection);

    /// The stop signal, if it is not SIGTERM.
    fn stop_signal(&self) -> Option<&'static str> {
        None
    }
}

impl ServerFacts<'_> {
    /// A variable that is set and not empty.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.environment.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The first of these variables that is set.
    pub fn first<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> Option<&str> {
        names.into_iter().find_map(|name| self.variable(name))
    }

    /// The word after an argument.
    pub fn argument(&self, name: &str) -> Option<&str> {
        let at = self.words.iter().position(|word| *word == name)?;
        self.words.get(at + 1).copied()
    }
}
