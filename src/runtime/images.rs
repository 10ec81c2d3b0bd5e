//! Images for machines without a registry: pulled ahead, written to an archive, loaded from one.

use std::{collections::BTreeMap, io::Seek, path::Path, sync::Arc};

use devenv_api::{ApiError, ErrorCode, FetchMessage, ImageEntry, Images};
use devenv_engine::{Engine, EngineError};
use devenv_files::Durability;
use futures_util::{StreamExt, future::join_all};
use tokio::{fs::File, io::AsyncWriteExt, sync::mpsc};
use tokio_util::io::ReaderStream;

use super::image_names::{is_own, named_in};
use crate::error::{describe, no_engine};

/// Progress messages for a client that reads more slowly than the engine sends.
const WAITING: usize = 64;
const PIECE: usize = 256 << 10;

/// Pulls missing images, all at the same time. The last message lists the images, or says what failed. The work is
/// done by the future, which the caller runs.
pub(crate) fn fetch(
    engine: Arc<dyn Engine>,
    names: Vec<String>,
) -> (mpsc::Receiver<FetchMessage>, impl Future<Output = ()> + Send + 'static) {
    let (news, receiver) = mpsc::channel(WAITING);
    (receiver, async move { pull(engine.as_ref(), &names, &news).await })
}

/// Ends when the images are present, or when the client that follows is gone.
async fn pull(engine: &dyn Engine, names: &[String], news: &mpsc::Sender<FetchMessage>) {
    let fetched = tokio::select! {
        () = news.closed() => return,
        fetched = join_all(names.iter().map(|name| have(engine, name, news))) => fetched,
    };
    let images = fetched.into_iter().collect::<Result<Vec<_>, _>>();
    let last = images.map_or_else(|error| FetchMessage::Failed(image_error(&error)), |images| FetchMessage::Done(Images { images }));
    let _ = news.send(last).await;
}

async fn have(engine: &dyn Engine, name: &str, news: &mpsc::Sender<FetchMessage>) -> Result<ImageEntry, EngineError> {
    if let Some(entry) = entry(engine, name).await? {
        return Ok(entry);
    }
    let mut pull = engine.pull(name);
    while let Some(step) = pull.next().await {
        // Events may be missed.
        let _ = news.try_send(FetchMessage::Progress { image: name.to_owned(), message: step?.to_string() });
    }
    let entry = entry(engine, name).await?.ok_or_else(|| EngineError::NotFound { what: "image", name: name.to_owned() })?;
    Ok(ImageEntry { fetched: true, ..entry })
}

/// Writes the images to the file, which is complete or does not exist.
pub(crate) async fn save(engine: &dyn Engine, names: &[String], file: &Path) -> Result<Images, ApiError> {
    let mut images = Vec::new();
    for name in names {
        let missing = || {
            ApiError::new(ErrorCode::NotFound, format!("image `{name}` does not exist locally")).hint(
                "run `devenv fetch` to pull the \
                images of a profile",
            )
        };
        images.push(entry(engine, name).await.map_err(|error| image_error(&error))?.ok_or_else(missing)?);
    }
    let failed = |error: std::io::Error| unwritable(file, &error);
    crate::blocking::reachable(file).await?;
    devenv_files::check_replaceable(file).map_err(failed)?;
    // It contains no secrets; the permissions of the directory decide who may read it.
    let unfinished = devenv_files::unfinished(file, 0o666).map_err(failed)?;
    write(engine, names, File::from_std(unfinished.as_file().try_clone().map_err(failed)?)).await.map_err(|error| match error {
        WriteError::Engine(error) => image_error(&error),
        WriteError::File(error) => failed(error),
    })?;
    devenv_files::put_in_place(unfinished, file, Durability::Synced).map_err(failed)?;
    Ok(Images { images })
}

/// Why an archive could not be written.
enum WriteError {
    Engine(EngineError),
    File(std::io::Error),
}

async fn write(engine: &dyn Engine, names: &[String], mut output: File) -> Result<(), WriteError> {
    let mut pieces = engine.save_images(names);
    while let Some(piece) = pieces.next().await {
        output.write_all(&piece.map_err(WriteError::Engine)?).await.map_err(WriteError::File)?;
    }
    output.sync_all().await.map_err(WriteError::File)
}

/// Loads an archive, which anybody may have made: none of its images takes the place of one that devenv makes, and the answer says which
/// images it has replaced.
pub(crate) async fn load(engine: &dyn Engine, file: &Path) -> Result<Images, ApiError> {
    let own = file.to_owned();
    let look = move || {
        let mut archive = devenv_files::open_regular(&own)?;
        let named = named_in(&mut archive)?;
        archive.rewind()?;
        Ok((archive, named))
    };
    let looked = devenv_files::read_in_time(vec![file.to_owned()], look).await;
    let (archive, named) = looked.and_then(|looked: std::io::Result<_>| looked).map_err(|error| {
        ApiError::new(ErrorCode::Usage, format!("{} {error}", file.display())).hint("create the archive with `devenv images save FILE`")
    })?;
    if let Some(own) = named.iter().find(|name| is_own(name)) {
        let message = format!("{} contains `{own}`, an image that devenv makes itself: nothing is loaded", file.display());
        return Err(ApiError::new(ErrorCode::Usage, message).hint("create the archive with `devenv images save FILE`"));
    }
    let mut former = BTreeMap::new();
    for name in named {
        if let Some(id) = engine.image(&name).await.map_err(|error| image_error(&error))? {
            former.insert(name, id);
        }
    }
    let names = engine
        .load_images(ReaderStream::with_capacity(File::from_std(archive.into_file()), PIECE).boxed())
        .await
        .map_err(|error| image_error(&error))?;
    let mut images = Vec::new();
    for name in names {
        let Some(loaded) = entry(engine, &name).await.map_err(|error| image_error(&error))? else { continue };
        let replaced = former.remove(&name).filter(|id| *id != loaded.id);
        images.push(ImageEntry { replaced, ..loaded });
    }
    Ok(Images { images })
}

