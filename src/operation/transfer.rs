//! What `import` and `export` share: the service, its databases with their files, and manifests beside dumps.

use std::path::{Path, PathBuf};

use devenv_api::{ApiError, Content, ErrorCode};
use devenv_kinds::{ServiceKind, capability::Transfers};
use devenv_spec::ServiceSpec;

use crate::{environment::Environment, reconcile::CommandError};

pub(super) async fn service(environment: &Environment, name: &str) -> Result<ServiceSpec, ApiError> {
    let spec = environment.spec().await?;
    let found = spec.services.into_iter().find(|(known, _)| known.as_str() == name);
    found.map(|(_, service)| service).ok_or_else(|| CommandError::NoService(name.to_owned()).into())
}

pub(super) fn transfers_of(service: &ServiceSpec) -> Result<&'static dyn Transfers, ApiError> {
    devenv_kinds::find(&service.kind).and_then(ServiceKind::transfers).ok_or_else(|| unsupported(service))
}

pub(super) fn unsupported(service: &ServiceSpec) -> ApiError {
    let able: Vec<&str> = devenv_kinds::all().filter(|kind| kind.transfers().is_some()).map(ServiceKind::name).collect();
    ApiError::new(ErrorCode::Usage, format!("`{}` is a {} service, which has no dump", service.name, service.kind))
        .hint(format!("services of the kinds {} have; `devenv snapshot` copies the data of all", able.join(", ")))
}

/// One database and the file, or every database with its file in a directory; the server as a whole if it has no databases.
pub(super) fn targets(
    transfers: &dyn Transfers,
    service: &ServiceSpec,
    wanted: Option<&str>,
    place: &Path,
    all: bool,
) -> Result<Vec<(Option<String>, PathBuf)>, ApiError> {
    let names = transfers.databases(service);
    match wanted {
        _ if names.is_empty() => Ok(vec![(None, place.to_owned())]),
        Some(name) if !names.iter().any(|known| known == name) => {
            Err(ApiError::new(ErrorCode::NotFound, format!("the profile does not declare a database `{name}`"))
                .hint(format!("declared databases: {}", names.join(", "))))
        }
        Some(name) => Ok(vec![(Some(name.to_owned()), place.to_owned())]),
        None if all => Ok(names
            .into_iter()
            .map(|name| {
                let file = place.join(format!("{name}.{}", transfers.ending()));
                (Some(name), file)
            })
            .collect()),
        None => Ok(vec![(names.into_iter().next(), place.to_owned())]),
    }
}

/// Written next to the dump, for comparison when it is imported.
pub(super) fn manifest_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".manifest.json");
    name.into()
}

/// The largest manifest that is read, in bytes.
const LARGEST_MANIFEST: u64 = 16 << 20;

pub(super) fn manifest(file: &Path) -> Option<Vec<Content>> {
    serde_json::from_slice(&devenv_files::read_bounded(&manifest_of(file), LARGEST_MANIFEST).ok()?).ok()
}
