//! Secrets: generated once, kept in files with mode 0600 beside the environment's state, resolved at the last moment.
//!
//! Code that acts on a service calls [`Vault::resolve`] to fill a [`Template`]; nothing else sees a value. A secret lives as
//! long as the volume that it opens, so a kept volume is never used with a new password.

pub mod tls;

use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use devenv_spec::{SecretRef, Template};
use rand::RngExt;
use secrecy::{ExposeSecret, SecretString};

const LENGTH: usize = 32;
/// A shorter value is not masked in texts.
const SHORTEST: usize = 4;
const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// The secrets of one environment. Cheap to clone; `Debug` shows no value.
#[derive(Clone)]
pub struct Vault {
    directory: PathBuf,
    known: Arc<Mutex<HashMap<SecretRef, SecretString>>>,
}

#[derive(Debug, thiserror::Error)]
#[error("cannot save the secret `{name}` to {path}")]
pub struct SecretError {
    name: SecretRef,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Vault({})", self.directory.display())
    }
}

impl Vault {
    pub fn new(directory: PathBuf) -> Self {
        Self { directory, known: Arc::default() }
    }

    /// Makes sure that the secret exists: read back if it was generated before, else generated and written first.
    pub fn ensure(&self, name: &SecretRef) -> Result<SecretString, SecretError> {
        let mut known = self.known.lock().expect("no code panics while it holds this lock");
        if let Some(secret) = known.get(name) {
            return Ok(secret.clone());
        }
        let path = self.directory.join(name.as_str());
        let fail = |source| SecretError { name: name.clone(), path: path.clone(), source };
        let value = match fs::read_to_string(&path) {
            Ok(value) if !value.is_empty() => value,
            Ok(_) => generate(&path).map_err(fail)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => generate(&path).map_err(fail)?,
            Err(error) => return Err(fail(error)),
        };
        let secret = SecretString::from(value);
        known.insert(name.clone(), secret.clone());
        Ok(secret)
    }

    /// As [`Self::ensure`], with this many characters if it is generated now.
    pub fn ensure_of_length(&self, name: &SecretRef, length: usize) -> Result<(), SecretError> {
        if self.has(name) { Ok(()) } else { self.keep(name, &random(length)) }
    }

    /// As [`Self::ensure`], for many at once: a disk takes about as long to sync them all as to sync one.
    pub fn ensure_all(&self, names: &[SecretRef]) -> Result<(), SecretError> {
        let generated = |name: &SecretRef| {
            let path = self.directory.join(name.as_str());
            if path.exists() { Ok(()) } else { generate(&path).map(drop) }.map_err(|source| SecretError {
                name: name.clone(),
                path,
                source,
            })
        };
        // A secret that is generated under the lock belongs to one caller.
        let known = self.known.lock().expect("no code panics while it holds this lock");
        std::thread::scope(|scope| {
            let missing: Vec<_> =
                names.iter().filter(|name| !known.contains_key(name)).map(|name| scope.spawn(|| generated(name))).collect();
            missing.into_iter().try_for_each(|thread| thread.join().expect("writing a file does not panic"))
        })?;
        drop(known);
        names.iter().try_for_each(|name| self.ensure(name).map(drop))
    }

    /// Whether it has been generated or stored before.
    pub fn has(&self, name: &SecretRef) -> bool {
        self.known.lock().expect("no code panics while it holds this lock").contains_key(name)
            || self.directory.join(name.as_str()).exists()
    }

    /// Stores a secret that was made elsewhere, such as a server's key. One that has this value already keeps its age.
    pub fn keep(&self, name: &SecretRef, value: &str) -> Result<(), SecretError> {
        let path = self.directory.join(name.as_str());
        if fs::read_to_string(&path).is_ok_and(|known| known == value) {
            self.known.lock().expect("no code panics while it holds this lock").insert(name.clone(), SecretString::from(value));
            return Ok(());
        }
        write(&path, value).map_err(|source| SecretError { name: name.clone(), path: path.clone(), source })?;
        self.known.lock().expect("no code panics while it holds this lock").insert(name.clone(), SecretString::from(value));
        Ok(())
    }

    /// The time since its value changed; `None` if it has no value.
    pub fn age(&self, name: &SecretRef) -> Option<Duration> {
        let changed = fs::metadata(self.directory.join(name.as_str())).and_then(|metadata| metadata.modified()).ok()?;
        Some(changed.elapsed().unwrap_or_default())
    }

    /// All that have a value, by name.
    pub fn names(&self) -> Vec<SecretRef> {
        let mut names: Vec<SecretRef> = self.known.lock().expect("no code panics while it holds this lock").keys().cloned().collect();
        names.sort();
        names
    }

