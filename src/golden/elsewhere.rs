//! Golden volumes if the engine's volumes are not this process's own files: it is not root, or the engine is on another
//! machine. Helper containers, in the service's own image, read volumes and copy them. There are no spare copies, because
//! files cannot be moved from one volume to another.

use std::{fs, path::Path, time::Instant};

use devenv_engine::{CreatedMount, Engine, ExecOutput, HelperRun, Labels};
use devenv_kinds::{capability, script::Checksums};
use devenv_spec::{ServiceName, ServiceSpec};

use super::{Evidence, Golden, Place, build::GoldenError, catalogue::GoldenFiles};
use crate::{error::describe, store::write_atomically};

/// Whether there is data, by its exit code.
const LOOK: &str = r#"rm -rf "/to/$0.filling"; test -e "/to/$0""#;
const FILL: &str = r#"set -e; rm -rf "/to/$0.filling"; cp -a "/from/$0" "/to/$0.filling"; mv "/to/$0.filling" "/to/$0"; sync"#;
/// The size comes in KiB.
const REMOVE: &str = r#"set -e; cd /to; rm -f -- "$@"; sync; du -sk . | cut -f 1"#;

impl Golden {
    /// As [`Golden::prepare`]. Data is looked for once for each volume: the server checks the version of existing data
    /// itself.
    pub(super) async fn prepare_elsewhere(
        &self,
        rules: &dyn capability::Golden,
        spec: &ServiceSpec,
        (project, checksums): (&Path, &Checksums),
        place: &Place,
    ) -> Result<(), Evidence> {
        let is_noted = |path: &Path| fs::read(path).is_ok_and(|volume| volume == place.volume.as_bytes());
        if is_noted(&self.with_data(&spec.name)) || is_noted(&self.unanswered(&spec.name)) {
            return Ok(());
        }
        match self.fill_elsewhere(rules, spec, (project, checksums), place).await {
            Ok(true) => self.note_data(&spec.name, &place.volume),
            Ok(false) => self.begins_empty(spec, place),
            Err(error) => {
                // The service starts without a golden volume, only more slowly.
                tracing::warn!(error = %describe(&error), service = %spec.name, "Cannot fill a volume from a golden one.");
                Ok(())
            }
        }
    }

    /// Whether there is data in the volume.
    async fn fill_elsewhere(
        &self,
        rules: &dyn capability::Golden,
        spec: &ServiceSpec,
        (project, checksums): (&Path, &Checksums),
        place: &Place,
    ) -> Result<bool, GoldenError> {
        let image = spec.container().map(|container| container.image.name()).unwrap_or_default();
        let (engine, labels) = (&*self.engine, self.labels(&place.record, spec));
        let to = CreatedMount::Volume { name: place.volume.clone(), target: "/to".to_owned(), read_only: false };
        if run(engine, &labels, image, (LOOK, &[rules.directory()]), vec![to.clone()]).await?.code == 0 {
            return Ok(true);
        }
        let Some((key, kept)) = self.kept(spec, project, checksums).await else { return Ok(false) };
        if engine.volume(&kept.volume).await?.is_none() {
            return Ok(false);
        }
        let began = Instant::now();
        let from = CreatedMount::Volume { name: kept.volume, target: "/from".to_owned(), read_only: true };
        succeeded(run(engine, &labels, image, (FILL, &[rules.directory()]), vec![from, to]).await?)?;
        GoldenFiles::of(&self.store, &key).touch();
        tracing::info!(service = %spec.name, %key, bytes = kept.bytes, took = ?began.elapsed(), "Volume filled from a golden one.");
        Ok(true)
    }

    pub(super) fn note_data(&self, service: &ServiceName, volume: &str) -> Result<(), Evidence> {
        write_atomically(&self.with_data(service), volume.as_bytes())
            .map_err(|error| Evidence::of(format!("cannot record that its volume has data: {}", describe(&error))))
    }

    /// Names the volume of the service that is known to have data.
    pub(super) fn with_data(&self, service: &ServiceName) -> std::path::PathBuf {
        self.store.environment(&self.environment).join(format!("with-data-{service}"))
    }
}

/// Removes files from a volume. Returns the size of the rest in bytes.
pub(super) async fn remove_and_measure(
    engine: &dyn Engine,
    labels: &Labels,
    image: &str,
    (volume, files): (&str, &[&str]),
) -> Result<u64, GoldenError> {
    let mount = CreatedMount::Volume { name: volume.to_owned(), target: "/to".to_owned(), read_only: false };
    let arguments: Vec<&str> = std::iter::once("sh").chain(files.iter().copied()).collect();
    let output = succeeded(run(engine, labels, image, (REMOVE, &arguments), vec![mount]).await?)?;
    let said = String::from_utf8_lossy(&output.stdout);
    let kibibytes: u64 = said.trim().parse().map_err(|_| GoldenError::Helper(format!("it reports the size `{}`", said.trim())))?;
    Ok(kibibytes << 10)
}

async fn run(
    engine: &dyn Engine,
    labels: &Labels,
    image: &str,
    (script, arguments): (&str, &[&str]),
    mounts: Vec<CreatedMount>,
) -> Result<ExecOutput, GoldenError> {
    let helper = HelperRun {
        labels: Labels { role: Some("helper".to_owned()), ..labels.clone() },
        image: image.to_owned(),
        command: ["sh", "-c", script].iter().chain(arguments).map(|word| (*word).to_owned()).collect(),
        mounts,
        user: Some("0:0".to_owned()),
        network: None,
    };
    Ok(engine.run_helper(&helper).await?)
}

fn succeeded(output: ExecOutput) -> Result<ExecOutput, GoldenError> {
    if output.code == 0 { Ok(output) } else { Err(GoldenError::Helper(String::from_utf8_lossy(&output.stderr).trim().to_owned())) }
}
