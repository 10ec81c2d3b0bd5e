//! Selects the engine: pure decisions over the variables, the home directory and a reader of small files.
//!
//! The first that is named decides: the `--context` argument, `DOCKER_HOST`, `DOCKER_CONTEXT`, the current context of
//! Docker's own configuration. A named engine that does not answer is an error, not a reason to try the next. Only if none is named are
//! the well-known sockets tried.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::remote::{Certificates, Remote, SshAddress};
use crate::EngineError;

/// The inputs of the selection. Empty variables count as unset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// `--context`.
    pub context: Option<String>,
    pub docker_host: Option<String>,
    pub docker_context: Option<String>,
    pub docker_config: Option<PathBuf>,
    pub docker_tls_verify: Option<String>,
    pub docker_cert_path: Option<PathBuf>,
    /// `DEVENV_SSH_CONFIG`.
    pub ssh_configuration: Option<PathBuf>,
    pub runtime_directory: Option<PathBuf>,
    pub home: Option<PathBuf>,
}

/// Where an engine listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Endpoint {
    Unix(PathBuf),
    /// `host:port`, unencrypted.
    Tcp(String),
    /// Over TLS or ssh.
    Remote(Arc<Remote>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum EndpointChoice {
    /// Selected by this source, for messages.
    Named { endpoint: Endpoint, by: String },
    /// None is named: these are tried in this order.
    WellKnown(Vec<Endpoint>),
}

/// Reads a file as text; a parameter so that tests bring their own homes.
pub(super) type Reader<'a> = &'a dyn Fn(&Path) -> io::Result<String>;

impl Selection {
    /// From the argument and a look-up of variables.
    pub fn read(context: Option<String>, variable: impl Fn(&str) -> Option<String>) -> Self {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        Self {
            context,
            docker_host: variable("DOCKER_HOST"),
            docker_context: variable("DOCKER_CONTEXT"),
            docker_config: variable("DOCKER_CONFIG").map(PathBuf::from),
            docker_tls_verify: variable("DOCKER_TLS_VERIFY"),
            docker_cert_path: variable("DOCKER_CERT_PATH").map(PathBuf::from),
            ssh_configuration: variable("DEVENV_SSH_CONFIG").map(PathBuf::from),
            runtime_directory: variable("XDG_RUNTIME_DIR").map(PathBuf::from),
            home: variable("HOME").map(PathBuf::from),
        }
    }

    fn configuration(&self) -> Option<PathBuf> {
        self.docker_config.clone().or_else(|| self.home.as_ref().map(|home| home.join(".docker")))
    }

    /// The directory of the certificates for TLS, which Docker looks for in its configuration.
    fn certificates(&self) -> Option<PathBuf> {
        self.docker_cert_path.clone().or_else(|| self.configuration())
    }

    fn well_known(&self) -> Vec<Endpoint> {
        let runtime = |path: &str| self.runtime_directory.as_ref().map(|directory| directory.join(path));
        let home = |path: &str| self.home.as_ref().map(|directory| directory.join(path));
        [
            Some(PathBuf::from("/var/run/docker.sock")),
            runtime("docker.sock"),
            home(".docker/run/docker.sock"),
            home(".colima/default/docker.sock"),
            home(".orbstack/run/docker.sock"),
            home(".rd/docker.sock"),
            runtime("podman/podman.sock"),
            Some(PathBuf::from("/run/podman/podman.sock")),
        ]
        .into_iter()
        .flatten()
        .map(Endpoint::Unix)
        .collect()
    }
}

/// The endpoint that is named, if any: a daemon compares it with its own.
pub fn named_endpoint(selection: &Selection) -> Result<Option<String>, EngineError> {
    Ok(match resolve(selection, &read_file)? {
        EndpointChoice::Named { endpoint, .. } => Some(endpoint.to_string()),
        EndpointChoice::WellKnown(_) => None,
    })
}

pub(super) fn read_file(path: &Path) -> io::Result<String> {
    std::fs::read_to_string(path)
}

pub(super) fn resolve(selection: &Selection, read: Reader<'_>) -> Result<EndpointChoice, EngineError> {
    if let Some(name) = selection.context.as_deref().filter(|name| *name != "default") {
        return context(selection, name, "--context", read);
    }
    if let Some(host) = &selection.docker_host {
        let by = "DOCKER_HOST";
        let certificates = selection.docker_tls_verify.is_some().then(|| selection.certificates()).flatten();
        let tls = match certificates {
            Some(directory) => Tls::With(directory),
            None if selection.docker_tls_verify.is_some() => {
                return Err(unreachable(host, "DOCKER_TLS_VERIFY is set, but neither DOCKER_CERT_PATH nor HOME is".to_owned()));
            }
            None => Tls::Without,
        };
        return parse(host, &tls, by, selection, read).map(|endpoint| EndpointChoice::Named { endpoint, by: by.to_owned() });
    }
    // The context `default` means no context, and overrides the configuration's current one.
    if selection.context.is_some() || selection.docker_context.as_deref() == Some("default") {
        return Ok(EndpointChoice::WellKnown(selection.well_known()));
    }
    if let Some(name) = &selection.docker_context {
        return context(selection, name, "DOCKER_CONTEXT", read);
    }
    match current_context(selection, read)? {
        Some((name, file)) => context(selection, &name, &format!("currentContext of {}", file.display()), read),
        None => Ok(EndpointChoice::WellKnown(selection.well_known())),
    }
}

#[derive(Deserialize)]
struct Configuration {
    #[serde(rename = "currentContext", default)]
    current_context: Option<String>,
}

fn current_context(selection: &Selection, read: Reader<'_>) -> Result<Option<(String, PathBuf)>, EngineError> {
    let Some(file) = selection.configuration().map(|directory| directory.join("config.json")) else { return Ok(None) };
    let text = match read(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreachable(file.display(), format!("it selects the engine, but cannot be read: {error}"))),
    };
    let configuration: Configuration = serde_json::from_str(&text)
        .map_err(|error| unreachable(file.display(), format!("it selects the engine, but is not valid JSON: {error}")))?;
    Ok(configuration.current_context.filter(|name| !name.is_empty() && name != "default").map(|name| (name, file)))
}

