//! How others reach a service: variables with their full names, short forms, addresses.

use std::collections::BTreeMap;

use devenv_spec::{Template, Variable};
use indexmap::IndexMap;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::Context;

/// The path of the local authority's certificate in a container.
pub(crate) const AUTHORITY_IN_CONTAINER: &str = "/run/devenv/authority.crt";

/// Where a client finds the local authority's certificate.
pub(crate) const AUTHORITY_VARIABLE: &str = "DEVENV_CA_FILE";

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Connection {
    /// Full names, such as `NAME_URL`.
    pub variables: IndexMap<String, Variable>,
    /// Short names, such as `DATABASE_URL`; they refer to the first service of the kind.
    pub short_forms: IndexMap<String, Variable>,
    /// Addresses to show, without secrets.
    pub urls: IndexMap<String, String>,
    /// The part of the service, such as a database, that a variable is about, by the variable's name.
    pub parts: BTreeMap<String, String>,
    /// Variables that two parts of the service would give different values.
    pub clashes: Vec<Clash>,
}

/// A name that stands for two things in one service, such as databases `my-app` and `my_app`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clash {
    pub variable: String,
    /// What it is about; nothing for the service as a whole.
    pub first: Option<String>,
    pub second: Option<String>,
}

impl Connection {
    /// The variable `NAME_SUFFIX`.
    pub(crate) fn variable(&mut self, cx: &Context<'_>, suffix: &str, value: Variable) {
        self.give(cx.variable_name(suffix), None, value);
    }

    /// `NAME_PART_SUFFIX`, about a part of the service that the profile names.
    pub(crate) fn variable_of(&mut self, cx: &Context<'_>, part: &str, suffix: &str, value: Variable) {
        self.give(cx.variable_name(&format!("{part}_{suffix}")), Some(part), value);
    }

    /// The first of two values stays, and both are noted.
    fn give(&mut self, name: String, part: Option<&str>, value: Variable) {
        if self.variables.get(&name).is_some_and(|there| *there != value) {
            let first = self.parts.get(&name).cloned();
            self.clashes.push(Clash { variable: name, first, second: part.map(str::to_owned) });
            return;
        }
        if let Some(part) = part {
            self.parts.insert(name.clone(), part.to_owned());
        }
        self.variables.insert(name, value);
    }

    pub(crate) fn short_form(&mut self, name: &str, value: Variable) {
        self.short_forms.insert(name.to_owned(), value);
    }

    pub(crate) fn url(&mut self, name: &str, url: String) {
        self.urls.insert(name.to_owned(), url);
    }

    /// The variables `NAME_HOST` and `NAME_PORT`.
    pub(crate) fn host_and_port(&mut self, cx: &Context<'_>, container_port: u16) {
        self.variable(cx, "HOST", cx.address(container_port, |host, _| Template::text(host)));
        self.variable(cx, "PORT", cx.address(container_port, |_, port| Template::text(port.to_string())));
    }

    /// The path of the certificate with which clients verify this service's.
    pub(crate) fn authority(&mut self, cx: &Context<'_>) {
        self.variables.insert(AUTHORITY_VARIABLE.to_owned(), authority(cx));
    }
}

/// The authority's certificate, as a path.
pub(crate) fn authority(cx: &Context<'_>) -> Variable {
    Variable { host: Template::text(cx.authority.display().to_string()), container: Template::text(AUTHORITY_IN_CONTAINER) }
}

/// Percent-encodes a name for a URL. Keeps `/`, so that paths stay paths.
pub(crate) fn in_url(text: &str) -> String {
    const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');
    utf8_percent_encode(text, ENCODED).to_string()
}

/// The same for one path segment, or for a part before the host.
pub(crate) fn in_url_part(text: &str) -> String {
    in_url(text).replace('/', "%2F")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_encoded_so_that_no_byte_of_it_ends_its_part_of_a_url() {
        assert_eq!(in_url("/etc/my ca.pem"), "/etc/my%20ca.pem");
        assert_eq!(in_url("a-b_c.d~e"), "a-b_c.d~e");
        assert_eq!(in_url("p@ss:w?rd#%é"), "p%40ss%3Aw%3Frd%23%25%C3%A9");
    }
}
