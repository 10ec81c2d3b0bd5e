//! What environments use of the machine: memory, the volumes in the engine, and their files.

use std::{
    collections::HashMap,
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use devenv_api::EnvironmentUsage;
use futures_util::future::join_all;

use super::{Environment, Environments};
use crate::store::Record;

/// The engine walks every volume to measure them, so it is asked this often at most.
const SIZES_EVERY: Duration = Duration::from_mins(1);
/// For the engine to measure all volumes. After it, they are not known.
const SIZES_WITHIN: Duration = Duration::from_secs(20);
/// Files of an environment that are counted.
const MOST_FILES: usize = 20_000;

/// The sizes of volumes as the engine last said. The lock is held while it is asked, so that it is asked once.
#[derive(Default)]
pub(super) struct VolumeSizes(tokio::sync::Mutex<Option<(Instant, Sizes)>>);

/// `None` if the engine has not said.
type Sizes = Option<Arc<HashMap<String, u64>>>;

impl Environments {
    pub(crate) async fn usage(&self) -> Vec<EnvironmentUsage> {
        let (sizes, environments) = (self.volume_sizes().await, self.all());
        join_all(environments.iter().map(|environment| self.usage_of(environment, &sizes))).await
    }

    async fn usage_of(&self, environment: &Environment, sizes: &Sizes) -> EnvironmentUsage {
        let directory = self.shared.store.environment(&environment.id);
        let files = tokio::task::spawn_blocking(move || {
            let mut left = MOST_FILES;
            bytes_below(&directory, &mut left)
        });
        // One that is being forgotten has none.
        let record = environment.handle.record().await.ok();
        let of =
            |sizes: &Arc<HashMap<String, u64>>| record.iter().flat_map(Record::all_volumes).filter_map(|volume| sizes.get(volume)).sum();
        EnvironmentUsage {
            environment: environment.id.to_string(),
            memory: environment.metrics.memory().await,
            volumes: sizes.as_ref().map(of),
            files: files.await.unwrap_or_default(),
        }
    }

    async fn volume_sizes(&self) -> Sizes {
        let mut known = self.shared.volume_sizes.0.lock().await;
        if let Some((at, sizes)) = known.as_ref()
            && at.elapsed() < SIZES_EVERY
        {
            return sizes.clone();
        }
        let found = tokio::time::timeout(SIZES_WITHIN, self.shared.engine.volume_sizes()).await;
        let sizes = found.ok().and_then(Result::ok).map(Arc::new);
        *known = Some((Instant::now(), sizes.clone()));
        sizes
    }
}

/// Links are not followed. What is being removed counts as nothing.
fn bytes_below(directory: &Path, left: &mut usize) -> u64 {
    let mut bytes = 0;
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if *left == 0 {
            break;
        }
        *left -= 1;
        let Ok(found) = entry.metadata() else { continue };
        bytes += if found.is_dir() { bytes_below(&entry.path(), left) } else { found.len() };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_counted_below_a_directory_up_to_a_limit() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("logs")).unwrap();
        fs::write(directory.path().join("logs/a"), [0; 100]).unwrap();
        fs::write(directory.path().join("b"), [0; 10]).unwrap();
        std::os::unix::fs::symlink(directory.path(), directory.path().join("logs/again")).unwrap();
        let mut left = MOST_FILES;
        let link = fs::symlink_metadata(directory.path().join("logs/again")).unwrap().len();
        assert_eq!(bytes_below(directory.path(), &mut left), 110 + link);
        assert_eq!(left, MOST_FILES - 4);
        assert_eq!(bytes_below(&directory.path().join("none"), &mut left), 0);
        let mut left = 1;
        assert!(bytes_below(directory.path(), &mut left) <= 10);
    }
}