#[derive(Deserialize)]
struct ContextFile {
    #[serde(rename = "Endpoints", default)]
    endpoints: std::collections::HashMap<String, ContextEndpoint>,
}

#[derive(Deserialize)]
struct ContextEndpoint {
    #[serde(rename = "Host", default)]
    host: Option<String>,
    #[serde(rename = "SkipTLSVerify", default)]
    skip_verification: bool,
}

/// Whether an address is reached over TLS, and with the certificates of which directory.
enum Tls {
    Without,
    With(PathBuf),
}

fn context(selection: &Selection, name: &str, by: &str, read: Reader<'_>) -> Result<EndpointChoice, EngineError> {
    let shown = format!("context `{name}`");
    let by = format!("{by}, {shown}");
    let Some(configuration) = selection.configuration() else {
        return Err(unreachable(
            &shown,
            format!("selected by {by}; neither HOME nor DOCKER_CONFIG is set, so there is no context to read"),
        ));
    };
    let id = directory_of(name);
    let file = configuration.join("contexts/meta").join(&id).join("meta.json");
    let text = read(&file).map_err(|error| {
        unreachable(&shown, format!("selected by {by}; {} cannot be read: {error}; see `docker context ls`", file.display()))
    })?;
    let document: ContextFile =
        serde_json::from_str(&text).map_err(|error| unreachable(&shown, format!("{} is not a context: {error}", file.display())))?;
    let endpoint = document.endpoints.get("docker");
    let host = endpoint.and_then(|endpoint| endpoint.host.as_deref()).filter(|host| !host.is_empty());
    let Some(host) = host else {
        return Err(unreachable(&shown, format!("{} has no Docker endpoint", file.display())));
    };
    let certificates = configuration.join("contexts/tls").join(&id).join("docker");
    let has = ["ca.pem", "cert.pem", "key.pem"].iter().any(|certificate| read(&certificates.join(certificate)).is_ok());
    let tls = if has { Tls::With(certificates) } else { Tls::Without };
    if endpoint.is_some_and(|endpoint| endpoint.skip_verification) && !host.starts_with("unix:") && !host.starts_with("ssh:") {
        let why = "it does not verify the engine's certificate (SkipTLSVerify), so anybody in between could be the engine: \
            give it the authority's certificate with `docker context update --docker host=…,ca=…`";
        return Err(unreachable(host, format!("selected by {by}; {why}")));
    }
    parse(host, &tls, &by, selection, read).map(|endpoint| EndpointChoice::Named { endpoint, by })
}

/// Docker stores a context in a directory named after the hash of its name.
fn directory_of(context: &str) -> String {
    hex::encode(Sha256::digest(context.as_bytes()))
}

