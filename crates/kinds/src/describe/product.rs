//! What `container` and `process` have in common: variables, and the profile's probe.

use devenv_spec::{Probe, Template, Variable};
use indexmap::IndexMap;

use super::{Context, declared};

/// What a service of the product is given: the variables that are meant for it in one form, and its own name in traces.
pub(crate) fn variables(cx: &Context<'_>, form: impl Fn(&Variable) -> &Template) -> IndexMap<String, Template> {
    let mut variables: IndexMap<_, _> = cx.variables.iter().map(|(name, variable)| (name.clone(), form(variable).clone())).collect();
    if variables.contains_key("OTEL_EXPORTER_OTLP_ENDPOINT") {
        variables.entry("OTEL_SERVICE_NAME".to_owned()).or_insert_with(|| Template::text(cx.name.as_str()));
    }
    variables
}

/// A profile's probe, sent to the host port that `port` returns for the container port of the profile, or for none.
pub(crate) fn probe(asked: &declared::Probe, port: impl Fn(Option<u16>) -> u16) -> Probe {
    match asked {
        declared::Probe::Http(http) => Probe::Http { port: port(http.port), path: http.path.clone(), status: http.status },
        declared::Probe::Tcp(tcp) => Probe::Tcp { port: port(tcp.port) },
        declared::Probe::Log(pattern) => Probe::Log { pattern: pattern.clone() },
        declared::Probe::Exec(command) => Probe::Exec { command: command.clone() },
    }
}
