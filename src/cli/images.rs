//! `devenv fetch` and `devenv images`: images for machines without a registry, and the lock file of images.

use std::{collections::BTreeMap, fs, path::Path};

use devenv_api::{ApiError, ArchiveRequest, ErrorCode, FetchMessage, FetchRequest, ImageEntry, Images};
use devenv_files::{ReadError, read_bounded_in_time};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};

use super::{
    Outcome,
    args::absolute,
    exit::ExitStatus,
    failure::{Failure, internal, usage},
    project,
    session::Session,
    table,
};

/// In the project's directory.
const LOCK: &str = "devenv.lock";

/// Pull the images that a profile needs, and check them against `devenv.lock`.
///
/// Pulls only images that are missing, so that `devenv up --offline` works without a registry. If the project has a `devenv.lock`, every
/// image must match it, except images that a service builds. Use the file's checksum as a cache key in CI.
///
/// Example: devenv fetch ci --lock
#[derive(Debug, clap::Args)]
pub(crate) struct Fetch {
    /// The name of a profile, or a path if it contains `/` or ends in `.yaml`. Default: the environment's current profile, else `default`.
    profile: Option<String>,
    /// Write the local images to `devenv.lock` instead of checking them against it.
    #[arg(long)]
    lock: bool,
}

/// Move images between machines.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Save the images that a profile needs to an archive. `docker load` can read it too.
    ///
    /// Fails if an image is missing. Run `devenv fetch` first.
    ///
    /// Example: devenv images save images.tar ci
    Save {
        /// The archive to write.
        file: String,
        /// The name or path of a profile. Default: the environment's current profile, else `default`.
        profile: Option<String>,
    },
    /// Load images from an archive.
    ///
    /// Names the images that it replaced. Refuses an archive that would replace an image that devenv makes itself, and a compressed one.
    ///
    /// Example: devenv images load images.tar
    Load {
        /// The archive to read.
        file: String,
    },
}

/// The content of `devenv.lock`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Lock {
    version: u32,
    images: BTreeMap<String, Locked>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Locked {
    id: String,
    /// Equal for every architecture, if the image comes from a registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
}

pub(super) async fn fetch(arguments: &Fetch, session: &Session) -> Outcome {
    let images = pulled(session, arguments.profile.as_deref()).await?;
    let lock = session.project()?.join(LOCK);
    let noted = read(&lock)?;
    let mut messages = session.client().await?.fetch_images(&FetchRequest { images }).await?;
    let here = loop {
        match messages.next().await {
            Some(message) => match message? {
                FetchMessage::Progress { image, message } => session.printer.say(format_args!("{image} {message}")),
                FetchMessage::Done(images) => break images,
                FetchMessage::Failed(error) => return Err(error.into()),
            },
            None => return Err(ApiError::new(ErrorCode::Failed, "the daemon stopped before all images were pulled").into()),
        }
    };
    if arguments.lock {
        let images = here.images.iter().map(|image| (image.name.clone(), Locked::of(image)));
        // Images of other profiles stay.
        let mut all = noted.map(|lock| lock.images).unwrap_or_default();
        all.extend(images);
        write(&lock, &Lock { version: 1, images: all })?;
    } else if let Some(noted) = noted {
        let strangers = noted.strangers(&here.images);
        if !strangers.is_empty() {
            let message = format!("{}: {}", lock.display(), strangers.join("; "));
            let hint = "run `devenv fetch --lock` to record the local images, or `devenv images load FILE` to load the recorded ones";
            return Err(ApiError::new(ErrorCode::Failed, message).hint(hint).into());
        }
    }
    print(&here, session)?;
    Ok(ExitStatus::SUCCESS)
}

pub(super) async fn run(arguments: &Arguments, session: &Session) -> Outcome {
    let images = match &arguments.command {
        Command::Save { file, profile } => {
            let images = pulled(session, profile.as_deref()).await?;
            session.client().await?.save_images(&ArchiveRequest { file: absolute(file)?, images }).await?
        }
        Command::Load { file } => {
            session.client().await?.load_images(&ArchiveRequest { file: absolute(file)?, images: Vec::new() }).await?
        }
    };
    print(&images, session)?;
    Ok(ExitStatus::SUCCESS)
}

async fn pulled(session: &Session, profile: Option<&str>) -> Result<Vec<String>, Failure> {
    let named = project::profile_name_if_running(session, profile).await?;
    Ok(project::load(session, &named)?.pulled_images())
}