fn parse(host: &str, tls: &Tls, by: &str, selection: &Selection, read: Reader<'_>) -> Result<Endpoint, EngineError> {
    let refuse = |what: &str| Err(unreachable(host, format!("selected by {by}; {what}")));
    if host.starts_with('/') {
        return Ok(Endpoint::Unix(PathBuf::from(host)));
    }
    match host.split_once("://") {
        Some(("unix", path)) if !path.is_empty() => Ok(Endpoint::Unix(PathBuf::from(path))),
        Some((scheme @ ("tcp" | "http" | "https"), address)) => {
            let address = address.trim_end_matches('/');
            let encrypted = matches!(tls, Tls::With(_));
            let port = match (scheme, encrypted) {
                ("tcp", true) => 2376,
                ("tcp", false) => 2375,
                ("https", _) => 443,
                _ => 80,
            };
            if address.is_empty() {
                return refuse("it has no host");
            }
            let named = address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
            let address = if named { address.to_owned() } else { format!("{address}:{port}") };
            match tls {
                Tls::With(directory) => match Certificates::read(directory, read) {
                    Ok(certificates) => Ok(Endpoint::Remote(Arc::new(Remote::over_tls(address, certificates)))),
                    Err(reason) => refuse(&reason),
                },
                Tls::Without if scheme == "https" => refuse("it is reached over TLS: set DOCKER_TLS_VERIFY=1 and DOCKER_CERT_PATH"),
                Tls::Without => Ok(Endpoint::Tcp(address)),
            }
        }
        Some(("ssh", address)) => match SshAddress::parse(address) {
            Ok(address) => Ok(Endpoint::Remote(Arc::new(Remote::over_ssh(address, selection.ssh_configuration.clone())))),
            Err(reason) => refuse(&reason),
        },
        Some(("npipe", _)) => refuse("Windows pipes are not supported: use a unix socket"),
        _ => refuse("it is not an address of the form unix://PATH, tcp://HOST:PORT or ssh://USER@HOST"),
    }
}

