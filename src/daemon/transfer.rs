//! Data that comes from elsewhere or goes there: a dump in a file, or a server at an address that the user gives.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use devenv_api::{ApiError, Compared, Content, ErrorCode, TransferRequest, Transferred};

use super::backups::backup_error;
use crate::{
    backup::{compare, verified},
    environment::{Environment, Environments},
    error::internal,
    kinds::{
        self, ServiceKind,
        capability::{Arrived, Backups, RemoteSource, Restores, ServerSite, Staged, StagedRestore, Transfers},
        transfer::Address,
    },
    net::Tunnel,
    spec::{ServiceName, ServiceSpec},
};

impl Environments {
    pub(crate) async fn export(&self, environment: &Environment, request: &TransferRequest) -> Result<Transferred, ApiError> {
        let began = Instant::now();
        let (name, service) = service(environment, &request.service).await?;
        let transfers = transfers_of(&service)?;
        let place = PathBuf::from(&request.place);
        let instance = environment.instance(&name)?;
        let site = self.site(environment, &service, &instance.id);
        let all = request.database.is_none() && place.is_dir();
        let mut databases = Vec::new();
        for (database, file) in targets(transfers, &service, request.database.as_deref(), &place, all)? {
            let before = transfers.export(&site, database.as_deref(), &file).await.map_err(|error| backup_error(&error))?;
            keep_manifest(&file, &before)?;
            databases.push(compare(database.as_deref().unwrap_or(name.as_str()), &before, &before));
        }
        Ok(Transferred {
            service: name.to_string(),
            place: request.place.clone(),
            verified: true,
            databases,
            backup: None,
            elapsed_ms: began.elapsed().as_millis() as u64,
        })
    }

    /// What is there is backed up first; what comes is counted and compared with its source before it takes its place.
    pub(crate) async fn import(&self, environment: &Environment, request: &TransferRequest) -> Result<Transferred, ApiError> {
        let began = Instant::now();
        let (name, service) = service(environment, &request.service).await?;
        let transfers = transfers_of(&service)?;
        let restores = kinds::find(&service.kind).and_then(ServiceKind::backups).and_then(Backups::restores);
        let restores = restores.ok_or_else(|| unsupported(&service))?;
        let wrong = |what: &str| ApiError::new(ErrorCode::Usage, format!("invalid URL: {what}"));
        let address = Address::parse(&request.place).map_err(wrong)?;
        let remote = match &address {
            None => None,
            Some(address) => {
                let remote = transfers
                    .remote()
                    .map_err(|hint| ApiError::new(ErrorCode::Usage, format!("`{name}` is imported from a dump file")).hint(hint))?;
                if !remote.is_scheme(&address.scheme) {
                    return Err(wrong(&format!("its scheme is `{}`, which is not one of this service's", address.scheme)));
                }
                remote.check(address).map_err(|why| wrong(&why))?;
                Some((remote, address))
            }
        };
        let saved = self.save_backup(environment, std::slice::from_ref(&name)).await?;
        let instance = environment.instance(&name)?;
        let site = self.site(environment, &service, &instance.id);
        let databases = match (restores, remote) {
            (Restores::Staged(restore), Some((remote, address))) => {
                vec![self.import_from_server(environment, &site, transfers, restore, request, (remote, address)).await?]
            }
            (Restores::Staged(restore), None) => self.import_files(environment, &site, transfers, restore, request).await?,
            (Restores::Volume(restore), _) => {
                let file = PathBuf::from(&request.place);
                transfers.check(&file).map_err(refused)?;
                let fresh = self.volume_with(environment, &service, restore.file(), &file).await?;
                self.move_and_wait(environment, fresh).await?;
                let instance = environment.instance(&name)?;
                let after =
                    restore.contents(&self.site(environment, &service, &instance.id)).await.map_err(|error| backup_error(&error))?;
                let before = manifest(&file).unwrap_or_else(|| after.clone());
                vec![compare(name.as_str(), &before, &after)]
            }
        };
        Ok(Transferred {
            service: name.to_string(),
            place: address.map_or_else(|| request.place.clone(), |address| address.shown()),
            verified: verified(&databases),
            databases,
            backup: Some(saved.id),
            elapsed_ms: began.elapsed().as_millis() as u64,
        })
    }

    /// All databases are made and compared before the first takes its place, and then all do at once.
    async fn import_files(
        &self,
        environment: &Environment,
        site: &ServerSite<'_>,
        transfers: &dyn Transfers,
        restore: &dyn StagedRestore,
        request: &TransferRequest,
    ) -> Result<Vec<Compared>, ApiError> {
        let place = PathBuf::from(&request.place);
        let targets = targets(transfers, site.service, request.database.as_deref(), &place, place.is_dir())?;
        for (_, file) in &targets {
            transfers.check(file).map_err(refused)?;
        }
        let (mut compared, mut databases) = (Vec::new(), Vec::new());
        for (database, file) in targets {
            let staged = Staged { database, file: file.clone(), own: false };
            let arrived = restore.stage(site, &staged).await.map_err(|error| backup_error(&error));
            let arrived = match arrived {
                Ok(arrived) => arrived,
                Err(error) => {
                    restore.discard(site, &databases).await;
                    return Err(error.hint("nothing was changed"));
                }
            };
            let database = staged.database.unwrap_or_default();
            databases.push(database.clone());
            // A manifest of our own says more than the dump itself, in which rows can be counted.
            let source = manifest(&file).unwrap_or(arrived.promised);
            compared.push(compare(&database, &source, &arrived.contents));
        }
        self.put_in_place(environment, site, restore, &databases, &compared).await?;
        Ok(compared)
    }