fn print(images: &Images, session: &Session) -> Result<(), Failure> {
    Ok(session.printer.result(images, || {
        let rows = images.images.iter().map(|image| {
            let how = match &image.replaced {
                Some(former) => format!("replaced {}", short_id(former)),
                None if image.fetched => "pulled".to_owned(),
                None => "here".to_owned(),
            };
            [image.name.clone(), short_id(&image.id), bytesize::ByteSize(image.size).to_string(), how]
        });
        table::columns(["IMAGE", "ID", "SIZE", ""], rows)
    })?)
}

fn short_id(id: &str) -> String {
    id.trim_start_matches("sha256:").chars().take(12).collect()
}

impl Locked {
    fn of(image: &ImageEntry) -> Self {
        Self { id: image.id.clone(), digest: image.digest.clone() }
    }

    /// By digest if both have one: the id differs between architectures.
    fn is(&self, image: &ImageEntry) -> bool {
        match (&self.digest, &image.digest) {
            (Some(noted), Some(here)) => noted == here,
            _ => self.id == image.id,
        }
    }
}

impl Lock {
    /// The images that differ from the lock file, as text.
    fn strangers(&self, here: &[ImageEntry]) -> Vec<String> {
        here.iter()
            .filter_map(|image| match self.images.get(&image.name) {
                None => Some(format!("`{}` is not in the lock file", image.name)),
                Some(noted) if noted.is(image) => None,
                Some(noted) => Some(format!(
                    "`{}` is {} here, but {} in the lock file",
                    image.name,
                    shown(image.digest.as_ref(), &image.id),
                    shown(noted.digest.as_ref(), &noted.id)
                )),
            })
            .collect()
    }
}

/// The largest lock file that is read, in bytes.
const LARGEST_LOCK: u64 = 4 << 20;

fn shown<'a>(digest: Option<&'a String>, id: &'a str) -> &'a str {
    digest.map_or(id, String::as_str)
}

fn read(path: &Path) -> Result<Option<Lock>, ApiError> {
    let text = match read_bounded_in_time(path, LARGEST_LOCK) {
        Ok(bytes) => bytes,
        Err(ReadError::Missing) => return Ok(None),
        Err(error) => return Err(usage(format!("{} {error}", path.display()))),
    };
    let lock: Lock = serde_json::from_slice(&text)
        .map_err(|error| usage(format!("{} is not a lock file of `devenv fetch --lock`: {error}", path.display())))?;
    if lock.version != 1 {
        return Err(usage(format!("{} has version {}, but this devenv supports only version 1", path.display(), lock.version)));
    }
    Ok(Some(lock))
}

fn write(path: &Path, lock: &Lock) -> Result<(), ApiError> {
    let text = serde_json::to_string_pretty(lock).map_err(|error| internal("cannot write the lock file as JSON", error))? + "\n";
    devenv_files::check_replaceable(path)
        .and_then(|()| fs::write(path, text))
        .map_err(|error| ApiError::new(ErrorCode::Failed, format!("cannot write {}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(name: &str, id: &str, digest: Option<&str>) -> ImageEntry {
        ImageEntry { name: name.to_owned(), id: id.to_owned(), digest: digest.map(str::to_owned), size: 1, fetched: false, replaced: None }
    }

    #[test]
    fn an_image_is_the_noted_one_by_its_digest_and_without_one_by_its_id() {
        let noted = [image("a", "1", Some("a@x")), image("b", "2", None)];
        let lock = Lock { version: 1, images: noted.iter().map(|image| (image.name.clone(), Locked::of(image))).collect() };
        assert_eq!(lock.strangers(&[image("a", "other architecture", Some("a@x")), image("b", "2", Some("b@y"))]), Vec::<String>::new());
        assert_eq!(
            lock.strangers(&[image("a", "1", Some("a@y")), image("b", "3", None), image("c", "4", None)]),
            ["`a` is a@y here, but a@x in the lock file", "`b` is 3 here, but 2 in the lock file", "`c` is not in the lock file"]
        );
    }

    #[test]
    fn a_lock_file_is_read_as_it_was_written_and_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(LOCK);
        assert_eq!(read(&path).unwrap(), None);
        let lock = Lock { version: 1, images: [("a".to_owned(), Locked { id: "1".to_owned(), digest: None })].into() };
        write(&path, &lock).unwrap();
        assert_eq!(read(&path).unwrap(), Some(lock));
        fs::write(&path, r#"{"version": 2, "images": {}}"#).unwrap();
        assert!(read(&path).unwrap_err().message.contains("version 2"));
    }
}
