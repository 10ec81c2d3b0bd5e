//! The secrets of an environment as users see them: names, sources and ages; and the values that users set for those of the profile.
//!
//! The values are in the vault. Where those of the profile come from is in a file beside it, because `devenv secrets list` needs no profile.

use std::collections::BTreeMap;

use devenv_api::{ApiError, ErrorCode, Secret, SecretOrigin, Secrets, ShellVariables};
use devenv_profile::{Profile, SecretSource};
use devenv_spec::{SecretRef, sensitive};

use super::Environment;
use crate::error::internal;

/// The largest file of sources, in bytes.
const LARGEST: u64 = 1 << 20;

/// Where the values of the profile's secrets come from, by name.
type Origins = BTreeMap<String, SecretOrigin>;

impl Environment {
    /// Stores the values of the profile's secrets as the client read them, but not in place of those that `secrets set` has set.
    pub(crate) async fn keep_given_secrets(&self, secrets: ShellVariables) -> Result<(), ApiError> {
        let environment = self.clone();
        let keep = move || {
            let origins = environment.origins();
            let is_open = |name: &String| origins.get(name) != Some(&SecretOrigin::Set);
            secrets
                .0
                .iter()
                .filter(|(name, _)| is_open(name))
                .try_for_each(|(name, value)| environment.vault.keep(&sensitive::declared(name), value).map_err(internal))
        };
        tokio::task::spawn_blocking(keep).await.map_err(internal)?
    }

    /// Generates the profile's own secrets, and returns an error if one that the user must give is missing.
    pub(super) fn declare_secrets(&self, profile: &Profile) -> Result<(), ApiError> {
        let former = self.origins();
        let mut origins = Origins::new();
        for (name, source) in &profile.secrets {
            let secret = sensitive::declared(name);
            if former.get(name) == Some(&SecretOrigin::Set) {
                origins.insert(name.clone(), SecretOrigin::Set);
                continue;
            }
            origins.insert(name.clone(), origin(source));
            match source {
                SecretSource::Generate(length) => self.vault.ensure_of_length(&secret, *length as usize).map_err(internal)?,
                SecretSource::FromEnv(_) | SecretSource::File(_) | SecretSource::Command(_) if self.vault.has(&secret) => {}
                SecretSource::FromEnv(_) | SecretSource::File(_) | SecretSource::Command(_) => {
                    return Err(ApiError::new(ErrorCode::Failed, format!("the secret `{name}` of the profile has no value"))
                        .hint("run `devenv up`, which reads it"));
                }
            }
        }
        if origins == former { Ok(()) } else { self.keep_origins(&origins) }
    }

    /// Sets the value of a secret of the profile, or returns to the source that the profile names.
    pub(crate) fn set_secret(&self, name: &str, value: Option<&str>) -> Result<(), ApiError> {
        let mut origins = self.origins();
        match value {
            Some(value) => {
                // First: a value whose origin is not known is replaced by the next `up`.
                self.vault.keep(&sensitive::declared(name), value).map_err(internal)?;
                origins.insert(name.to_owned(), SecretOrigin::Set);
            }
            None => drop(origins.remove(name)),
        }
        self.keep_origins(&origins)
    }

    pub(crate) fn secrets(&self) -> Secrets {
        let origins = self.origins();
        let age = |name: &SecretRef| self.vault.age(name).map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        let declared = origins.iter().map(|(name, source)| Secret {
            name: name.clone(),
            service: None,
            source: *source,
            age_ms: age(&sensitive::declared(name)),
        });
        let known = self.vault.names();
        let of_services = known.iter().filter_map(|secret| {
            let (service, name) = secret.as_str().split_once('/')?;
            let is_of_service = service.parse::<devenv_spec::ServiceName>().is_ok();
            let (name, service) = (name.to_owned(), Some(service.to_owned()));
            is_of_service.then(|| Secret { name, service, source: SecretOrigin::Generate, age_ms: age(secret) })
        });
        Secrets { secrets: declared.chain(of_services).collect() }
    }

    /// None of them if the file cannot be read: it is written again by the next `up`.
    fn origins(&self) -> Origins {
        let read = devenv_files::read_bounded(&self.origins_file, LARGEST).ok();
        read.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    fn keep_origins(&self, origins: &Origins) -> Result<(), ApiError> {
        let text = serde_json::to_vec(origins).map_err(internal)?;
        devenv_files::write_atomically(&self.origins_file, &text).map_err(internal)
    }
}

fn origin(source: &SecretSource) -> SecretOrigin {
    match source {
        SecretSource::FromEnv(_) => SecretOrigin::FromEnv,
        SecretSource::File(_) => SecretOrigin::File,
        SecretSource::Generate(_) => SecretOrigin::Generate,
        SecretSource::Command(_) => SecretOrigin::Command,
    }
}