    async fn import_from_server(
        &self,
        environment: &Environment,
        site: &ServerSite<'_>,
        transfers: &dyn Transfers,
        restore: &dyn StagedRestore,
        request: &TransferRequest,
        (remote, address): (&dyn RemoteSource, &Address),
    ) -> Result<Compared, ApiError> {
        let known = transfers.databases(site.service);
        let database = request.database.clone().or_else(|| known.first().cloned()).unwrap_or_default();
        let record = environment.handle.record().await.map_err(ApiError::from)?;
        let gateway = record
            .subnet
            .and_then(|subnet| subnet.hosts().next())
            .ok_or_else(|| ApiError::new(ErrorCode::Internal, "the environment has no network"))?;
        // The tools are in a container, which does not reach what listens on this host's loopback.
        let tunnel = Tunnel::open(gateway.into(), &address.host, address.port.unwrap_or_else(|| remote.port()))
            .await
            .map_err(|error| ApiError::new(ErrorCode::Failed, format!("cannot reach {}: {error}", address.shown())))?;
        let file = tempfile::NamedTempFile::new().map_err(internal)?;
        let before = remote
            .fetch(site, address, (gateway.to_string(), tunnel.port()), file.path())
            .await
            .map_err(|error| ApiError::new(ErrorCode::Failed, address.redact(&backup_error(&error).message)))?;
        drop(tunnel);
        let staged = Staged { database: Some(database.clone()), file: file.path().to_owned(), own: false };
        let Arrived { contents, .. } = restore.stage(site, &staged).await.map_err(|error| backup_error(&error))?;
        let theirs = remote.database(address);
        let named: Vec<Content> =
            before.into_iter().map(|content| Content { name: content.name.replacen(&theirs, &database, 1), ..content }).collect();
        let compared = compare(&database, &named, &contents);
        self.put_in_place(environment, site, restore, &[database], std::slice::from_ref(&compared)).await?;
        Ok(compared)
    }

    async fn put_in_place(
        &self,
        environment: &Environment,
        site: &ServerSite<'_>,
        restore: &dyn StagedRestore,
        databases: &[String],
        compared: &[Compared],
    ) -> Result<(), ApiError> {
        let differences: Vec<&str> = compared.iter().flat_map(|one| &one.differences).map(String::as_str).collect();
        if !differences.is_empty() {
            restore.discard(site, databases).await;
            let message = format!("the imported data differs from its source: {}", differences.join("; "));
            return Err(ApiError::new(ErrorCode::Failed, message).hint("nothing was changed"));
        }
        restore.swap(site, databases).await.map_err(|error| backup_error(&error))?;
        self.provision_again(environment, site.service).await?;
        environment.reread(&site.service.name).await;
        Ok(())
    }
}

async fn service(environment: &Environment, name: &str) -> Result<(ServiceName, ServiceSpec), ApiError> {
    let spec = environment.spec().await?;
    let found = spec.services.into_iter().find(|(known, _)| known.as_str() == name);
    found.ok_or_else(|| {
        ApiError::new(ErrorCode::NotFound, format!("unknown service `{name}` in this environment"))
            .hint("run `devenv status` to list the services")
    })
}

fn transfers_of(service: &ServiceSpec) -> Result<&'static dyn Transfers, ApiError> {
    kinds::find(&service.kind).and_then(ServiceKind::transfers).ok_or_else(|| unsupported(service))
}

fn unsupported(service: &ServiceSpec) -> ApiError {
    let able: Vec<&str> = kinds::all().filter(|kind| kind.transfers().is_some()).map(ServiceKind::name).collect();
    ApiError::new(ErrorCode::Usage, format!("`{}` is a {} service, which has no dump", service.name, service.kind))
        .hint(format!("services of the kinds {} have; `devenv snapshot` copies the data of all", able.join(", ")))
}

fn refused((what, hint): (String, Option<String>)) -> ApiError {
    let error = ApiError::new(ErrorCode::Usage, what);
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// One database and the file, or every one of them with its file in a directory; the server as a whole where it has none.
fn targets(
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
fn manifest_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".manifest.json");
    name.into()
}

fn keep_manifest(file: &Path, contents: &[Content]) -> Result<(), ApiError> {
    crate::store::write_atomically(&manifest_of(file), &serde_json::to_vec_pretty(contents).expect("plain data serializes to JSON"))
        .map_err(internal)
}

fn manifest(file: &Path) -> Option<Vec<Content>> {
    serde_json::from_slice(&std::fs::read(manifest_of(file)).ok()?).ok()
}
