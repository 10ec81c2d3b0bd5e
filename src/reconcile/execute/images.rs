//! The images of a service, pulled or built: its own, and those whose files it mounts. Their volumes are filled here.

use std::{collections::BTreeMap, sync::atomic::Ordering, time::Duration};

use devenv_engine::{EngineError, VolumeCreate};
use devenv_spec::{ContainerSpec, Image, ImageBuild, ImageFiles, MountSource, PullPolicy, ServiceSpec};
use futures_util::StreamExt;
use tokio::sync::mpsc;

use super::{Effects, OperationError, Progress, Subject};

/// A pull without progress for this long has stopped.
const SILENCE: Duration = Duration::from_mins(10);

fn silent(name: &str) -> OperationError {
    OperationError::Engine(EngineError::TimedOut { action: format!("make progress with pulling the image `{name}`"), limit: SILENCE })
}

/// When the volumes with the files of images are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fill {
    /// For each container of the service: the image may have changed.
    Anew,
    /// Only where there is none: the service's own container uses them.
    Missing,
}

impl Effects {
    /// Ensures that the images are present. Returns whether one had to be pulled or built.
    pub(crate) async fn ensure_image(&self, spec: &ServiceSpec, progress: &mpsc::Sender<Progress>) -> Result<bool, OperationError> {
        let Some(container) = spec.container() else { return Ok(false) };
        let mut changed = match &container.image {
            Image::Named(name) => self.pull(spec, name, container.options.pull, progress).await?,
            Image::Built(build) => self.build(spec, build, progress).await?,
        };
        for files in container.mounts.iter().filter_map(|mount| mount.image.as_ref()) {
            changed |= match &files.build {
                Some(build) => self.build(spec, build, progress).await?,
                None => self.pull(spec, &files.image, None, progress).await?,
            };
        }
        Ok(changed)
    }

    async fn pull(
        &self,
        spec: &ServiceSpec,
        name: &str,
        policy: Option<PullPolicy>,
        progress: &mpsc::Sender<Progress>,
    ) -> Result<bool, OperationError> {
        let here = tokio::time::timeout(SILENCE, self.engine.image(name)).await.map_err(|_| silent(name))??.is_some();
        let offline = self.offline.load(Ordering::Relaxed);
        if here && (policy != Some(PullPolicy::Always) || offline) {
            return Ok(false);
        }
        if policy == Some(PullPolicy::Never) {
            let message = format!("image `{name}` does not exist locally, and the service's `pull_policy` forbids pulling it");
            return Err(OperationError::Other(message));
        }
        if offline {
            return Err(OperationError::Other(not_local(name)));
        }
        tell(spec, progress, format!("pulling {name}"));
        let mut pull = self.engine.pull(name);
        // Dropping it ends the pull.
        while let Some(step) = tokio::time::timeout(SILENCE, pull.next()).await.map_err(|_| silent(name))? {
            tell(spec, progress, step?.to_string());
        }
        Ok(true)
    }

    async fn build(&self, spec: &ServiceSpec, build: &ImageBuild, progress: &mpsc::Sender<Progress>) -> Result<bool, OperationError> {
        tell(spec, progress, format!("building {}", build.tag));
        self.runtime.build_image(spec, build, progress).await.map_err(|evidence| OperationError::Known(Box::new(evidence)))?;
        Ok(true)
    }

    /// Fills the volumes with the files of images.
    pub(super) async fn fill_volumes(&self, subject: &Subject, container: &ContainerSpec, when: Fill) -> Result<(), OperationError> {
        for mount in &container.mounts {
            let (Some(files), MountSource::Volume(name)) = (&mount.image, &mount.source) else { continue };
            let (volume, labels) = self.volume_labels(subject, &subject.spec.name, name)?;
            if when == Fill::Missing && self.engine.volume(&volume).await?.is_some() {
                continue;
            }
            let wanted = ImageFiles { build: None, ..(**files).clone() };
            self.engine.create_volume_of(&VolumeCreate { name: volume, labels, options: BTreeMap::new() }, &wanted).await?;
        }
        Ok(())
    }
}

fn tell(spec: &ServiceSpec, progress: &mpsc::Sender<Progress>, message: String) {
    // Progress is only informative; it may be missed.
    let _ = progress.try_send(Progress { service: spec.name.clone(), message });
}

/// The diagnosis knows this message.
fn not_local(image: &str) -> String {
    format!(
        "image `{image}` does not exist locally, and `--offline` forbids pulling it: run `devenv fetch` to pull it, or `devenv images load \
         FILE` to load it"
    )
}

#[cfg(test)]
mod tests {
    use devenv_kinds::diagnosis::{Evidence, diagnose};

    #[test]
    fn an_image_that_may_not_be_pulled_is_known_to_the_diagnosis() {
        let engine = Some(format!("cannot get its image: {}", super::not_local("redis:8.0")));
        let evidence = Evidence { kind: "redis".to_owned(), service: "cache".to_owned(), engine, ..Evidence::default() };
        assert!(diagnose(&evidence).unwrap().cause.contains("pulling is disabled"));
    }
}
