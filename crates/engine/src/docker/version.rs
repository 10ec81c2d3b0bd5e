//! Negotiates the API version: the newest that both sides support.

use std::fmt;

use crate::EngineError;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ApiVersion {
    major: u32,
    minor: u32,
}

/// Docker 20.10, the oldest with `host-gateway`.
pub(super) const OLDEST: ApiVersion = ApiVersion { major: 1, minor: 41 };
/// The version that bollard's requests are written for.
pub(super) const NEWEST: ApiVersion = ApiVersion { major: 1, minor: 53 };

/// The first that mounts a part of a volume.
pub(super) const SUBPATH: ApiVersion = ApiVersion { major: 1, minor: 45 };

impl ApiVersion {
    fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.')?;
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }

    /// The prefix of every path.
    pub(super) fn prefix(self) -> String {
        format!("/v{self}")
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The version for an engine that supports `minimum` to `newest`. An engine that names no minimum has none.
pub(super) fn negotiate(endpoint: &str, newest: &str, minimum: Option<&str>) -> Result<ApiVersion, EngineError> {
    let refuse = |needed: String| Err(EngineError::Version { endpoint: endpoint.to_owned(), api: newest.to_owned(), needed });
    let Some(server) = ApiVersion::parse(newest) else {
        return refuse(format!("a version from {OLDEST} to {NEWEST}"));
    };
    if server < OLDEST {
        return refuse(format!("{OLDEST} or newer: upgrade the engine to Docker 20.10, Podman 4 or newer"));
    }
    let spoken = server.min(NEWEST);
    match minimum.and_then(ApiVersion::parse) {
        Some(minimum) if minimum > spoken => refuse(format!(
            "{NEWEST} or older, which this engine no longer supports (its minimum is {minimum}): upgrade devenv, or set \
                `min-api-version` of the engine to {NEWEST}"
        )),
        _ => Ok(spoken),
    }
}

/// Puts the version before the path: bollard 0.21 drops it, and the engine would answer in its newest format.
pub(super) fn pin(docker: bollard::Docker, version: ApiVersion) -> bollard::Docker {
    let prefix = version.prefix();
    docker.with_request_modifier(move |mut request| {
        if let Some(uri) = versioned(request.uri(), &prefix) {
            *request.uri_mut() = uri;
        }
        request
    })
}

/// `None` if nothing needs to change.
fn versioned(uri: &http::Uri, prefix: &str) -> Option<http::Uri> {
    let path = uri.path_and_query()?.as_str();
    if path.starts_with("/v1.") {
        return None;
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(format!("{prefix}{path}").parse().ok()?);
    http::Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speaks_the_newest_version_that_both_know() {
        for (newest, minimum, spoken) in [
            ("1.41", Some("1.12"), "1.41"),
            ("1.41", None, "1.41"),
            ("1.44", Some("1.24"), "1.44"),
            ("1.52", Some("1.44"), "1.52"),
            ("1.55", Some("1.44"), "1.53"),
            ("1.60", Some("1.53"), "1.53"),
        ] {
            assert_eq!(negotiate("unix:///s", newest, minimum).unwrap().to_string(), spoken);
        }
        for (newest, minimum, words) in [
            ("1.40", Some("1.12"), "supports API 1.40, but devenv needs 1.41 or newer: upgrade the engine"),
            ("1.60", Some("1.54"), "supports API 1.60, but devenv needs 1.53 or older"),
            ("next", None, "supports API next, but devenv needs a version from 1.41 to 1.53"),
        ] {
            let message = negotiate("unix:///s", newest, minimum).unwrap_err().to_string();
            assert!(message.contains(words), "{message}");
        }
    }

    #[test]
    fn the_version_stands_before_the_path_once() {
        let uri: http::Uri = "http://x/containers/json?all=true".parse().unwrap();
        let pinned = versioned(&uri, "/v1.41").unwrap();
        assert_eq!(pinned, "http://x/v1.41/containers/json?all=true");
        assert_eq!(versioned(&pinned, "/v1.41"), None);
    }
}