async fn entry(engine: &dyn Engine, name: &str) -> Result<Option<ImageEntry>, EngineError> {
    let facts = engine.image_facts(name).await?;
    Ok(facts.map(|facts| ImageEntry {
        name: name.to_owned(),
        id: facts.id,
        digest: facts.digest,
        size: facts.size,
        fetched: false,
        replaced: None,
    }))
}

fn unwritable(file: &Path, error: &std::io::Error) -> ApiError {
    ApiError::new(ErrorCode::Failed, format!("cannot write {}: {error}", file.display()))
}

fn image_error(error: &EngineError) -> ApiError {
    match error {
        EngineError::Unreachable { .. } => no_engine(error),
        error => ApiError::new(ErrorCode::Failed, describe(error)),
    }
}

#[cfg(test)]
mod tests {
    use devenv_engine::fake::FakeEngine;

    use super::*;

    /// The final result for one image.
    async fn fetched(engine: &FakeEngine, name: &str) -> FetchMessage {
        let (news, mut messages) = mpsc::channel(WAITING);
        pull(engine, &[name.to_owned()], &news).await;
        drop(news);
        let mut last = None;
        while let Some(message) = messages.recv().await {
            last = Some(message);
        }
        last.unwrap()
    }

    #[tokio::test]
    async fn an_archive_brings_images_to_an_engine_that_has_none() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("images.tar");
        let here = FakeEngine::new().with_image("redis:8.0").with_image("postgres:17");
        let names = ["redis:8.0".to_owned(), "postgres:17".to_owned()];
        save(&here, &names, &file).await.unwrap();
        let there = FakeEngine::new();
        let loaded = load(&there, &file).await.unwrap();
        assert_eq!(loaded.images.iter().map(|image| image.name.as_str()).collect::<Vec<_>>(), ["redis:8.0", "postgres:17"]);
        assert!(there.image("postgres:17").await.unwrap().is_some());
    }

    #[tokio::test]
    async fn an_archive_does_not_replace_devenvs_own_images_and_the_answer_names_others_that_it_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("images.tar");
        let there = FakeEngine::new().with_image("redis:8.0").with_image("devenv-holder:1");
        save(&there, &["redis:8.0".to_owned()], &file).await.unwrap();
        let here = FakeEngine::new().with_image_of("redis:8.0", "sha256:mine");
        let loaded = load(&here, &file).await.unwrap();
        assert_eq!(loaded.images[0].replaced.as_deref(), Some("sha256:mine"));
        save(&there, &["devenv-holder:1".to_owned()], &file).await.unwrap();
        let error = load(&here, &file).await.unwrap_err();
        assert!(error.message.contains("`devenv-holder:1`, an image that devenv makes itself"), "{}", error.message);
        assert_eq!(here.image("devenv-holder:1").await.unwrap(), None);
    }

    #[tokio::test]
    async fn an_archive_replaces_no_link_and_is_read_from_no_device() {
        let directory = tempfile::tempdir().unwrap();
        let (target, link) = (directory.path().join("target"), directory.path().join("images.tar"));
        std::fs::write(&target, "kept").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let engine = FakeEngine::new().with_image("redis:8.0");
        assert!(save(&engine, &["redis:8.0".to_owned()], &link).await.unwrap_err().message.contains("not a regular file"));
        assert!(save(&engine, &["redis:8.0".to_owned()], Path::new("/dev/null")).await.is_err());
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "kept");
        assert!(load(&engine, Path::new("/dev/zero")).await.is_err());
    }

    #[tokio::test]
    async fn an_image_that_is_not_here_leaves_no_archive() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("images.tar");
        let error = save(&FakeEngine::new(), &["redis:8.0".to_owned()], &file).await.unwrap_err();
        assert_eq!((error.code, error.message.as_str()), (ErrorCode::NotFound, "image `redis:8.0` does not exist locally"));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn only_missing_images_are_fetched_and_a_failure_is_the_last_message() {
        let engine = FakeEngine::new().with_image("redis:8.0");
        let FetchMessage::Done(images) = fetched(&engine, "redis:8.0").await else { panic!() };
        assert!(!images.images[0].fetched);
        let FetchMessage::Failed(error) = fetched(&engine, "nowhere:1").await else { panic!() };
        assert!(error.message.contains("nowhere:1"), "{}", error.message);
    }
}