    /// The value, to be passed to a driver at once.
    pub fn reveal(&self, name: &SecretRef) -> Result<String, SecretError> {
        Ok(self.ensure(name)?.expose_secret().to_owned())
    }

    /// The text with its secrets filled in.
    pub fn resolve(&self, template: &Template) -> Result<String, SecretError> {
        for secret in template.secrets() {
            self.ensure(secret)?;
        }
        let known = self.known.lock().expect("no code panics while it holds this lock");
        Ok(template.fill(|secret| known.get(secret).map(|value| value.expose_secret().to_owned()).unwrap_or_default()))
    }

    /// Variables with their secrets filled in.
    pub fn resolve_all<'a>(
        &self,
        variables: impl Iterator<Item = (&'a String, &'a Template)>,
    ) -> Result<Vec<(String, String)>, SecretError> {
        variables.map(|(name, value)| Ok((name.clone(), self.resolve(value)?))).collect()
    }

    /// Masks every known secret in a text from elsewhere, such as a service's log.
    pub fn redact(&self, text: &str) -> String {
        let known = self.known.lock().expect("no code panics while it holds this lock");
        let mut text = std::borrow::Cow::Borrowed(text);
        // A secret that a user gave may be a common word, which is not masked.
        for secret in known.values().filter(|secret| secret.expose_secret().len() >= SHORTEST) {
            if text.contains(secret.expose_secret()) {
                text = text.replace(secret.expose_secret(), "********").into();
            }
        }
        text.into_owned()
    }

    /// Reads back the secrets of an earlier daemon.
    pub fn load(&self) -> io::Result<()> {
        let services = match fs::read_dir(&self.directory) {
            Ok(services) => services,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for service in services {
            let service = service?;
            for secret in fs::read_dir(service.path())? {
                let secret = secret?;
                let (Some(service), Some(name)) =
                    (service.file_name().to_str().map(str::to_owned), secret.file_name().to_str().map(str::to_owned))
                else {
                    continue;
                };
                // Left by an interrupted write; former versions ended the name in `.tmp`.
                if devenv_files::is_unfinished(Path::new(&name)) || Path::new(&name).extension().is_some_and(|extension| extension == "tmp")
                {
                    continue;
                }
                let name = SecretRef::new(&service, &name);
                let value = fs::read_to_string(secret.path())?;
                if !value.is_empty() {
                    self.known.lock().expect("no code panics while it holds this lock").insert(name, SecretString::from(value));
                }
            }
        }
        Ok(())
    }
}

fn generate(path: &Path) -> io::Result<String> {
    let value = random(LENGTH);
    write(path, &value)?;
    Ok(value)
}

fn random(length: usize) -> String {
    let mut random = rand::rng();
    (0..length).map(|_| char::from(ALPHABET[random.random_range(0..ALPHABET.len())])).collect()
}

/// Written completely or not at all, readable only by the owner.
fn write(path: &Path, value: &str) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    devenv_files::write_atomically(path, value.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_secret_is_long_private_and_the_same_the_next_time() {
        let directory = tempfile::tempdir().unwrap();
        let name = SecretRef::new("db", "app");
        let first = Vault::new(directory.path().into()).reveal(&name).unwrap();
        // A temporary file of a killed writer is not a secret.
        let (_, interrupted) = devenv_files::unfinished(&directory.path().join("db/app"), 0o600).unwrap().keep().unwrap();
        fs::write(interrupted, "y").unwrap();
        let again = Vault::new(directory.path().into());
        again.load().unwrap();
        assert_eq!(again.reveal(&name).unwrap(), first);
        assert_eq!(first.len(), 32);
        let mode = fs::metadata(directory.path().join("db/app")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(again.redact(&format!("x{first}y")), "x********y");
        assert!(!format!("{again:?}").contains(&first));
    }

    #[test]
    fn a_secret_that_is_kept_again_unchanged_keeps_its_age() {
        let directory = tempfile::tempdir().unwrap();
        let (vault, name) = (Vault::new(directory.path().into()), SecretRef::new("_profile", "KEY"));
        assert_eq!(vault.age(&name), None);
        vault.keep(&name, "one").unwrap();
        let an_hour_ago = std::time::SystemTime::now() - Duration::from_hours(1);
        let file = fs::File::open(directory.path().join(name.as_str())).unwrap();
        file.set_modified(an_hour_ago).unwrap();
        vault.keep(&name, "one").unwrap();
        assert!(vault.age(&name).unwrap() >= Duration::from_mins(59));
        vault.keep(&name, "two").unwrap();
        assert!(vault.age(&name).unwrap() < Duration::from_mins(59));
        assert_eq!(vault.names(), [name]);
    }
}