fn unreachable(endpoint: impl fmt::Display, reason: String) -> EngineError {
    EngineError::Unreachable { endpoint: endpoint.to_string(), reason }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            Self::Remote(remote) => write!(f, "{remote}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    const AUTHORITY: &str = include_str!("remote/authority.pem");

    fn meta(name: &str) -> String {
        format!("/h/.docker/contexts/meta/{}/meta.json", directory_of(name))
    }

    fn host(address: &str) -> String {
        format!(r#"{{"Name":"x","Metadata":{{}},"Endpoints":{{"docker":{{"Host":"{address}","SkipTLSVerify":false}}}}}}"#)
    }

    /// The selection with these variables and a home directory with these files.
    fn decide(argument: Option<&str>, variables: &[(&str, &str)], files: &[(String, String)]) -> String {
        let variables: HashMap<&str, &str> = variables.iter().copied().chain([("HOME", "/h")]).collect();
        let selection = Selection::read(argument.map(str::to_owned), |name| variables.get(name).map(|value| (*value).to_owned()));
        let read = |path: &Path| {
            files
                .iter()
                .find(|(file, _)| Path::new(file) == path)
                .map(|(_, text)| text.clone())
                .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
        };
        match resolve(&selection, &read) {
            Ok(EndpointChoice::Named { endpoint, by }) => format!("{endpoint} ({by})"),
            Ok(EndpointChoice::WellKnown(list)) => format!("well-known, {} sockets", list.len()),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_first_that_is_named_decides() {
        let files = [
            (meta("colima"), host("unix:///h/.colima/default/docker.sock")),
            (meta("other"), host("unix:///h/other.sock")),
            (meta("far"), host("tcp://10.0.0.1")),
            (meta("box"), host("ssh://box")),
            ("/certificates/ca.pem".to_owned(), AUTHORITY.to_owned()),
            ("/h/.docker/config.json".to_owned(), r#"{"auths":{},"currentContext":"colima"}"#.to_owned()),
        ];
        let host = ("DOCKER_HOST", "unix:///nonexistent/docker.sock");
        let context = ("DOCKER_CONTEXT", "other");
        for (argument, variables, expected) in [
            (Some("colima"), vec![host, context], "unix:///h/.colima/default/docker.sock (--context, context `colima`)"),
            (Some("default"), vec![host, context], "unix:///nonexistent/docker.sock (DOCKER_HOST)"),
            (Some("default"), vec![context], "well-known, 6 sockets"),
            (None, vec![host, context], "unix:///nonexistent/docker.sock (DOCKER_HOST)"),
            (None, vec![context], "unix:///h/other.sock (DOCKER_CONTEXT, context `other`)"),
            (None, vec![("DOCKER_CONTEXT", "default")], "well-known, 6 sockets"),
            (None, vec![("DOCKER_CONTEXT", "far")], "tcp://10.0.0.1:2375 (DOCKER_CONTEXT, context `far`)"),
            (
                None,
                vec![("DOCKER_HOST", "")],
                "unix:///h/.colima/default/docker.sock (currentContext of /h/.docker/config.json, context `colima`)",
            ),
            (None, vec![("DOCKER_CONFIG", "/elsewhere")], "well-known, 6 sockets"),
            (None, vec![("DOCKER_HOST", "tcp://127.0.0.1:2375/")], "tcp://127.0.0.1:2375 (DOCKER_HOST)"),
            (None, vec![("DOCKER_HOST", "/run/x.sock")], "unix:///run/x.sock (DOCKER_HOST)"),
            (None, vec![("DOCKER_HOST", "ssh://me@box:2222/")], "ssh://me@box:2222 (DOCKER_HOST)"),
            (Some("box"), vec![], "ssh://box (--context, context `box`)"),
            (
                None,
                vec![("DOCKER_HOST", "tcp://10.0.0.1"), ("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", "/certificates")],
                "tcp://10.0.0.1:2376 (DOCKER_HOST)",
            ),
        ] {
            assert_eq!(decide(argument, &variables, &files), expected, "{argument:?} {variables:?}");
        }
    }

    #[test]
    fn contexts_lie_where_docker_puts_them() {
        assert_eq!(directory_of("colima"), "f24fd3749c1368328e2b149bec149cb6795619f244c5b584e844961215dadd16");
    }

    #[test]
    fn without_a_named_engine_the_well_known_sockets_are_tried_in_order() {
        let selection = Selection { home: Some("/h".into()), runtime_directory: Some("/run/user/7".into()), ..Selection::default() };
        let sockets: Vec<String> = selection.well_known().iter().map(ToString::to_string).collect();
        assert_eq!(
            sockets,
            [
                "unix:///var/run/docker.sock",
                "unix:///run/user/7/docker.sock",
                "unix:///h/.docker/run/docker.sock",
                "unix:///h/.colima/default/docker.sock",
                "unix:///h/.orbstack/run/docker.sock",
                "unix:///h/.rd/docker.sock",
                "unix:///run/user/7/podman/podman.sock",
                "unix:///run/podman/podman.sock",
            ]
        );
        for config in ["{}", r#"{"currentContext":""}"#, r#"{"currentContext":"default"}"#] {
            let files = [("/h/.docker/config.json".to_owned(), config.to_owned())];
            assert_eq!(decide(None, &[], &files), "well-known, 6 sockets");
        }
    }

    #[test]
    fn unsafe_variables_are_refused_by_name() {
        let tls = format!("/h/.docker/contexts/tls/{}/docker/ca.pem", directory_of("far"));
        let unverified = r#"{"Endpoints":{"docker":{"Host":"tcp://10.0.0.1:2376","SkipTLSVerify":true}}}"#;
        let files = [
            (meta("far"), host("tcp://10.0.0.1:2376")),
            (tls, "certificate".to_owned()),
            (meta("empty"), r#"{"Endpoints":{}}"#.to_owned()),
            (meta("trusting"), unverified.to_owned()),
            ("/certificates/ca.pem".to_owned(), AUTHORITY.to_owned()),
            ("/certificates/cert.pem".to_owned(), AUTHORITY.to_owned()),
        ];
        for (argument, variables, words) in [
            (Some("gone"), vec![], ["context `gone`", "docker context ls"]),
            (Some("far"), vec![], ["tcp://10.0.0.1:2376", "docker/ca.pem contains no certificate"]),
            (Some("trusting"), vec![], ["tcp://10.0.0.1:2376", "SkipTLSVerify"]),
            (Some("empty"), vec![], ["context `empty`", "has no Docker endpoint"]),
            (None, vec![("DOCKER_HOST", "ssh://-oProxyCommand=x")], ["ssh://-oProxyCommand=x", "begins with `-`"]),
            (None, vec![("DOCKER_HOST", "https://h")], ["https://h", "DOCKER_TLS_VERIFY=1"]),
            (None, vec![("DOCKER_HOST", "tcp://h:1"), ("DOCKER_TLS_VERIFY", "1")], ["tcp://h:1", "/h/.docker/ca.pem"]),
            (
                None,
                vec![("DOCKER_HOST", "tcp://h:1"), ("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", "/certificates")],
                ["tcp://h:1", "/certificates/key.pem"],
            ),
            (None, vec![("DOCKER_HOST", "what")], ["what", "unix://PATH"]),
            (None, vec![("DOCKER_CONTEXT", "gone")], ["context `gone`", "DOCKER_CONTEXT"]),
        ] {
            let message = decide(argument, &variables, &files);
            assert!(words.iter().all(|word| message.contains(word)), "{message}");
        }
        let broken = [("/h/.docker/config.json".to_owned(), "{".to_owned())];
        assert!(decide(None, &[], &broken).contains("/h/.docker/config.json: it selects the engine, but is not valid JSON"));
    }
}
